//! The task that drives a flight: look, fetch, open, stream, commit.

use std::{pin::pin, sync::Arc};

use larder_store::{Error, ErrorKind, Object, Result, Timestamp};

use super::{
    answer::{Answer, Origin, still_held, too_large_for},
    flight::{Carrier, Flight, Opening},
    flights::Began,
    lane::Lane,
    look::{Hit, Look, Seat, look},
    origin::fetch,
    plan::Plan,
    start::wait_to_begin,
};
use crate::{
    counters::count,
    engine::{Engine, Held, refused},
    fetch::{BoxFetch, FetchContext, Fetched},
    freshness::{Freshness, Terms, assess},
    lease::Entry,
    refresh::refresh_behind,
    response::Stale,
    sync::Mutex,
};

/// A read with a fetcher, and without a bound on age.
const FETCHES: Terms = Terms {
    max_age: None,
    stale: true,
};

/// Drives a flight to its end, whatever that is.
pub(crate) async fn drive(engine: Arc<Engine>, flight: Arc<Flight>, mut plan: Plan) {
    let mut landing = Landing {
        engine: &engine,
        flight: &flight,
        end: None,
    };
    let mut refresher = None;
    landing.end = Some({
        let flown = pin!(fly(&engine, &flight, &mut plan, &mut refresher));
        tokio::select! {
            biased;
            end = flown => end,
            () = engine.tasks.cut.cancelled() => Err(Error::closed("the cache")),
        }
    });
    drop(landing);
    // A refresh is a flight of its own, which this one would have been in the way of.
    if let Some(fetcher) = refresher {
        refresh_behind(&engine, &flight.key, plan.policy, fetcher);
    }
}

/// Takes the flight out of the table and then tells its members, also when the task was dropped.
struct Landing<'a> {
    engine: &'a Engine,
    flight: &'a Arc<Flight>,
    end: Option<Result<()>>,
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        self.engine.flights.remove(self.flight);
        self.flight.let_go();
        self.flight.release_slot();
        match self.end.take() {
            Some(Ok(())) => {}
            Some(Err(error)) => self.flight.fail(error),
            None => self.flight.fail(refused(
                ErrorKind::Other,
                "the flight was lost: its source panicked, or its runtime ended",
            )),
        }
        self.flight.landed();
    }
}

/// The read path below tier 0, in one function: an error is the flight's. What it served stale is
/// to be refreshed with `refresher`, once it has landed.
//
// Each future of an async function lies within the one that awaits it, and all are moved with it:
// the long one, the landing, is awaited here and nowhere deeper.
async fn fly(
    engine: &Arc<Engine>,
    flight: &Arc<Flight>,
    plan: &mut Plan,
    refresher: &mut Option<BoxFetch>,
) -> Result<()> {
    if plan.began == Began::Waits {
        // Boxed: only a refresh that follows another waits.
        plan.alone = Box::pin(wait_to_begin(engine, flight)).await;
    }
    if plan.began != Began::First {
        // A commit that is under way ends before the fences are taken.
        drop(engine.turns.take(&flight.key).await);
    }
    let mut look = look(engine, &flight.key, plan.accept).await;
    let asked = match look.hit {
        Some(_) => Asked::Found,
        None => ask(engine, flight, plan, &mut look).await?,
    };
    let mut stale = false;
    let (answer, lanes) = match (asked, look.hit.take()) {
        (Asked::Over, _) => return Ok(()),
        (Asked::Fetched(fetched, began), _) => {
            engine.failures.clear(&flight.key);
            let mut answer = Answer::new(engine, plan, fetched, began, look.candidate.take())?;
            if answer.revalidated {
                // Boxed, as all that is rare.
                Box::pin(still_held(engine, &flight.key, &mut look.seats)).await;
            }
            let lanes = if plan.alone {
                Vec::new()
            } else {
                answered(engine, flight, &mut answer, look.seats)
            };
            (answer, lanes)
        }
        (Asked::Found, Some(hit)) => {
            stale = matches!(hit.freshness, Freshness::Stale);
            if plan.alone {
                look.seats.clear();
            }
            found(engine, flight, hit, look)
        }
        (Asked::Found, None) => {
            return Err(refused(ErrorKind::Other, "the look-up has no object"));
        }
    };
    let landed = answer.land(engine, flight, plan, lanes).await;
    // Not before: where the tier breaks off, the fetcher goes on.
    if stale {
        *refresher = flight.take_fetcher();
    }
    landed
}

/// What came of asking the origin.
#[allow(clippy::large_enum_variant)] // A box would be an allocation of each miss.
enum Asked {
    /// It answered to a fetch that began then.
    Fetched(Fetched, Timestamp),
    /// It was not asked: another process has stored the object meanwhile, and the look has it.
    Found,
    /// The flight has its end: nobody had a fetcher, or the error may be covered by a stale copy.
    Over,
}

/// Asks the origin, where someone has a fetcher and nobody else is asking already.
async fn ask(
    engine: &Arc<Engine>,
    flight: &Arc<Flight>,
    plan: &Plan,
    look: &mut Look,
) -> Result<Asked> {
    // A refresh asks, whatever was answered before it.
    if !plan.accept.none
        && let Some(error) = engine.failures.get(&flight.key, engine.now())
    {
        count(&engine.counts.error_hits);
        return serve_on_error(engine, flight, plan, look.candidate.take(), error);
    }
    let meanwhile = (look.candidate.as_ref()).and_then(|hit| hit.meanwhile(engine));
    let Some(fetcher) = flight.fetching(meanwhile.map(Arc::new)) else {
        return Ok(Asked::Over);
    };
    if let Some(leases) = engine.leases.as_ref().filter(|_| !plan.alone) {
        // Boxed: most caches have none, and all flights are spared its size.
        match Box::pin(leases.enter(engine, flight, plan, look)).await {
            Entry::Fetch(Some(lease)) => flight.hold(lease),
            Entry::Fetch(None) => {}
            Entry::Found => {
                flight.keep_fetcher(fetcher);
                return Ok(Asked::Found);
            }
            Entry::Abandoned => {
                count(&engine.counts.flights_abandoned);
                return Err(refused(ErrorKind::Other, "everyone has left"));
            }
        }
    }
    let began = engine.now();
    let stale = (look.candidate.as_ref()).map(|hit| Arc::clone(&hit.object.metadata));
    let context = FetchContext {
        key: flight.key.clone(),
        stale,
    };
    match fetch(engine, flight, plan, fetcher, context).await {
        Ok(fetched) => Ok(Asked::Fetched(fetched, began)),
        Err(error) => serve_on_error(engine, flight, plan, look.candidate.take(), error),
    }
}

/// What each tier has to do with the origin's answer; others that wait for it are told.
fn answered(engine: &Engine, flight: &Flight, answer: &mut Answer, seats: Vec<Seat>) -> Vec<Lane> {
    let lanes = answer.lanes(engine, seats);
    if let Some(leases) = &engine.leases {
        let is_shared = |lane: &Lane| engine.tiers[lane.tier].tier.shared && lane.keeps();
        let is_shared = lanes.iter().any(is_shared);
        let does = assess(&answer.header, FETCHES, engine.now()).serves();
        leases.answered(&flight.key, is_shared && does);
        if !is_shared && !lanes.iter().any(|lane| leases.is_of(lane.tier)) {
            flight.let_go();
        }
    }
    lanes
}

impl Hit {
    /// What those may have meanwhile who need not wait for the fetch.
    fn meanwhile(&self, engine: &Engine) -> Option<Opening> {
        let metadata = &self.object.metadata;
        let place = &engine.tiers[self.tier];
        let held = Held::Tier(place);
        let stale = match engine.assess(held, metadata, FETCHES, engine.now()) {
            Freshness::Fresh => None,
            Freshness::Stale => Some(Stale::WhileRevalidate),
            Freshness::Expired { .. } => return None,
        };
        let (len, source) = (Some(metadata.len()), place.source());
        Some(Opening {
            header: Arc::new(metadata.header().clone()),
            stored: Some(Arc::clone(metadata)),
            too_large_for: too_large_for(engine, metadata, len, &source),
            len,
            source,
            stale,
            revalidated: false,
            // The body that is open is kept for the fetch.
            carrier: Carrier::Direct {
                tier: self.tier,
                object: Mutex::new(None),
            },
        })
    }
}

/// A tier has the object: to the readers, and to the tiers above.
fn found(engine: &Engine, flight: &Flight, hit: Hit, mut look: Look) -> (Answer, Vec<Lane>) {
    let Hit {
        tier,
        object,
        freshness,
    } = hit;
    let place = &engine.tiers[tier];
    let stale = matches!(freshness, Freshness::Stale);
    let (metadata, len) = (Arc::clone(&object.metadata), object.metadata.len());
    let same = look.same(engine, &object);
    // A copy that was checked is nearer than the one that it was checked against.
    let (from, object) = match look.candidate.take() {
        Some(own) if same & (1 << own.tier) != 0 => {
            let metadata = Arc::clone(&metadata);
            (
                own.tier,
                Object {
                    metadata,
                    ..own.object
                },
            )
        }
        _ => (tier, object),
    };
    let promotes = engine.second_hits.promotes(place, &flight.key, len);
    let lanes = look
        .seats
        .into_iter()
        .zip(&engine.tiers)
        .filter_map(|(seat, above)| match seat {
            // A private copy may be one that another process has deleted: not to be shared again.
            Seat::Missed(_) if above.tier.shared && !place.tier.shared => None,
            Seat::Missed(fence) if promotes => {
                Lane::write(above, &metadata, Some(len), Some(fence), false)
            }
            // Checked, and still right.
            Seat::Held(fence, _) if same & (1 << above.index) != 0 => {
                Some(Lane::touch(above, fence))
            }
            Seat::Held(fence, _) if promotes => {
                Lane::write(above, &metadata, Some(len), Some(fence), true)
            }
            // A private copy, again.
            Seat::Broken(fence) if promotes && (place.tier.shared || !above.tier.shared) => {
                Lane::write(above, &metadata, Some(len), Some(fence), true)
            }
            // What is above is older than what is served, or cannot be read.
            Seat::Held(fence, _) | Seat::Broken(fence) => Some(Lane::delete(above, Some(fence))),
            Seat::Suspect => Some(Lane::delete(above, None)),
            Seat::Missed(_) | Seat::Unknown => None,
        });
    let answer = Answer {
        header: Arc::new(metadata.header().clone()),
        len: Some(len),
        source: place.source(),
        stale: stale.then_some(Stale::WhileRevalidate),
        revalidated: false,
        origin: Origin::Tier(from, object),
        no_store: false,
    };
    (answer, lanes.collect())
}

/// The fetch failed: the stale copy where its window allows it now, or the error.
fn serve_on_error(
    engine: &Engine,
    flight: &Flight,
    plan: &Plan,
    candidate: Option<Hit>,
    error: Error,
) -> Result<Asked> {
    let terms = Terms {
        stale: true,
        ..plan.accept.terms
    };
    let serves = |hit: &Hit| {
        let held = Held::Tier(&engine.tiers[hit.tier]);
        let freshness = engine.assess(held, &hit.object.metadata, terms, engine.now());
        freshness.serves_on_error()
    };
    let Some(Hit { tier, object, .. }) = candidate.filter(serves) else {
        return Err(error);
    };
    let place = &engine.tiers[tier];
    let answer = Answer {
        header: Arc::new(object.metadata.header().clone()),
        len: Some(object.metadata.len()),
        source: place.source(),
        stale: Some(Stale::Error(error)),
        revalidated: false,
        origin: Origin::Tier(tier, object),
        no_store: true,
    };
    flight.open(Arc::new(answer.opening(engine, false).0));
    Ok(Asked::Over)
}
