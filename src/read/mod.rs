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
pub(crate) mod fetcher;
pub(crate) mod fill;
pub(crate) mod flight;
pub(crate) mod flights;
pub(crate) mod lane;
pub(crate) mod look;
#[cfg(all(test, shuttle))]
mod model;
pub(crate) mod nesting;
mod origin;
mod place;
pub(crate) mod plan;
pub(crate) mod promote;
mod reader;
pub(crate) mod refence;
mod resume;
pub(crate) mod spill;
pub(crate) mod spool;
pub(crate) mod start;
mod stream;
mod window;

use std::{
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use larder_store::{ByteRange, ErrorKind, Header, Key, KeyBuf, Result, Timestamp};

use self::{
    fetcher::{Fetcher, Lend},
    flight::{Boarding, Carrier, Flight, Member, Opening, Seen},
    flights::{Wants, What},
    look::{Accept, FirstTier},
    nesting::{Scope, Waiting},
    plan::Plan,
    reader::Reader,
    start::{Seated, board},
};
use crate::{
    conditional::IfNoneMatch,
    engine::{Engine, Held, refused},
    fetch::Fetch,
    freshness::{Freshness, Terms},
    policy::Policy,
    refresh::refresh_behind,
    response::{Content, Described, Response, Source, Stale, Status},
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
    /// A read without a fetcher accepts what is stale all the same.
    pub(crate) allow_stale: bool,
    /// The origin must be asked whatever the tiers hold.
    pub(crate) refresh: bool,
    pub(crate) first: FirstTier,
}

/// Joins a flight that is under way, to wait for an answer that comes whole: see [`answer_whole`].
/// Not for a read that may refuse the answer, nor for one that a fetcher has begun.
pub(crate) fn join_whole(
    engine: &Engine,
    key: &str,
    ask: &Ask,
    fetches: bool,
    waker: &Waker,
    fetcher: &mut dyn Lend,
) -> Option<Boarding> {
    if ask.refresh || ask.is_picky() || Scope::current().is_some() {
        return None;
    }
    let (terms, now) = (ask.terms(fetches), engine.now());
    let fresh = |flight: &Flight, answer: Option<&Opening>| {
        engine.admits(flight, answer, terms, now) == Some(Freshness::Fresh)
    };
    let wants = Wants {
        what: if fetches { What::Fetch } else { What::Get },
        keeps_fetcher: false,
        unfit: None,
        accepts: &fresh,
    };
    engine.flights.find(key, &wants, waker, fetcher)
}

/// The answer of a flight that was joined so, without a future of its own. `None` where it comes
/// otherwise: [`read`] goes on with the member.
pub(crate) fn answer_whole(
    engine: &Arc<Engine>,
    key: Key<'_>,
    ask: &Ask,
    fetches: bool,
    member: &mut Member,
    cx: &Context<'_>,
) -> Poll<Option<Result<Response>>> {
    let serves = |opening: &Opening| opening.stale.is_none() || ask.terms(fetches).stale;
    let seen = match ready!(member.poll_whole(serves, cx)) {
        Some(Seen::Open(opening)) => opening,
        Some(Seen::Failed(error)) => return Poll::Ready(Some(Err(error))),
        Some(Seen::Nowhere) | None => return Poll::Ready(None),
    };
    let reader = Reader {
        engine,
        key,
        ask,
        terms: ask.terms(fetches),
        is_first: false,
        is_lender: false,
        late_stale: false,
    };
    Poll::Ready(reader.at_once(&seen))
}

/// Reads through a flight; through the one that was joined already, if any.
pub(crate) async fn read<F: Fetch>(
    engine: &Arc<Engine>,
    key: KeyBuf,
    ask: &Ask,
    mut fetcher: Fetcher<F>,
    mut joined: Option<Member>,
) -> Result<Response> {
    let terms = ask.terms(F::FETCHES);
    let mut unfit: Option<Arc<Flight>> = None;
    for attempt in 0..ATTEMPTS_MAX {
        engine.check_open()?;
        let Seated { member, is_first } = match joined.take() {
            Some(member) => Seated {
                member,
                is_first: false,
            },
            None => seat(engine, &key, ask, unfit.as_ref(), &mut fetcher).await?,
        };
        let flight = Arc::clone(member.flight());
        // A stale copy may be served while the fetch runs, but not where it just went away.
        let meanwhile = attempt == 0 && !ask.refresh;
        // A read without a fetcher does not wait for a fetch.
        let _waiting = match Scope::current().filter(|_| F::FETCHES) {
            Some(scope) => Waiting::begin(engine, &scope, &flight)?,
            None => None,
        };
        let accepts = |copy: &Opening| meanwhile && copy.will_do(engine, terms);
        let opening = match member.opened(accepts).await {
            Seen::Open(opening) => opening,
            Seen::Failed(error) => return Err(error),
            Seen::Nowhere if !F::FETCHES => return Ok(nowhere()),
            Seen::Nowhere if fetcher.regain() => continue,
            Seen::Nowhere => break,
        };
        if ask.refuses(engine, terms, &flight, is_first, &opening)? {
            // The origin's answer is newer than all there is; the flight goes on for the others.
            if !F::FETCHES && matches!(opening.source, Source::Origin) {
                return Ok(nowhere());
            }
            // An answer of its own fetcher it takes as it is.
            if !F::FETCHES || fetcher.regain() {
                unfit = Some(flight);
                continue;
            }
        }
        if ask.refresh && !matches!(opening.carrier, Carrier::Spooled) {
            // The caller's next read sees what this one has stored.
            member.landed().await;
        }
        let late_stale =
            member.is_late() && assess_answer(engine, &flight, &opening, terms) == Freshness::Stale;
        if late_stale
            && !engine.is_refreshing(&key)
            && let Some(fetch) = fetcher.take()
        {
            refresh_behind(engine, &key, ask.policy().over(engine.policy), fetch);
        }
        let reader = Reader {
            engine,
            key: key.as_key(),
            ask,
            terms,
            is_first,
            is_lender: fetcher.is_lent(),
            late_stale,
        };
        if let Some(response) = reader.answer(member, &opening, &mut fetcher).await? {
            return Ok(response);
        }
        fetcher.regain();
        // At first it may have been the copy that is served meanwhile: the flight goes on.
        unfit = (!meanwhile || matches!(opening.carrier, Carrier::Spooled)).then_some(flight);
    }
    Err(refused(
        ErrorKind::Unavailable,
        "the object went away each time it was to be opened",
    ))
}

/// Joins the key's flight, or starts one for this request.
async fn seat<F: Fetch>(
    engine: &Arc<Engine>,
    key: &KeyBuf,
    ask: &Ask,
    unfit: Option<&Arc<Flight>>,
    fetcher: &mut Fetcher<F>,
) -> Result<Seated> {
    let (terms, now) = (ask.terms(F::FETCHES), engine.now());
    let wants = Wants {
        what: match (F::FETCHES, ask.refresh && unfit.is_none()) {
            (false, _) => What::Get,
            (true, false) => What::Fetch,
            (true, true) => What::Refresh,
        },
        keeps_fetcher: ask.is_picky(),
        unfit,
        accepts: &|flight, answer| engine.admits(flight, answer, terms, now).is_some(),
    };
    let accept = Accept {
        terms,
        none: ask.refresh,
        first: ask.first,
    };
    let plan = Plan::new(ask.policy().over(engine.policy), accept);
    board(engine, key, &wants, plan, fetcher).await
}

/// Assesses a flight's answer now.
fn assess_answer(engine: &Engine, flight: &Flight, answer: &Opening, terms: Terms) -> Freshness {
    let is_current = flight.since().is_none_or(|since| engine.joins(since));
    engine.assess(
        Held::Flight { is_current },
        &answer.header,
        terms,
        engine.now(),
    )
}

impl Opening {
    /// Whether it may be served while it is fetched again.
    fn will_do(&self, engine: &Engine, terms: Terms) -> bool {
        let Source::Tier { index, .. } = &self.source else {
            return false;
        };
        let held = Held::Tier(&engine.tiers[usize::from(*index)]);
        match engine.assess(held, &self.header, terms, engine.now()) {
            Freshness::Fresh => true,
            Freshness::Stale => self.stale.is_some(),
            Freshness::Expired { .. } => false,
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

    /// `Invalid` where its lifetimes, merged over the cache's, contradict.
    #[inline]
    pub(crate) fn check(&self, cache: Policy) -> Result<()> {
        if self.policy.is_some() || self.ttl.is_some() {
            self.policy().over(cache).check()
        } else {
            Ok(())
        }
    }

    /// Which objects it accepts.
    #[inline]
    pub(crate) fn terms(&self, fetches: bool) -> Terms {
        Terms {
            max_age: self.max_age,
            stale: fetches || self.allow_stale,
        }
    }

    /// Whether it may refuse the answer of a flight.
    fn is_picky(&self) -> bool {
        self.max_age.is_some() || self.condition.is_some()
    }

    /// Whether the answer of a flight is not for this request. The fetch's error where that was to
    /// be covered by a stale copy which is too old by now.
    fn refuses(
        &self,
        engine: &Engine,
        terms: Terms,
        flight: &Flight,
        is_first: bool,
        answer: &Opening,
    ) -> Result<bool> {
        let header = &answer.header;
        let stale = match (&answer.stale, &answer.source) {
            (Some(stale), Source::Tier { index, .. }) => {
                let held = Held::Tier(&engine.tiers[usize::from(*index)]);
                let freshness = engine.assess(held, header, terms, engine.now());
                match stale {
                    Stale::Error(error) if !freshness.serves_on_error() => {
                        return Err(error.clone());
                    }
                    Stale::Error(_) => !terms.stale,
                    Stale::WhileRevalidate => !freshness.serves(),
                }
            }
            _ => false,
        };
        let too_old = !is_first
            && (self.max_age).is_some_and(|max| engine.now().since(header.fetched_at) > max);
        // "Not modified" would keep what was replaced or deleted before it could be said.
        let overtaken = flight.is_retired() && self.has(header);
        Ok(stale || too_old || overtaken)
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
        range: None.into(),
        content: Content::Absent,
    }
}
