//! Any interleaving of what can be done with a cache over tiers that fail: nothing stale after an
//! acknowledgement, nothing torn, nothing left behind.
//!
//! The case itself is in `tests/properties/case`, whose property test runs a few hundred random
//! scripts. How an input tells one is written in its `decode.rs`.

#![no_main]

#[path = "../../tests/properties/case/mod.rs"]
mod case;

use case::Script;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let script = Script::decode(input);
    if let Err(violation) = case::run(&script) {
        panic!("{violation}\n{script:#?}");
    }
});
