//! What a sealed segment holds, listed at its end, so that neither a start nor a listing of keys
//! walks its records.

use crate::record::{Kind, Record};

/// The list of a segment's records, in the order of their places.
#[derive(Debug, Default)]
pub(crate) struct Footer {
    pub(crate) entries: Vec<FooterEntry>,
    /// The keys of those that have one, each after its length in two bytes.
    pub(crate) keys: Vec<u8>,
}

/// One record of a [`Footer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FooterEntry {
    pub(crate) hash: u64,
    pub(crate) sequence: u64,
    /// In units.
    pub(crate) offset: u32,
    /// In units.
    pub(crate) size: u32,
    pub(crate) kind: Kind,
    pub(crate) shadow: bool,
}

impl Footer {
    /// Adds a record. Those without a key, tombstones, have an empty one.
    pub(crate) fn add(&mut self, entry: FooterEntry, record: &Record) {
        self.entries.push(entry);
        let key = record.key();
        #[allow(clippy::cast_possible_truncation)] // A key has at most 4,096 bytes.
        self.keys
            .extend_from_slice(&(key.len() as u16).to_le_bytes());
        self.keys.extend_from_slice(key);
    }
}
