//! One read: configured, then awaited.

use std::{
    fmt,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::FutureExt;
use larder_store::{Body, ByteRange, Error, Key, KeyBuf, Lookup, Metadata, Object, Reply, Result};

use crate::{
    conditional::IfNoneMatch,
    counters::{add, count},
    engine::{Engine, Held},
    fetch::Fetch,
    freshness::Freshness,
    policy::Policy,
    read::{
        Ask, answer_whole, direct::guarded, fetcher::Fetcher, flight::Member, join_whole,
        look::FirstTier, read,
    },
    refresh::refresh_behind,
    response::{Content, Described, Response, Source, Status},
    tier::{Place, is_of_object, unless_range},
};

/// A read being configured; awaiting it gives a [`Response`].
///
/// A fresh hit in the first tier is answered from the stack: nothing is allocated and no task runs.
/// All else is done by the key's flight: here as far as that needs no wait, then in a task of the
/// cache's own. Dropping the request, or the response, only leaves it.
///
/// ```
/// # use std::time::Duration;
/// # use larder::{ByteRange, Cache, Error, Fetched, Memory};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Error> {
/// # let cache = Cache::builder().tier(Memory::new(1 << 20)).build()?;
/// let response = cache
///     .get_or_fetch("greeting", async |_| Ok::<_, Error>(Fetched::bytes("hello, world")))
///     .range(ByteRange::try_from(7..12)?)
///     .ttl(Duration::from_secs(5))
///     .await?;
/// assert_eq!(response.into_body().unwrap().bytes(64).await?, "world");
/// # Ok(())
/// # }
/// ```
#[must_use = "a request does nothing unless it is awaited"]
pub struct Request<'a, F> {
    engine: &'a Arc<Engine>,
    key: &'a str,
    fetcher: Fetcher<F>,
    ask: Ask,
}

impl<'a, F: Fetch> Request<'a, F> {
    pub(crate) fn new(engine: &'a Arc<Engine>, key: &'a str, fetch: F) -> Self {
        Self {
            engine,
            key,
            fetcher: Fetcher::new(fetch),
            ask: Ask::default(),
        }
    }
}

impl<F> Request<'_, F> {
    pub(crate) fn refresh(mut self) -> Self {
        self.ask.refresh = true;
        self
    }

    /// Says what the caller has: the answer is "not modified" where that is the current object.
    pub fn if_none_match(mut self, tags: impl Into<IfNoneMatch>) -> Self {
        self.ask.condition = Some(tags.into());
        self
    }

    /// Asks for a part of the object. One that reaches past its end is `Invalid`, except
    /// [`ByteRange::within`], which ends where the object does. What is fetched and stored is the
    /// whole object all the same.
    pub fn range(mut self, range: impl Into<ByteRange>) -> Self {
        self.ask.range = range.into();
        self
    }

    /// How long what this request fetches is fresh.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ask.ttl = Some(ttl);
        self
    }

    /// Accepts a stale object that is within `stale_while_revalidate`. A read with a fetcher does so
    /// in any case, since its fetcher then refreshes the object; a `get` gives fresh objects only,
    /// unless this is said.
    pub fn allow_stale(mut self) -> Self {
        self.ask.allow_stale = true;
        self
    }

    /// The oldest object that this request accepts; also a flight's that it would join.
    pub fn max_age(mut self, age: Duration) -> Self {
        self.ask.max_age = Some(age);
        self
    }

    /// The lifetimes of what this request fetches, over the cache's. Costs an allocation, where
    /// [`ttl`](Self::ttl) alone costs none.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.ask.policy = Some(Box::new(policy.or(self.ask.policy())));
        self.ask.ttl = None;
        self
    }
}

impl<'a, F: Fetch + 'a> IntoFuture for Request<'a, F> {
    type Output = Result<Response>;
    type IntoFuture = Reading<'a, F>;

    fn into_future(self) -> Reading<'a, F> {
        Reading {
            request: Some(self),
            joined: None,
            later: None,
        }
    }
}

/// The future of a [`Request`].
pub struct Reading<'a, F> {
    request: Option<Request<'a, F>>,
    /// Its place in a flight of another's, while that is all there is to wait for.
    joined: Option<(Member, Pending<'a>)>,
    later: Option<Later<'a>>,
}

/// What waits for more than the first tier.
type Later<'a> = Pin<Box<dyn Future<Output = Result<Response>> + Send + 'a>>;

/// How far a request comes without waiting.
#[allow(clippy::large_enum_variant)] // The large one is the one that must be fast.
enum First<'a> {
    Hit(Response),
    Refused(Error),
    /// A flight must find it.
    Fly,
    /// The first tier takes its time.
    Wait(Reply<'a, Lookup>),
}

// The fetcher is moved, never pinned.
impl<F> Unpin for Reading<'_, F> {}

impl<'a, F: Fetch + 'a> Future for Reading<'a, F> {
    type Output = Result<Response>;

    /// # Panics
    ///
    /// When it is polled again after its answer.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        const AGAIN: &str = "polled after its answer";
        let this = self.get_mut();
        if let Some(later) = &mut this.later {
            return later.as_mut().poll(cx);
        }
        // Borrowed while it can be answered from here: a move costs more than a look-up.
        let request = this.request.as_mut().expect(AGAIN);
        let engine = request.engine;
        let first = match &this.joined {
            Some(_) => First::Fly,
            None => request.first(cx),
        };
        let later: Later<'a> = match first {
            First::Hit(response) => {
                this.request = None;
                return Poll::Ready(Ok(response));
            }
            First::Refused(error) => {
                this.request = None;
                return Poll::Ready(Pending::new(engine).ends(Err(error)));
            }
            First::Wait(reply) => {
                let (request, read) = (this.request.take().expect(AGAIN), Pending::new(engine));
                let answer = request.wait(reply).map(|result| read.ends(result));
                Box::pin(engine.tasks.runtime().inside(answer))
            }
            First::Fly => {
                if let Some(answer) = ready!(request.join(&mut this.joined, cx)) {
                    this.request = None;
                    let (_, read) = this.joined.take().expect("it has the answer");
                    return Poll::Ready(read.ends(answer));
                }
                let (member, read) = this.joined.take().unzip();
                let read = read.unwrap_or_else(|| Pending::new(engine));
                let request = this.request.take().expect(AGAIN);
                let answer = request.fly(member).map(|result| read.ends(result));
                Box::pin(engine.tasks.runtime().inside(answer))
            }
        };
        this.later.insert(later).as_mut().poll(cx)
    }
}

/// A read that has no answer yet. It is counted once: by its answer, or as cancelled.
struct Pending<'a>(Option<&'a Engine>);

impl<'a> Pending<'a> {
    fn new(engine: &'a Engine) -> Self {
        Self(Some(engine))
    }

    /// Counts it by its answer.
    fn ends(mut self, answer: Result<Response>) -> Result<Response> {
        if let Some(engine) = self.0.take() {
            tally(engine, &answer);
        }
        answer
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if let Some(engine) = self.0 {
            count(&engine.counts.cancelled);
        }
    }
}

/// Counts a read by how it ended.
fn tally(engine: &Engine, answer: &Result<Response>) {
    let counts = &*engine.counts;
    let Ok(response) = answer else {
        return count(&counts.failed);
    };
    let status = response.status();
    match status.source() {
        Source::Tier { index, .. } => hit(&engine.tiers[usize::from(*index)], response),
        Source::Origin => {
            count(&counts.misses);
            add(&counts.miss_bytes, response.bytes());
        }
        Source::Nowhere => count(&counts.not_found),
    }
    if status.is_joined() {
        count(&counts.joined);
    }
}

/// Counts a hit.
#[inline]
fn hit(place: &Place, response: &Response) {
    let counts = &*place.counts;
    count(&counts.hits);
    add(&counts.hit_bytes, response.bytes());
}

impl<'a, F: Fetch + 'a> Request<'a, F> {
    /// Asks the first tier, without waiting for it.
    fn first(&mut self, cx: &mut Context<'_>) -> First<'a> {
        let engine = self.engine;
        let checked = engine.check_open();
        let checked = checked.and_then(|()| self.ask.check(engine.policy));
        let key = match checked.and_then(|()| Key::new(self.key)) {
            Ok(key) => key,
            Err(error) => return First::Refused(error),
        };
        if self.ask.refresh || !engine.suspects.trusts(0, self.key) {
            return First::Fly;
        }
        let (store, range) = (engine.tiers[0].store(), self.ask.range);
        let asked = catch_unwind(AssertUnwindSafe(|| {
            let mut reply = store.get_stream(key, range);
            if reply.is_ready() {
                Ok(Pin::new(&mut reply).poll(cx))
            } else {
                Err(reply)
            }
        }));
        match asked {
            Ok(Ok(Poll::Ready(Ok(Lookup::Hit(object))))) => match self.serve(object) {
                Some(response) => {
                    hit(&engine.tiers[0], &response);
                    First::Hit(response)
                }
                None => First::Fly,
            },
            // The flight asks again, and counts what fails.
            Ok(Ok(_)) | Err(_) => First::Fly,
            Ok(Err(reply)) => First::Wait(reply),
        }
    }

    /// The answer from an object of the first tier, where it may be served.
    fn serve(&mut self, object: Object) -> Option<Response> {
        let engine = self.engine;
        let now = engine.now();
        let place = &engine.tiers[0];
        let terms = self.ask.terms(F::FETCHES);
        let freshness = engine.assess(Held::Tier(place), &object.metadata, terms, now);
        let while_revalidate = match freshness {
            Freshness::Fresh => false,
            Freshness::Stale => {
                self.revalidate();
                count(&engine.counts.stale);
                true
            }
            Freshness::Expired { .. } => return None,
        };
        let mut status = Status::new(place.source(), object.metadata.fetched_at, now);
        status.while_revalidate = while_revalidate;
        let Object {
            metadata,
            range,
            body,
        } = object;
        let (range, content) = if self.ask.has(&metadata) {
            (None, Content::NotModified)
        } else if metadata.absent {
            (None, Content::Absent)
        } else if body.as_whole().is_some() {
            (Some(range), Content::Body(body))
        } else {
            let body = self.guard(&metadata, &range, body);
            (Some(range), Content::Body(body))
        };
        Some(Response {
            status,
            metadata: Described::Stored(metadata),
            range: range.into(),
            content,
        })
    }
}

impl<'a, F: Fetch + 'a> Request<'a, F> {
    /// The body of the first tier's object, which may go on with the fetcher.
    #[cold]
    fn guard(&mut self, metadata: &Arc<Metadata>, range: &Range<u64>, body: Body) -> Body {
        let object = Object {
            metadata: Arc::clone(metadata),
            range: range.clone(),
            body,
        };
        let fetcher = || self.fetcher.take();
        guarded(self.engine, 0, self.key, &self.ask, object, fetcher)
    }

    /// Waits in the flight of another for what comes whole. `None` where there is no such flight,
    /// or it takes more than that.
    fn join(
        &mut self,
        joined: &mut Option<(Member, Pending<'a>)>,
        cx: &Context<'_>,
    ) -> Poll<Option<Result<Response>>> {
        let (engine, ask) = (self.engine, &self.ask);
        if joined.is_none() {
            let (waker, fetcher) = (cx.waker(), &mut self.fetcher);
            let boarding = join_whole(engine, self.key, ask, F::FETCHES, waker, fetcher);
            let Some(boarding) = boarding else {
                return Poll::Ready(None);
            };
            *joined = Some((boarding.member, Pending::new(engine)));
            if boarding.waits {
                return Poll::Pending;
            }
        }
        match (joined, Key::new(self.key)) {
            (Some((member, _)), Ok(key)) => answer_whole(engine, key, ask, F::FETCHES, member, cx),
            _ => Poll::Ready(None),
        }
    }

    /// Sees that a refresh is running behind, if this request can fetch.
    fn revalidate(&mut self) {
        let (engine, key) = (self.engine, self.key);
        if engine.is_refreshing(key) {
            return;
        }
        if let (Some(fetcher), Ok(key)) = (self.fetcher.take(), KeyBuf::new(key)) {
            let policy = self.ask.policy().over(engine.policy);
            refresh_behind(engine, &key, policy, fetcher);
        }
    }

    /// Waits for the first tier, within its time-out, and goes on from there.
    async fn wait(mut self, reply: Reply<'a, Lookup>) -> Result<Response> {
        // A range that does not fit is no failure of the tier's: the flight looks closer.
        let looking = async || unless_range(reply.await);
        let asked = self.engine.tiers[0].attempt("looking up", looking);
        match asked.await {
            Ok(Some(Lookup::Hit(object))) => {
                if let Some(response) = self.serve(object) {
                    return Ok(response);
                }
            }
            Ok(Some(Lookup::Miss(_)) | None) => {}
            Err(error) if is_of_object(&error) => self.ask.first = FirstTier::Broken,
            // It had its time; the flight does not wait for it again.
            Err(_) => self.ask.first = FirstTier::Late,
        }
        self.fly(None).await
    }

    /// Not an async function, whose future would have room for the request twice.
    fn fly(
        self,
        member: Option<Member>,
    ) -> impl Future<Output = Result<Response>> + Send + use<'a, F> {
        let Self {
            engine,
            key,
            fetcher,
            ask,
        } = self;
        async move {
            let key = KeyBuf::new(key)?;
            read(engine, key, &ask, fetcher, member).await
        }
    }
}

impl<F> fmt::Debug for Request<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Request({:?})", self.key)
    }
}

impl<F> fmt::Debug for Reading<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reading")
    }
}
