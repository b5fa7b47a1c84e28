//! What a policy finds, against the bare engine behind it with the same room: the store must not
//! spoil the engine's view of who is asked for. Counts, not times; both sides hash with seeds of
//! their own, hence a margin.

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
}

fn requests(kind: Kind) -> Vec<String> {
    let mut random = Random(7);
    let mut looped = 0;
    let name = |number: u64| {
        let part = match kind {
            Kind::Popular => 0,
            Kind::Loop => 1,
            Kind::Mix => number / TURN % 3,
        };
        match part {
            // Each rank as likely as all those of its magnitude, as in Zipf's law.
            0 => {
                let most = 1 << random.below(14);
                format!("popular{:08}", random.below(most))
            }
            1 => {
                looped = (looped + 1) % (FIT * 3 / 2);
                format!("looped_{looped:08}")
            }
            _ => format!("scanned{number:08}"),
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
    let mut hits = 0;
    for name in requests {
        match store.get_stream(key(name), ByteRange::FULL).await.unwrap() {
            Lookup::Hit(_) => hits += 1,
            Lookup::Miss(_) => set(&store, name, len).await.unwrap(),
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
