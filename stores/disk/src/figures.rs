//! Counters beside the contract's usage.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a store has done since it was opened; bytes unless said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Figures {
    /// Records and blobs that were written for sets, touches and deletes.
    pub written: u64,
    /// Records that were written again to keep them when their segment went.
    pub moved: u64,
    /// Files that were removed while a reader still has them open.
    pub detached: u64,
    /// Objects that were refused: by overload, admission, the write rate, or a full disk.
    pub refused: u64,
    /// Objects that were found altered, and dropped.
    pub corrupt: u64,
    /// New objects that were acknowledged and could then not be written.
    pub lost: u64,
    /// Reads that were answered without leaving the caller's thread.
    pub inline_reads: u64,
    /// Reads that had to wait for the disk.
    pub cold_reads: u64,
    /// Errors of the file system, each counted when it came.
    pub io_errors: u64,
    /// Whether nothing can be stored for now: the disk is full, or fails. Reads go on.
    pub passing_through: bool,
    /// Whether the folder, or the `FORMAT` or `LOCK` in it, is no longer this store's. Until it is
    /// opened again the store is empty, refuses what is new, and uses the disk no more.
    pub out_of_service: bool,
}

/// The counters behind [`Figures`], on cache lines of their own: what is read beside them would
/// otherwise be taken away from the other cores by each write.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Counters {
    pub(crate) written: Counter,
    pub(crate) moved: Counter,
    pub(crate) refused: Counter,
    pub(crate) corrupt: Counter,
    pub(crate) lost: Counter,
    pub(crate) inline_reads: Counter,
    pub(crate) cold_reads: Counter,
    pub(crate) io_errors: Counter,
    pub(crate) evictions: Counter,
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
