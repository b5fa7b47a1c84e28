//! The clauses of the contract, each a function that panics where a store breaks it.
//!
//! They are generic over the [`Subject`](crate::Subject) that makes the store, so that a clause can
//! be run by itself, on any store, and seen to fail. [`suite!`](crate::suite) makes tests of them
//! all. A clause needs a runtime of tokio with time, and with more than one worker if what blocks a
//! thread is to be found: [`run`](crate::run) has both.
//!
//! They take real time, because some stores do: half a second is how long an operation may take
//! that must not wait for others.

mod bus;
mod bytes;
mod cancel;
mod capability;
mod close;
mod fences;
mod keys;
mod lease;
mod publish;
mod room;
mod staged;
mod waits;

pub use self::{
    bus::capability_bus,
    bytes::{clause_09_ranges, clause_10_lengths_and_checksums_hold},
    cancel::clause_08_cancelling_is_safe,
    capability::{capability_list, capability_touch},
    close::{assert_forwards, clause_15_close, clause_16_wrappers_forward},
    fences::{clause_05_delete_is_idempotent, clause_07_fences_hold},
    keys::{clause_13_odd_keys, clause_14_same_answers},
    lease::capability_lease,
    publish::{
        clause_01_a_miss_is_not_an_error, clause_02_commit_publishes_whole, clause_03_drop_aborts,
        clause_04_the_old_object_stays_readable,
    },
    room::{clause_11_accounting_is_exact, clause_12_too_large_is_said},
    staged::clause_17_staged_bytes_stay,
    waits::clause_06_nobody_waits_on_a_stranger,
};
