//! A body that a read gets straight from a tier, with no flight in between.
//!
//! Each chunk is waited for within the idle time-out, so that a store that gives nothing holds no
//! reader for ever. Where the tier breaks off, and the read came with a fetcher that nobody has
//! used, the origin goes on under the terms of [`resume`](super::resume): the same strong tag, no
//! other length. Otherwise the tier's error stands, also where the fetch fails.
//!
//! What goes on is a refresh of the key, so that one fetch is for all whose tier breaks off at once,
//! and the tier gets a sound copy. A flight that is under way is joined, whenever it began, if it has
//! the same bytes: the tag tells.

use std::{
    future::poll_fn,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
};

use bytes::Bytes;
use futures_util::stream::unfold;
use larder_store::{Body, EntityTag, Error, ErrorKind, KeyBuf, Metadata, Object, Result};
use tokio::task::coop::consume_budget;

use super::{
    ATTEMPTS_MAX, Ask,
    body::FlightBody,
    fetcher::Given,
    flight::{Carrier, Flight, Member, Opening, Seen},
    flights::{Wants, What},
    look::{Accept, FirstTier},
    plan::Plan,
    start::{Seated, board},
};
use crate::{
    engine::{Engine, refused},
    fetch::{BoxFetch, FetchContext, Found},
    freshness::Terms,
    policy::Policy,
    response::Source,
    within::{Missed, within},
};

/// The object's body, guarded against a tier that stalls or breaks off. `fetcher` is asked for only
/// where it could go on.
pub(crate) fn guarded(
    engine: &Arc<Engine>,
    tier: usize,
    key: &str,
    ask: &Ask,
    object: Object,
    fetcher: impl FnOnce() -> Option<BoxFetch>,
) -> Body {
    let Object {
        metadata,
        range,
        body,
    } = object;
    let len = range.end - range.start;
    let origin = || {
        strong_tag(&metadata)?;
        let key = KeyBuf::new(key).ok()?;
        Some(Box::new(Resort {
            fetcher: Given(Some(unconditional(fetcher()?))),
            key,
            policy: ask.policy().over(engine.policy),
            metadata,
            attempts: ATTEMPTS_MAX,
        }))
    };
    let guarded = Guarded {
        origin: origin(),
        engine: Arc::clone(engine),
        tier,
        // One that does not know its length must not end short of it.
        body: match body.len() {
            Some(_) => body,
            None => Body::stream(Some(len), body),
        },
        to_come: range,
        goes_on: false,
    };
    let chunks = unfold(guarded, |mut guarded| async move {
        let next = guarded.chunk().await.transpose()?;
        Some((next, guarded))
    });
    Body::stream(Some(len), chunks)
}

struct Guarded {
    engine: Arc<Engine>,
    tier: usize,
    body: Body,
    /// What the reader has not been given of the object.
    to_come: Range<u64>,
    origin: Option<Box<Resort>>,
    /// Whether the body is a flight's by now, which has bounds of its own.
    goes_on: bool,
}

/// What it takes to go on from the origin.
struct Resort {
    /// `None` once a flight was started with it.
    fetcher: Given,
    key: KeyBuf,
    policy: Policy,
    metadata: Arc<Metadata>,
    /// How many flights may still be tried.
    attempts: usize,
}

impl Guarded {
    async fn chunk(&mut self) -> Result<Option<Bytes>> {
        // A tier that never waits must not keep the reader's task from giving way.
        consume_budget().await;
        loop {
            let next = if self.goes_on {
                self.body.chunk().await
            } else {
                self.pull().await
            };
            let error = match next {
                Ok(chunk) => {
                    self.to_come.start += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
                    return Ok(chunk);
                }
                Err(error) => error,
            };
            let Some(origin) = &mut self.origin else {
                return Err(error);
            };
            // What it holds of the tier, a connection say, is not held while others are asked.
            self.body = Body::empty();
            // Boxed: most bodies end well, and are spared its size.
            let rest = Box::pin(origin.go_on(&self.engine, &self.to_come)).await;
            let Some(rest) = rest else {
                self.origin = None;
                return Err(error);
            };
            (self.body, self.goes_on) = (rest, true);
        }
    }

    /// The tier's next chunk, in time.
    async fn pull(&mut self) -> Result<Option<Bytes>> {
        let (body, place) = (&mut self.body, &self.engine.tiers[self.tier]);
        let idle = self.engine.settings.idle_timeout;
        let runtime = self.engine.tasks.runtime();
        let next = loop {
            let mut waits_since = None;
            let chunk = poll_fn(|cx| {
                let poll = || futures_core::Stream::poll_next(Pin::new(&mut *body), cx);
                match catch_unwind(AssertUnwindSafe(poll)) {
                    Ok(Poll::Ready(next)) => Poll::Ready(next.transpose()),
                    Ok(Poll::Pending) => {
                        waits_since.get_or_insert_with(|| runtime.now());
                        Poll::Pending
                    }
                    Err(_) => Poll::Ready(Err(refused(ErrorKind::Other, "the body panicked"))),
                }
            });
            let mut bounded = pin!(within(runtime, idle, chunk));
            let next = poll_fn(|cx| {
                // The reader may be of another runtime, or of none.
                let _entered = runtime.enter();
                bounded.as_mut().poll(cx)
            });
            let missed = match next.await {
                Ok(next) => break next,
                Err(missed) => missed,
            };
            // A reader that comes back so late was away, and the store may have waited for it.
            let was_away = waits_since
                .is_some_and(|since| runtime.now() - since > idle.saturating_add(idle / 10));
            if missed == Missed::Ended || !was_away {
                let message = || format!("the tier {} gave nothing for {idle:?}", place.name);
                break Err(missed.error(message));
            }
        };
        next.inspect_err(|error| place.note("reading a body", error))
    }
}

impl Resort {
    /// The rest of the object from a flight that has the same one.
    async fn go_on(&mut self, engine: &Arc<Engine>, to_come: &Range<u64>) -> Option<Body> {
        // A fetch that failed a moment ago is not tried again for each body.
        let is_known = || engine.failures.get(&self.key, engine.now()).is_some();
        if self.fetcher.0.is_none() || engine.check_open().is_err() || is_known() {
            return None;
        }
        tracing::debug!(
            at = to_come.start,
            "a tier failed half-way, the origin goes on"
        );
        let mut unfit = None;
        while self.attempts > 0 {
            self.attempts -= 1;
            let Seated { member, .. } = self.seat(engine, unfit.as_ref()).await?;
            let flight = Arc::clone(member.flight());
            match member.opened(|_| false).await {
                Seen::Open(opening) if self.is_same(&opening) => {
                    let rest = self.rest(engine, member, &opening, to_come);
                    if rest.is_some() {
                        return rest;
                    }
                }
                // The origin has another by now.
                Seen::Open(opening)
                    if matches!(opening.source, Source::Origin) && !opening.revalidated =>
                {
                    return None;
                }
                Seen::Open(_) | Seen::Nowhere => {}
                Seen::Failed(_) => return None,
            }
            self.fetcher.0.as_ref()?;
            unfit = Some(flight);
        }
        None
    }

    /// Joins the key's flight, unless that is known to have something else, or asks the origin. A
    /// flight that was joined may find something else, and the fetcher is needed then.
    async fn seat(&mut self, engine: &Arc<Engine>, unfit: Option<&Arc<Flight>>) -> Option<Seated> {
        let wants = Wants {
            what: What::Fetch,
            keeps_fetcher: true,
            unfit,
            accepts: &|_, _| true,
        };
        let accept = Accept {
            terms: Terms::default(),
            none: true,
            first: FirstTier::Unknown,
        };
        let plan = Plan::new(self.policy, accept);
        let seated = board(engine, &self.key, &wants, plan, &mut self.fetcher);
        seated.await.ok()
    }

    /// Whether a flight has the same object, and not in the tier again.
    fn is_same(&self, opening: &Opening) -> bool {
        let tag = strong_tag(&self.metadata);
        let has_bytes = matches!(opening.carrier, Carrier::Whole(_) | Carrier::Spooled);
        has_bytes
            && tag.is_some_and(|tag| opening.header.etag.as_ref() == Some(tag))
            && opening.len.is_none_or(|len| len == self.metadata.len())
    }

    /// The part of the flight's object that is to come; `None` where bytes of it are gone.
    fn rest(
        &self,
        engine: &Engine,
        member: Member,
        opening: &Opening,
        to_come: &Range<u64>,
    ) -> Option<Body> {
        let Range { start, end } = *to_come;
        if let Carrier::Whole(bytes) = &opening.carrier {
            #[allow(clippy::cast_possible_truncation)] // Within bytes in memory.
            return Some(Body::from(bytes.slice(start as usize..end as usize)));
        }
        // Of an unknown length, the last part ends where the source does, and not before.
        let is_known = opening.len.is_some() || end < self.metadata.len();
        let placed = member.place(start, is_known.then_some(end));
        placed.then(|| {
            let idle = engine.settings.idle_timeout;
            let body = FlightBody::new(member).within(engine.tasks.runtime(), idle);
            Body::stream(Some(end - start), body)
        })
    }
}

/// The tag by which two objects are known to have the same bytes (RFC 9110, section 8.8.1).
fn strong_tag(metadata: &Metadata) -> Option<&EntityTag> {
    metadata.etag.as_ref().filter(|tag| !tag.is_weak())
}

/// A fetcher that is not told of the stale copy: "not modified" would bring no bytes.
fn unconditional(fetcher: BoxFetch) -> BoxFetch {
    Box::new(|context| {
        Box::pin(async {
            let context = FetchContext {
                stale: None,
                ..context
            };
            let fetched = fetcher(context).await?;
            if matches!(fetched.found, Found::NotModified) {
                return Err(Error::invalid(
                    "the fetcher said \"not modified\" though it was not asked about a stale copy",
                ));
            }
            Ok(fetched)
        })
    })
}
