//! The one way to start a flight: for a read, a refresh, a background refresh, and a body that
//! broke off.

use std::sync::Arc;

use larder_store::{ErrorKind, KeyBuf, Result, Timestamp};
use tokio::time::Instant;

use super::{
    drive::drive,
    fetcher::Lend,
    flight::{Flight, Member, Opening},
    flights::{Began, Boarded, Turn, Wants, What},
    nesting::Scope,
    plan::Plan,
};
use crate::{
    counters::count,
    engine::{Engine, Held, refused},
    freshness::{Freshness, Terms},
    within::{Missed, ended as runtime_ended, within},
};

/// A place in a flight.
pub(crate) struct Seated {
    pub(crate) member: Member,
    /// Whether the flight was started for this caller.
    pub(crate) is_first: bool,
}

/// Joins the key's flight, or starts one and drives it as far as it comes without waiting.
///
/// Where the key has two flights already and neither will do, it waits until one has ended, at most
/// `fetch_timeout`; then it goes on in a flight of its own that nobody joins and that stores nothing.
pub(crate) async fn board(
    engine: &Arc<Engine>,
    key: &KeyBuf,
    wants: &Wants<'_>,
    plan: Plan,
    fetcher: &mut (dyn Lend + Send),
) -> Result<Seated> {
    let mut until = None;
    loop {
        let (member, began) = match try_board(engine, key, wants, fetcher) {
            Boarded::Joined(boarding) => {
                return Ok(Seated {
                    member: boarding.member,
                    is_first: false,
                });
            }
            Boarded::Started(member, began) => (member, began),
            Boarded::Full => return Err(full(engine)),
            Boarded::Wait(ended) => {
                let until = *until.get_or_insert_with(|| deadline(engine));
                let runtime = engine.tasks.runtime();
                let left = until.saturating_duration_since(runtime.now());
                match within(runtime, left, ended).await {
                    Ok(_) => continue,
                    Err(Missed::Elapsed) => {}
                    Err(Missed::Ended) => return Err(runtime_ended()),
                }
                return alone(engine, key, wants, plan, fetcher).await;
            }
            Boarded::Alone => return alone(engine, key, wants, plan, fetcher).await,
        };
        let plan = Plan { began, ..plan };
        return Ok(begin(engine, member, plan).await);
    }
}

/// Joins the key's flight or starts one, now or never.
pub(crate) fn try_board(
    engine: &Engine,
    key: &KeyBuf,
    wants: &Wants<'_>,
    fetcher: &mut dyn Lend,
) -> Boarded {
    let make = || make(engine, key, wants.what);
    engine.flights.board(key, wants, fetcher, make)
}

/// Starts a flight that is not in the table.
pub(crate) async fn alone(
    engine: &Arc<Engine>,
    key: &KeyBuf,
    wants: &Wants<'_>,
    plan: Plan,
    fetcher: &mut (dyn Lend + Send),
) -> Result<Seated> {
    let make = || make(engine, key, wants.what);
    let member = engine.flights.alone(wants, fetcher, make);
    let member = member.ok_or_else(|| full(engine))?;
    let plan = Plan {
        began: Began::First,
        alone: true,
        ..plan
    };
    Ok(begin(engine, member, plan).await)
}

/// Drives a flight. It tells its members how it ends, whether here or in a task.
async fn begin(engine: &Arc<Engine>, member: Member, plan: Plan) -> Seated {
    let flight = Arc::clone(member.flight());
    if plan.began != Began::Waits {
        flight.begin(engine.since());
    }
    let _ = (engine.tasks)
        .begin(drive(Arc::clone(engine), flight, plan))
        .await;
    Seated {
        member,
        is_first: true,
    }
}

fn make(engine: &Engine, key: &KeyBuf, what: What) -> Flight {
    let is_refresh = what == What::Refresh;
    let flight = Flight::new(
        key.clone(),
        engine.settings.spool,
        is_refresh,
        Scope::current(),
    );
    if !is_refresh {
        flight.begin(engine.since());
    }
    flight
}

/// Waits until a refresh may begin: none before it runs. Says whether it must go on alone.
pub(crate) async fn wait_to_begin(engine: &Engine, flight: &Arc<Flight>) -> bool {
    let until = deadline(engine);
    loop {
        match engine.flights.begin(flight, engine.since()) {
            Turn::Begun => return false,
            Turn::Wait(ended) => {
                let runtime = engine.tasks.runtime();
                let left = until.saturating_duration_since(runtime.now());
                if within(runtime, left, ended).await.is_err() {
                    engine.flights.leave(flight, engine.since());
                    return true;
                }
            }
        }
    }
}

fn deadline(engine: &Engine) -> Instant {
    // The builder has lowered it, so the sum is an `Instant`.
    engine.tasks.runtime().now() + engine.settings.fetch_timeout
}

fn full(engine: &Engine) -> larder_store::Error {
    count(&engine.counts.flights_refused);
    refused(ErrorKind::Full, "too many flights are under way")
}

impl Engine {
    /// Whether a caller that comes now may join a flight: before its answer opens, and after that
    /// if the answer will do like a stored entry.
    pub(crate) fn admits(
        &self,
        flight: &Flight,
        answer: Option<&Opening>,
        terms: Terms,
        now: Timestamp,
    ) -> Option<Freshness> {
        // One that waits will begin later than any caller that joins it now.
        let is_current = flight.since().is_none_or(|since| self.joins(since));
        match answer {
            None => is_current.then_some(Freshness::Fresh),
            Some(answer) => {
                let held = Held::Flight { is_current };
                let freshness = self.assess(held, &answer.header, terms, now);
                freshness.serves().then_some(freshness)
            }
        }
    }
}
