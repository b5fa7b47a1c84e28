//! Random interleavings of everything a cache can do, on two to four tiers that fail, stall and
//! evict, checked against a history.
//!
//! `PROPTEST_CASES=20000 cargo test --release --test properties` runs it for long;
//! `cargo xtask fuzz cache_ops` has a fuzzer choose.

mod any;
mod case;

use std::{fs, path::Path};

use proptest::prelude::*;

use crate::case::{Script, run};

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, max_shrink_iters: 4_000, ..ProptestConfig::default() })]

    /// No read begun after a write or a delete has returned gives what it replaced, from any tier,
    /// whatever was under way; no body is torn; and nothing is left behind.
    #[test]
    fn nothing_stale_after_an_acknowledgement_and_nothing_torn(script in any::script()) {
        if let Err(violation) = run(&script) {
            prop_assert!(false, "{violation}");
        }
    }
}

/// What the fuzzer began with and what it has found, without a fuzzer.
#[test]
fn the_seeds_of_the_fuzz_target_hold() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/cache_ops");
    let mut seeds = 0;
    for seed in fs::read_dir(&folder).expect("the seeds are in the repository") {
        let path = seed.expect("the folder can be read").path();
        let script = Script::decode(&fs::read(&path).expect("the seed can be read"));
        if let Err(violation) = run(&script) {
            panic!("{}: {violation}\n{script:#?}", path.display());
        }
        seeds += 1;
    }
    assert!(seeds > 0, "there are seeds in {}", folder.display());
}
