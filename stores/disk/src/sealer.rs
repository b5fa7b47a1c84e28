//! The thread that ends segments, syncs, and writes snapshots.

use std::sync::Arc;

use crate::volume::Volume;

/// Works until the room is stopped; `next_snapshot` is the number of the next snapshot.
pub(crate) fn run(volume: &Arc<Volume>, next_snapshot: u64) {
    let _ = (volume, next_snapshot);
    todo!()
}
