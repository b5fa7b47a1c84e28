//! What some stores can do beside the contract.

use std::pin::Pin;

use futures_core::Stream;

use crate::{Commit, Draft, Key, KeyBuf, Reply, Result};

/// Replacing the metadata of an object and keeping its body.
pub trait Touch: Send + Sync {
    /// Gives the object under `key` the header of `draft`. The declared length, if any, must be
    /// the object's: see [`Draft::check_len`]. It counts as a commit: it ends the fences of the key, and obeys the draft's.
    ///
    /// [`Superseded`](Commit::Superseded) when the fence does not hold, or when there is no object.
    fn touch<'a>(&'a self, key: Key<'a>, draft: Draft) -> Reply<'a, Commit>;
}

/// Finding the keys that are there.
pub trait List: Send + Sync {
    /// The keys that begin with `prefix`, in no order; the empty prefix gives all. What is set or
    /// deleted meanwhile may be in it or not; what is there all the time is in it, once.
    fn list(&self, prefix: &str) -> Keys;
}

/// A stream of keys, see [`List::list`].
pub type Keys = Pin<Box<dyn Stream<Item = Result<KeyBuf>> + Send>>;
