//! Looking an object up.
//!
//! A hit is one `GET`, and for a body in chunks a second trip, in which the first chunk comes and
//! the others are known to be there. A miss is a second trip as well: only a step that looks again
//! and takes the fence at once can say that nothing happened in between, and a hit should not pay
//! for a script. A manifest that is malformed, has expired or lacks its chunks is removed in that
//! step, and is a miss.

use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use larder_store::{ByteRange, Error, ErrorKind, Fence, Key, Lookup, Metadata, Object, Result};

use crate::{
    body::Source,
    fence::{self, Token},
    manifest::{HEAD_LEN, Manifest, Placement, manifest_len},
    names::Place,
    script,
    shared::{Shared, millis},
};

/// How often a look-up looks again that found nothing and then something.
const LOOKS_MAX: usize = 4;

/// How much is read to learn of an object without its body; enough for most.
const STAT_LEN: usize = 4096;

/// How often a stat reads more because the header is longer than what it has.
const STATS_MAX: usize = 8;

/// Stands for the head of what is no string.
const NO_STRING: &[u8] = b"!";

enum Opened {
    Object(Object),
    /// What begins with these bytes is no object.
    Bad(Bytes),
}

pub(crate) async fn look_up(
    shared: &Arc<Shared>,
    key: Key<'_>,
    range: ByteRange,
) -> Result<Lookup> {
    shared.check_open()?;
    let place = shared.names.place(key);
    let manifest = place.manifest(key);
    for _ in 0..LOOKS_MAX {
        let bad = match shared.get(&place, &manifest).await {
            Ok(None) => Bytes::new(),
            Ok(Some(value)) => match open(shared, &place, key, value, range).await? {
                Opened::Object(object) => return Ok(Lookup::Hit(object)),
                Opened::Bad(head) => head,
            },
            Err(error) if error.is_corrupt() => Bytes::from_static(NO_STRING),
            Err(error) => return Err(error),
        };
        if let Some(fence) = Box::pin(miss(shared, &place, key, &bad)).await? {
            return Ok(Lookup::Miss(fence));
        }
    }
    // It comes and goes. It was absent a moment ago, and a fence is good whenever it is taken.
    let fence = Box::pin(fence::take_at(shared, &place, key)).await?;
    Ok(Lookup::Miss(fence))
}

/// The metadata alone.
pub(crate) async fn stat(shared: &Shared, key: Key<'_>) -> Result<Option<Arc<Metadata>>> {
    shared.check_open()?;
    let found = find(shared, &shared.names.place(key), key).await?;
    Ok(found.map(|(manifest, _)| Arc::new(manifest.into_metadata())))
}

/// The manifest without its body, and its bytes.
pub(crate) async fn find(
    shared: &Shared,
    place: &Place,
    key: Key<'_>,
) -> Result<Option<(Manifest, Bytes)>> {
    let name = place.manifest(key);
    let mut len = STAT_LEN;
    for _ in 0..STATS_MAX {
        let mut command = redis::cmd("GETRANGE");
        command.arg(&name).arg(0).arg(len - 1);
        let mut start: Bytes = match shared.read(place, &command).await {
            Err(error) if error.is_corrupt() => return Ok(None),
            read => read?,
        };
        match manifest_len(&start) {
            // Also when nothing is there, which is empty.
            Err(_) => return Ok(None),
            Ok(due) if due > start.len() && start.len() == len => len = due,
            Ok(due) => {
                let found = Manifest::decode(&start).ok();
                let found = found.filter(|(found, _)| !shared.is_expired(&found.header));
                start.truncate(due);
                return Ok(found.map(|(manifest, _)| (manifest, start)));
            }
        }
    }
    Err(Error::new(
        ErrorKind::Other,
        "the object is replaced faster than its metadata can be read",
    ))
}

async fn open(
    shared: &Arc<Shared>,
    place: &Place,
    key: Key<'_>,
    mut value: Bytes,
    range: ByteRange,
) -> Result<Opened> {
    let fit = Manifest::decode_with_body(&value).ok();
    let fit = fit.filter(|(manifest, _)| !shared.is_expired(&manifest.header));
    let Some((manifest, end)) = fit else {
        value.truncate(HEAD_LEN);
        return Ok(Opened::Bad(value));
    };
    match manifest.placement {
        Placement::Inline => {
            value.advance(end);
            let metadata = Arc::new(manifest.into_metadata());
            if range == ByteRange::FULL {
                // The bytes as they came: a second reference to them would be an allocation.
                return Ok(Opened::Object(Object {
                    range: 0..metadata.len(),
                    metadata,
                    body: value.into(),
                }));
            }
            Object::slice(metadata, &value, range).map(Opened::Object)
        }
        Placement::Chunks(chunks) => {
            let (len, range) = (manifest.len, range.resolve(manifest.len)?);
            value.truncate(HEAD_LEN);
            let head = value;
            let source = Source::new(shared, place.clone(), key, head.clone(), chunks, len);
            // In a box, as a miss is: what most look-ups are is to be small.
            let Some(body) = Box::pin(source.open(range.clone())).await? else {
                return Ok(Opened::Bad(head));
            };
            Ok(Opened::Object(Object {
                metadata: Arc::new(manifest.into_metadata()),
                range,
                body,
            }))
        }
    }
}

/// A fence, if nothing is there but what is known to be bad, which is removed; else `None`.
async fn miss(shared: &Shared, place: &Place, key: Key<'_>, bad: &[u8]) -> Result<Option<Fence>> {
    let nonce = shared.nonces.draw();
    let marker = absent(shared, place, key, bad, nonce.as_bytes()).await?;
    let token = marker
        .map(|marker| Token::from_marker(&marker))
        .transpose()?;
    Ok(token.map(Token::into_fence))
}

/// Removes a manifest that is no good, if it is still there, and tells whether it was.
pub(crate) async fn drop_bad(
    shared: &Shared,
    place: &Place,
    key: Key<'_>,
    head: &[u8],
) -> Result<bool> {
    let dropped = absent(shared, place, key, head, &[]).await?;
    Ok(dropped.is_some())
}

async fn absent(
    shared: &Shared,
    place: &Place,
    key: Key<'_>,
    bad: &[u8],
    nonce: &[u8],
) -> Result<Option<Vec<u8>>> {
    let ttl = millis(shared.settings.fence_ttl);
    let keys: [&[u8]; 2] = [&place.manifest(key), &place.marker(key)];
    let args: [&[u8]; 5] = [bad, nonce, &ttl, &place.chunks(), &shared.grace()];
    shared.run(place, &script::ABSENT, &keys, &args).await
}
