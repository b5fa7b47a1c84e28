//! The files of large objects, as the index and the keeper know them.

use std::path::PathBuf;

/// A committed blob.
#[derive(Debug)]
pub(crate) struct Blob {
    /// Its number, which is also the sequence number that was drawn for it.
    pub(crate) id: u64,
    pub(crate) hash: u64,
    /// The length of the object.
    pub(crate) len: u64,
}

/// Every piece of so many bytes of a blob has a checksum.
pub(crate) const BLOB_BLOCK: u64 = 256 << 10;

impl Blob {
    /// The bytes of the file: the object and its table of checksums.
    pub(crate) fn file_len(&self) -> u64 {
        self.len + self.len.div_ceil(BLOB_BLOCK) * 4
    }

    /// Its file within the store's folder.
    pub(crate) fn path(&self) -> PathBuf {
        path(self.id)
    }
}

/// The file of the blob of this number, within the store's folder.
pub(crate) fn path(id: u64) -> PathBuf {
    format!("blob/{:02x}/{id:016x}", id & 0xff).into()
}
