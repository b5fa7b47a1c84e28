//! Reading: inline where the system has the bytes in memory, by a thread of its own where not.

use std::sync::Arc;

use larder_store::{ByteRange, Key, Lookup, Metadata, Reply};

use crate::{index::Place, record::Head, volume::Volume};

/// Opens an object.
pub(crate) fn get<'a>(
    volume: &'a Arc<Volume>,
    key: Key<'a>,
    range: ByteRange,
) -> Reply<'a, Lookup> {
    let _ = (volume, key, range, Head::key);
    todo!()
}

/// Reads an object's metadata.
pub(crate) fn stat<'a>(volume: &'a Arc<Volume>, key: Key<'a>) -> Reply<'a, Option<Arc<Metadata>>> {
    let _ = (volume, key);
    todo!()
}

/// A record as it stands, whole and checked, to be written again: for a touch.
pub(crate) async fn whole(
    volume: &Arc<Volume>,
    key: Key<'_>,
) -> larder_store::Result<Option<(Place, bytes::Bytes)>> {
    let _ = (volume, key);
    std::future::ready(()).await;
    todo!()
}
