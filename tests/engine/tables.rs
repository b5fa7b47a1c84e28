//! S18: whatever became of its keys, every table is empty again.

use std::sync::Arc;

use larder::{Cache, Draft, ErrorKind, Fetched, InFlight, StoreExt, Tier};
use larder_conformance::{Fault, Faulty, Model, Op};

use crate::{
    levers::stalled,
    support::{Origin, broken, clock, settle, strict},
};

/// How many keys are under way at once. The cache allows no more flights, so that one which leaves
/// its place behind is missed soon.
const AT_ONCE: usize = 64;

#[tokio::test(start_paused = true)]
async fn s18_many_keys_leave_nothing_behind() {
    keys_leave_nothing_behind(20_000).await;
}

#[tokio::test(start_paused = true)]
#[ignore = "takes minutes"]
async fn s18_ten_million_keys_leave_nothing_behind() {
    keys_leave_nothing_behind(10_000_000).await;
}

async fn keys_leave_nothing_behind(keys: usize) {
    let tiers = [Faulty::new(Model::new()), Faulty::new(Model::new())];
    let behind = Model::new();
    let cache = Cache::builder()
        .tier(tiers[0].clone())
        .tier(tiers[1].clone())
        .tier(Tier::new(behind.clone()).behind())
        .policy(strict())
        .clock(clock())
        .flights_max(AT_ONCE)
        .build()
        .unwrap();
    for first in (0..keys).step_by(AT_ONCE) {
        let some = first..(first + AT_ONCE).min(keys);
        let tasks: Vec<_> = some
            .map(|key| tokio::spawn(one(cache.clone(), key)))
            .collect();
        for (op, tier) in [(Op::Get, 0), (Op::Set, 1), (Op::Commit, 0), (Op::Fence, 1)] {
            let fault = Fault::Fail(ErrorKind::Unavailable);
            tiers[tier].faults().on(op).nth(3).inject(fault);
        }
        for task in tasks {
            task.await.unwrap();
        }
        settle(&cache).await;
        for tier in &tiers {
            tier.faults().clear();
        }
    }
    assert_eq!(cache.in_flight(), InFlight::default());
    assert_eq!(tiers[0].inner().fences(), 0);
    assert_eq!(tiers[1].inner().fences(), 0);
    assert_eq!(behind.fences(), 0);
    cache.close().await.unwrap();
}

/// One key, and one of the things that can become of it.
async fn one(cache: Cache, number: usize) {
    let (key, origin) = (number.to_string(), Origin::default());
    let cancelled = Arc::new(tokio::sync::Semaphore::new(0));
    let waits = Arc::clone(&cancelled);
    match number % 8 {
        0 => drop(cache.get(&key).await.unwrap()),
        1 => drop(cache.get_or_fetch(&key, origin.gives("a")).await.unwrap()),
        2 => {
            let fails = origin.does(async |_| Err(broken()));
            drop(cache.get_or_fetch(&key, fails).await.unwrap_err());
        }
        3 => {
            let absent = origin.does(async |_| Ok(Fetched::absent()));
            drop(cache.get_or_fetch(&key, absent).await.unwrap());
        }
        4 => {
            let slow = origin.does(async move |_| {
                let _ = waits.acquire().await;
                Ok(Fetched::bytes("late"))
            });
            let read = cache.get_or_fetch(&key, slow).into_future();
            let soon = tokio::time::Duration::from_millis(1);
            assert!(tokio::time::timeout(soon, read).await.is_err());
            cancelled.add_permits(1);
        }
        5 => {
            let _ = cache.insert(&key, "a", Draft::new()).await;
            cache.delete(&key).await.unwrap();
        }
        6 => {
            let mut writer = cache.set_with_writer(&key, Draft::new()).await.unwrap();
            writer.write("never").await.unwrap();
        }
        _ => {
            let _ = cache.insert(&key, "a", Draft::new()).await;
            drop(cache.refresh(&key, origin.gives("b")).await.unwrap());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn s18_cancelled_writes_leave_nothing_behind() {
    let store = Faulty::new(Model::new());
    let cache = Cache::builder().tier(store.clone()).build().unwrap();
    for op in [Op::Set, Op::Write, Op::Commit, Op::Delete] {
        store.faults().on(op).inject(Fault::Stall);
        let work = tokio::spawn({
            let cache = cache.clone();
            async move {
                cache.insert("k", "a", Draft::new()).await?;
                cache.delete("k").await
            }
        });
        stalled(&store, 1).await;
        work.abort();
        assert!(work.await.unwrap_err().is_cancelled());
        store.faults().release();
        settle(&cache).await;
        tokio::task::yield_now().await;
        cache.delete("k").await.unwrap();
        assert!(!store.inner().exists("k").await.unwrap());
        assert_eq!(cache.in_flight(), InFlight::default());
        assert_eq!(store.inner().fences(), 0);
    }
}
