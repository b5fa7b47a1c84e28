//! The read path below tier 0.
//!
//! [`read`] joins the key's flight or starts one, and turns what the flight found into the answer
//! for one request: its range, its condition, its bound on age. The flight itself is driven by
//! [`drive`]: it looks the key up ([`look`]), runs the fetcher, opens, streams ([`stream`]) through
//! the [`spool`] to the readers and through the [`fill`] to the tiers, and commits.

mod answer;
mod body;
pub(crate) mod direct;
pub(crate) mod drive;
pub(crate) mod fill;
pub(crate) mod flight;
pub(crate) mod flights;
pub(crate) mod lane;
pub(crate) mod look;
#[cfg(all(test, shuttle))]
mod model;
mod origin;
pub(crate) mod plan;
pub(crate) mod promote;
mod reader;
mod resume;
mod spill;
pub(crate) mod spool;
mod stream;

use std::{
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use larder_store::{ByteRange, ErrorKind, Header, Key, KeyBuf, Result, Timestamp};

use self::{
    drive::drive,
    flight::{Boarding, Carrier, Flight, Member, Opening, Seen},
    flights::Boarded,
    look::Accept,
    plan::Plan,
    reader::Reader,
};
use crate::{
    conditional::IfNoneMatch,
    counters::count,
    engine::{Engine, refused},
    fetch::{BoxFetch, Fetch},
    freshness::{Freshness, judge},
    policy::Policy,
    response::{Content, Described, Response, Source, Status},
};

/// How often a read starts over because what it found went away before it could be opened.
const ATTEMPTS_MAX: usize = 8;

/// What a request asks for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ask {
    pub(crate) range: ByteRange,
    pub(crate) condition: Option<IfNoneMatch>,
    pub(crate) max_age: Option<Duration>,
    pub(crate) ttl: Option<Duration>,
    /// Boxed, since most requests have none and every hit moves it.
    pub(crate) policy: Option<Box<Policy>>,
    /// The origin is to be asked whatever the tiers hold.
    pub(crate) refresh: bool,
    /// The first tier had its time and did not answer.
    pub(crate) skip_first: bool,
}

/// Joins a flight that is under way, to wait for what comes whole: see [`answer_whole`]. Not for
/// who may turn its answer down.
pub(crate) fn join_whole(
    engine: &Engine,
    key: &str,
    ask: &Ask,
    fetches: bool,
    waker: &Waker,
    lend: impl FnOnce() -> Option<BoxFetch>,
) -> Option<Boarding> {
    if ask.refresh || ask.is_picky() {
        return None;
    }
    let joins = |flight: &Flight| engine.joins(flight.since);
    engine.flights.find(key, fetches, waker, joins, lend)
}

/// The answer of a flight that was joined so, without a future of its own. `None` where it comes
/// otherwise: [`read`] goes on with the member.
pub(crate) fn answer_whole(
    engine: &Arc<Engine>,
    key: Key<'_>,
    ask: &Ask,
    member: &mut Member,
    cx: &Context<'_>,
) -> Poll<Option<Result<Response>>> {
    let seen = match ready!(member.poll_whole(cx)) {
        Some(Seen::Open(opening)) => opening,
        Some(Seen::Failed(error)) => return Poll::Ready(Some(Err(error))),
        Some(Seen::Nowhere) | None => return Poll::Ready(None),
    };
    let reader = Reader {
        engine,
        key,
        ask,
        first: false,
        lender: false,
    };
    Poll::Ready(reader.at_once(&seen))
}

/// Reads through a flight; through the one that was joined already, if any.
pub(crate) async fn read<F: Fetch>(
    engine: &Arc<Engine>,
    key: KeyBuf,
    ask: &Ask,
    mut fetch: Option<F>,
    fetches: bool,
    mut joined: Option<Member>,
) -> Result<Response> {
    let mut anew = ask.refresh;
    let (mut given_back, mut unfit) = (None, None);
    for attempt in 0..ATTEMPTS_MAX {
        engine.check_open()?;
        // Who may turn the answer down needs the fetcher then: it is lent only to a flight of its own.
        let mut lend = |boarded| {
            if ask.is_picky() && boarded == Boarded::Joined {
                return None;
            }
            given_back
                .take()
                .or_else(|| fetch.take().and_then(Fetch::boxed))
        };
        let (member, boarded) = match joined.take() {
            Some(member) => (member, Boarded::Joined),
            None => board(engine, &key, fetches, anew, unfit.as_ref(), &mut lend)?,
        };
        let first = boarded != Boarded::Joined;
        if let Boarded::Started { anew } = boarded {
            let flight = Arc::clone(member.flight());
            let plan = ask.plan(engine, anew);
            // It tells its members how it ends, whether here or in a task.
            let _ = (engine.tasks)
                .begin(drive(Arc::clone(engine), flight, plan))
                .await;
        }
        // What may be served while a refresh runs will do, as long as it may; but not for whom it
        // was there no more.
        let waits = attempt > 0 || ask.refresh;
        let accepts = |meanwhile: &Opening| !waits && meanwhile.will_do(engine, ask.max_age);
        let opening = match member.opened(accepts).await {
            Seen::Open(opening) => opening,
            Seen::Failed(error) => return Err(error),
            Seen::Nowhere if !fetches => return Ok(nowhere()),
            Seen::Nowhere if fetch.is_some() || given_back.is_some() => continue,
            Seen::Nowhere => break,
        };
        let flight = Arc::clone(member.flight());
        let rejected = !first && ask.rejects(engine, &opening.header);
        // What the origin gives is newer than all there is; the flight goes on for those it will do.
        if rejected && !fetches && matches!(opening.source, Source::Origin) {
            return Ok(nowhere());
        }
        // "Not modified" would keep what was replaced or deleted before it could be said.
        let overtaken = flight.is_retired() && ask.has(&opening.header);
        // What its own fetcher brought it takes as it is.
        if (rejected || overtaken)
            && (!fetches || fetch.is_some() || regain(&flight, &mut given_back))
        {
            anew = !flight.is_retired();
            continue;
        }
        let lender = fetches && fetch.is_none() && given_back.is_none();
        let reader = Reader {
            engine,
            key: key.as_key(),
            ask,
            first,
            lender,
        };
        let regains = lender && opening.stale.is_none();
        let mut spare = || spare(&mut given_back, &mut fetch, regains.then_some(&*flight));
        match reader.answer(member, &opening, &mut spare).await? {
            Some(response) => return Ok(response),
            None => anew = matches!(opening.carrier, Carrier::Spooled),
        }
        if fetches && fetch.is_none() {
            regain(&flight, &mut given_back);
        }
        // At first it may have been what was to be had meanwhile: the flight goes on.
        unfit = waits.then_some(flight);
    }
    Err(refused(
        ErrorKind::Unavailable,
        "the object went away each time it was to be opened",
    ))
}

/// Takes back the fetcher that was lent, if the flight did not need it.
fn regain(flight: &Flight, given_back: &mut Option<BoxFetch>) -> bool {
    *given_back = flight.take_fetcher();
    given_back.is_some()
}

/// A fetcher that nobody needs any more; that of what is stale is for the refresh behind.
fn spare<F: Fetch>(
    given_back: &mut Option<BoxFetch>,
    fetch: &mut Option<F>,
    lent: Option<&Flight>,
) -> Option<BoxFetch> {
    (given_back.take())
        .or_else(|| fetch.take().and_then(Fetch::boxed))
        .or_else(|| lent.and_then(Flight::take_fetcher))
}

/// Joins the key's flight, or starts one. What the one that is `unfit` found cannot be had any more,
/// though it may still be landing.
fn board(
    engine: &Arc<Engine>,
    key: &KeyBuf,
    fetches: bool,
    anew: bool,
    unfit: Option<&Arc<Flight>>,
    lend: &mut dyn FnMut(Boarded) -> Option<BoxFetch>,
) -> Result<(Member, Boarded)> {
    let limits = engine.settings.spool;
    let since = engine.since();
    let start = |fetcher| Flight::new(key.clone(), limits, fetcher).since(since);
    let joins = |flight: &Flight| {
        let is_unfit = unfit.is_some_and(|unfit| std::ptr::eq(Arc::as_ptr(unfit), flight));
        !is_unfit && engine.joins(flight.since)
    };
    let joined = engine.flights.join(key, fetches, anew, joins, lend, start);
    let Some(joined) = joined else {
        count(&engine.counts.flights_refused);
        return Err(refused(ErrorKind::Full, "too many flights are under way"));
    };
    Ok(joined)
}

impl Opening {
    /// Whether it may be served while it is fetched anew.
    fn will_do(&self, engine: &Engine, max_age: Option<Duration>) -> bool {
        match self.judge(engine, max_age) {
            Freshness::Fresh => true,
            Freshness::Stale => self.stale.is_some(),
            Freshness::Expired { .. } => false,
        }
    }

    /// Judges what may be had meanwhile, as its tier's entry.
    fn judge(&self, engine: &Engine, max_age: Option<Duration>) -> Freshness {
        let (header, now) = (&self.header, engine.now());
        match &self.source {
            Source::Tier { index, .. } => {
                engine.judge(&engine.tiers[usize::from(*index)], header, max_age, now)
            }
            _ => judge(header, max_age, now),
        }
    }
}

impl Ask {
    /// The lifetimes that the request decides.
    pub(crate) fn policy(&self) -> Policy {
        let ttl = Policy {
            ttl: self.ttl,
            ..Policy::new()
        };
        self.policy.as_ref().map_or(ttl, |policy| ttl.or(**policy))
    }

    /// `Invalid` for lifetimes that contradict.
    #[inline]
    pub(crate) fn check(&self) -> Result<()> {
        if self.policy.is_some() {
            self.policy().check()
        } else {
            Ok(())
        }
    }

    /// Whether it may turn the answer of a flight down.
    fn is_picky(&self) -> bool {
        self.max_age.is_some() || self.condition.is_some()
    }

    /// What a flight is started for.
    fn plan(&self, engine: &Engine, anew: bool) -> Plan {
        let accept = Accept {
            max_age: self.max_age,
            stale: true,
            none: self.refresh,
            skip_first: self.skip_first,
        };
        Plan {
            policy: self.policy().or(engine.policy),
            accept,
            anew,
            behind: false,
        }
    }

    /// Whether an object is older than the request accepts.
    fn rejects(&self, engine: &Engine, header: &Header) -> bool {
        self.max_age
            .is_some_and(|max| engine.now().since(header.fetched_at) > max)
    }

    /// Whether the caller has an object with this header already.
    #[inline]
    pub(crate) fn has(&self, header: &Header) -> bool {
        self.condition
            .as_ref()
            .is_some_and(|condition| condition.matches(header))
    }
}

/// The answer of a `get` that found nothing.
fn nowhere() -> Response {
    let status = Status::new(Source::Nowhere, Timestamp::EPOCH, Timestamp::EPOCH);
    Response {
        status,
        metadata: Described::Nothing,
        range: None,
        content: Content::Absent,
    }
}
