//! Writing an object: staged, then committed at once.

use std::{fmt, sync::Arc};

use bytes::Bytes;

use crate::{Metadata, Reply};

/// An object being written.
///
/// Nothing of it can be seen before [`commit`](Self::commit). Dropped or aborted, it leaves no
/// trace; the drop itself neither publishes nor panics nor waits.
pub trait Writer: Send + 'static {
    /// Appends a chunk. `TooLarge` as soon as the object is known to exceed the store's limit.
    ///
    /// Cancel safety: after a write whose reply was dropped while it was pending, the writer cannot
    /// be committed any more: its commit is `Invalid`. After an error likewise. After the store was
    /// closed it gives `Closed`, and so does the commit.
    fn write(&mut self, chunk: Bytes) -> Reply<'_, ()>;

    /// Publishes the object. A length other than the declared one is `Corrupt`.
    ///
    /// Cancel safety: dropped, it is done or not done; if done, it takes effect before any later
    /// operation on the key.
    fn commit(self: Box<Self>) -> Reply<'static, Commit>;

    /// Gives up, and waits until nothing is left behind.
    fn abort(self: Box<Self>) -> Reply<'static, ()>;

    /// A handle that reads back what was written so far, where the store can.
    fn staged(&self) -> Option<Arc<dyn Staged>> {
        None
    }
}

/// Bytes that a writer has acknowledged. They stay readable until the handle is dropped, whatever
/// becomes of the writer or of the entry.
pub trait Staged: Send + Sync + 'static {
    /// Bytes from `offset` on: at least one, at most `max`, which is not zero. An `offset` at or past
    /// what was acknowledged is `Invalid`.
    fn read(self: Arc<Self>, offset: u64, max: usize) -> Reply<'static, Bytes>;
}

/// How a commit, a touch or a delete ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Commit {
    /// It took effect. A commit and a touch give the metadata as it is now stored.
    Done(Option<Arc<Metadata>>),
    /// Something happened to the key since the fence was taken; nothing was changed.
    Superseded,
}

impl Commit {
    /// Whether it took effect.
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Done(_))
    }
}

impl fmt::Debug for dyn Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Writer")
    }
}

impl fmt::Debug for dyn Staged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Staged")
    }
}
