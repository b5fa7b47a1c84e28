//! What a flight was started for.

use super::look::Accept;
use crate::policy::Policy;

/// What a flight was started for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// The request's policy over the cache's.
    pub(crate) policy: Policy,
    pub(crate) accept: Accept,
    /// It replaces an earlier flight: commits of that one end before the fences are taken.
    pub(crate) anew: bool,
    /// Nobody waits for it: it does not end because there are no readers.
    pub(crate) behind: bool,
}
