//! Writing an object.

use std::sync::Arc;

use larder_store::{Draft, Key, Reply, Writer};

use crate::volume::Volume;

/// Opens a writer.
pub(crate) fn open<'a>(
    volume: &'a Arc<Volume>,
    key: Key<'a>,
    draft: Draft,
) -> Reply<'a, Box<dyn Writer>> {
    let _ = (volume, key, draft);
    todo!()
}
