//! Caches that keep their objects in memory and fetch what is missing, behind one small trait.
//!
//! A case takes a peer out of [`AnyMemory`] with [`each_memory!`] before its loop begins, so that
//! the loop is compiled for that peer: a hit takes some tens of nanoseconds, of which the
//! comparison may take none.

mod any;
mod foyer;
mod larder;
mod moka;
mod quick_cache;

use std::future::Future;

use anyhow::Result;
use bytes::Bytes;

pub(crate) use any::each_memory;
pub use any::{AnyMemory, Name};
pub use foyer::{FoyerHybrid, FoyerMemory};
pub use larder::Larder;
pub use moka::Moka;
pub use quick_cache::QuickCache;

/// What a cache is opened for.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Bytes that it may keep in memory.
    pub bytes: u64,
    /// How many objects that will be, about.
    pub objects: usize,
}

/// A cache in memory, under test.
pub trait MemoryCache: Send + Sync + 'static {
    /// Stores a value.
    fn put(&self, key: &str, value: Bytes) -> impl Future<Output = Result<()>> + Send;

    /// Shows a value that is there to `look`; `false` when it is absent. Peers give it as they like
    /// best: as a handle of its own, or as a handle to the entry.
    fn hit(
        &self,
        key: &str,
        look: impl FnOnce(&[u8]) + Send,
    ) -> impl Future<Output = Result<bool>> + Send;

    /// Reads a value, from `origin` if it is absent, and tells its length. Of those who ask at
    /// once for one key, one runs its `origin`.
    fn read_through(
        &self,
        key: &str,
        origin: impl Future<Output = Bytes> + Send + 'static,
    ) -> impl Future<Output = Result<usize>> + Send;

    /// Waits until nothing is done in the background.
    fn rest(&self) -> impl Future<Output = ()> + Send;

    /// Ends it.
    fn close(&self) -> impl Future<Output = Result<()>> + Send;
}
