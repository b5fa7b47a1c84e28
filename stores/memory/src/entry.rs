//! What is kept under a key, and what it weighs.

use std::sync::Arc;

use bytes::Bytes;
use larder_store::{ByteRange, Header, Key, Metadata, Object, Result, Timestamp, Version};

const NEVER: Timestamp = Timestamp::from_millis(u64::MAX);

/// An object under a key. Cloning costs two reference counts and no allocation.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) metadata: Arc<Metadata>,
    pub(crate) body: Bytes,
    /// Kept, not computed: the engine asks for it under its locks.
    pub(crate) weight: u64,
    /// The metadata's, or the end of time; here it saves each hit a line of the processor's cache.
    expires_at: Timestamp,
}

impl Entry {
    pub(crate) fn new(key: Key<'_>, metadata: Metadata, body: Bytes, overhead: u64) -> Self {
        let weight = weigh(key, metadata.header(), metadata.len(), overhead);
        Self {
            expires_at: metadata.expires_at.unwrap_or(NEVER),
            metadata: Arc::new(metadata),
            body,
            weight,
        }
    }

    /// The entry, open for reading.
    #[inline]
    pub(crate) fn open(self, range: ByteRange) -> Result<Object> {
        if range.is_full() {
            // The common case saves two reference counts.
            return Ok(Object {
                range: 0..self.body.len() as u64,
                metadata: self.metadata,
                body: self.body.into(),
            });
        }
        Object::slice(self.metadata, &self.body, range)
    }

    pub(crate) fn version(&self) -> Version {
        self.metadata.version()
    }

    /// Whether it is to be taken for absent; asks the clock only where it can matter.
    #[inline]
    pub(crate) fn is_expired(&self, now: impl FnOnce() -> Timestamp) -> bool {
        self.expires_at != NEVER && self.expires_at <= now()
    }
}

/// What an object counts for: key, metadata, body and the policy's overhead.
pub(crate) fn weigh(key: Key<'_>, header: &Header, len: u64, overhead: u64) -> u64 {
    let known = key.as_str().len() + header.size();
    (known as u64).saturating_add(overhead).saturating_add(len)
}
