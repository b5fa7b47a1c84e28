//! No key is ever stuck: whatever one caller leaves half-done, the others go on.

mod close;
mod locks;
mod renewal;
mod stalls;
mod unread;

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use larder::{Cache, Draft, EntityTag, Fetched, Policy, Result, StoreExt};
use larder_conformance::{Faulty, Model};
use tokio::time::timeout;

use crate::support::{Origin, SECOND, strict, text};

/// The time in which each verb must finish.
const AT_ONCE: Duration = Duration::from_millis(500);

/// What a caller can do with a key that another has in hand.
#[derive(Clone, Copy, Debug)]
enum Verb {
    Set,
    Delete,
    Get,
    Conditional,
    Refresh,
}

impl Verb {
    const ALL: [Self; 5] = [
        Self::Set,
        Self::Delete,
        Self::Get,
        Self::Conditional,
        Self::Refresh,
    ];

    /// Does it, and checks what it must have done.
    async fn run(self, cache: &Cache, key: &str) {
        match self {
            Self::Set => {
                cache.insert(key, "new", Draft::new()).await.unwrap();
                assert_eq!(text(cache.get(key).await.unwrap()).await, "new");
            }
            Self::Delete => {
                cache.delete(key).await.unwrap();
                assert!(cache.get(key).await.unwrap().is_absent());
            }
            Self::Get => drop(cache.get(key).await.unwrap()),
            Self::Conditional => {
                let tag = EntityTag::strong("v1").unwrap();
                drop(cache.get(key).if_none_match(tag).await.unwrap());
            }
            Self::Refresh => {
                let refreshed = cache.refresh(key, Origin::default().gives("new")).await;
                assert_eq!(text(refreshed.unwrap()).await, "new");
            }
        }
    }
}

/// Runs each verb on `a` against what `hold` leaves half-done: each must finish at once.
async fn each_verb_finishes<H>(hold: impl AsyncFn() -> (Cache, H)) {
    for verb in Verb::ALL {
        let (cache, held) = hold().await;
        let done = timeout(AT_ONCE, verb.run(&cache, "a")).await;
        assert!(done.is_ok(), "{verb:?} waits for what another left");
        drop(held);
        at_rest(&cache).await;
    }
}

/// Waits until nothing is under way any more, which the time-outs of [`impatient`] see to.
async fn at_rest(cache: &Cache) {
    let resting = async {
        while cache.in_flight() != larder::InFlight::default() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let rested = timeout(60 * SECOND, resting).await;
    assert!(rested.is_ok(), "still there: {:?}", cache.in_flight());
}

/// A cache that gives a silent source, or a fetcher, ten seconds.
fn impatient() -> larder::Builder {
    Cache::builder()
        .policy(strict())
        .fetch_timeout(10 * SECOND)
        .idle_timeout(10 * SECOND)
}

/// As [`strict`], but what is stale is served for a minute while it is fetched anew.
fn stale_is_served() -> Policy {
    strict().stale_while_revalidate(60 * SECOND)
}

/// Puts `a` into a store, past the cache.
async fn put(store: &impl larder::Store, bytes: impl Into<Bytes> + Send) {
    let written = store.write("a", bytes, Draft::new()).await.unwrap();
    assert!(written.is_done());
}

fn faulty() -> Faulty<Model> {
    Faulty::new(Model::new())
}

/// What an origin gives that says something and then falls silent.
fn silent_after(first: &'static str) -> Fetched {
    let said = stream::iter([Ok::<_, larder::Error>(Bytes::from_static(first.as_bytes()))]);
    Fetched::stream(None, said.chain(stream::pending()))
}

/// What an origin gives that never ends by itself: `count` chunks of 64 KiB.
fn long(count: usize) -> Fetched {
    let chunk = Bytes::from(vec![b'x'; 64 << 10]);
    let chunks = stream::iter(std::iter::repeat_n(Ok::<_, larder::Error>(chunk), count));
    Fetched::stream(None, chunks)
}

/// Nothing is staged in the store, and no fence is kept.
fn assert_clean(store: &Faulty<Model>) {
    use larder::Store;
    assert_eq!(store.usage().staged, 0, "staged bytes are left");
    assert_eq!(store.inner().fences(), 0, "a fence is left");
    assert_eq!(store.faults().stalled(), 0, "an operation is left");
}

/// All that a body gives, as long as it goes well.
async fn drain(body: larder::Body) -> Result<Bytes> {
    body.bytes(64 << 20).await
}
