//! Every read is counted once, by how it ended.

use std::time::Duration;

use larder::{Cache, Counters, Draft, Error, Fetched, Memory, Source, Tier};

use crate::{
    levers::Gate,
    source::{chunks, memory_at, pattern, whole},
    support::{Origin, SECOND, clock, settle, strict, text},
};

fn cache(clock: &larder::ManualClock) -> Cache {
    let policy = strict()
        .ttl(10 * SECOND)
        .stale_while_revalidate(10 * SECOND);
    let builder = Cache::builder().tier(memory_at(clock)).policy(policy);
    builder.clock(clock.clone()).build().unwrap()
}

/// What one step adds, as (hits, misses, not found, failed, cancelled).
fn ends(cache: &Cache, before: &mut Counters) -> [u64; 5] {
    let now = cache.counters();
    let new = now.since(before);
    *before = now;
    assert_eq!(
        new.reads(),
        new.hits + new.misses + new.not_found + new.failed + new.cancelled
    );
    [
        new.hits,
        new.misses,
        new.not_found,
        new.failed,
        new.cancelled,
    ]
}

#[tokio::test(start_paused = true)]
async fn s97_every_end_of_a_read_is_counted_once() {
    let clock = clock();
    let (cache, origin) = (cache(&clock), Origin::default());
    let mut before = cache.counters();
    assert!(cache.get("a").await.unwrap().is_absent());
    assert_eq!(
        ends(&cache, &mut before),
        [0, 0, 1, 0, 0],
        "a get that finds nothing"
    );
    cache.get_or_fetch("a", origin.fails()).await.unwrap_err();
    assert_eq!(
        ends(&cache, &mut before),
        [0, 0, 0, 1, 0],
        "a fetch that fails"
    );
    text(cache.get_or_fetch("a", origin.gives("abc")).await.unwrap()).await;
    assert_eq!(ends(&cache, &mut before), [0, 1, 0, 0, 0], "a miss");
    settle(&cache).await;
    text(cache.get("a").await.unwrap()).await;
    assert_eq!(ends(&cache, &mut before), [1, 0, 0, 0, 0], "a hit");
    cache
        .get("a")
        .range(larder::ByteRange::try_from(7..9).unwrap())
        .await
        .unwrap_err();
    assert_eq!(ends(&cache, &mut before), [0, 0, 0, 1, 0], "a bad range");
    clock.advance(15 * SECOND);
    assert!(cache.get("a").await.unwrap().is_absent());
    assert_eq!(
        ends(&cache, &mut before),
        [0, 0, 1, 0, 0],
        "only a stale copy"
    );
    let renewed = cache.refresh("a", origin.does(async |_| Ok(Fetched::not_modified())));
    let renewed = renewed.await.unwrap();
    assert_eq!(*renewed.status().source(), Source::Origin);
    assert!(renewed.status().is_revalidated() && !renewed.status().is_hit());
    assert_eq!(
        ends(&cache, &mut before),
        [0, 1, 0, 0, 0],
        "a read that waited for a 304"
    );
    let counters = cache.counters();
    assert!((counters.hit_ratio() - 1.0 / 7.0).abs() < 1e-9);
    assert_eq!(counters.reads(), 7);
}

#[tokio::test(start_paused = true)]
async fn s97_background_refreshes_and_reads_that_were_dropped_are_told_apart() {
    let clock = clock();
    let (cache, origin) = (cache(&clock), Origin::default());
    text(cache.get_or_fetch("a", origin.gives("abc")).await.unwrap()).await;
    settle(&cache).await;
    let mut before = cache.counters();
    clock.advance(15 * SECOND);
    let stale = cache.get_or_fetch("a", origin.gives("new")).await.unwrap();
    assert!(stale.status().is_stale());
    assert_eq!(cache.counters().since(&before).stale, 1);
    assert_eq!(ends(&cache, &mut before), [1, 0, 0, 0, 0], "a stale hit");
    settle(&cache).await;
    assert_eq!(
        ends(&cache, &mut before),
        [0; 5],
        "a background refresh is no read"
    );
    let gate = Gate::new();
    let left = cache.get_or_fetch("b", origin.gives_after(&gate, || Fetched::bytes("b")));
    let left = tokio::time::timeout(Duration::from_millis(1), left.into_future()).await;
    assert!(left.is_err());
    assert_eq!(
        ends(&cache, &mut before),
        [0, 0, 0, 0, 1],
        "a read that was dropped"
    );
    drop(cache.get("b").into_future());
    assert_eq!(ends(&cache, &mut before), [0; 5], "never polled");
    gate.open();
    settle(&cache).await;
    let ratio = cache.counters().hit_ratio();
    assert!(
        (ratio - 1.0 / 2.0).abs() < 1e-9,
        "dropped reads do not count: {ratio}"
    );
}

#[tokio::test(start_paused = true)]
async fn s97_readers_of_one_flight_are_counted_each() {
    let cache = cache(&clock());
    let (origin, gate) = (Origin::default(), Gate::new());
    let reads = (0..10).map(|_| {
        let fetch = origin.gives_after(&gate, || Fetched::bytes("abc"));
        cache.get_or_fetch("a", fetch).into_future()
    });
    let reads = futures_util::future::join_all(reads);
    let (responses, ()) = tokio::join!(reads, async {
        gate.reached().await;
        gate.open();
    });
    assert!(responses.iter().all(Result::is_ok));
    let counters = cache.counters();
    assert_eq!(
        (counters.misses, counters.joined, counters.reads()),
        (10, 9, 10)
    );
    assert_eq!((counters.hit_bytes, counters.miss_bytes), (0, 30));
}

#[tokio::test(start_paused = true)]
async fn s97_bytes_are_counted_by_where_they_came_from() {
    let (hot, cold) = (Memory::new(16 << 20), Memory::new(16 << 20));
    let cache = Cache::builder()
        .tier(hot)
        .tier(Tier::new(cold).name("cold"));
    let cache = cache.policy(strict()).build().unwrap();
    let object = pattern(200_000);
    cache
        .insert("a", object.clone(), Draft::new())
        .await
        .unwrap();
    let range = larder::ByteRange::try_from(0..1_000).unwrap();
    assert_eq!(
        whole(cache.get("a").range(range).await.unwrap())
            .await
            .len(),
        1_000
    );
    let counters = cache.counters();
    assert_eq!((counters.hit_bytes, counters.miss_bytes), (1_000, 0));
    // Of an unknown length.
    let parts: Vec<_> = chunks(&object, 10_000)
        .into_iter()
        .map(Ok::<_, Error>)
        .collect();
    let fetch = Origin::default()
        .does(async move |_| Ok(Fetched::stream(None, futures_util::stream::iter(parts))));
    let response = cache.get_or_fetch("b", fetch).await.unwrap();
    assert_eq!(whole(response).await.len(), 200_000);
    let counters = cache.counters();
    assert_eq!((counters.hit_bytes, counters.miss_bytes), (1_000, 200_000));
    assert!((counters.byte_hit_ratio() - 1.0 / 201.0).abs() < 1e-9);
    let tiers: u64 = cache
        .tiers()
        .iter()
        .map(|tier| tier.counters.hit_bytes)
        .sum();
    assert_eq!(tiers, counters.hit_bytes);
}

#[tokio::test(start_paused = true)]
async fn s97_retired_flights_are_in_flight_until_they_land() {
    let (cache, origin) = (cache(&clock()), Origin::default());
    let (feed, fetched) = crate::source::feed(None);
    feed.gives(pattern(10));
    let fetch = origin.does(async move |_| Ok(fetched));
    let reader = cache.get_or_fetch("a", fetch).await.unwrap();
    cache.delete("a").await.unwrap();
    assert_eq!(cache.in_flight().flights, 1);
    drop(feed);
    whole(reader).await;
    settle(&cache).await;
    assert_eq!(cache.in_flight().flights, 0);
}
