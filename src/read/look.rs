//! Asking the tiers, from hot to cold, each within its time-out.

use std::sync::Arc;

use larder_store::{Body, ByteRange, Fence, KeyBuf, Lookup, Metadata, Object};

use crate::{
    counters::count,
    engine::{Engine, Held},
    freshness::{Freshness, Terms},
    tier::Place,
};

/// Which objects end the search.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Accept {
    pub(crate) terms: Terms,
    /// Whether none will do: a refresh asks the origin whatever is there.
    pub(crate) none: bool,
    /// Whether the first tier is passed over: it had its time already.
    pub(crate) skip_first: bool,
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
    Held(Fence, Arc<Metadata>),
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
        if accept.skip_first && place.index == 0 {
            look.seats.push(Seat::Unknown);
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
                let candidate = self.candidate.as_ref();
                let body = candidate.filter(|hit| hit.tier == place.index);
                let is_same = has_same_bytes(held, body.map(|hit| &hit.object.body), found);
                u64::from(is_same && place.store().as_touch().is_some()) << place.index
            }
            _ => 0,
        };
        let seats = self.seats.iter().zip(&engine.tiers);
        seats.map(is_same).sum()
    }
}

/// Whether two objects have the same bytes, as far as it can be told without reading them: the same
/// strong tag (RFC 9110, section 8.8.1), the same checksum of the same fetch, or both in memory.
fn has_same_bytes(held: &Metadata, body: Option<&Body>, found: &Object) -> bool {
    let new = &found.metadata;
    if held.absent || new.absent || held.len() != new.len() {
        return false;
    }
    let tagged =
        (held.etag.as_ref()).is_some_and(|tag| !tag.is_weak() && new.etag.as_ref() == Some(tag));
    let summed = held.checksum().is_some()
        && held.checksum() == new.checksum()
        && held.fetched_at == new.fetched_at;
    let bodies = (body.and_then(Body::as_whole), found.body.as_whole());
    tagged || summed || matches!(bodies, (Some(held), Some(found)) if held == found)
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
            let metadata = Arc::clone(&object.metadata);
            (Seat::Held(fence, metadata), Some(assessed(object)))
        }
        Ok(Lookup::Miss(fence)) => (Seat::Missed(fence), None),
        Err(_) => (Seat::Unknown, None),
    }
}
