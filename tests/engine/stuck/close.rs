//! S06: closing while something is under way.

use std::time::Duration;

use larder::{Cache, Draft, Result, StoreExt, Tier, Written};
use larder_conformance::{Fault, Faulty, Model, Op};
use tokio::{task::JoinHandle, time::Instant};

use crate::support::{Origin, SECOND, faulty, impatient};

const DEADLINE: Duration = Duration::from_secs(3);

/// A cache of one tier that closes within three seconds.
fn cache(store: &Faulty<Model>) -> Cache {
    let tier = Tier::new(store.clone()).timeout(60 * SECOND);
    let cache = impatient().close_timeout(DEADLINE).tier(tier);
    cache.build().unwrap()
}

fn insert(cache: &Cache) -> JoinHandle<Result<Written>> {
    let cache = cache.clone();
    tokio::spawn(async move { cache.insert("a", "new", Draft::new()).await })
}

fn delete(cache: &Cache) -> JoinHandle<Result<()>> {
    let cache = cache.clone();
    tokio::spawn(async move { cache.delete("a").await })
}

#[tokio::test(start_paused = true)]
async fn s06_close_waits_for_a_commit_and_a_delete_that_end_in_time() {
    let store = faulty();
    let cache = cache(&store);
    let began = Instant::now();
    store.faults().on(Op::Commit).inject(Fault::Delay(SECOND));
    store.faults().on(Op::Delete).inject(Fault::Delay(SECOND));
    let inserted = insert(&cache);
    tokio::time::sleep(SECOND / 10).await;
    let deleted = delete(&cache);
    tokio::time::sleep(SECOND / 10).await;
    cache.close().await.unwrap();
    assert_eq!(began.elapsed(), 2 * SECOND, "one after the other");
    assert_eq!(inserted.await.unwrap().unwrap().tiers, 1);
    deleted.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn s06_close_does_not_wait_longer_than_its_deadline_for_a_delete_that_hangs() {
    let store = faulty();
    let cache = cache(&store);
    let began = Instant::now();
    store.faults().on(Op::Delete).inject(Fault::Stall);
    let deleted = delete(&cache);
    store.faults().until_stalled(1).await;
    let error = cache.close().await.unwrap_err();
    assert!(error.is_timeout());
    assert_eq!(
        error.to_string(),
        "work was still under way after 3s and was cut"
    );
    assert_eq!(began.elapsed(), DEADLINE);
    store.faults().release();
    assert!(
        deleted.await.unwrap().unwrap_err().is_closed(),
        "the store is closed under it"
    );
}

#[tokio::test(start_paused = true)]
async fn s06_a_commit_that_succeeded_is_not_reported_as_a_time_out() {
    let store = faulty();
    let cache = cache(&store);
    store.faults().on(Op::Commit).inject(Fault::StallAfter);
    let inserted = insert(&cache);
    store.faults().until_stalled(1).await;
    assert!(
        store.inner().exists("a").await.unwrap(),
        "committed, but not yet said to be"
    );
    assert!(cache.close().await.unwrap_err().is_timeout());
    store.faults().release();
    assert_eq!(inserted.await.unwrap().unwrap().tiers, 1);
}

#[tokio::test(start_paused = true)]
async fn s06_a_store_that_does_not_close_is_named_and_not_waited_for() {
    let stores = [faulty(), faulty()];
    stores[0].faults().on(Op::Close).inject(Fault::Stall);
    let cache = impatient()
        .close_timeout(DEADLINE)
        .tier(Tier::new(stores[0].clone()).name("hot"))
        .tier(stores[1].clone())
        .build()
        .unwrap();
    let began = Instant::now();
    let error = cache.close().await.unwrap_err();
    assert!(error.is_timeout());
    assert_eq!(
        error.to_string(),
        "closing took longer than 3s in the tier hot"
    );
    assert_eq!(began.elapsed(), DEADLINE);
    let others = stores[1].exists("a").await.unwrap_err();
    assert!(
        others.is_closed(),
        "the other store was closed all the same"
    );
}

#[tokio::test(start_paused = true)]
async fn s06_a_read_that_outlives_the_deadline_is_told_that_the_cache_is_closed() {
    let store = faulty();
    let cache = cache(&store);
    let reading = cache.clone();
    let fetch = Origin::default().does(async |_| std::future::pending().await);
    let read = tokio::spawn(async move { reading.get_or_fetch("a", fetch).await });
    while cache.counters().fetches == 0 {
        tokio::task::yield_now().await;
    }
    assert!(cache.close().await.unwrap_err().is_timeout());
    let error = read.await.unwrap().unwrap_err();
    assert!(error.is_closed(), "{error:?}");
    assert_eq!(cache.in_flight().flights, 0);
}
