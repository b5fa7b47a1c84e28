//! Operations after close.

use bytes::Bytes;
use futures_util::stream;
use larder::{Cache, Draft, ErrorKind, Fetched, Store};
use larder_conformance::Model;

use crate::support::{Origin, assert_clean, at_rest, faulty, impatient};

use super::errors;

fn assert_closed(error: &larder::Error) {
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert_eq!(error.to_string(), "the cache is closed");
}

async fn closed() -> Cache {
    let cache = impatient().tier(Model::new()).build().unwrap();
    cache.insert("a", "x", Draft::new()).await.unwrap();
    cache.close().await.unwrap();
    cache
}

#[tokio::test(start_paused = true)]
async fn after_close_every_verb_says_that_the_cache_is_closed() {
    let cache = closed().await;
    for error in errors(&cache, "a").await {
        assert_closed(&error);
    }
    assert_closed(&cache.clear().await.unwrap_err());
    cache.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn after_close_what_only_tells_still_does() {
    let cache = closed().await;
    assert_eq!(cache.tiers()[0].counters.fills, 1);
    assert_eq!(cache.usage().len(), 1);
    assert_eq!(cache.in_flight(), larder::InFlight::default());
    assert_eq!(cache.counters().fetches, 0);
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_was_open_before_close_publishes_nothing_after_it() {
    let store = faulty();
    let cache = impatient().tier(store.clone()).build().unwrap();
    let open = async || {
        let mut writer = cache.set_with_writer("a", Draft::new()).await.unwrap();
        writer.write("half").await.unwrap();
        writer
    };
    let (mut writing, committing) = (open().await, open().await);
    cache.close().await.unwrap();
    assert_closed(&writing.write("more").await.unwrap_err());
    assert_closed(&committing.commit().await.unwrap_err());
    drop(writing);
    assert_clean(&store);
    assert_eq!(store.usage().entries, 0);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_was_open_before_close_may_be_read_to_its_end() {
    // More than the window holds: the flight reads back what its tier has staged.
    let cache = impatient().tier(Model::new()).build().unwrap();
    let chunk = Bytes::from(vec![b'x'; 64 << 10]);
    let chunks = stream::iter(std::iter::repeat_n(Ok::<_, larder::Error>(chunk), 32));
    let fetch = Origin::default().does(async |_| Ok(Fetched::stream(None, chunks)));
    let fetched = cache.get_or_fetch("a", fetch).await.unwrap().into_body();
    at_rest(&cache).await;
    let hit = cache.get("a").await.unwrap().into_body();
    cache.close().await.unwrap();
    for body in [fetched, hit] {
        let bytes = body.unwrap().bytes(4 << 20).await.unwrap();
        assert_eq!(bytes.len(), 2 << 20);
    }
}
