//! What a policy finds, against others with the same room, first of all the bare engine behind it:
//! the store must not spoil the engine's view of who is asked for. Counts, not times; all sides
//! hash with seeds of their own, hence a margin.

use std::collections::VecDeque;

use larder_memory::{Eviction, Memory};
use larder_store::{ByteRange, Lookup, Store};

use super::{BARE, Random, key, set};

/// How many objects fit.
const FIT: u64 = 500;
const REQUESTS: u64 = 30_000;
/// Requests of one kind before those of another.
const TURN: u64 = 1_000;
/// The hits, in hundredths of all requests, that a store may be behind its engine.
const MARGIN: u64 = 2;

#[derive(Clone, Copy, Debug)]
enum Kind {
    Popular,
    Loop,
    /// A third each of popular keys, a loop, and keys that never come again.
    Mix,
    /// Keys that are asked for most when they are new: three requests of ten are for one that never
    /// came before, the others for one of the latest.
    Recent,
}

fn requests(kind: Kind) -> Vec<String> {
    let mut random = Random(7);
    let (mut looped, mut latest) = (0, 0);
    // Each rank as likely as all those of its magnitude, as in Zipf's law.
    let mut rank = |magnitudes| {
        let most = 1 << random.below(magnitudes);
        random.below(most)
    };
    let name = |number: u64| {
        let part = match kind {
            Kind::Popular => 0,
            Kind::Loop => 1,
            Kind::Mix => number / TURN % 3,
            Kind::Recent => 3,
        };
        match part {
            0 => format!("popular{:08}", rank(14)),
            1 => {
                looped = (looped + 1) % (FIT * 3 / 2);
                format!("looped_{looped:08}")
            }
            2 => format!("scanned{number:08}"),
            _ if number % 10 < 3 => {
                latest = number;
                format!("recent_{latest:08}")
            }
            _ => {
                let number = latest - rank(14).min(latest);
                format!("recent_{:08}", number - number % 10 + number % 3)
            }
        }
    };
    (0..REQUESTS).map(name).collect()
}

/// What an object of this length counts for.
fn weight(policy: Eviction, len: usize) -> u64 {
    let overhead = policy.entry_overhead();
    BARE - Eviction::S3Fifo.entry_overhead() + overhead + 15 + len as u64
}

async fn hits_of_store(policy: Eviction, len: usize, requests: &[String]) -> u64 {
    let store = Memory::builder(FIT * weight(policy, len))
        .object_max(len as u64)
        .policy(policy)
        .build()
        .unwrap();
    hits_in(&store, requests, |_| len).await
}

async fn hits_in(store: &Memory, requests: &[String], len: impl Fn(&str) -> usize) -> u64 {
    let mut hits = 0;
    for name in requests {
        match store.get_stream(key(name), ByteRange::FULL).await.unwrap() {
            Lookup::Hit(_) => hits += 1,
            Lookup::Miss(_) => set(store, name, len(name)).await.unwrap(),
        }
    }
    hits
}

/// The engine as it comes, and told how many objects there will be.
fn hits_of_quick_cache(requests: &[String]) -> u64 {
    let cache = quick_cache::sync::Cache::<String, ()>::new(usize::try_from(FIT).unwrap());
    let mut hits = 0;
    for name in requests {
        if cache.get(name).is_some() {
            hits += 1;
        } else {
            cache.insert(name.clone(), ());
        }
    }
    hits
}

/// Whatever the size of the objects: the store is not told.
#[tokio::test]
async fn s3_fifo_finds_as_much_behind_the_store_as_alone() {
    for kind in [Kind::Popular, Kind::Loop, Kind::Mix] {
        let requests = requests(kind);
        let alone = hits_of_quick_cache(&requests);
        for len in [1, 1_000, 30_000] {
            let stored = hits_of_store(Eviction::S3Fifo, len, &requests).await;
            println!("{kind:?} {len}: {stored} hits, alone {alone}");
            let behind = alone.saturating_sub(stored);
            assert!(
                behind <= REQUESTS * MARGIN / 100,
                "{kind:?} {len}: {stored} hits, alone {alone}"
            );
        }
    }
}

/// Of a loop that is longer than the store, nothing that is blind to sizes can find more than what
/// fits, and what is too fond of small ones throws away what it would have hit.
#[tokio::test]
async fn s3_fifo_keeps_the_light_ones_of_a_loop() {
    let requests = requests(Kind::Loop);
    let (mean, spread) = (8_000, 15_360);
    // From 320 bytes to 15.7 kB, whatever the place in the loop.
    let len = |name: &str| {
        let number: usize = name[name.len() - 8..].parse().unwrap();
        mean - spread / 2 + number.wrapping_mul(0x9E37_79B9) / 64 % spread
    };
    let store = Memory::builder(FIT * weight(Eviction::S3Fifo, mean))
        .object_max((mean + spread / 2) as u64)
        .build()
        .unwrap();
    for _ in 0..2 {
        hits_in(&store, &requests, len).await; // It learns.
    }
    let hits = hits_in(&store, &requests, len).await;
    let blind = REQUESTS * 2 / 3;
    println!("{hits} hits, blind {blind}");
    assert!(hits > blind);
}

fn hits_of_lru(requests: &[String]) -> u64 {
    let mut kept: VecDeque<&str> = VecDeque::new();
    let mut hits = 0;
    for name in requests {
        match kept.iter().rposition(|kept| kept == name) {
            Some(at) => {
                kept.remove(at);
                hits += 1;
            }
            None if kept.len() as u64 == FIT => drop(kept.pop_front()),
            None => {}
        }
        kept.push_back(name);
    }
    hits
}

/// Where the latest are asked for most, an LRU is the best that can be had.
#[tokio::test]
async fn s3_fifo_learns_that_the_new_are_asked_for_again() {
    let requests = requests(Kind::Recent);
    let lru = hits_of_lru(&requests);
    for len in [1, 1_000, 30_000] {
        let stored = hits_of_store(Eviction::S3Fifo, len, &requests).await;
        println!("{len}: {stored} hits, LRU {lru}");
        assert!(stored + REQUESTS * MARGIN / 100 > lru);
    }
}

/// What comes round, what is popular and what never comes again, in turns: the case in which a
/// fixed rule for what comes back is furthest from the best.
#[tokio::test]
async fn s3_fifo_learns_what_is_worth_keeping() {
    let requests = requests(Kind::Mix);
    let alone = hits_of_quick_cache(&requests);
    let stored = hits_of_store(Eviction::S3Fifo, 1_000, &requests).await;
    println!("{stored} hits, alone {alone}");
    assert!(stored > alone + REQUESTS * MARGIN / 100);
}

#[cfg(feature = "moka")]
fn hits_of_moka(requests: &[String]) -> u64 {
    let cache = moka::sync::Cache::builder()
        .max_capacity(FIT)
        .weigher(|_: &String, ()| 1)
        .build();
    let mut hits = 0;
    for name in requests {
        if cache.get(name).is_some() {
            hits += 1;
        } else {
            cache.insert(name.clone(), ());
            cache.run_pending_tasks();
        }
    }
    hits
}

/// The default is never far behind, also where all are as heavy as each other.
#[cfg(feature = "moka")]
#[tokio::test]
async fn s3_fifo_finds_as_much_as_w_tiny_lfu() {
    for kind in [Kind::Popular, Kind::Loop, Kind::Mix, Kind::Recent] {
        let requests = requests(kind);
        let other = hits_of_moka(&requests);
        let stored = hits_of_store(Eviction::S3Fifo, 1_000, &requests).await;
        println!("{kind:?}: {stored} hits, W-TinyLFU {other}");
        assert!(stored + REQUESTS * MARGIN / 100 > other, "{kind:?}");
    }
}

/// What is absent is asked for once, not twice.
#[cfg(feature = "moka")]
#[tokio::test]
async fn moka_finds_as_much_behind_the_store_as_alone() {
    for kind in [Kind::Popular, Kind::Loop, Kind::Mix] {
        let requests = requests(kind);
        let alone = hits_of_moka(&requests);
        let stored = hits_of_store(Eviction::TinyLfu, 1_000, &requests).await;
        println!("{kind:?}: {stored} hits, alone {alone}");
        let behind = alone.saturating_sub(stored);
        assert!(
            behind <= REQUESTS * MARGIN / 100,
            "{kind:?}: {stored} hits, alone {alone}"
        );
    }
}
