//! The files of large objects, as the index and the keeper know them.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU8, AtomicU64, Ordering},
};

use crate::{recover::NUMBER_MAX, segment::Queue, space::BlockSize};

/// A committed blob.
#[derive(Debug)]
pub(crate) struct Blob {
    /// Its number, which is also the sequence number that was drawn for it.
    pub(crate) id: u64,
    pub(crate) hash: u64,
    /// The length of the object.
    pub(crate) len: u64,
    block: BlockSize,
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
    /// A blob in a file system with blocks of this size.
    pub(crate) fn new(id: u64, hash: u64, len: u64, block: BlockSize) -> Self {
        Self {
            id,
            hash,
            len,
            block,
            standing: AtomicU8::new(0),
        }
    }

    /// The bytes of the file: the object and its table of checksums.
    pub(crate) fn file_len(&self) -> u64 {
        // The length may come from a record: one that makes no sense must not overflow.
        (self.len).saturating_add(self.len.div_ceil(BLOB_BLOCK).saturating_mul(4))
    }

    /// What the file takes of the disk: whole blocks.
    pub(crate) fn room(&self) -> u64 {
        self.block.round_up(self.file_len())
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

/// Folders that a file has left, which may be empty now. They are looked at now and then, and not
/// with each file: the next blob may need them again.
#[derive(Debug, Default)]
pub(crate) struct Emptied([AtomicU64; 4]);

impl Emptied {
    /// Notes that this blob's file is gone.
    pub(crate) fn note(&self, id: u64) {
        self.0[(id >> 6) as usize % 4].fetch_or(1 << (id % 64), Ordering::Relaxed);
    }

    /// The folders that were noted since the last time.
    pub(crate) fn take(&self) -> impl Iterator<Item = PathBuf> {
        let noted = self
            .0
            .each_ref()
            .map(|bits| bits.swap(0, Ordering::Relaxed));
        let is_noted = move |id: &u64| noted[(id >> 6) as usize] & 1 << (id % 64) != 0;
        (0..0x100).filter(is_noted).map(folder)
    }
}

/// The file of the blob of this number, within the store's folder.
pub(crate) fn path(id: u64) -> PathBuf {
    folder(id).join(format!("{id:016x}"))
}

/// The folder of that file. It is there while a file is in it.
pub(crate) fn folder(id: u64) -> PathBuf {
    format!("blob/{:02x}", id & 0xff).into()
}

/// The number in such a path; `None` where it is none.
pub(crate) fn id(file: &Path) -> Option<u64> {
    let id = u64::from_str_radix(file.file_name()?.to_str()?, 16).ok();
    let id = id.filter(|id| *id < NUMBER_MAX);
    id.filter(|id| path(*id) == file)
}
