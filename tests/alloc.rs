//! Allocation budgets. A binary of its own: the allocator counts for the whole process.

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use larder::{Cache, Error, Fetched, Memory};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// What the engine may allocate for a miss, from the call to the commit.
const MISS_MAX: u64 = 24;

fn blocks() -> u64 {
    dhat::HeapStats::get().total_blocks
}

async fn read(cache: &Cache, key: &str) -> usize {
    let fetch = async |_| Ok::<_, Error>(Fetched::bytes(Bytes::from_static(&[7; 4096])));
    let response = cache
        .get_or_fetch(key, fetch)
        .ttl(Duration::from_secs(60))
        .await;
    let mut body = response.expect("an answer").into_body().expect("a body");
    let mut len = 0;
    while let Some(chunk) = body.chunk().await.expect("a chunk") {
        len += chunk.len();
    }
    len
}

async fn at_rest(cache: &Cache) {
    while cache.in_flight().flights > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_memory_hit_allocates_nothing_and_a_miss_little() {
    let _profiler = dhat::Profiler::builder().testing().build();
    let cache = Cache::builder()
        .tier(Memory::new(64 << 20))
        .build()
        .expect("a cache");
    // Tables grow to their working size.
    for warm_up in 0..500 {
        read(&cache, &format!("warm-up {warm_up}")).await;
    }
    at_rest(&cache).await;

    // The mean of many: a table may double under way.
    let keys: Vec<_> = (0..500).map(|number| format!("key {number}")).collect();
    let before = blocks();
    for key in &keys {
        assert_eq!(read(&cache, key).await, 4096);
        at_rest(&cache).await;
    }
    let a_miss = (blocks() - before).div_ceil(keys.len() as u64);
    assert!(a_miss <= MISS_MAX, "a miss allocates {a_miss} times");

    let before = blocks();
    for key in &keys {
        assert_eq!(read(&cache, key).await, 4096);
    }
    assert_eq!(blocks() - before, 0, "a hit allocates");
    println!("a miss allocates {a_miss} times");
    drop(cache);
    a_hit_with_a_bus_allocates_nothing().await;
}

/// A part of the one test: the allocator counts for the whole process.
async fn a_hit_with_a_bus_allocates_nothing() {
    let cache = Cache::builder()
        .tier(Memory::new(64 << 20))
        .bus(larder_conformance::Model::new())
        .build()
        .expect("a cache");
    // Until it has heard itself its entries are checked.
    while cache.tiers()[0].counters.hits == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
        read(&cache, "key").await;
        at_rest(&cache).await;
    }
    let before = blocks();
    // The bus has no turn between.
    for _ in 0..500 {
        let fetch = async |_| Err::<Fetched, _>(Error::invalid("not asked"));
        let response = cache
            .get_or_fetch("key", fetch)
            .into_future()
            .now_or_never();
        let response = response.expect("at once").expect("an answer");
        assert!(response.status().is_hit());
    }
    assert_eq!(blocks() - before, 0, "a hit with a bus allocates");
}
