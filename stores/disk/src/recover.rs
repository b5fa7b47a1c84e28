//! What a store finds when it is opened.

use std::sync::{Arc, atomic::AtomicU64};

use larder_store::Result;

use crate::{blobs::Blob, index::Index, layout::Folder, medium::Medium, segment::Segments};

/// All that was found.
pub(crate) struct Recovered {
    pub(crate) index: Index,
    pub(crate) segments: Segments,
    /// The blobs that the index names, the oldest first.
    pub(crate) blobs: Vec<Arc<Blob>>,
    /// Above every number that any file names.
    pub(crate) next_sequence: u64,
    /// Bytes of all files that count.
    pub(crate) used: u64,
    /// Which of the two snapshots is to be written next, and under which number.
    pub(crate) next_snapshot: u64,
}

/// Reads snapshots, footers and tails, and removes what nothing names.
pub(crate) fn recover(
    medium: &Medium,
    folder: &Folder,
    detached: &Arc<AtomicU64>,
) -> Result<Recovered> {
    let _ = (medium, folder, detached);
    todo!()
}
