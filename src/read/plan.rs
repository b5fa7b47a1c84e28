//! What a flight was started for.

use super::{flights::Began, look::Accept};
use crate::policy::Policy;

/// What a flight was started for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// The request's policy over the cache's.
    pub(crate) policy: Policy,
    pub(crate) accept: Accept,
    pub(crate) began: Began,
    /// It is not in the table: nobody joins it, and it stores nothing.
    pub(crate) alone: bool,
    /// Nobody waits for it: it does not end because there are no readers.
    pub(crate) behind: bool,
}

impl Plan {
    pub(crate) fn new(policy: Policy, accept: Accept) -> Self {
        Self {
            policy,
            accept,
            began: Began::First,
            alone: false,
            behind: false,
        }
    }
}
