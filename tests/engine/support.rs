//! What the engine's tests share.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use larder::{
    Cache, Error, FetchContext, Fetched, ManualClock, Memory, Policy, Response, Result, Timestamp,
};

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

/// A memory tier of 16 MiB.
pub(crate) fn memory() -> Memory {
    Memory::new(16 << 20)
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

    /// A fetcher that does this.
    pub(crate) fn does<F, Fut>(
        &self,
        fetch: F,
    ) -> impl FnOnce(FetchContext) -> BoxFuture<'static, Result<Fetched>> + Send + 'static
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
