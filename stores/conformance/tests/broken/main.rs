//! Each clause catches a store that breaks it, and no other clause does: what a clause says is said
//! once.

mod flaw;
mod flaws;

use std::panic::{AssertUnwindSafe, catch_unwind};

use larder_conformance::{Durable, Model, Volatile, clauses, run};

use self::flaw::{Broken, Flaw};

macro_rules! failing {
    ($flaw:ty; $($clause:ident)*) => {{
        let subject = Volatile(async |setup| Broken::<$flaw>::new(setup));
        let mut failing = Vec::new();
        $(
            let clause = || run(stringify!($clause), clauses::$clause(&subject));
            if catch_unwind(AssertUnwindSafe(clause)).is_err() {
                failing.push(stringify!($clause));
            }
        )*
        failing
    }};
}

/// The clauses that a store with this flaw fails.
fn failing<F: Flaw>() -> Vec<&'static str> {
    failing! {
        F;
        clause_01_a_miss_is_not_an_error
        clause_02_commit_publishes_whole
        clause_03_drop_aborts
        clause_04_the_old_object_stays_readable
        clause_05_delete_is_idempotent
        clause_06_nobody_waits_on_a_stranger
        clause_07_fences_hold
        clause_08_cancelling_is_safe
        clause_09_ranges
        clause_10_lengths_and_checksums_hold
        clause_11_accounting_is_exact
        clause_12_too_large_is_said
        clause_13_odd_keys
        clause_14_same_answers
        clause_15_close
        clause_16_wrappers_forward
        clause_17_staged_bytes_stay
        capability_touch
        capability_list
        capability_lease
        capability_bus
    }
}

macro_rules! caught {
    ($($test:ident: $flaw:ident by $clause:ident;)*) => {
        $(
            #[test]
            fn $test() {
                assert_eq!(failing::<flaws::$flaw>(), [stringify!($clause)]);
            }
        )*
    };
}

caught! {
    a_ranged_miss_that_is_an_error: RangedMissFails by clause_01_a_miss_is_not_an_error;
    a_gap_while_replacing: GapWhileReplacing by clause_02_commit_publishes_whole;
    a_drop_that_needs_a_runtime: DropNeedsRuntime by clause_03_drop_aborts;
    a_body_that_ends_with_its_entry: BodyEndsWithEntry by clause_04_the_old_object_stays_readable;
    a_delete_of_nothing_that_does_not_count: DeleteOfNothing by clause_05_delete_is_idempotent;
    a_pool_of_open_bodies: PoolOfBodies by clause_06_nobody_waits_on_a_stranger;
    an_aborted_write_that_counts: AbortCounts by clause_07_fences_hold;
    a_commit_that_lands_late: LateCommit by clause_08_cancelling_is_safe;
    a_range_that_is_clamped: ClampedRange by clause_09_ranges;
    a_length_that_may_be_exceeded: LengthExceeded by clause_10_lengths_and_checksums_hold;
    staged_bytes_that_do_not_count: StagedNotCounted by clause_11_accounting_is_exact;
    a_large_object_for_which_there_is_no_room: LargeIsFull by clause_12_too_large_is_said;
    a_limit_above_what_is_taken: ObjectMaxTooHigh by clause_12_too_large_is_said;
    a_limit_below_what_is_taken: ObjectMaxTooLow by clause_12_too_large_is_said;
    keys_without_case: KeysWithoutCase by clause_13_odd_keys;
    a_stat_that_knows_less: StatKnowsLess by clause_14_same_answers;
    a_stat_after_close: StatAfterClose by clause_15_close;
    an_identity_that_changes: ChangingIdentity by clause_16_wrappers_forward;
    staged_bytes_that_go_with_the_writer: StagedGoes by clause_17_staged_bytes_stay;
    a_touch_that_keeps_tags: TouchKeepsTags by capability_touch;
    a_list_that_knows_folders: ListKnowsFolders by capability_list;
    s68_a_lease_that_is_not_asked_for_at_the_commit: LeaseNotFenced by capability_lease;
    a_bus_that_loses_in_silence: SilentOverflow by capability_bus;
}

macro_rules! also_caught {
    ($($test:ident: $flaw:ident by $clause:ident;)*) => {
        $(
            #[test]
            fn $test() {
                assert_eq!(failing!(flaws::$flaw; $clause), [stringify!($clause)]);
            }
        )*
    };
}

// Flaws that cannot but break more than one clause.
also_caught! {
    a_drop_that_publishes: DropPublishes by clause_03_drop_aborts;
    a_delete_without_its_fence: DeleteWithoutFence by clause_07_fences_hold;
    a_fence_that_compares_versions: VersionFence by clause_07_fences_hold;
    staged_bytes_that_are_said_to_be_elsewhere: StagedElsewhere by clause_11_accounting_is_exact;
    objects_elsewhere_that_are_counted_here: ElsewhereAndHere by clause_11_accounting_is_exact;
    an_overwrite_that_leaks: OverwriteLeaks by clause_11_accounting_is_exact;
    a_body_that_is_cut: CutBody by clause_10_lengths_and_checksums_hold;
}

// More of what can be wrong with one thing. That no other clause minds was seen above.
also_caught! {
    a_lease_for_all: LeaseForAll by capability_lease;
    a_lease_that_does_not_mind_the_fence: LeaseWithoutFence by capability_lease;
    a_lease_that_outlives_a_commit: LeaseOutlivesCommit by capability_lease;
    a_renewal_for_less_than_was_asked: RenewsForLess by capability_lease;
    a_renewal_that_never_fails: RenewAlwaysTrue by capability_lease;
    a_release_that_does_nothing: ReleaseDoesNothing by capability_lease;
    a_release_by_anyone: ReleaseByAnyone by capability_lease;
    a_lease_on_any_terms: AnyTerms by capability_lease;
    one_lease_for_everything: OneLease by capability_lease;
    a_subscription_that_begins_late: ListensLate by capability_bus;
    a_bus_that_is_a_queue: OneOfThemHears by capability_bus;
    keys_that_are_cut_off: KeysAreCut by capability_bus;
    messages_out_of_order: OutOfOrder by capability_bus;
    a_publisher_that_waits_for_subscribers: WaitsForSubscribers by capability_bus;
    a_bus_without_end: NoEnd by capability_bus;
    a_bus_that_always_says_lost: AlwaysLost by capability_bus;
    a_message_after_close: PublishAfterClose by clause_15_close;
}

/// A store that forgets what it should keep, found by the clauses that open it again.
#[test]
fn a_restart_that_loses_everything() {
    for clause in ["3", "11"] {
        let subject = Durable(
            async |setup| Model::with(setup),
            async |_: Model| Model::new(),
        );
        let lost = catch_unwind(AssertUnwindSafe(|| match clause {
            "3" => run(clause, clauses::clause_03_drop_aborts(&subject)),
            _ => run(clause, clauses::clause_11_accounting_is_exact(&subject)),
        }));
        assert!(lost.is_err(), "clause {clause}");
    }
}

/// What a wrapper hides, its author's own test finds.
#[test]
fn a_wrapper_that_hides_a_capability_or_a_limit() {
    fn is_found<F: Flaw>() -> bool {
        let found = catch_unwind(|| {
            run("a wrapper", async {
                let inner = Model::new();
                let wrapper = Broken::<F>::over(inner.clone());
                clauses::assert_forwards(&wrapper, &inner).await;
            });
        });
        found.is_err()
    }
    assert!(is_found::<flaws::HidesTouch>());
    assert!(is_found::<flaws::HidesLease>());
    assert!(is_found::<flaws::HidesBus>());
    assert!(is_found::<flaws::HidesObjectMax>());
    assert!(!is_found::<flaws::NoFlaw>());
}

/// Without a flaw nothing fails: it is not the harness that breaks.
#[test]
fn no_flaw() {
    assert!(failing::<flaws::NoFlaw>().is_empty());
}

/// A store that does not know how much it holds is none with a flaw.
#[test]
fn a_store_whose_objects_are_counted_elsewhere() {
    assert!(failing::<flaws::CountedElsewhere>().is_empty());
}
