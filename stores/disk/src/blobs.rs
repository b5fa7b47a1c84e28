//! The files of large objects, as the index and the keeper know them.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicU8, Ordering},
};

use crate::segment::Queue;

/// A committed blob.
#[derive(Debug)]
pub(crate) struct Blob {
    /// Its number, which is also the sequence number that was drawn for it.
    pub(crate) id: u64,
    pub(crate) hash: u64,
    /// The length of the object.
    pub(crate) len: u64,
    /// A [`Standing`]; changed under the lock of [`Room`](crate::room::Room).
    standing: AtomicU8,
}

/// Where a blob stands in the order of eviction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Nowhere yet: it is being published.
    Fresh,
    In(Queue),
    /// Its file is removed, or is about to be: never twice.
    Gone,
}

/// Every piece of so many bytes of a blob has a checksum.
pub(crate) const BLOB_BLOCK: u64 = 256 << 10;

impl Blob {
    pub(crate) fn new(id: u64, hash: u64, len: u64) -> Self {
        Self {
            id,
            hash,
            len,
            standing: AtomicU8::new(0),
        }
    }

    /// The bytes of the file: the object and its table of checksums.
    pub(crate) fn file_len(&self) -> u64 {
        // The length may come from a record: one that makes no sense must not overflow.
        (self.len).saturating_add(self.len.div_ceil(BLOB_BLOCK).saturating_mul(4))
    }

    /// Its file within the store's folder.
    pub(crate) fn path(&self) -> PathBuf {
        path(self.id)
    }

    pub(crate) fn standing(&self) -> Standing {
        match self.standing.load(Ordering::Relaxed) {
            0 => Standing::Fresh,
            1 => Standing::In(Queue::Probation),
            2 => Standing::In(Queue::Main),
            _ => Standing::Gone,
        }
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.standing() == Standing::Gone
    }

    pub(crate) fn set_standing(&self, standing: Standing) {
        let standing = match standing {
            Standing::Fresh => 0,
            Standing::In(Queue::Probation) => 1,
            Standing::In(Queue::Main) => 2,
            Standing::Gone => 3,
        };
        self.standing.store(standing, Ordering::Relaxed);
    }
}

/// The file of the blob of this number, within the store's folder.
pub(crate) fn path(id: u64) -> PathBuf {
    format!("blob/{:02x}/{id:016x}", id & 0xff).into()
}
