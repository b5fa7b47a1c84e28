//! Slots of fetches: who holds one, for how long, and fetchers that read through the cache.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use larder::{BoxError, Builder, Cache, Fetched, Result};
use tokio::sync::Barrier;

use crate::{
    levers::small,
    source::{Feed, feed, pattern, whole},
    support::{Origin, SECOND, settle, strict, text},
};

fn narrow(fetches: usize) -> Builder {
    let builder = Cache::builder().tier(small()).policy(strict());
    builder.fetches_max(fetches)
}

#[tokio::test(start_paused = true)]
async fn s91_readers_that_are_slow_hold_no_slot() {
    let cache = narrow(4).spool_disk_max(0).build().unwrap();
    let origin = Origin::default();
    let mut slow = Vec::new();
    for number in 0..4 {
        let object = pattern(4 << 20);
        let fetch = origin.does(async move |_| Ok(crate::source::streamed(&object, 64 << 10)));
        let key = format!("large {number}");
        slow.push(cache.get_or_fetch(&key, fetch).await.unwrap());
    }
    tokio::time::sleep(SECOND).await;
    let other = cache
        .get_or_fetch("small", origin.gives("x"))
        .await
        .unwrap();
    assert_eq!(text(other).await, "x");
    for body in slow {
        assert_eq!(whole(body).await, pattern(4 << 20));
    }
    settle(&cache).await;
}

#[tokio::test(start_paused = true)]
async fn s91_a_source_that_streams_holds_its_slot() {
    let cache = narrow(1).fetch_timeout(5 * SECOND).build().unwrap();
    let origin = Origin::default();
    let (feed, fetched): (Feed, _) = feed(None);
    feed.gives(pattern(10));
    let fetch = origin.does(async move |_| Ok(fetched));
    let streaming = cache.get_or_fetch("a", fetch).await.unwrap();
    let refused = cache.get_or_fetch("b", origin.gives("x")).await;
    assert!(refused.unwrap_err().is_timeout());
    drop(feed);
    whole(streaming).await;
    settle(&cache).await;
    assert_eq!(
        text(cache.get_or_fetch("b", origin.gives("x")).await.unwrap()).await,
        "x"
    );
}

/// A fetcher of `from` that reads these keys one after the other, and each of them the next.
fn chain(
    cache: Cache,
    keys: &'static [&'static str],
) -> BoxFuture<'static, Result<Fetched, BoxError>> {
    Box::pin(async move {
        let [first, rest @ ..] = keys else {
            return Ok(Fetched::bytes("end"));
        };
        let inner = cache.clone();
        let response = cache.get_or_fetch(first, move |_| chain(inner, rest));
        let body = response.await?.into_body().expect("a body");
        let bytes = body.bytes(64).await?;
        Ok(Fetched::bytes([first.as_bytes(), b" ", &bytes].concat()))
    })
}

#[tokio::test(start_paused = true)]
async fn s91_a_fetcher_that_reads_other_keys_runs_in_one_slot() {
    let cache = narrow(1).build().unwrap();
    let inner = cache.clone();
    let response = cache.get_or_fetch("a", move |_| chain(inner, &["b", "c", "d"]));
    assert_eq!(text(response.await.unwrap()).await, "b c d end");
    settle(&cache).await;
}

#[tokio::test(start_paused = true)]
async fn s91_a_body_that_reads_another_key_runs_in_its_fetchers_slot() {
    let cache = narrow(1).build().unwrap();
    let inner = cache.clone();
    let fetch = async move |_| {
        let parts = futures_util::stream::once(async move {
            let part = inner.get_or_fetch("part", Origin::default().gives("part"));
            Ok::<_, larder::Error>(bytes::Bytes::from(text(part.await?).await))
        });
        Ok::<_, larder::Error>(Fetched::stream(None, Box::pin(parts)))
    };
    let response = cache.get_or_fetch("whole", fetch).await.unwrap();
    assert_eq!(text(response).await, "part");
    settle(&cache).await;
}

#[tokio::test(start_paused = true)]
async fn s91_work_that_a_fetcher_spawns_is_a_caller_of_its_own() {
    let cache = narrow(1).fetch_timeout(5 * SECOND).build().unwrap();
    let inner = cache.clone();
    let fetch = async move |_| {
        let spawned = tokio::spawn(async move {
            let read = inner.get_or_fetch("b", Origin::default().gives("x"));
            read.await.map(drop)
        });
        spawned.await.expect("no panic")?;
        Ok::<_, larder::Error>(Fetched::bytes("unreached"))
    };
    let error = cache.get_or_fetch("a", fetch).await.unwrap_err();
    assert!(error.is_timeout(), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn s91_a_fetcher_that_reads_its_own_key_fails_at_once() {
    let cache = narrow(4).build().unwrap();
    for keys in [&["a"][..], &["b", "a"], &["b", "c", "a"]] {
        let (inner, keys): (_, &'static [&'static str]) = (cache.clone(), Vec::leak(keys.to_vec()));
        let began = tokio::time::Instant::now();
        let error = cache.get_or_fetch("a", move |_| chain(inner, keys)).await;
        let error = error.unwrap_err();
        assert_eq!(began.elapsed(), std::time::Duration::ZERO, "{keys:?}");
        assert!(error.is_invalid(), "{error:?}");
        let message = error.to_string();
        assert!(message.contains("\"a\""), "{message}");
        settle(&cache).await;
    }
}

#[tokio::test(start_paused = true)]
async fn s91_two_fetches_that_would_wait_for_each_other_fail_at_once() {
    let cache = narrow(4).build().unwrap();
    let both = Arc::new(Barrier::new(2));
    let read = |key: &'static str, other: &'static str| {
        let (cache, inner, both) = (cache.clone(), cache.clone(), Arc::clone(&both));
        let fetch = async move |_| {
            both.wait().await;
            let read = inner.get_or_fetch(other, Origin::default().gives("unused"));
            read.await.map(|_| Fetched::bytes("unreached"))
        };
        tokio::spawn(async move { cache.get_or_fetch(key, fetch).await.map(drop) })
    };
    let began = tokio::time::Instant::now();
    let (a, b) = (read("a", "b"), read("b", "a"));
    for result in [a.await.unwrap(), b.await.unwrap()] {
        assert!(result.unwrap_err().is_invalid());
    }
    assert_eq!(began.elapsed(), std::time::Duration::ZERO);
    settle(&cache).await;
}

#[tokio::test(start_paused = true)]
async fn s91_a_refresh_of_another_key_and_a_get_of_the_own_are_no_circle() {
    let cache = narrow(1).build().unwrap();
    let inner = cache.clone();
    let fetch = async move |_| {
        let other = inner.refresh("b", Origin::default().gives("b")).await?;
        assert!(inner.get("c").await?.is_absent());
        Ok::<_, larder::Error>(Fetched::bytes(text(other).await))
    };
    let response = cache.get_or_fetch("a", fetch).await.unwrap();
    assert_eq!(text(response).await, "b");
    settle(&cache).await;
}
