//! No key is ever stuck: whatever one caller leaves half-done, the others go on.

mod close;
mod locks;
mod renewal;
mod stalls;
mod unread;

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use larder::{Cache, Draft, EntityTag, Fetched, Result};
use tokio::time::timeout;

use crate::support::{Origin, at_rest, text};

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

/// What an origin gives that never ends by itself: `count` chunks of 64 KiB.
fn long(count: usize) -> Fetched {
    let chunk = Bytes::from(vec![b'x'; 64 << 10]);
    let chunks = stream::iter(std::iter::repeat_n(Ok::<_, larder::Error>(chunk), count));
    Fetched::stream(None, chunks)
}

/// All that a body gives, as long as it goes well.
async fn drain(body: larder::Body) -> Result<Bytes> {
    body.bytes(64 << 20).await
}
