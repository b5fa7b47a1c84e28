//! Opening an object that has a file of its own.

use std::{io, sync::Arc};

use larder_store::{Body, ByteRange, Key, Object};

use crate::{
    blobs::Blob,
    blocks::{Blocks, Trouble, Wait},
    body::Pieces,
    fetch::{check, with_head},
    volume::{Located, Volume},
};

/// No object is longer, so that sums of its length and places do not overflow.
const LEN_MAX: u64 = 1 << 50;

/// Opens the object. To open a file is to wait, maybe; nothing is read before that is allowed.
pub(crate) fn open(
    volume: &Arc<Volume>,
    found: &Located,
    blob: &Arc<Blob>,
    key: Key<'_>,
    range: ByteRange,
    wait: Wait,
) -> Result<Object, Trouble> {
    if wait == Wait::Never {
        return Err(Trouble::Cold);
    }
    let metadata = with_head(volume, found, wait, |bytes| {
        let (head, metadata) = check(volume, found, bytes, key)?;
        let is_it = (head.blob()).is_some_and(|name| name.id == blob.id && name.len == blob.len);
        if !is_it || blob.len > LEN_MAX {
            return Err(Trouble::Altered);
        }
        Ok(Arc::new(metadata))
    })?;
    let range = range.resolve(blob.len).map_err(Trouble::Refused)?;
    let file = volume.medium.open(&blob.path()).map_err(|error| {
        if error.kind() == io::ErrorKind::NotFound {
            // Evicted, or replaced, since it was located; or somebody else has removed it.
            Trouble::Gone
        } else {
            Trouble::Io(error)
        }
    })?;
    if file.len().map_err(Trouble::Io)? < blob.file_len() {
        return Err(Trouble::Altered);
    }
    let body = if range.is_empty() {
        Body::empty()
    } else {
        let blocks = Blocks::blob(Arc::clone(blob), file);
        Pieces::body(volume, blob.hash, found.place, blocks, range.clone())
    };
    Ok(Object {
        metadata,
        range,
        body,
    })
}
