//! Asking the tiers, from hot to cold, each within its time-out.

use std::sync::Arc;

use bytes::Bytes;
use larder_store::{ByteRange, Fence, KeyBuf, Lookup, Metadata, Object};

use crate::{
    counters::count,
    engine::{Engine, Held},
    freshness::{Freshness, Terms},
    tier::{Place, is_of_object},
};

/// Which objects end the search.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Accept {
    pub(crate) terms: Terms,
    /// Whether none will do: a refresh asks the origin whatever is there.
    pub(crate) none: bool,
    pub(crate) first: FirstTier,
}

/// The state of the first tier, as far as the read knows it before the flight asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum FirstTier {
    /// Nothing that counts: it is asked.
    #[default]
    Unknown,
    /// It had its time and did not answer: it is passed over.
    Late,
    /// It cannot give the object that it has.
    Broken,
}

/// What the tiers said.
pub(crate) struct Look {
    /// Tier by tier; those below a hit were not asked.
    pub(crate) seats: Vec<Seat>,
    /// The object that ended the search.
    pub(crate) hit: Option<Hit>,
    /// The newest of those that did not, its body open, to be revalidated or served on error.
    pub(crate) candidate: Option<Hit>,
}

pub(crate) struct Hit {
    pub(crate) tier: usize,
    pub(crate) object: Object,
    pub(crate) freshness: Freshness,
}

/// How a tier was found. The fences were taken before any fetch begins.
pub(crate) enum Seat {
    /// It was not asked, or it could not answer: it gave no fence and is not filled.
    Unknown,
    /// It may hold what was deleted; it is not read.
    Suspect,
    Missed(Fence),
    /// It has an object that does not do; nothing happened to it since the fence.
    Held(Fence, Kept),
    /// It cannot give what it has, though it works otherwise. What is found elsewhere replaces that.
    Broken(Fence),
}

/// An entry that does not do, as far as it is at hand.
pub(crate) struct Kept {
    pub(crate) metadata: Arc<Metadata>,
    /// Its body, where that is in memory.
    whole: Option<Bytes>,
}

pub(crate) async fn look(engine: &Engine, key: &KeyBuf, accept: Accept) -> Look {
    let mut look = Look {
        seats: Vec::with_capacity(engine.tiers.len()),
        hit: None,
        candidate: None,
    };
    for place in &engine.tiers {
        if !engine.suspects.trusts(place.index, key) {
            look.seats.push(Seat::Suspect);
            continue;
        }
        if accept.first != FirstTier::Unknown && place.index == 0 {
            look.seats.push(match accept.first {
                FirstTier::Broken => broken(place, key).await,
                FirstTier::Late | FirstTier::Unknown => Seat::Unknown,
            });
            continue;
        }
        let (seat, found) = ask(engine, place, key, accept).await;
        match found {
            Some(hit) if accept.takes(hit.freshness) => {
                look.hit = Some(hit);
                break;
            }
            found => look.keep(found),
        }
        look.seats.push(seat);
    }
    look
}

impl Accept {
    fn takes(&self, freshness: Freshness) -> bool {
        !self.none && freshness.serves()
    }
}

impl Look {
    fn keep(&mut self, found: Option<Hit>) {
        let at = |hit: &Hit| hit.object.metadata.fetched_at;
        let newest = self.candidate.as_ref().map(at);
        if let Some(hit) = found
            && !hit.object.metadata.absent
            && newest.is_none_or(|newest| newest < at(&hit))
        {
            self.candidate = Some(hit);
        }
    }

    /// In which tiers above the same object is, a bit each: found lower down, it need not be
    /// written there again. Asked only where entries are checked against a shared tier.
    pub(super) fn same(&self, engine: &Engine, found: &Object) -> u64 {
        if engine.bus.is_none() {
            return 0;
        }
        let is_same = |(seat, place): (&Seat, &Place)| match seat {
            Seat::Held(_, held) => {
                let is_same = is_same_object(held, found);
                u64::from(is_same && place.store().as_touch().is_some()) << place.index
            }
            _ => 0,
        };
        let seats = self.seats.iter().zip(&engine.tiers);
        seats.map(is_same).sum()
    }
}

/// Whether a tier's entry is known to have the same bytes as an object of the same key in another
/// tier, without reading either. Their lengths are equal, and one of these holds:
///
/// 1. Both have the same strong tag (RFC 9110, section 8.8.1).
/// 2. Both bodies are in memory, and equal.
/// 3. One fetch brought both, and their checksums are equal. Where a store keeps none, it is computed
///    from the body in memory.
///
/// Lifetimes say nothing: tiers cap them.
pub(super) fn is_same_object(held: &Kept, found: &Object) -> bool {
    let (old, new) = (&held.metadata, &found.metadata);
    if old.absent || new.absent || old.len() != new.len() {
        return false;
    }
    if let Some(tag) = &old.etag
        && !tag.is_weak()
        && new.etag.as_ref() == Some(tag)
    {
        return true;
    }
    let bodies = (held.whole.as_ref(), found.body.as_whole());
    if let (Some(old), Some(new)) = bodies {
        return old == new;
    }
    let sum = |metadata: &Metadata, whole: Option<&Bytes>| {
        (metadata.checksum()).or_else(|| whole.map(|whole| crc32c::crc32c(whole)))
    };
    old.fetched_at == new.fetched_at
        && sum(old, bodies.0).is_some_and(|old| sum(new, bodies.1) == Some(old))
}

/// Asks one tier. What does not do is asked for again under a fence, so that "this object is there"
/// and the fence are one moment.
async fn ask(engine: &Engine, place: &Place, key: &KeyBuf, accept: Accept) -> (Seat, Option<Hit>) {
    let get = || place.store().get_stream(key.as_key(), ByteRange::FULL);
    let assessed = |object: Object| Hit {
        tier: place.index,
        freshness: engine.assess(
            Held::Tier(place),
            &object.metadata,
            accept.terms,
            engine.now(),
        ),
        object,
    };
    let first = match place.attempt("looking up", get).await {
        Ok(Lookup::Hit(object)) => assessed(object),
        Ok(Lookup::Miss(fence)) => return (Seat::Missed(fence), None),
        Err(error) if is_of_object(&error) => return (broken(place, key).await, None),
        Err(_) => return (Seat::Unknown, None),
    };
    if accept.takes(first.freshness) {
        return (Seat::Unknown, Some(first));
    }
    if !engine.trusts(place, &first.object.metadata, engine.now()) {
        count(&engine.counts.bus_checked);
    }
    drop(first);
    let fence = place
        .attempt("taking a fence", || place.store().fence(key.as_key()))
        .await;
    let Ok(fence) = fence else {
        return (Seat::Unknown, None);
    };
    match place.attempt("looking up", get).await {
        Ok(Lookup::Hit(object)) => {
            let kept = Kept {
                metadata: Arc::clone(&object.metadata),
                whole: object.body.as_whole().cloned(),
            };
            (Seat::Held(fence, kept), Some(assessed(object)))
        }
        Ok(Lookup::Miss(fence)) => (Seat::Missed(fence), None),
        Err(error) if is_of_object(&error) => (Seat::Broken(fence), None),
        Err(_) => (Seat::Unknown, None),
    }
}

/// The seat of a tier that cannot give what it has. The fence is taken now: the fetch begins later,
/// so what it brings is no older than what is there.
async fn broken(place: &Place, key: &KeyBuf) -> Seat {
    let fence = place.attempt("taking a fence", || place.store().fence(key.as_key()));
    fence.await.map_or(Seat::Unknown, Seat::Broken)
}
