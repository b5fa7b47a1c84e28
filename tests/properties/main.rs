//! Random interleavings of everything a cache can do, on two to four tiers that fail, stall and
//! evict, checked against a history.
//!
//! `PROPTEST_CASES=20000 cargo test --release --test properties` runs it for long.

mod history;
mod ops;
mod world;

use proptest::prelude::*;

use crate::{ops::Script, world::run};

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, max_shrink_iters: 4_000, ..ProptestConfig::default() })]

    /// No read begun after a write or a delete has returned gives what it replaced, from any tier,
    /// whatever was under way; and no body is torn.
    #[test]
    fn nothing_stale_after_an_acknowledgement_and_nothing_torn(script in Script::any()) {
        if let Err(violation) = run(&script) {
            prop_assert!(false, "{violation}");
        }
    }
}
