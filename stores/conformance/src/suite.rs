//! The macro that makes a test of every clause.

/// Makes one test for each clause of the contract, named after it.
///
/// The first argument makes an empty store: the path of an `async fn(Setup) -> S`, or a closure
/// that captures nothing. A store that keeps what it holds says how it is closed and opened again:
///
/// ```
/// # use larder_conformance::{Model, Setup};
/// mod volatile {
///     use larder_conformance::{Model, Setup};
///
///     larder_conformance::suite!(async |setup: Setup| Model::with(setup));
/// }
///
/// mod durable {
///     # use larder_conformance::{Model, Setup};
///     # async fn open(setup: Setup) -> Model { Model::with(setup) }
///     # async fn reopen(store: Model) -> Model { store }
///     larder_conformance::suite!(open, reopen = reopen);
/// }
/// ```
///
/// Each test has a runtime of its own, with two workers, and ends within two minutes; see
/// [`run`](crate::run). A single clause is called through [`clauses`](crate::clauses).
#[macro_export]
macro_rules! suite {
    (@tests $subject:expr; $($clause:ident)*) => {
        $(
            #[test]
            fn $clause() {
                $crate::run(stringify!($clause), $crate::clauses::$clause(&$subject));
            }
        )*
    };
    (@subject $subject:expr) => {
        $crate::suite! {
            @tests $subject;
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
    };
    ($make:expr $(,)?) => {
        $crate::suite!(@subject $crate::Volatile($make));
    };
    ($make:expr, reopen = $reopen:expr $(,)?) => {
        $crate::suite!(@subject $crate::Durable($make, $reopen));
    };
}
