//! What the engine's tests share.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream};
use larder::{
    Builder, Cache, Draft, Error, FetchContext, Fetched, InFlight, ManualClock, Memory, Policy,
    Response, Result, Store, StoreExt, Timestamp,
};
use larder_conformance::{Faulty, Model};
use tokio::time::timeout;

/// One second.
pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// Lifetimes without surprises: fresh for a minute, nothing stale, nothing at random.
pub(crate) fn strict() -> Policy {
    Policy::new()
        .ttl(60 * SECOND)
        .stale_while_revalidate(Duration::ZERO)
        .stale_if_error(Duration::ZERO)
        .negative_ttl(Duration::ZERO)
        .jitter(0.0)
}

/// A clock that stands at a reasonable time.
pub(crate) fn clock() -> ManualClock {
    ManualClock::new(Timestamp::from_millis(1_700_000_000_000))
}

/// A memory tier of 16 MiB. Its time stands where [`clock`] begins: by the system's all that is
/// stamped by that clock would have expired.
pub(crate) fn memory() -> Memory {
    let time = Timestamp::from_millis(1_700_000_000_000);
    let builder = Memory::builder(16 << 20).clock(move || time);
    builder.build().expect("a store")
}

/// An origin that counts its fetches and answers with what it is told.
#[derive(Clone, Default)]
pub(crate) struct Origin {
    fetches: Arc<AtomicUsize>,
}

impl Origin {
    pub(crate) fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }

    /// A fetcher that gives these bytes.
    pub(crate) fn gives(
        &self,
        bytes: impl Into<Bytes>,
    ) -> impl FnOnce(FetchContext) -> BoxFuture<'static, Result<Fetched>> + Send + 'static {
        let bytes = bytes.into();
        self.does(async move |_| Ok(Fetched::bytes(bytes)))
    }

    /// A fetcher that fails.
    pub(crate) fn fails(
        &self,
    ) -> impl FnOnce(FetchContext) -> BoxFuture<'static, Result<Fetched>> + Send + use<> {
        self.does(async |_| Err(broken()))
    }

    /// A fetcher that does this.
    pub(crate) fn does<F, Fut>(
        &self,
        fetch: F,
    ) -> impl FnOnce(FetchContext) -> BoxFuture<'static, Result<Fetched>> + Send + use<F, Fut>
    where
        F: FnOnce(FetchContext) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Fetched>> + Send + 'static,
    {
        let fetches = Arc::clone(&self.fetches);
        move |context| {
            fetches.fetch_add(1, Ordering::SeqCst);
            fetch(context).boxed()
        }
    }
}

/// The whole body of an answer.
pub(crate) async fn text(response: Response) -> String {
    let body = response.into_body().expect("a body");
    let bytes = body.bytes(64 << 20).await.expect("a whole body");
    String::from_utf8(bytes.into()).expect("text")
}

/// Waits until nothing is under way.
pub(crate) async fn settle(cache: &Cache) {
    for _ in 0..10_000 {
        let flying = cache.in_flight();
        if (
            flying.flights,
            flying.turns,
            flying.refreshes,
            flying.behind,
        ) == (0, 0, 0, 0)
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("still under way: {:?}", cache.in_flight());
}

/// An error of an origin's.
pub(crate) fn broken() -> Error {
    Error::new(larder::ErrorKind::Other, "the origin is broken")
}

/// Waits until nothing is under way any more, which the time-outs of [`impatient`] see to.
pub(crate) async fn at_rest(cache: &Cache) {
    let resting = async {
        while cache.in_flight() != InFlight::default() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let rested = timeout(60 * SECOND, resting).await;
    assert!(rested.is_ok(), "still there: {:?}", cache.in_flight());
}

/// As [`strict`], but what is stale is served for a minute while it is fetched anew.
pub(crate) fn stale_is_served() -> Policy {
    strict().stale_while_revalidate(60 * SECOND)
}

/// Puts `a` into a store, past the cache.
pub(crate) async fn put(store: &impl Store, bytes: impl Into<Bytes> + Send) {
    let written = store.write("a", bytes, Draft::new()).await.unwrap();
    assert!(written.is_done());
}

/// A store that fails on command.
pub(crate) fn faulty() -> Faulty<Model> {
    Faulty::new(Model::new())
}

/// Nothing is staged in the store, and no fence is kept.
pub(crate) fn assert_clean(store: &Faulty<Model>) {
    assert_eq!(store.usage().staged, 0, "staged bytes are left");
    assert_eq!(store.inner().fences(), 0, "a fence is left");
    assert_eq!(store.faults().stalled(), 0, "an operation is left");
}

/// A cache that gives a silent source, or a fetcher, ten seconds.
pub(crate) fn impatient() -> Builder {
    Cache::builder()
        .policy(strict())
        .fetch_timeout(10 * SECOND)
        .idle_timeout(10 * SECOND)
}

/// What an origin gives that says something and then falls silent.
pub(crate) fn silent_after(first: &'static str) -> Fetched {
    let said = stream::iter([Ok::<_, Error>(Bytes::from_static(first.as_bytes()))]);
    Fetched::stream(None, said.chain(stream::pending()))
}
