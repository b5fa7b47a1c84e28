//! The share of a worker's time that a task may take before it lets others go on: tokio's budget.

use std::task::{Context, Poll, Waker};

use tokio::task::coop::{has_budget_remaining, poll_proceed};

/// So many bytes count as one step; it takes some ten microseconds to read and to verify them.
const STEP: usize = 32 << 10;

/// Takes from the running task's budget what reading so many bytes is worth.
pub(crate) fn spend(bytes: usize) {
    // It is asked for what is there, so that nobody is to be woken.
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..=bytes / STEP {
        if !has_budget_remaining() {
            return;
        }
        if let Poll::Ready(step) = poll_proceed(&mut cx) {
            step.made_progress();
        }
    }
}
