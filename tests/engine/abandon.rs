//! Flights that readers leave, and what becomes of them.

use larder::{Cache, InFlight, OnAbandon, StoreExt, Tier};
use larder_conformance::Model;

use crate::{
    source::{Feed, chunks, feed, pattern, whole},
    support::{Origin, memory, settle, strict},
};

const LEN: usize = 10_000;

/// A cache over a memory and a model tier.
fn cache(on_abandon: OnAbandon) -> Cache {
    let tiers = Cache::builder().tier(memory()).tier(Model::new());
    let cache = tiers.policy(strict()).on_abandon(on_abandon).build();
    cache.unwrap()
}

/// Starts a flight whose only reader has left when `came` bytes have come.
async fn left_after(cache: &Cache, len: Option<u64>, came: usize) -> Feed {
    let (feed, fetched) = feed(len);
    let fetch = Origin::default().does(async move |_| Ok(fetched));
    let response = cache.get_or_fetch("a", fetch).await.unwrap();
    let mut body = response.into_body().unwrap();
    for chunk in chunks(&pattern(came), 1_000) {
        feed.gives(chunk);
        body.chunk().await.unwrap().unwrap();
    }
    feed
}

/// The source goes on; says whether the flight took it to its end and the tiers have it.
async fn is_finished(cache: &Cache, feed: Feed, came: usize) -> bool {
    // Time for a flight that is to end, to do so before the source goes on.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let was_dropped = feed.is_dropped();
    feed.gives(pattern(LEN).slice(came..));
    drop(feed);
    settle(cache).await;
    assert_eq!(cache.in_flight(), InFlight::default());
    for usage in cache.usage() {
        assert_eq!((usage.entries, usage.staged), (u64::from(!was_dropped), 0));
    }
    let counters = cache.counters();
    assert_eq!(counters.flights_abandoned, u64::from(was_dropped));
    !was_dropped
}

#[tokio::test(start_paused = true)]
async fn s24_a_reader_that_stops_early_leaves_the_others_and_the_tiers_alone() {
    for on_abandon in [OnAbandon::Finish, OnAbandon::Abort] {
        let cache = cache(on_abandon);
        let (feed, fetched) = feed(Some(LEN as u64));
        let fetch = Origin::default().does(async move |_| Ok(fetched));
        let first = cache.get_or_fetch("a", fetch).await.unwrap();
        let second = cache.get("a").await.unwrap();
        feed.gives(pattern(LEN).slice(..1_000));
        let mut body = first.into_body().unwrap();
        assert_eq!(body.chunk().await.unwrap().unwrap(), pattern(1_000));
        drop(body);
        feed.gives(pattern(LEN).slice(1_000..));
        drop(feed);
        assert_eq!(whole(second).await, pattern(LEN));
        settle(&cache).await;
        for usage in cache.usage() {
            assert_eq!((usage.entries, usage.staged), (1, 0), "{on_abandon:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn s24_an_abandoned_flight_is_finished_by_default() {
    let cache = cache(OnAbandon::default());
    let feed = left_after(&cache, Some(LEN as u64), 1_000).await;
    assert!(is_finished(&cache, feed, 1_000).await);
    let response = cache.get("a").await.unwrap();
    assert!(response.status().is_hit());
    assert_eq!(whole(response).await, pattern(LEN));
}

#[tokio::test(start_paused = true)]
async fn s24_an_abandoned_flight_is_finished_if_its_share_has_come() {
    for (came, goes_on) in [(0, false), (4_000, false), (5_000, true), (9_000, true)] {
        let cache = cache(OnAbandon::FinishIf(0.5));
        let feed = left_after(&cache, Some(LEN as u64), came).await;
        let finished = is_finished(&cache, feed, came).await;
        assert_eq!(finished, goes_on, "left after {came} of {LEN}");
    }
}

#[tokio::test(start_paused = true)]
async fn s24_the_share_of_an_unknown_length_is_not_reached() {
    let cache = cache(OnAbandon::FinishIf(0.1));
    let feed = left_after(&cache, None, 9_000).await;
    assert!(!is_finished(&cache, feed, 9_000).await);
}

#[tokio::test(start_paused = true)]
async fn s24_an_abandoned_flight_is_aborted_where_that_is_the_policy() {
    let cache = cache(OnAbandon::Abort);
    let feed = left_after(&cache, Some(LEN as u64), 9_000).await;
    assert!(!is_finished(&cache, feed, 9_000).await);
    assert!(cache.get("a").await.unwrap().is_absent());
}

#[tokio::test(start_paused = true)]
async fn s24_an_abandoned_flight_that_no_tier_takes_ends_under_every_policy() {
    let policies = [
        OnAbandon::Finish,
        OnAbandon::FinishIf(0.0),
        OnAbandon::Abort,
    ];
    for on_abandon in policies {
        let refusing = Tier::new(memory()).object_max(0);
        let builder = Cache::builder().tier(refusing).on_abandon(on_abandon);
        let cache = builder.build().unwrap();
        let feed = left_after(&cache, Some(LEN as u64), 9_000).await;
        feed.dropped().await;
        settle(&cache).await;
        assert_eq!(cache.counters().flights_abandoned, 1, "{on_abandon:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn s24_a_fetch_that_everyone_has_left_follows_the_policy_too() {
    for (on_abandon, goes_on) in [
        (OnAbandon::Finish, true),
        (OnAbandon::FinishIf(0.5), false),
        (OnAbandon::Abort, false),
    ] {
        let store = memory();
        let builder = Cache::builder().tier(store.clone()).on_abandon(on_abandon);
        let cache = builder.build().unwrap();
        let (answer, asked) = tokio::sync::oneshot::channel::<()>();
        let fetch = Origin::default().does(async move |_| {
            let _ = asked.await;
            Ok(larder::Fetched::bytes("late"))
        });
        {
            let request = cache.get_or_fetch("a", fetch).into_future();
            let patience = std::time::Duration::from_secs(1);
            assert!(tokio::time::timeout(patience, request).await.is_err());
        }
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(answer.is_closed(), !goes_on, "{on_abandon:?}");
        drop(answer);
        settle(&cache).await;
        assert_eq!(store.exists("a").await.unwrap(), goes_on, "{on_abandon:?}");
    }
}
