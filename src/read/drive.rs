//! The task that drives a flight: look, fetch, open, stream, commit.

use std::sync::Arc;

use larder_store::{Error, ErrorKind, Result, Timestamp};

use super::{
    answer::{Answer, Origin},
    flight::{Carrier, Flight, Opening},
    lane::Lane,
    look::{Hit, Look, Seat, look},
    origin::fetch,
    plan::Plan,
};
use crate::{
    counters::count,
    engine::{Engine, refused},
    fetch::{BoxFetch, FetchContext, Fetched},
    freshness::{Freshness, judge},
    lease::Entry,
    refresh::refresh_behind,
    response::Stale,
    sync::Mutex,
};

/// Drives a flight to its end, whatever that is.
pub(crate) async fn drive(engine: Arc<Engine>, flight: Arc<Flight>, plan: Plan) {
    let mut landing = Landing {
        engine: &engine,
        flight: &flight,
        end: None,
    };
    let cut = engine.tasks.cut.clone();
    let mut refresher = None;
    landing.end = Some(tokio::select! {
        biased;
        end = fly(&engine, &flight, &plan, &mut refresher) => end,
        () = cut.cancelled() => Err(Error::closed("the cache")),
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
        match self.end.take() {
            Some(Ok(())) => {}
            Some(Err(error)) => self.flight.fail(error),
            None => self.flight.fail(refused(
                ErrorKind::Other,
                "the flight was lost: its source panicked, or its runtime ended",
            )),
        }
    }
}

/// The read path below tier 0, in one function: an error is the flight's. What it served stale is
/// to be refreshed with `refresher`, once it has landed.
async fn fly(
    engine: &Arc<Engine>,
    flight: &Arc<Flight>,
    plan: &Plan,
    refresher: &mut Option<BoxFetch>,
) -> Result<()> {
    if plan.anew {
        let turn = engine.turns.take(&flight.key).await;
        if plan.accept.none && !flight.is_retired() {
            // What waits to be written behind is older than the answer will be.
            engine.behind.forget(&flight.key);
        }
        drop(turn);
    }
    let mut look = look(engine, &flight.key, plan.accept).await;
    if look.hit.is_some() {
        return found(engine, flight, plan, look, refresher).await;
    }
    // A refresh asks, whatever was answered before it.
    let known = if plan.accept.none {
        None
    } else {
        engine.failures.get(&flight.key, engine.now())
    };
    let fetched = match known {
        Some(error) => {
            count(&engine.counts.error_hits);
            Err(error)
        }
        None => {
            let meanwhile = look
                .candidate
                .as_ref()
                .and_then(|hit| hit.meanwhile(engine));
            let Some(fetcher) = flight.fetching(meanwhile.map(Arc::new)) else {
                return Ok(());
            };
            if let Some(leases) = &engine.leases {
                // Boxed: most caches have none, and all flights are spared its size.
                match Box::pin(leases.enter(engine, flight, plan, &mut look)).await {
                    Entry::Fetch(Some(lease)) => flight.hold(Box::new(lease)),
                    Entry::Fetch(None) => {}
                    Entry::Found => {
                        flight.lend(fetcher);
                        return found(engine, flight, plan, look, refresher).await;
                    }
                    Entry::Abandoned => {
                        count(&engine.counts.flights_abandoned);
                        return Err(refused(ErrorKind::Other, "everyone has left"));
                    }
                }
            }
            let began = engine.now();
            let stale = look
                .candidate
                .as_ref()
                .map(|hit| Arc::clone(&hit.object.metadata));
            let context = FetchContext {
                key: flight.key.clone(),
                stale,
            };
            let fetched = fetch(engine, flight, plan, fetcher, context).await;
            fetched.map(|(fetched, slot)| (fetched, slot, began))
        }
    };
    match fetched {
        Err(error) => serve_on_error(engine, flight, look.candidate, error),
        Ok((fetched, _slot, began)) => {
            engine.failures.clear(&flight.key);
            answer(engine, flight, plan, look, fetched, began).await
        }
    }
}

/// The origin has answered.
async fn answer(
    engine: &Arc<Engine>,
    flight: &Arc<Flight>,
    plan: &Plan,
    mut look: Look,
    fetched: Fetched,
    began: Timestamp,
) -> Result<()> {
    let mut answer = Answer::new(engine, plan, fetched, began, look.candidate.take())?;
    let seats = answer.still_held(engine, &flight.key, look.seats).await;
    let lanes = answer.lanes(engine, seats);
    if let Some(leases) = &engine.leases {
        let is_shared = |lane: &Lane| engine.tiers[lane.tier].tier.shared && lane.keeps();
        let is_shared = lanes.iter().any(is_shared);
        let judged = judge(&answer.header, None, engine.now());
        let does = !matches!(judged, Freshness::Expired { .. });
        leases.answered(&flight.key, is_shared && does);
        if !is_shared && !lanes.iter().any(|lane| leases.is_of(lane.tier)) {
            flight.let_go();
        }
    }
    answer.land(engine, flight, plan, lanes).await
}

/// A tier has the object.
async fn found(
    engine: &Arc<Engine>,
    flight: &Arc<Flight>,
    plan: &Plan,
    mut look: Look,
    refresher: &mut Option<BoxFetch>,
) -> Result<()> {
    let Some(hit) = look.hit.take() else {
        return Err(refused(ErrorKind::Other, "the look-up has no object"));
    };
    let stale = matches!(hit.freshness, Freshness::Stale);
    let served = serve_hit(engine, flight, plan, hit, look).await;
    // Not before: where the tier breaks off, the fetcher goes on.
    if stale {
        *refresher = flight.take_fetcher();
    }
    served
}

impl Hit {
    /// What those may have meanwhile who need not wait for the fetch.
    fn meanwhile(&self, engine: &Engine) -> Option<Opening> {
        let metadata = &self.object.metadata;
        let place = &engine.tiers[self.tier];
        let stale = match engine.judge(place, metadata, None, engine.now()) {
            Freshness::Fresh => None,
            Freshness::Stale => Some(Stale::WhileRevalidate),
            Freshness::Expired { .. } => return None,
        };
        Some(Opening {
            header: Arc::new(metadata.header().clone()),
            stored: Some(Arc::clone(metadata)),
            len: Some(metadata.len()),
            source: place.source(),
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

/// An object that ended the search: to the readers, and to the tiers above.
async fn serve_hit(
    engine: &Arc<Engine>,
    flight: &Arc<Flight>,
    plan: &Plan,
    hit: Hit,
    mut look: Look,
) -> Result<()> {
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
        Some(own) if same & (1 << own.tier) != 0 => (own.tier, own.object),
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
            // What is above is older than what is served.
            Seat::Held(fence, _) => Some(Lane::delete(above, Some(fence))),
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
    let lanes = lanes.collect();
    answer.land(engine, flight, plan, lanes).await
}

/// The fetch failed: the stale copy where its window allows, or the error.
fn serve_on_error(
    engine: &Engine,
    flight: &Flight,
    candidate: Option<Hit>,
    error: Error,
) -> Result<()> {
    let usable =
        candidate.filter(|hit| !matches!(hit.freshness, Freshness::Expired { if_error: false }));
    let is_trusted =
        |hit: &Hit| engine.trusts(&engine.tiers[hit.tier], &hit.object.metadata, engine.now());
    let Some(Hit { tier, object, .. }) = usable.filter(is_trusted) else {
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
    flight.open(Arc::new(answer.opening(false).0));
    Ok(())
}
