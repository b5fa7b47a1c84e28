//! Reading: inline where the system has the bytes in memory, by a thread of its own where not.
//
// Invariants:
// 1. What is read is confirmed by its record: the place that the index gives may be outdated, and
//    hashes may be equal. A failure counts only if the entry still stands at that place; else the
//    look-up begins anew.
// 2. The fence of a miss is older than the look that found nothing.
// 3. No lock is held across a read.

use std::sync::Arc;

use bytes::Bytes;
use larder_store::{
    ByteRange, Error, ErrorKind, Fence, Key, KeyBuf, Lookup, Metadata, Object, Reply, Result,
};
use tokio::task::coop::{consume_budget, has_budget_remaining};

use crate::{
    blocks::{Trouble, Wait},
    budget, clock, fetch,
    index::Place,
    unreadable::{self, Home},
    volume::{Located, Volume},
};

/// What is done with a record once it is found.
trait Fetch<T>:
    Fn(&Arc<Volume>, &Located, Key<'_>, Wait) -> Result<T, Trouble> + Copy + Send + 'static
{
}

impl<T, F> Fetch<T> for F where
    F: Fn(&Arc<Volume>, &Located, Key<'_>, Wait) -> Result<T, Trouble> + Copy + Send + 'static
{
}

/// What a look without waiting has shown.
enum Sight<T> {
    Found(T),
    Absent,
    /// It is there, and to read it is to wait.
    Cold(Located),
}

/// A look-up that finds its object changed so often gives up: it cannot tell.
const ATTEMPTS_MAX: usize = 32;

/// Opens an object.
pub(crate) fn get<'a>(
    volume: &'a Arc<Volume>,
    key: Key<'a>,
    range: ByteRange,
) -> Reply<'a, Lookup> {
    if !has_budget_remaining() {
        // Whoever lives on hits that are ready lets others go on now and then.
        return Reply::later(async move {
            consume_budget().await;
            get(volume, key, range).await
        });
    }
    let fetch = move |volume: &Arc<Volume>, found: &Located, key: Key<'_>, wait| {
        fetch::open(volume, found, key, range, wait)
    };
    match look_up(volume, key, fetch) {
        Ok(Sight::Found(Lookup::Hit(object))) => {
            budget::spend(object.body.as_whole().map_or(0, Bytes::len));
            Reply::ready(Ok(Lookup::Hit(object)))
        }
        Ok(Sight::Found(miss)) => Reply::ready(Ok(miss)),
        Ok(Sight::Absent) => Reply::ready(Err(restless())),
        Ok(Sight::Cold(found)) => {
            clock::later(&volume.runtime, get_cold(volume, key, fetch, found))
        }
        Err(error) => Reply::ready(Err(error)),
    }
}

/// Reads an object's metadata.
pub(crate) fn stat<'a>(volume: &'a Arc<Volume>, key: Key<'a>) -> Reply<'a, Option<Arc<Metadata>>> {
    match look(volume, key, fetch::stat) {
        Ok(Sight::Found(metadata)) => Reply::ready(Ok(Some(metadata))),
        Ok(Sight::Absent) => Reply::ready(Ok(None)),
        Ok(Sight::Cold(found)) => {
            clock::later(&volume.runtime, look_cold(volume, key, fetch::stat, found))
        }
        Err(error) => Reply::ready(Err(error)),
    }
}

/// A record as it stands, whole and checked, to be written again: for a touch.
pub(crate) async fn whole(volume: &Arc<Volume>, key: Key<'_>) -> Result<Option<(Place, Bytes)>> {
    match look(volume, key, fetch::whole)? {
        Sight::Found(record) => Ok(Some(record)),
        Sight::Absent => Ok(None),
        Sight::Cold(found) => look_cold(volume, key, fetch::whole, found).await,
    }
}

/// Looks, and where nothing is found takes a fence and looks again.
fn look_up(volume: &Arc<Volume>, key: Key<'_>, fetch: impl Fetch<Object>) -> Result<Sight<Lookup>> {
    let mut fence: Option<Fence> = None;
    loop {
        match look(volume, key, fetch)? {
            Sight::Found(object) => return Ok(Sight::Found(Lookup::Hit(object))),
            Sight::Cold(found) => return Ok(Sight::Cold(found)),
            Sight::Absent => match fence.take() {
                Some(fence) => return Ok(Sight::Found(Lookup::Miss(fence))),
                None => fence = Some(volume.fences.lock(key).fence()),
            },
        }
    }
}

async fn get_cold(
    volume: &Arc<Volume>,
    key: Key<'_>,
    fetch: impl Fetch<Object>,
    mut found: Located,
) -> Result<Lookup> {
    for _ in 0..ATTEMPTS_MAX {
        if let Some(object) = look_cold(volume, key, fetch, found).await? {
            return Ok(Lookup::Hit(object));
        }
        match look_up(volume, key, fetch)? {
            Sight::Found(lookup) => return Ok(lookup),
            Sight::Cold(next) => found = next,
            Sight::Absent => break,
        }
    }
    Err(restless())
}

/// Looks without waiting.
fn look<T>(volume: &Arc<Volume>, key: Key<'_>, fetch: impl Fetch<T>) -> Result<Sight<T>> {
    volume.check_open()?;
    let hash = volume.hash(key);
    for _ in 0..ATTEMPTS_MAX {
        let Some(found) = volume.locate(hash) else {
            return Ok(Sight::Absent);
        };
        match fetch(volume, &found, key, Wait::Never) {
            Ok(fetched) => {
                volume.counters.inline_reads.add(1);
                return Ok(Sight::Found(fetched));
            }
            Err(Trouble::Cold) => return Ok(Sight::Cold(found)),
            Err(trouble) => {
                if judge(volume, hash, &found, trouble)? {
                    return Ok(Sight::Absent);
                }
            }
        }
    }
    Err(restless())
}

/// Reads, where that may wait, what was found.
async fn look_cold<T: Send + 'static>(
    volume: &Arc<Volume>,
    key: Key<'_>,
    fetch: impl Fetch<T>,
    mut found: Located,
) -> Result<Option<T>> {
    let hash = volume.hash(key);
    let owned = key.to_buf();
    for _ in 0..ATTEMPTS_MAX {
        if found.blob.is_none() {
            volume.counters.cold_reads.add(1);
        }
        let (there, fetched) = hop(volume, &owned, fetch, found).await?;
        match fetched {
            Ok(fetched) => return Ok(Some(fetched)),
            Err(trouble) => {
                if judge(volume, hash, &there, trouble)? {
                    return Ok(None);
                }
            }
        }
        let Some(next) = volume.locate(hash) else {
            return Ok(None);
        };
        found = next;
    }
    Err(restless())
}

/// Has a thread that may wait fetch it.
async fn hop<T: Send + 'static>(
    volume: &Arc<Volume>,
    key: &KeyBuf,
    fetch: impl Fetch<T>,
    found: Located,
) -> Result<(Located, Result<T, Trouble>)> {
    let ended = |error| {
        let message = "the runtime that reads for the store has ended";
        Error::with_source(ErrorKind::Unavailable, message, error)
    };
    let permit = Arc::clone(&volume.cold).acquire_owned().await;
    let permit = permit.map_err(|_| restless())?;
    let (shared, key) = (Arc::clone(volume), key.clone());
    let fetched = volume.runtime.spawn_blocking(move || {
        let _permit = permit;
        let fetched = unreadable::read(
            &shared,
            || Home::of(&found),
            || fetch(&shared, &found, key.as_key(), Wait::Allowed),
        );
        (found, fetched)
    });
    fetched.await.map_err(ended)
}

/// Whether trouble with what was found means that there is nothing; if not, it has to be looked
/// for again.
fn judge(volume: &Volume, hash: u64, found: &Located, trouble: Trouble) -> Result<bool> {
    match trouble {
        Trouble::OtherKey => Ok(volume.is_at(hash, found.place)),
        Trouble::Expired => {
            volume.forget(hash, found.place);
            Ok(false)
        }
        // It was evicted or replaced since it was located; another may be there.
        Trouble::Gone if found.blob.as_ref().is_some_and(|blob| blob.is_gone()) => Ok(false),
        // Of what was moved or replaced meanwhile nothing is forgotten.
        Trouble::Altered | Trouble::Gone => {
            if volume.forget(hash, found.place) {
                volume.counters.corrupt.add(1);
                let (segment, offset) = (found.segment.id, found.place.start());
                tracing::warn!(segment, offset, "a record is not as it was written");
            }
            Ok(false)
        }
        // Clause 10: it is dropped, and a write may replace it.
        Trouble::Unreadable(error) => {
            volume.counters.io_errors.add(1);
            if volume.forget(hash, found.place) {
                volume.counters.corrupt.add(1);
                let (segment, offset) = (found.segment.id, found.place.start());
                tracing::warn!(segment, offset, %error, "an object cannot be read, and is dropped");
            }
            Ok(false)
        }
        Trouble::Cold => Ok(false),
        Trouble::Io(error) => {
            volume.counters.io_errors.add(1);
            let message = "the object cannot be read";
            Err(Error::with_source(ErrorKind::Unavailable, message, error))
        }
        Trouble::Refused(error) => Err(error),
    }
}

fn restless() -> Error {
    let message = "the object changes faster than it is read";
    Error::new(ErrorKind::Unavailable, message)
}

#[cfg(test)]
mod tests;
