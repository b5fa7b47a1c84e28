//! Being the one of several processes that works on a key.

use std::{sync::Arc, time::Duration};

use crate::{Error, Fence, Key, Reply, Result};

/// One holder a key, for a time, among all who use the store.
///
/// A lease saves work: where several processes miss the same key, its holder fetches and the others
/// wait for what it stores. It does not keep data right by itself. What does is its fence: a holder
/// that was paused past the end of its lease finds its commit
/// [`Superseded`](crate::Commit::Superseded), whether or not somebody else holds the lease by then.
///
/// A lease says nothing of the store's other operations: without its fence anyone may write, delete
/// and read. Whatever is committed, touched or deleted under the key ends its lease.
pub trait Lease: Send + Sync {
    /// Tries to become the holder of the key's lease, for `terms.ttl` from now.
    ///
    /// `fence` is from the look-up that did not do: where something happened under the key since,
    /// the answer is [`Superseded`](Leased::Superseded), and the caller looks again. So nobody
    /// fetches what another holder has just stored.
    ///
    /// It never waits for the holder. What [`Terms::check`] refuses is `Invalid`.
    ///
    /// Cancel safety: a dropped reply may leave the lease taken until its time is over.
    fn acquire<'a>(&'a self, key: Key<'a>, fence: &'a Fence, terms: &'a Terms)
    -> Reply<'a, Leased>;

    /// Makes the lease last for `ttl` from now. `false` when `fence` does not hold it any more: it
    /// expired, or something happened under the key.
    fn renew<'a>(&'a self, key: Key<'a>, fence: &'a Fence, ttl: Duration) -> Reply<'a, bool>;

    /// Gives the lease up, if `fence` holds it. A commit or delete with the fence does so by itself.
    fn release<'a>(&'a self, key: Key<'a>, fence: &'a Fence) -> Reply<'a, ()>;
}

/// The longest time that a lease may last without being renewed: one hour.
pub const LEASE_TTL_MAX: Duration = Duration::from_secs(3600);

/// What a lease is asked for with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Who asks: a process, as its operators know it. At most 256 bytes, more is `Invalid`.
    pub who: Arc<str>,
    /// What for: `fill`, `refresh`. At most 256 bytes, more is `Invalid`.
    pub why: Arc<str>,
    /// How long it lasts unless it is renewed, to the millisecond.
    pub ttl: Duration,
}

/// How a request for a lease ended.
#[derive(Clone, Debug)]
#[must_use]
pub enum Leased {
    /// The caller holds it. This fence stands for the one that it was asked with *and* for the
    /// lease: a commit, touch or delete with it takes effect only while both hold.
    Granted(Fence),
    /// Another holds it.
    Taken(Holder),
    /// Something happened under the key since the fence was taken, or the fence is forgotten.
    Superseded,
}

/// Who holds a lease, as far as the store was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// See [`Terms::who`].
    pub who: Arc<str>,
    /// See [`Terms::why`].
    pub why: Arc<str>,
    /// How long it lasts yet, unless it is renewed or given up.
    pub left: Duration,
}

impl Terms {
    /// Checks what every store must refuse as `Invalid`: texts above 256 bytes, and what
    /// [`check_ttl`](Self::check_ttl) does.
    pub fn check(&self) -> Result<()> {
        const TEXT_LEN_MAX: usize = 256;
        if self.who.len() > TEXT_LEN_MAX || self.why.len() > TEXT_LEN_MAX {
            return Err(Error::invalid(format!(
                "who and why of a lease have at most {TEXT_LEN_MAX} bytes each"
            )));
        }
        Self::check_ttl(self.ttl)
    }

    /// `Invalid` for a time to live below a millisecond or above [`LEASE_TTL_MAX`].
    pub fn check_ttl(ttl: Duration) -> Result<()> {
        if ttl < Duration::from_millis(1) || ttl > LEASE_TTL_MAX {
            return Err(Error::invalid(format!(
                "a lease lasts from 1 ms to {LEASE_TTL_MAX:?}, not {ttl:?}"
            )));
        }
        Ok(())
    }
}
