//! The thread that makes room: it keeps spare segments, evicts, and removes files.

use std::sync::Arc;

use crate::volume::Volume;

/// Works until the room is stopped.
pub(crate) fn run(volume: &Arc<Volume>) {
    let _ = volume;
    todo!()
}
