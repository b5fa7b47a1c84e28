//! How long fetches and bodies may take, how many run, and what follows a failure.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures_util::{StreamExt, future::join_all, stream};
use larder::{Cache, Draft, Error, Fetched, InFlight, Promote, Response, Stale, StoreExt, Tier};
use larder_conformance::{Fault, Faulty, Model, Op};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    source::{chunks, feed, memory_at, pattern, to_the_end, whole},
    support::{Origin, SECOND, broken, clock, memory, settle, strict, text},
};

/// A source that gives 1,000 bytes a second.
fn trickle(len: usize) -> Fetched {
    let chunks = stream::iter(chunks(&pattern(len), 1_000)).then(async |chunk| {
        sleep(SECOND).await;
        Ok::<_, Error>(chunk)
    });
    Fetched::stream(Some(len as u64), chunks)
}

#[tokio::test(start_paused = true)]
async fn s28_a_time_out_on_opening_never_cuts_a_body_that_was_handed_out() {
    let tier = Tier::new(memory()).timeout(2 * SECOND);
    let builder = Cache::builder().tier(tier).fetch_timeout(2 * SECOND);
    let cache = builder.idle_timeout(2 * SECOND).build().unwrap();
    let fetch = Origin::default().does(async |_| Ok(trickle(20_000)));
    let response = cache.get_or_fetch("a", fetch).await.unwrap();
    let began = Instant::now();
    assert_eq!(whole(response).await, pattern(20_000));
    assert!(began.elapsed() >= 20 * SECOND);
    settle(&cache).await;
    let hit = cache.get("a").await.unwrap();
    assert_eq!(whole(hit).await, pattern(20_000), "and it was stored");
}

#[tokio::test(start_paused = true)]
async fn s28_a_slow_body_of_a_tier_is_not_cut_by_the_tiers_time_out() {
    for promote in [Promote::Always, Promote::Never] {
        let cold = Faulty::new(Model::new().chunked(1_000));
        let object = pattern(20_000);
        let write = cold.inner().write("a", object.clone(), Draft::new());
        assert!(write.await.unwrap().is_done());
        cold.faults().on(Op::Body).always(Fault::Delay(SECOND));
        let tier = Tier::new(cold).timeout(2 * SECOND).promote(promote);
        let builder = Cache::builder().tier(memory()).tier(tier);
        let cache = builder.idle_timeout(2 * SECOND).build().unwrap();
        let response = cache.get("a").await.unwrap();
        assert_eq!(whole(response).await, object, "{promote:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn s28_a_source_that_stalls_is_cut_by_its_idle_time_out() {
    let builder = Cache::builder().tier(memory()).idle_timeout(3 * SECOND);
    let cache = builder.build().unwrap();
    let (feed, fetched) = feed(Some(2_000));
    let fetch = Origin::default().does(async move |_| Ok(fetched));
    let response = cache.get_or_fetch("a", fetch).await.unwrap();
    feed.gives(pattern(1_000));
    let began = Instant::now();
    let (bytes, end) = timeout(9 * SECOND, to_the_end(response)).await.unwrap();
    assert_eq!(bytes, pattern(1_000));
    assert!(end.unwrap_err().is_timeout());
    let took = began.elapsed();
    assert!(took >= 3 * SECOND && took < 4 * SECOND, "{took:?}");
    feed.dropped().await;
    settle(&cache).await;
    assert_eq!(cache.in_flight(), InFlight::default());
    assert_eq!(cache.usage()[0].entries, 0);
}

#[tokio::test(start_paused = true)]
async fn a_fetcher_that_gives_no_answer_is_cut_by_its_time_out() {
    let builder = Cache::builder().tier(memory()).fetch_timeout(3 * SECOND);
    let cache = builder.build().unwrap();
    let (held, letting_go) = tokio::sync::oneshot::channel::<()>();
    let fetch = Origin::default().does(async move |_| {
        let _held = held;
        std::future::pending().await
    });
    let began = Instant::now();
    let read = timeout(9 * SECOND, cache.get_or_fetch("a", fetch).into_future());
    assert!(read.await.unwrap().unwrap_err().is_timeout());
    let took = began.elapsed();
    assert!(took >= 3 * SECOND && took < 4 * SECOND, "{took:?}");
    assert!(letting_go.await.is_err(), "its future was dropped");
    let again = cache.get_or_fetch("a", Origin::default().gives("x"));
    assert_eq!(text(again.await.unwrap()).await, "x");
}

#[tokio::test(start_paused = true)]
async fn no_more_fetches_run_at_once_than_the_limit_lets() {
    let cache = Cache::builder().tier(memory()).fetches_max(2);
    let cache = cache.build().unwrap();
    let (running, peak) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let began = Instant::now();
    let reads = (0..10).map(|number| {
        let (cache, running, peak) = (cache.clone(), Arc::clone(&running), Arc::clone(&peak));
        let fetch = async move |_| {
            let now = running.fetch_add(1, Ordering::SeqCst) + 1;
            peak.fetch_max(now, Ordering::SeqCst);
            sleep(SECOND).await;
            running.fetch_sub(1, Ordering::SeqCst);
            Ok::<_, Error>(Fetched::bytes("x"))
        };
        async move {
            let response = cache.get_or_fetch(&format!("k{number}"), fetch).await;
            assert_eq!(text(response.unwrap()).await, "x");
        }
    });
    join_all(reads).await;
    assert_eq!(peak.load(Ordering::SeqCst), 2);
    let took = began.elapsed();
    assert!(took >= 5 * SECOND && took < 6 * SECOND, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn the_wait_for_a_fetchs_turn_counts_against_its_time_out() {
    let builder = Cache::builder().tier(memory()).fetches_max(1);
    let cache = builder.fetch_timeout(3 * SECOND).build().unwrap();
    let (feed, fetched) = feed(None);
    let fetch = Origin::default().does(async move |_| Ok(fetched));
    let streaming = cache.get_or_fetch("a", fetch).await.unwrap();
    let (waiting, began) = (Origin::default(), Instant::now());
    let error = cache.get_or_fetch("b", waiting.gives("x")).await;
    assert!(error.unwrap_err().is_timeout());
    assert!(began.elapsed() < 4 * SECOND);
    assert_eq!(waiting.fetches(), 0);
    drop((feed, streaming));
    settle(&cache).await;
    let again = cache.get_or_fetch("b", waiting.gives("x")).await.unwrap();
    assert_eq!(text(again).await, "x");
}

#[tokio::test(start_paused = true)]
async fn after_a_failure_its_error_is_given_again_until_the_back_off_has_passed() {
    let clock = clock();
    let builder = Cache::builder().tier(memory_at(&clock));
    let builder = builder.policy(strict().error_ttl(10 * SECOND));
    let cache = builder.clock(clock.clone()).build().unwrap();
    let origin = Origin::default();
    for _ in 0..3 {
        let error = cache.get_or_fetch("a", origin.fails()).await.unwrap_err();
        assert_eq!(error.to_string(), broken().to_string());
    }
    assert_eq!((origin.fetches(), cache.in_flight().failures), (1, 1));
    assert_eq!(cache.counters().error_hits, 2);
    let other = cache.get_or_fetch("b", origin.gives("b")).await.unwrap();
    assert_eq!(text(other).await, "b", "another key is not held back");
    clock.advance(10 * SECOND);
    let response = cache.get_or_fetch("a", origin.gives("a")).await.unwrap();
    assert_eq!(text(response).await, "a");
    assert_eq!(cache.in_flight().failures, 0, "forgotten with its success");
}

#[tokio::test(start_paused = true)]
async fn a_write_or_a_delete_ends_the_back_off() {
    for deletes in [true, false] {
        let policy = strict().error_ttl(10 * SECOND);
        let cache = Cache::builder().tier(memory()).policy(policy);
        let cache = cache.build().unwrap();
        let origin = Origin::default();
        cache.get_or_fetch("a", origin.fails()).await.unwrap_err();
        if deletes {
            cache.delete("a").await.unwrap();
        } else {
            cache.insert("a", "x", Draft::new()).await.unwrap();
        }
        assert_eq!(cache.in_flight().failures, 0);
        let response = cache.get_or_fetch("a", origin.gives("x")).await.unwrap();
        assert_eq!(text(response).await, "x");
    }
}

#[tokio::test(start_paused = true)]
async fn s42_a_clock_that_steps_back_does_not_prolong_the_back_off() {
    let clock = clock();
    let builder = Cache::builder().tier(memory_at(&clock));
    let builder = builder.policy(strict().error_ttl(10 * SECOND));
    let cache = builder.clock(clock.clone()).build().unwrap();
    let origin = Origin::default();
    cache.get_or_fetch("a", origin.fails()).await.unwrap_err();
    let now = larder::Clock::now(&clock).as_millis();
    clock.set(larder::Timestamp::from_millis(now - 3_600_000));
    let response = cache.get_or_fetch("a", origin.gives("a")).await.unwrap();
    assert_eq!(text(response).await, "a");
}

#[tokio::test(start_paused = true)]
async fn during_the_back_off_the_stale_copy_is_served_without_a_fetch() {
    let clock = clock();
    let policy = strict().stale_if_error(600 * SECOND);
    let builder = Cache::builder().tier(memory_at(&clock));
    let builder = builder.policy(policy.error_ttl(10 * SECOND));
    let cache = builder.clock(clock.clone()).build().unwrap();
    let origin = Origin::default();
    cache.insert("a", "old", Draft::new()).await.unwrap();
    clock.advance(61 * SECOND);
    for _ in 0..5 {
        let response: Response = cache.get_or_fetch("a", origin.fails()).await.unwrap();
        let stale = response.status().stale();
        assert!(matches!(stale, Some(Stale::Error(error)) if error.to_string().contains("broken")));
        assert_eq!(text(response).await, "old");
    }
    assert_eq!(origin.fetches(), 1);
}
