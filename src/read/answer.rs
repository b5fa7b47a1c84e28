//! What a flight answers with: how its members get the bytes, and what each tier has to do.

use std::sync::Arc;

use bytes::Bytes;
use larder_store::{Body, Error, Header, KeyBuf, Object, Result, Timestamp};
use tokio::task::yield_now;

use super::{
    fill::{Fill, forget_shared, recall},
    flight::{Carrier, Flight, Opening},
    lane::Lane,
    look::{Hit, Kept, Seat, is_same_object},
    plan::Plan,
    refence::refence_others,
    resume::resumed,
    stream::stream,
};
use crate::{
    counters::count,
    engine::Engine,
    fetch::{Fetched, Found},
    response::{self, Stale},
    sync::Mutex,
    tier::{Barred, Place},
};

/// The longest body, in bytes, that is written before whoever started the flight has its answer:
/// what that costs is less than a way to another thread.
const AT_ONCE_MAX: usize = 16 << 10;

/// What the readers get, and from where.
pub(crate) struct Answer {
    pub(super) header: Arc<Header>,
    pub(super) len: Option<u64>,
    pub(super) source: response::Source,
    pub(super) stale: Option<Stale>,
    pub(super) revalidated: bool,
    pub(super) origin: Origin,
    pub(super) no_store: bool,
}

/// Where the bytes are.
pub(crate) enum Origin {
    /// In a tier; the object is open.
    Tier(usize, Object),
    /// On their way from the fetcher.
    Body(Body),
    Absent,
}

impl Answer {
    /// The fetcher's answer, stamped.
    pub(super) fn new(
        engine: &Engine,
        plan: &Plan,
        fetched: Fetched,
        began: Timestamp,
        candidate: Option<Hit>,
    ) -> Result<Self> {
        let lifetimes = fetched.policy.over(plan.policy).lifetimes();
        let no_store = fetched.no_store;
        let mut header = Header::default();
        let (len, source, origin, revalidated) = match (fetched.found, candidate) {
            (Found::Body(body), _) => (
                body.len(),
                response::Source::Origin,
                Origin::Body(body),
                false,
            ),
            (Found::Absent, _) => {
                header.absent = true;
                (Some(0), response::Source::Origin, Origin::Absent, false)
            }
            (Found::NotModified, Some(Hit { tier, object, .. })) => {
                count(&engine.counts.revalidated);
                header = object.metadata.header().clone();
                // The read has waited for the origin, whoever has the bytes.
                (
                    Some(object.metadata.len()),
                    response::Source::Origin,
                    Origin::Tier(tier, object),
                    true,
                )
            }
            (Found::NotModified, None) => {
                return Err(Error::invalid(
                    "the fetcher said \"not modified\" though it was not asked about a stale copy",
                ));
            }
        };
        fetched.header.apply(&mut header);
        lifetimes.stamp(&mut header, began, engine.dice.roll());
        let header = Arc::new(header);
        Ok(Self {
            header,
            len,
            source,
            stale: None,
            revalidated,
            origin,
            no_store,
        })
    }

    /// What each tier has to do.
    pub(super) fn lanes(&mut self, engine: &Engine, seats: Vec<Seat>) -> Vec<Lane> {
        // The same object, of which the origin said that it is still right.
        let is_renewed = |tier: usize, held: &Kept| match &self.origin {
            Origin::Tier(asked, object) => *asked == tier || is_same_object(held, object),
            Origin::Body(_) | Origin::Absent => false,
        };
        let lane = |(seat, place): (Seat, &Place)| match seat {
            Seat::Unknown => None,
            Seat::Suspect => Some(Lane::delete(place, None)),
            // What waits to be written behind is older: a delete under the fence ends it.
            Seat::Missed(fence) if self.no_store && place.tier.behind => {
                Some(Lane::delete(place, Some(fence)))
            }
            Seat::Missed(_) if self.no_store => None,
            Seat::Held(fence, _) | Seat::Broken(fence) if self.no_store => {
                Some(Lane::delete(place, Some(fence)))
            }
            Seat::Missed(fence) => {
                let older = place.tier.behind;
                Lane::write(place, &self.header, self.len, Some(fence), older)
            }
            Seat::Held(fence, held) => {
                let touches = place.store().as_touch().is_some() && is_renewed(place.index, &held);
                if touches {
                    Some(Lane::touch(place, fence))
                } else {
                    Lane::write(place, &self.header, self.len, Some(fence), true)
                }
            }
            Seat::Broken(fence) => Lane::write(place, &self.header, self.len, Some(fence), true),
        };
        seats
            .into_iter()
            .zip(&engine.tiers)
            .filter_map(lane)
            .collect()
    }

    /// How the members get it, and the source that is to be streamed, if any. An object that
    /// nothing is filled from is left where it is.
    pub(super) fn opening(self, engine: &Engine, fills: bool) -> (Opening, Option<Body>) {
        let too_large_for = too_large_for(engine, &self.header, self.len, &self.source);
        let (mut stored, mut source) = (None, None);
        let carrier = match self.origin {
            Origin::Absent => Carrier::Absent,
            Origin::Tier(_, object) if object.metadata.absent => Carrier::Absent,
            Origin::Tier(tier, object) if !fills => {
                stored = Some(Arc::clone(&object.metadata));
                Carrier::Direct {
                    tier,
                    object: Mutex::new(Some(object)),
                }
            }
            Origin::Tier(_, Object { body, .. }) | Origin::Body(body) => match body.as_whole() {
                Some(bytes) => Carrier::Whole(bytes.clone()),
                None => {
                    source = Some(body);
                    Carrier::Spooled
                }
            },
        };
        let opening = Opening {
            header: self.header,
            stored,
            len: self.len,
            source: self.source,
            stale: self.stale,
            revalidated: self.revalidated,
            too_large_for,
            carrier,
        };
        (opening, source)
    }

    /// Opens the flight, streams the source into the lanes, and commits them.
    pub(super) fn land<'a>(
        self,
        engine: &'a Arc<Engine>,
        flight: &'a Arc<Flight>,
        plan: &'a Plan,
        lanes: Vec<Lane>,
    ) -> impl Future<Output = Result<()>> + Send + use<'a> {
        // What is done at once is not in the future, which has no room for it then.
        let is_stored = matches!(self.origin, Origin::Tier(..));
        let is_fetched = !is_stored || self.revalidated;
        let (mut fill, source) = self.open(engine, flight, plan, lanes);
        async move {
            let refences = flight.take_refences();
            if is_fetched && !refences.is_empty() {
                Box::pin(fill.refence(engine, &flight.key, refences)).await;
            }
            match source {
                Source::Nothing => {
                    flight.release_slot();
                    fill.open(engine, &flight.key, true).await;
                }
                // Boxed: most flights never get here, and all are spared its size.
                Source::Body(body) => {
                    Box::pin(stream(engine, flight, plan, &mut fill, body)).await?;
                }
                Source::Whole(bytes) => pour(engine, flight, &mut fill, bytes).await,
            }
            if let Some(leases) = &engine.leases
                && !is_stored
                && !flight.is_retired()
                && !fill.is_shared(engine)
            {
                // It was too large, as far as one can tell: that is known only now.
                leases.answered(&flight.key, false);
            }
            commit(engine, flight, &mut fill, is_fetched).await;
            if plan.accept.none && !plan.alone {
                // Whoever asked has the answer already: nobody waits for this.
                engine.tell_behind(&flight.key);
            }
            Ok(())
        }
    }

    /// Opens the flight; gives what is to be brought to the tiers.
    fn open(
        mut self,
        engine: &Arc<Engine>,
        flight: &Arc<Flight>,
        plan: &Plan,
        lanes: Vec<Lane>,
    ) -> (Fill, Source) {
        // What was missed since the flight began, it may have missed as well.
        let generation = flight.generation();
        if self.header.generation != generation {
            Arc::make_mut(&mut self.header).generation = generation;
        }
        let fills = lanes.iter().any(Lane::is_write);
        let fill = Fill::new(engine, Arc::clone(&self.header), self.len, lanes);
        let is_stored = matches!(self.origin, Origin::Tier(..));
        let (header, len) = (Arc::clone(&self.header), self.len);
        let (opening, body) = self.opening(engine, fills);
        let source = match (body, &opening.carrier) {
            (Some(body), _) => Source::Body(match len {
                Some(len) if is_stored => resumed(engine, flight, *plan, header, len, body),
                _ => body,
            }),
            (None, Carrier::Whole(bytes)) => Source::Whole(bytes.clone()),
            (None, _) => Source::Nothing,
        };
        flight.open(Arc::new(opening));
        (fill, source)
    }
}

/// The tiers that do not store an object for its size: all of them of what was fetched, else those
/// above the one that has it.
pub(super) fn too_large_for(
    engine: &Engine,
    header: &Header,
    len: Option<u64>,
    source: &response::Source,
) -> Option<Arc<Vec<&'static str>>> {
    let above = match source {
        response::Source::Tier { index, .. } => usize::from(*index),
        _ => engine.tiers.len(),
    };
    let bars =
        |place: &&Place| place.admits(header, len, place.object_max()) == Err(Barred::TooLarge);
    let names: Vec<_> = engine.tiers[..above]
        .iter()
        .filter(bars)
        .map(|place| place.name)
        .collect();
    (!names.is_empty()).then(|| Arc::new(names))
}

/// The seats as they are now. An entry that was evicted while the origin was asked about it is
/// written again, under the fence that was taken before: a delete would have ended that.
pub(super) async fn still_held(engine: &Engine, key: &KeyBuf, seats: &mut [Seat]) {
    for (seat, place) in seats.iter_mut().zip(&engine.tiers) {
        if let Seat::Held(fence, _) = seat {
            let stat = || place.store().stat(key.as_key());
            let found = place.attempt("asking for metadata", stat).await;
            if matches!(found, Ok(None)) {
                *seat = Seat::Missed(fence.clone());
            }
        }
    }
}

/// What a flight brings to the tiers.
enum Source {
    /// Only what is there is to be renewed or removed.
    Nothing,
    Whole(Bytes),
    Body(Body),
}

/// Writes a whole object to the lanes; its readers have it already.
async fn pour(engine: &Engine, flight: &Flight, fill: &mut Fill, bytes: Bytes) {
    flight.finish();
    flight.release_slot();
    if bytes.len() > AT_ONCE_MAX {
        // Who started the flight may be the one that polls it, and has an answer to go on with.
        yield_now().await;
    }
    fill.open(engine, &flight.key, true).await;
    if !bytes.is_empty() {
        fill.write(engine, None, &bytes).await;
    }
}

/// How often a commit starts over because this process published something older meanwhile. A key
/// has two flights at most, and a write behind for each tier.
const REFENCES_MAX: usize = 4;

/// Publishes in the key's turn, unless something newer has come.
///
/// A flight that outlived its generation may have missed a `clear`. Once it is older than half the
/// bus's bound it leaves nothing in a shared tier. A younger one does no harm there: the `clear`
/// waits for the bound before it deletes. Private copies are checked before they are served.
async fn commit(engine: &Arc<Engine>, flight: &Arc<Flight>, fill: &mut Fill, is_fetched: bool) {
    // An answer outdates older flights also where nothing is to be stored.
    if fill.is_empty() && !(is_fetched && engine.flights.has_demoted()) {
        return;
    }
    for _ in 0..REFENCES_MAX {
        let turn = engine.turns.take(&flight.key).await;
        if !flight.publishes() {
            break;
        }
        let refences = flight.take_refences();
        if !is_fetched || refences.is_empty() {
            // Boxed where there are others, which is rare.
            let others = engine.flights.others(&flight.key, Some(flight));
            if is_fetched {
                let older = others.iter().filter(|other| other.is_older(flight));
                older.for_each(|other| other.outdate());
            }
            let is_past = || engine.is_past(flight.generation());
            let shares = || flight.since().is_none_or(|since| engine.may_share(since));
            let (was_past, shared) = (is_past(), shares());
            if was_past {
                fill.leave_shared(engine, shared);
            }
            // A tier counts its failures; the readers have their bytes.
            let published = fill.commit(engine, &flight.key).await;
            if shared && !shares() {
                Box::pin(recall(engine, &flight.key, &published.changed)).await;
            } else if !was_past && is_past() {
                forget_shared(engine, &flight.key);
            }
            if !others.is_empty() {
                let changed = published.changed;
                Box::pin(refence_others(engine, &flight.key, &changed, &others)).await;
            }
            drop(turn);
            return;
        }
        drop(turn);
        Box::pin(fill.refence(engine, &flight.key, refences)).await;
    }
    count(&engine.counts.flights_retired);
}
