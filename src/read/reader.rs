//! One member's answer: its range, its condition, where its bytes come from.

use std::sync::Arc;

use larder_store::{Body, Error, Key, Lookup, Metadata, Object, Result};

use super::{
    Ask,
    body::FlightBody,
    direct::guarded,
    fetcher::Fetcher,
    flight::{Carrier, Flight, Member, Opening},
    place::Sought,
};
use crate::{
    counters::count,
    engine::{Engine, Held},
    fetch::{BoxFetch, Fetch},
    freshness::Terms,
    response::{Content, Described, Rare, Response, Stale, Status},
    sync::lock,
    tier::{Place, unless_range},
};

/// One member's view of what its flight has found.
pub(super) struct Reader<'a> {
    pub(super) engine: &'a Arc<Engine>,
    pub(super) key: Key<'a>,
    pub(super) ask: &'a Ask,
    pub(super) terms: Terms,
    /// The flight was started for it.
    pub(super) is_first: bool,
    /// It has given its fetcher away: where the object goes away it could not fetch again.
    pub(super) is_lender: bool,
    /// It joined an answer that is stale by now, and is refreshed in the background.
    pub(super) late_stale: bool,
}

impl Reader<'_> {
    /// The answer where it takes no wait: there is nothing to read, or all of it is here.
    pub(super) fn at_once(&self, opening: &Opening) -> Option<Result<Response>> {
        let (range, content) = match &opening.carrier {
            _ if self.ask.has(&opening.header) => (None, Content::NotModified),
            Carrier::Absent => (None, Content::Absent),
            Carrier::Whole(bytes) => match self.ask.range.resolve(bytes.len() as u64) {
                Ok(range) => {
                    #[allow(clippy::cast_possible_truncation)] // Within bytes in memory.
                    let part = bytes.slice(range.start as usize..range.end as usize);
                    (Some(range), Content::Body(Body::from(part)))
                }
                Err(error) => return Some(Err(error)),
            },
            Carrier::Spooled | Carrier::Direct { .. } => return None,
        };
        let described = described(opening, opening.len);
        Some(Ok(self.respond(opening, described, range, content)))
    }

    /// The answer; `None` when the object went away meanwhile.
    pub(super) async fn answer<F: Fetch>(
        &self,
        member: Member,
        opening: &Opening,
        fetcher: &mut Fetcher<F>,
    ) -> Result<Option<Response>> {
        if let Some(answer) = self.at_once(opening) {
            return answer.map(Some);
        }
        let (range, len, content) = match &opening.carrier {
            Carrier::Spooled => match self.join(member, opening).await? {
                Some((range, len, body)) => (range, len, Content::Body(body)),
                None => return Ok(None),
            },
            Carrier::Direct { tier, object } => {
                let held = self.may_take(member.flight(), opening);
                let held = held.then(|| lock(object).take()).flatten();
                // Boxed: few answers are given so, and every waiting read is spared its size.
                let direct = Box::pin(self.direct(*tier, opening, held));
                let Some((metadata, object)) = direct.await? else {
                    return Ok(None);
                };
                // What was renewed may have been replaced before it was opened here.
                let renewed = opening.revalidated
                    && (opening.stored.as_ref())
                        .is_some_and(|asked| asked.version() == metadata.version());
                let (range, content) = if metadata.absent {
                    (None, Content::Absent)
                } else {
                    let range = object.range.clone();
                    // That of what is stale is for the background refresh.
                    let spare = || match opening.stale {
                        None => fetcher.spare(),
                        Some(_) => fetcher.take(),
                    };
                    let body = self.guard(*tier, object, spare);
                    (Some(range), Content::Body(body))
                };
                let described = if renewed {
                    described(opening, opening.len)
                } else {
                    Described::Stored(metadata)
                };
                return Ok(Some(self.respond(opening, described, range, content)));
            }
            Carrier::Absent | Carrier::Whole(_) => unreachable!("it was answered at once"),
        };
        let described = described(opening, len);
        Ok(Some(self.respond(opening, described, range, content)))
    }

    /// Whether the object that the flight has open may go to this reader. Where the fetcher does
    /// not come back, since it ran or is for the refresh behind, it is for who has lent that.
    fn may_take(&self, flight: &Flight, opening: &Opening) -> bool {
        let is_wanted = self.is_first || self.ask.range.is_full();
        self.is_lender || (is_wanted && !flight.keeps_fetcher(opening.stale.is_some()))
    }

    fn respond(
        &self,
        opening: &Opening,
        metadata: Described,
        range: Option<std::ops::Range<u64>>,
        content: Content,
    ) -> Response {
        let (fetched_at, now) = (opening.header.fetched_at, self.engine.now());
        let on_error = match &opening.stale {
            Some(Stale::Error(error)) => Some(error.clone()),
            _ => None,
        };
        let too_large_for = opening.too_large_for.clone();
        if opening.stale.is_some() {
            count(&self.engine.counts.stale);
        }
        let status = Status {
            while_revalidate: self.late_stale
                || matches!(opening.stale, Some(Stale::WhileRevalidate)),
            joined: !self.is_first,
            revalidated: opening.revalidated,
            rare: (on_error.is_some() || too_large_for.is_some()).then(|| {
                Arc::new(Rare {
                    on_error,
                    too_large_for,
                })
            }),
            ..Status::new(opening.source.clone(), fetched_at, now)
        };
        Response {
            status,
            metadata,
            range: range.into(),
            content,
        }
    }

    /// Reads through the flight's spool: the range and the object's length, where they are known,
    /// and the body. `None` when bytes that it needs are gone.
    async fn join(&self, member: Member, opening: &Opening) -> Result<Option<Joined>> {
        let range = self.ask.range;
        let Sought { start, end, len } = match opening.len {
            Some(len) => {
                let part = range.resolve(len)?;
                // The full range ends where the source does, and not before.
                let stop = (!range.is_full()).then_some(part.end);
                if !member.place(part.start, stop) {
                    return Ok(None);
                }
                Sought {
                    start: part.start,
                    end: Some(part.end),
                    len: Some(len),
                }
            }
            None => match member.seek(range).await? {
                Some(part) => part,
                None => return Ok(None),
            },
        };
        let idle = self.engine.settings.idle_timeout;
        let mut body = FlightBody::new(member).within(self.engine.tasks.runtime(), idle);
        if self.ask.refresh && range.is_full() {
            // The caller's next read sees what its refresh has stored.
            body = body.until_landed();
        }
        if end.is_none() {
            body = body.counted(Arc::clone(&self.engine.counts));
        }
        let body = Body::stream(end.map(|end| end - start), body);
        Ok(Some((end.map(|end| start..end), len, body)))
    }

    /// Opens the object in the tier that has it, or takes the one that the flight has open.
    async fn direct(
        &self,
        tier: usize,
        opening: &Opening,
        held: Option<Object>,
    ) -> Result<Option<(Arc<Metadata>, Object)>> {
        let len = opening.len.unwrap_or_default();
        let range = self.ask.range.resolve(len)?;
        if let Some(object) = &held
            && self.ask.range.is_full()
        {
            let metadata = Arc::clone(&object.metadata);
            return Ok(held.map(|object| (metadata, object)));
        }
        let place = &self.engine.tiers[tier];
        // A shorter one may have replaced it, which the range does not fit.
        let get = async || unless_range(place.store().get_stream(self.key, self.ask.range).await);
        match place.attempt("looking up", get).await {
            Ok(Some(Lookup::Hit(object))) => {
                Ok(self.may_serve(place, opening, &object).then(|| {
                    let metadata = Arc::clone(&object.metadata);
                    (metadata, object)
                }))
            }
            Ok(Some(Lookup::Miss(_)) | None) | Err(_) => Ok(held.map(|object| {
                let body = skip(object.body, range.start, range.end);
                (
                    Arc::clone(&object.metadata),
                    Object {
                        range,
                        body,
                        ..object
                    },
                )
            })),
        }
    }
}

impl Reader<'_> {
    /// Whether the object that a tier has now may be served: the one that the flight found, or
    /// another that will do as well.
    fn may_serve(&self, place: &Place, opening: &Opening, object: &Object) -> bool {
        let found = opening.stored.as_ref().map(|metadata| metadata.version());
        if found == Some(object.metadata.version()) {
            return true;
        }
        let held = Held::Tier(place);
        let now = self.engine.now();
        (self.engine.assess(held, &object.metadata, self.terms, now)).serves()
    }

    /// The object's body, which goes on from the origin where there is a fetcher for that.
    fn guard(&self, tier: usize, object: Object, spare: impl FnOnce() -> Option<BoxFetch>) -> Body {
        if object.body.as_whole().is_some() {
            return object.body;
        }
        guarded(
            self.engine,
            tier,
            self.key.as_ref(),
            self.ask,
            object,
            spare,
        )
    }
}

/// A reader's range and the object's length, where they are known, and its body.
type Joined = (Option<std::ops::Range<u64>>, Option<u64>, Body);

/// What is known of the object, of this length, that a flight has found.
fn described(opening: &Opening, len: Option<u64>) -> Described {
    match &opening.stored {
        Some(metadata) if !opening.revalidated => Described::Stored(Arc::clone(metadata)),
        _ => Described::Flying(Arc::clone(&opening.header), len),
    }
}

/// The part of a body that is read from its first byte.
pub(super) fn skip(body: Body, start: u64, end: u64) -> Body {
    let parts = futures_util::stream::try_unfold((body, 0_u64), move |(mut body, at)| async move {
        if at >= end {
            return Ok::<_, Error>(None);
        }
        let Some(chunk) = body.chunk().await? else {
            return Ok(None);
        };
        let (from, to) = (at, at + chunk.len() as u64);
        #[allow(clippy::cast_possible_truncation)] // Within a chunk in memory.
        let part = chunk
            .slice((start.clamp(from, to) - from) as usize..(end.clamp(from, to) - from) as usize);
        Ok(Some((part, (body, to))))
    });
    Body::stream(Some(end - start), parts)
}
