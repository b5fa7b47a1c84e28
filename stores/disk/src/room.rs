//! Who may have how many bytes of the disk, and who must go.

use std::sync::Arc;

use larder_store::{Error, Result};

use crate::{blobs::Blob, config::Settings, segment::Segment};

/// The bytes that are given out, and what the keeper has to do about them.
pub(crate) struct Room;

impl Room {
    /// `used` are the bytes of the files that were found; `blobs` those among them, the oldest
    /// first.
    pub(crate) fn new(settings: &Settings, used: u64, blobs: Vec<Arc<Blob>>) -> Self {
        let _ = (settings, used, blobs);
        todo!()
    }

    /// Whether an object of this hash was evicted lately: it then goes to the main queue.
    pub(crate) fn was_evicted(&self, hash: u64) -> bool {
        let _ = hash;
        todo!()
    }

    /// Tells the keeper that somebody waits.
    pub(crate) fn wake(&self) {}

    /// Waits for room for a blob's file; `Full` where it cannot be had.
    pub(crate) async fn admit(&self, bytes: u64) -> Result<()> {
        let _ = bytes;
        std::future::ready(()).await;
        todo!()
    }

    /// Gives admitted bytes back: their blob did not come to be.
    pub(crate) fn give_back(&self, bytes: u64) {
        let _ = bytes;
    }

    /// A blob that was published takes its place in the order of eviction.
    pub(crate) fn add_blob(&self, blob: Arc<Blob>) {
        let _ = blob;
    }

    /// Has a blob's file removed in the background, once this record is settled.
    pub(crate) fn unlink(&self, blob: Arc<Blob>, after: u64) {
        let _ = (blob, after);
    }

    /// Hands over a segment that is written to its end: it gets its footer.
    pub(crate) fn seal(&self, segment: Arc<Segment>) {
        let _ = segment;
    }

    /// Tells of a write that failed: the store shrinks, or passes through for a while.
    pub(crate) fn failed(&self, error: &Error) {
        let _ = error;
    }

    /// The most bytes that may be used for now: the capacity, or less where the disk is full.
    pub(crate) fn limit(&self) -> u64 {
        todo!()
    }

    /// Bytes of all files.
    pub(crate) fn used(&self) -> u64 {
        todo!()
    }

    /// Whether nothing can be stored for now.
    pub(crate) fn is_passing_through(&self) -> bool {
        todo!()
    }

    /// The keeper and the sealer are to end when their work is done.
    pub(crate) fn stop(&self) {}
}
