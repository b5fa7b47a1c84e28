//! S47, S48: what a slow origin holds up, and where a refresh and its copies land.

use bytes::Bytes;
use futures_util::stream;
use larder::{Body, Cache, Draft, Fetched, Store, StoreExt, Tier};
use larder_conformance::{Fault, Model, Op};

use super::{make_stale, patient_with_stale};
use crate::support::{Origin, SECOND, assert_clean, at_rest, broken, faulty, impatient, put, text};

/// Asks for a stale key with a fetcher that never answers, so that its refresh hangs.
async fn refresh_hangs(cache: &Cache, key: &str) {
    let stuck = Origin::default().does(async |_| std::future::pending().await);
    let stale = cache.get_or_fetch(key, stuck).await.unwrap();
    assert!(stale.status().is_stale());
    while cache.in_flight().flights == 0 {
        tokio::task::yield_now().await;
    }
}

/// What the key's body is in this store; empty when it is not there.
async fn stored(store: &Model, key: &str) -> Bytes {
    store.read(key, 1 << 20).await.unwrap().unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn s47_one_slow_origin_delays_no_other_refresh() {
    let (cache, clock) = patient_with_stale();
    let cache = cache.refreshes(2, 8).tier(Model::new()).build().unwrap();
    make_stale(&cache, &clock, &["slow", "b", "c"]).await;
    refresh_hangs(&cache, "slow").await;
    for key in ["b", "c"] {
        drop(
            cache
                .get_or_fetch(key, Origin::default().gives("new"))
                .await
                .unwrap(),
        );
        tokio::time::sleep(SECOND).await;
        let response = cache.get(key).await.unwrap();
        assert!(!response.status().is_stale());
        assert_eq!(text(response).await, "new");
    }
    assert_eq!(
        cache.in_flight().refreshes,
        1,
        "the slow one is still there"
    );
}

#[tokio::test(start_paused = true)]
async fn s47_a_slow_origin_gives_its_slot_up_when_its_time_is_over() {
    let (cache, clock) = patient_with_stale();
    let cache = cache.refreshes(1, 8).tier(Model::new()).build().unwrap();
    make_stale(&cache, &clock, &["slow", "b"]).await;
    refresh_hangs(&cache, "slow").await;
    drop(
        cache
            .get_or_fetch("b", Origin::default().gives("new"))
            .await
            .unwrap(),
    );
    tokio::time::sleep(9 * SECOND).await;
    assert!(
        cache
            .get("b")
            .allow_stale()
            .await
            .unwrap()
            .status()
            .is_stale(),
        "one slot, and it is taken"
    );
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!(text(cache.get("b").await.unwrap()).await, "new");
}

#[tokio::test(start_paused = true)]
async fn s47_one_slow_origin_delays_no_copy_upward_and_no_write_behind() {
    let (upper, lower) = (Model::new(), Model::new());
    let (cache, clock) = patient_with_stale();
    let cache = cache
        .refreshes(1, 1)
        .tier(upper.clone())
        .tier(Tier::new(lower.clone()).behind());
    let cache = cache.build().unwrap();
    make_stale(&cache, &clock, &["slow"]).await;
    refresh_hangs(&cache, "slow").await;
    put(&lower, "from below").await;
    drop(
        cache
            .get_or_fetch("a", Origin::default().gives("x"))
            .await
            .unwrap(),
    );
    cache.insert("b", "from above", Draft::new()).await.unwrap();
    tokio::time::sleep(SECOND).await;
    assert_eq!(stored(&upper, "a").await, "from below");
    assert_eq!(stored(&lower, "b").await, "from above");
    assert_eq!(
        cache.in_flight().refreshes,
        1,
        "the slow one is still there"
    );
}

#[tokio::test(start_paused = true)]
async fn s47_one_write_behind_that_hangs_delays_no_other() {
    let lower = faulty();
    lower
        .faults()
        .on(Op::Commit)
        .key("slow")
        .always(Fault::Stall);
    let behind = Tier::new(lower.clone()).behind();
    let cache = impatient().tier(Model::new()).tier(behind).build().unwrap();
    for key in ["slow", "b", "c"] {
        cache.insert(key, "x", Draft::new()).await.unwrap();
    }
    tokio::time::sleep(SECOND).await;
    assert_eq!(lower.usage().entries, 2);
    assert_eq!(cache.in_flight().behind, 1);
}

#[tokio::test(start_paused = true)]
async fn s48_a_refresh_writes_to_the_lower_tiers_too() {
    for behind in [false, true] {
        let stores = [Model::new(), Model::new(), Model::new()];
        let bottom = Tier::new(stores[2].clone());
        let bottom = if behind { bottom.behind() } else { bottom };
        let (cache, clock) = patient_with_stale();
        let cache = cache
            .tier(stores[0].clone())
            .tier(stores[1].clone())
            .tier(bottom);
        let cache = cache.build().unwrap();
        make_stale(&cache, &clock, &["a", "b"]).await;
        at_rest(&cache).await;
        drop(
            cache
                .get_or_fetch("a", Origin::default().gives("new"))
                .await
                .unwrap(),
        );
        drop(
            cache
                .refresh("b", Origin::default().gives("new"))
                .await
                .unwrap(),
        );
        at_rest(&cache).await;
        for store in &stores {
            assert_eq!(stored(store, "a").await, "new", "refreshed behind");
            assert_eq!(stored(store, "b").await, "new", "refreshed by hand");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn s48_a_refresh_that_fails_half_way_is_written_nowhere() {
    let (upper, lower) = (faulty(), faulty());
    let (cache, clock) = patient_with_stale();
    let cache = cache
        .tier(upper.clone())
        .tier(Tier::new(lower.clone()).behind());
    let cache = cache.build().unwrap();
    make_stale(&cache, &clock, &["a"]).await;
    at_rest(&cache).await;
    let queued = cache.counters().behind_queued;
    let half = || [Ok(Bytes::from_static(b"half")), Err(broken())];
    let breaks =
        Origin::default().does(async move |_| Ok(Fetched::stream(None, stream::iter(half()))));
    drop(cache.get_or_fetch("a", breaks).await.unwrap());
    at_rest(&cache).await;
    assert_eq!(cache.counters().behind_queued, queued);
    assert_eq!(stored(upper.inner(), "a").await, "old");
    assert_eq!(stored(lower.inner(), "a").await, "old");
    assert_clean(&upper);
}

#[tokio::test(start_paused = true)]
async fn s48_a_set_that_is_not_published_is_not_written_behind() {
    let (upper, lower) = (faulty(), faulty());
    let behind = Tier::new(lower.clone()).behind();
    let cache = impatient()
        .tier(upper.clone())
        .tier(behind)
        .build()
        .unwrap();
    let mut writer = cache
        .set_with_writer("a", Draft::new().len(5))
        .await
        .unwrap();
    writer.write("half").await.unwrap();
    assert!(writer.commit().await.unwrap_err().is_corrupt());
    at_rest(&cache).await;
    assert_eq!(cache.counters().behind_queued, 0);
    assert_eq!((upper.usage().entries, lower.usage().entries), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn s48_a_fill_that_is_superseded_in_the_shared_tier_goes_nowhere_else() {
    let (upper, middle, shared) = (faulty(), faulty(), faulty());
    let cache = impatient()
        .tier(upper.clone())
        .tier(Tier::new(middle.clone()).behind())
        .tier(Tier::new(shared.clone()).shared())
        .build()
        .unwrap();
    let elsewhere = shared.clone();
    let fetch = Origin::default().does(async move |_| {
        put(&elsewhere, "another's, and newer").await;
        Ok(Fetched::bytes("older"))
    });
    let fetched = cache.get_or_fetch("a", fetch).await.unwrap();
    assert_eq!(
        text(fetched).await,
        "older",
        "who asked gets what was fetched"
    );
    at_rest(&cache).await;
    assert_eq!(cache.tiers()[2].counters.superseded, 1);
    assert_eq!(cache.counters().behind_queued, 0);
    assert_eq!((upper.usage().entries, middle.usage().entries), (0, 0));
    let next = cache.get("a").await.unwrap();
    assert_eq!(text(next).await, "another's, and newer");
}

#[tokio::test(start_paused = true)]
async fn s48_a_copy_upward_of_a_body_that_breaks_off_is_not_published() {
    let (upper, lower) = (faulty(), faulty());
    put(&lower, "x".repeat(5000)).await;
    lower.faults().on(Op::Get).always(Fault::Shorten(3000));
    let cache = impatient().tier(upper.clone()).tier(lower).build().unwrap();
    let body = cache.get("a").await.unwrap().into_body().unwrap();
    assert!(read_to_end(body).await.is_corrupt());
    at_rest(&cache).await;
    assert_eq!(upper.usage().entries, 0);
    assert_clean(&upper);
}

async fn read_to_end(body: Body) -> larder::Error {
    body.bytes(1 << 20)
        .await
        .expect_err("a body that breaks off")
}
