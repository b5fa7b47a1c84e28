//! What one tier has to do with a fill.

use std::sync::Arc;

use bytes::Bytes;
use larder_store::{
    Commit, Draft, Error, ErrorKind, Fence, Header, KeyBuf, Metadata, Result, Staged, Version,
    Writer,
};

use super::flight::{Flight, Refence};
use crate::{
    behind::{Behind, Held},
    counters::count,
    engine::Engine,
    sync::AtomicU64,
    tier::{Barred, Place},
};

/// What a tier has to do with a fill.
pub(crate) struct Lane {
    pub(super) tier: usize,
    /// The tier as the flight found it; a user's write has none.
    pub(super) fence: Option<Fence>,
    /// Whether an older copy may be there, which must not outlive this answer.
    pub(super) older: bool,
    /// The longest body, in bytes, that the tier took when the fill began.
    max: u64,
    pub(super) step: Step,
}

pub(super) enum Step {
    /// To be opened.
    Open,
    Writing {
        writer: Box<dyn Writer>,
        staged: Option<Arc<dyn Staged>>,
    },
    /// Gathers the bytes, to write them behind.
    Hold(Held),
    /// The body there is right, its metadata is renewed.
    Touch,
    /// Only the older copy is removed.
    Delete,
    /// Refused or failed, for this reason: an older copy is removed.
    Failed(Option<Error>),
}

impl Lane {
    /// Writes the object to a tier, or removes the older copy where the tier does not admit it. A
    /// shared tier that the object is too large for is asked whether something newer came.
    pub(crate) fn write(
        place: &Place,
        header: &Header,
        len: Option<u64>,
        fence: Option<Fence>,
        older: bool,
    ) -> Option<Self> {
        let max = place.object_max();
        let admitted = place.admits(header, len, max);
        if admitted == Err(Barred::TooLarge) {
            place.note_too_large(len.unwrap_or_default(), max);
        }
        let step = match admitted {
            Ok(()) => Step::Open,
            Err(_) if older => Step::Delete,
            Err(Barred::TooLarge) if place.tier.shared && fence.is_some() => Step::Failed(None),
            Err(_) => return None,
        };
        Some(Self {
            tier: place.index,
            fence,
            older,
            max,
            step,
        })
    }

    /// Renews the metadata of what is there.
    pub(crate) fn touch(place: &Place, fence: Fence) -> Self {
        Self {
            tier: place.index,
            fence: Some(fence),
            older: true,
            max: u64::MAX,
            step: Step::Touch,
        }
    }

    /// Removes what is there.
    pub(crate) fn delete(place: &Place, fence: Option<Fence>) -> Self {
        Self {
            tier: place.index,
            fence,
            older: true,
            max: u64::MAX,
            step: Step::Delete,
        }
    }

    pub(crate) fn is_write(&self) -> bool {
        matches!(self.step, Step::Open)
    }

    /// Whether the lane brings the object to its tier.
    pub(super) fn adds(&self) -> bool {
        matches!(self.step, Step::Open | Step::Writing { .. } | Step::Hold(_))
    }

    /// Whether the tier is to have the object when the lane has settled.
    pub(crate) fn keeps(&self) -> bool {
        self.adds() || matches!(self.step, Step::Touch)
    }
}

/// How a lane ended.
pub(crate) enum Settled<'a> {
    /// With what counts it, once it is to stay.
    Published(Option<Version>, &'a AtomicU64),
    Held,
    Removed,
    /// Nothing was done, and nothing was to be.
    Left,
    Superseded,
}

/// The draft of an object for a tier.
pub(super) fn draft(
    place: &Place,
    fence: Option<&Fence>,
    header: &Header,
    len: Option<u64>,
) -> Draft {
    let mut draft = Draft::from(place.capped(header));
    if let Some(len) = len {
        draft = draft.len(len);
    }
    match fence {
        Some(fence) => draft.fence(fence.clone()),
        None => draft,
    }
}

impl Lane {
    pub(super) async fn push(
        &mut self,
        engine: &Engine,
        flight: Option<&Flight>,
        chunk: &Bytes,
        written: u64,
    ) {
        let place = &engine.tiers[self.tier];
        let max = self.max;
        let too_long = || {
            place.note_too_large(written, max);
            let name = &place.name;
            Error::too_large(format!("the tier {name} takes at most {max} bytes"))
        };
        let failure = match &mut self.step {
            Step::Writing { .. } | Step::Hold(_) if written > max => Some(too_long()),
            Step::Writing { writer, staged } => {
                let stall = place.tier.write_stall;
                let (writer, chunk) = (&mut *writer, chunk.clone());
                let write = move || writer.write(chunk);
                let result = place.within(stall, "writing", write).await;
                if let (Ok(()), Some(staged), Some(flight)) = (&result, staged, flight) {
                    flight.backed(staged, written);
                }
                if result.as_ref().is_err_and(Error::is_timeout) {
                    count(&place.counts.stalls);
                }
                result.err()
            }
            Step::Hold(held) => {
                let fits = held.push(chunk);
                if !fits {
                    count(&engine.counts.behind_dropped);
                }
                (!fits).then(|| no_room(place))
            }
            _ => None,
        };
        if failure.is_some() {
            // Dropping the writer aborts it, without a wait.
            self.step = Step::Failed(failure);
        }
    }

    /// Goes on under a new fence; `refence` says what is there now, which is older than this answer.
    pub(super) async fn refence(
        &mut self,
        place: &Place,
        key: &KeyBuf,
        refence: Refence,
        header: &Header,
        len: Option<u64>,
        written: u64,
    ) {
        let Refence { fence, there, .. } = refence;
        self.older |= there.is_some();
        self.fence = Some(fence);
        let step = std::mem::replace(&mut self.step, Step::Failed(None));
        self.step = match step {
            // It would put this answer's metadata on another body.
            Step::Touch if !there.is_some_and(|there| has_tag_of(header, &there)) => Step::Delete,
            Step::Writing { staged, .. } => {
                let draft = draft(place, self.fence.as_ref(), header, len);
                match restage(place, key, draft, staged, written).await {
                    Ok(writer) => Step::Writing {
                        staged: writer.staged(),
                        writer,
                    },
                    Err(error) => Step::Failed(Some(error)),
                }
            }
            step => step,
        };
    }

    /// Does what the lane is for. An error means that the tier has neither the object nor, unless
    /// the key is suspect there, an older one.
    pub(super) async fn settle<'a>(
        &mut self,
        engine: &Arc<Engine>,
        place: &'a Place,
        key: &KeyBuf,
        header: &Header,
        len: Option<u64>,
        written: u64,
    ) -> Result<Settled<'a>> {
        let (result, counter) = match std::mem::replace(&mut self.step, Step::Failed(None)) {
            Step::Writing { writer, .. } => (
                place.attempt("committing", || writer.commit()).await,
                &place.counts.fills,
            ),
            Step::Touch => {
                let (fence, len) = (self.fence.as_ref(), Some(len.unwrap_or(written)));
                let touch = || match place.store().as_touch() {
                    Some(touch) => touch.touch(key.as_key(), draft(place, fence, header, len)),
                    None => larder_store::Reply::ready(Ok(Commit::Superseded)),
                };
                (
                    place.attempt("touching", touch).await,
                    &place.counts.touched,
                )
            }
            Step::Hold(held) => return self.hold(engine, place, key, header, held).await,
            Step::Delete => return remove(engine, place, key, self.fence.take()).await,
            Step::Failed(Some(error)) if self.older => {
                let removed = remove(engine, place, key, self.fence.take()).await?;
                return match removed {
                    Settled::Superseded => Ok(removed),
                    _ => Err(error),
                };
            }
            Step::Open | Step::Failed(_) => return Ok(self.verify(place, key).await),
        };
        match result {
            Ok(Commit::Done(metadata)) => {
                let version = metadata.map(|metadata| metadata.version());
                Ok(Settled::Published(version, counter))
            }
            Ok(Commit::Superseded) => Ok(Settled::Superseded),
            Err(error) => {
                // Done or not done: whatever is there now goes, in the same turn.
                remove(engine, place, key, None).await?;
                Err(error)
            }
        }
    }

    /// What a shared tier did not take, other processes may have replaced or deleted there: the
    /// private tiers are not to get it then. Where there was nothing, a delete under the fence
    /// tells.
    async fn verify(&mut self, place: &Place, key: &KeyBuf) -> Settled<'static> {
        let Some(fence) = self.fence.take().filter(|_| place.tier.shared) else {
            return Settled::Left;
        };
        let delete = || place.store().delete(key.as_key(), Some(fence));
        match place.attempt("deleting", delete).await {
            Ok(Commit::Superseded) => Settled::Superseded,
            Ok(Commit::Done(_)) | Err(_) => Settled::Left,
        }
    }

    /// Something newer is in another tier: nothing is added here, and an older copy goes.
    pub(super) async fn give_way(mut self, engine: &Engine, key: &KeyBuf) {
        // What fails is counted, and the key suspect.
        if self.older {
            let place = &engine.tiers[self.tier];
            let _ = remove(engine, place, key, self.fence.take()).await;
        }
    }

    /// Deletes in the turn, and queues the bytes under a fence taken then.
    async fn hold(
        &mut self,
        engine: &Arc<Engine>,
        place: &Place,
        key: &KeyBuf,
        header: &Header,
        held: Held,
    ) -> Result<Settled<'static>> {
        let removed = remove(engine, place, key, self.fence.take()).await?;
        if matches!(removed, Settled::Superseded) {
            return Ok(removed);
        }
        let fence = place
            .attempt("taking a fence", || place.store().fence(key.as_key()))
            .await?;
        let draft = Draft::from(place.capped(header)).fence(fence);
        if Behind::push(engine, key, self.tier, draft, held) {
            return Ok(Settled::Held);
        }
        Err(no_room(place))
    }
}

/// Whether an object has the strong tag of this header: same tag, same bytes (RFC 9110, section
/// 8.8.1).
fn has_tag_of(header: &Header, there: &Metadata) -> bool {
    (header.etag.as_ref()).is_some_and(|tag| !tag.is_weak() && there.etag.as_ref() == Some(tag))
}

/// How much is copied at a time, in bytes.
const RESTAGE_STEP: usize = 256 << 10;

/// Opens a writer, and gives it what an earlier one has staged.
async fn restage(
    place: &Place,
    key: &KeyBuf,
    draft: Draft,
    staged: Option<Arc<dyn Staged>>,
    written: u64,
) -> Result<Box<dyn Writer>> {
    let open = || place.store().set_with_writer(key.as_key(), draft);
    let mut writer = place.attempt("opening a writer", open).await?;
    let mut at = 0;
    while at < written {
        let staged = staged.as_ref().ok_or_else(|| {
            let message = format!("the tier {} cannot read back what it staged", place.name);
            Error::new(ErrorKind::Unsupported, message)
        })?;
        let left = usize::try_from(written - at).unwrap_or(usize::MAX);
        let read = || Arc::clone(staged).read(at, left.min(RESTAGE_STEP));
        let bytes = place.attempt("reading back", read).await?;
        if bytes.is_empty() {
            return Err(Error::corrupt("staged bytes are short"));
        }
        at += bytes.len() as u64;
        place.attempt("writing", || writer.write(bytes)).await?;
    }
    Ok(writer)
}

fn no_room(place: &Place) -> Error {
    let message = format!("too much waits to be written to the tier {}", place.name);
    Error::new(ErrorKind::Full, message)
}

/// Removes the copy in a tier; one that cannot be removed is suspect.
pub(crate) async fn remove(
    engine: &Engine,
    place: &Place,
    key: &KeyBuf,
    fence: Option<Fence>,
) -> Result<Settled<'static>> {
    match place
        .attempt("deleting", || place.store().delete(key.as_key(), fence))
        .await
    {
        Ok(Commit::Done(_)) => {
            engine.suspects.clear(place.index, key);
            Ok(Settled::Removed)
        }
        Ok(Commit::Superseded) => Ok(Settled::Superseded),
        Err(error) => {
            engine.suspects.add(place.index, key);
            count(&engine.counts.suspects);
            Err(error)
        }
    }
}
