//! Listing the keys.

use std::sync::Arc;

use larder_store::Keys;

use crate::volume::Volume;

/// The keys that begin with `prefix`.
pub(crate) fn list(volume: &Arc<Volume>, prefix: &str) -> Keys {
    let _ = (volume, prefix);
    todo!()
}
