//! Reading one record: from the log's memory or from its file, and not a byte that was not
//! confirmed. Nothing here decides what a failure means for the caller; that is `reader`'s.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use larder_store::{Body, ByteRange, Key, Metadata, Object};

use crate::{
    blob_reader,
    blocks::{Blocks, Trouble, Wait, read},
    body::Pieces,
    buffer::{Buffer, SCRATCH_LEN, with_scratch},
    index::Place,
    record::{BLOCK, Head, Header, Kind},
    volume::{Located, Volume},
};

/// A record that is longer is not read in one go where others would wait with it.
const WHOLE_MAX: usize = (256 << 10) + (16 << 10);
/// Up to this length a record is read whole though only a part was asked for.
const PART_MIN: usize = BLOCK + (8 << 10);
/// What is read to begin with where a record's head is looked for.
const HEAD_LEN: usize = 1 << 10;

/// Opens an object.
pub(crate) fn open(
    volume: &Arc<Volume>,
    found: &Located,
    key: Key<'_>,
    range: ByteRange,
    wait: Wait,
) -> Result<Object, Trouble> {
    if let Some(blob) = &found.blob {
        return blob_reader::open(volume, found, blob, key, range, wait);
    }
    let len = found.place.len();
    if len <= SCRATCH_LEN {
        return open_short(volume, found, key, range, wait);
    }
    // What is still in memory is copied whole: a body must not depend on its being written.
    let wait_or_short = wait == Wait::Allowed || len <= WHOLE_MAX;
    if len <= PART_MIN || range.is_full() && wait_or_short || is_buffered(found) {
        return open_whole(volume, found, key, range, wait);
    }
    open_part(volume, found, key, range, wait)
}

/// Of a short record the value is copied out, so that nothing else stays in memory with it.
fn open_short(
    volume: &Volume,
    found: &Located,
    key: Key<'_>,
    range: ByteRange,
    wait: Wait,
) -> Result<Object, Trouble> {
    with_scratch(found.place.len(), |bytes| {
        read_record(volume, found, bytes, wait)?;
        let (head, metadata) = check(volume, found, bytes, key)?;
        let value = &bytes[value(&head, bytes)?];
        let range = range.resolve(metadata.len()).map_err(Trouble::Refused)?;
        Ok(Object {
            metadata: Arc::new(metadata),
            body: Bytes::copy_from_slice(&value[within(&range)]).into(),
            range,
        })
    })
}

fn open_whole(
    volume: &Volume,
    found: &Located,
    key: Key<'_>,
    range: ByteRange,
    wait: Wait,
) -> Result<Object, Trouble> {
    let bytes = buffer_record(volume, found, wait)?;
    let (head, metadata) = check(volume, found, &bytes, key)?;
    let value = value(&head, &bytes)?;
    let range = range.resolve(metadata.len()).map_err(Trouble::Refused)?;
    let part = within(&range);
    let bytes = bytes.freeze();
    Ok(Object {
        metadata: Arc::new(metadata),
        body: bytes
            .slice(value.start + part.start..value.start + part.end)
            .into(),
        range,
    })
}

/// Reads the head, and then no more than the range needs: at once where that is short.
fn open_part(
    volume: &Arc<Volume>,
    found: &Located,
    key: Key<'_>,
    range: ByteRange,
    wait: Wait,
) -> Result<Object, Trouble> {
    let (metadata, hash, mut blocks) = with_head(volume, found, wait, |bytes| {
        let (head, metadata) = check(volume, found, bytes, key)?;
        let header = &head.header;
        if header.size() > found.place.len() {
            return Err(Trouble::Altered);
        }
        let start = found.place.start() + header.head_len() as u64;
        let segment = Arc::clone(&found.segment);
        let blocks = Blocks::record(segment, start, header.len.into(), head.table());
        Ok((metadata, header.hash, blocks))
    })?;
    let range = range.resolve(metadata.len()).map_err(Trouble::Refused)?;
    let around = blocks.around(&range);
    let body = if range.is_empty() {
        Body::empty()
    } else if wait == Wait::Allowed || around.end - around.start <= Pieces::LEN_MAX {
        (blocks.read(range.clone(), &volume.buffers, wait)?).into()
    } else {
        Pieces::body(volume, hash, found.place, blocks, range.clone())
    };
    Ok(Object {
        metadata: Arc::new(metadata),
        range,
        body,
    })
}

/// Reads an object's metadata.
pub(crate) fn stat(
    volume: &Arc<Volume>,
    found: &Located,
    key: Key<'_>,
    wait: Wait,
) -> Result<Arc<Metadata>, Trouble> {
    with_head(volume, found, wait, |bytes| {
        let (_, metadata) = check(volume, found, bytes, key)?;
        Ok(Arc::new(metadata))
    })
}

/// Reads a record as it stands, confirmed.
pub(crate) fn whole(
    volume: &Arc<Volume>,
    found: &Located,
    key: Key<'_>,
    wait: Wait,
) -> Result<(Place, Bytes), Trouble> {
    if wait == Wait::Never && found.place.len() > WHOLE_MAX && !is_buffered(found) {
        return Err(Trouble::Cold);
    }
    let bytes = buffer_record(volume, found, wait)?;
    let (head, _) = check(volume, found, &bytes, key)?;
    value(&head, &bytes)?;
    Ok((found.place, bytes.freeze()))
}

/// Lends a record's first bytes, up to its value at least.
pub(crate) fn with_head<T>(
    volume: &Volume,
    found: &Located,
    wait: Wait,
    lend: impl FnOnce(&[u8]) -> Result<T, Trouble>,
) -> Result<T, Trouble> {
    let len = found.place.len();
    with_scratch(len.min(HEAD_LEN), |bytes| {
        read_record(volume, found, bytes, wait)?;
        let header = Header::parse(bytes, found.segment.seed).ok_or(Trouble::Altered)?;
        let head_len = header.head_len();
        if head_len <= bytes.len() {
            return lend(bytes);
        }
        if head_len > len {
            return Err(Trouble::Altered);
        }
        let mut bytes = volume.buffers.take(head_len);
        read_record(volume, found, &mut bytes, wait)?;
        lend(&bytes)
    })
}

/// Confirms that this is the head of the record that was looked for, and that it counts.
pub(crate) fn check<'a>(
    volume: &Volume,
    found: &Located,
    bytes: &'a [u8],
    key: Key<'_>,
) -> Result<(Head<'a>, Metadata), Trouble> {
    let head = Head::parse(bytes, found.segment.seed).ok_or(Trouble::Altered)?;
    let kind = match found.blob {
        Some(_) => Kind::Blob,
        None => Kind::Object,
    };
    if head.header.kind != kind {
        return Err(Trouble::Altered);
    }
    if head.key() != key.as_str().as_bytes() {
        return Err(Trouble::OtherKey);
    }
    let metadata = head.metadata().ok_or(Trouble::Altered)?;
    if metadata.expires_at.is_some() && metadata.is_expired((volume.settings.clock)()) {
        return Err(Trouble::Expired);
    }
    Ok((head, metadata))
}

/// Where the value stands in a record, confirmed.
fn value(head: &Head<'_>, bytes: &[u8]) -> Result<Range<usize>, Trouble> {
    let start = head.header.head_len();
    let value = start..start + head.header.len as usize;
    let found = bytes.get(value.clone()).ok_or(Trouble::Altered)?;
    if head.header.kind == Kind::Object && !head.verifies(found) {
        return Err(Trouble::Altered);
    }
    Ok(value)
}

fn buffer_record(volume: &Volume, found: &Located, wait: Wait) -> Result<Buffer, Trouble> {
    let mut bytes = volume.buffers.take(found.place.len());
    read_record(volume, found, &mut bytes, wait)?;
    Ok(bytes)
}

/// Fills the buffer with the first bytes of a record.
fn read_record(
    volume: &Volume,
    found: &Located,
    into: &mut [u8],
    wait: Wait,
) -> Result<(), Trouble> {
    let start = found.place.start();
    if is_buffered(found) {
        if volume.log.read(&found.segment, start, into) {
            return Ok(());
        }
        // It was written in this moment, or could not be.
        if is_buffered(found) {
            return Err(Trouble::Gone);
        }
    }
    read(&found.segment.file, into, start, wait)
}

/// Whether a record is not yet in its file.
fn is_buffered(found: &Located) -> bool {
    found.segment.flushed() < found.place.start() + found.place.len() as u64
}

#[allow(clippy::cast_possible_truncation)] // Resolved against a value that is in memory.
fn within(range: &Range<u64>) -> Range<usize> {
    range.start as usize..range.end as usize
}
