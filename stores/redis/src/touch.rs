//! Replacing an object's metadata.

use std::sync::Arc;

use bytes::Bytes;
use larder_store::{Commit, Draft, Error, ErrorKind, Key, Result};

use crate::{
    fence::Token,
    manifest::{HEAD_LEN, Manifest},
    names::Place,
    reader,
    script::{self, Outcome},
    shared::{Shared, required},
};

/// How often a touch that finds another version than the one that it read begins anew.
const ATTEMPTS_MAX: usize = 16;

/// The new head needs a checksum, which the server's scripts cannot make. So it is made here, and
/// put in place of the very head that was read.
pub(crate) async fn touch(shared: &Shared, key: Key<'_>, mut draft: Draft) -> Result<Commit> {
    shared.check_open()?;
    draft.check()?;
    let fence = draft.take_fence().as_ref().map(Token::of);
    let place = shared.names.place(key);
    for _ in 0..ATTEMPTS_MAX {
        let Some((old, start)) = reader::find(shared, &place, key).await? else {
            return Ok(Commit::Superseded);
        };
        draft.check_len(old.len)?;
        let new = Manifest {
            header: draft.header().clone(),
            nonce: shared.nonces.draw(),
            ..old
        };
        match replace(shared, &place, key, fence.as_ref(), &start, &new).await? {
            Outcome::Done => return Ok(Commit::Done(Some(Arc::new(new.into_metadata())))),
            Outcome::Superseded | Outcome::Lost => return Ok(Commit::Superseded),
            Outcome::Changed | Outcome::Late => {}
        }
    }
    Err(Error::new(
        ErrorKind::Other,
        "the object is replaced faster than it can be touched",
    ))
}

/// `start` is the old manifest without its body.
async fn replace(
    shared: &Shared,
    place: &Place,
    key: Key<'_>,
    fence: Option<&Token>,
    start: &Bytes,
    new: &Manifest,
) -> Result<Outcome> {
    let [marker, token] = required(fence);
    let keys: [&[u8]; 3] = [&place.manifest(key), &place.marker(key), &place.lease(key)];
    let body_at = start.len().to_string();
    let args: [&[u8]; 8] = [
        marker,
        token,
        &place.chunks(),
        &shared.grace(),
        &shared.left(&new.header).argument(),
        &start[..HEAD_LEN],
        &new.encode(),
        body_at.as_bytes(),
    ];
    let code: i64 = shared.run(place, &script::TOUCH, &keys, &args).await?;
    Ok(code.into())
}
