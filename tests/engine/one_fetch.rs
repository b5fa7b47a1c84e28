//! One fetch a key, however many ask.

use std::{io, time::Duration};

use futures_util::{
    StreamExt,
    future::{BoxFuture, join_all},
    stream,
};
use larder::{
    Cache, Draft, Error, FetchContext, Fetched, InFlight, ManualClock, Memory, Policy, Promote,
    StoreExt, Tier,
};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    source::{memory_at, pattern, streamed, to_the_end, whole},
    support::{Origin, SECOND, clock, memory, settle, strict, text},
};

#[tokio::test(start_paused = true)]
async fn s31_ten_thousand_misses_of_one_key_are_one_fetch() {
    let cache = Cache::builder().tier(memory()).build().unwrap();
    let (origin, began) = (Origin::default(), Instant::now());
    let reads = (0..10_000).map(|_| {
        let (cache, origin) = (cache.clone(), origin.clone());
        tokio::spawn(async move {
            let fetch = origin.does(async |_| {
                sleep(5 * SECOND).await;
                Ok(Fetched::bytes("slow"))
            });
            let response = cache.get_or_fetch("a", fetch).await.unwrap();
            let joined = response.status().is_joined();
            assert_eq!(text(response).await, "slow");
            usize::from(joined)
        })
    });
    let mut joined = 0;
    for read in join_all(reads).await {
        joined += read.unwrap();
    }
    assert_eq!((origin.fetches(), joined), (1, 9_999));
    assert_eq!(cache.counters().joined, 9_999);
    assert!(began.elapsed() < 6 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn s32_an_origin_that_fails_is_asked_once_and_its_error_given_to_all() {
    let cache = Cache::builder().tier(memory()).build().unwrap();
    let origin = Origin::default();
    let reads = (0..100).map(|_| {
        let fetch = origin.does(async |_| {
            sleep(SECOND).await;
            let cause = io::Error::other("no route");
            Err(Error::with_source(
                larder::ErrorKind::Unavailable,
                "down",
                cause,
            ))
        });
        cache.get_or_fetch("a", fetch).into_future()
    });
    let errors = join_all(reads).await.into_iter();
    let errors: Vec<_> = errors.map(|read| read.unwrap_err()).collect();
    let cause = |error: &Error| std::ptr::from_ref(error.find_source::<io::Error>().unwrap());
    for error in &errors {
        assert!(error.is_unavailable());
        assert_eq!(cause(error), cause(&errors[0]), "it is one error");
    }
    assert_eq!(origin.fetches(), 1);
    assert_eq!(cache.counters().fetch_errors, 1);
    let again = cache.get_or_fetch("a", origin.gives("up")).await.unwrap();
    assert_eq!(text(again).await, "up");
}

#[tokio::test(start_paused = true)]
async fn s33_when_the_first_caller_goes_away_the_others_go_on_with_its_fetch() {
    let cache = Cache::builder().tier(memory()).build().unwrap();
    let origin = Origin::default();
    let slow = |origin: &Origin| {
        origin.does(async |_| {
            sleep(5 * SECOND).await;
            Ok(Fetched::bytes("slow"))
        })
    };
    let first = cache.get_or_fetch("a", slow(&origin)).into_future();
    let second = {
        let (cache, fetch) = (cache.clone(), origin.gives("second"));
        async move {
            sleep(SECOND).await;
            cache.get_or_fetch("a", fetch).await.unwrap()
        }
    };
    let second = tokio::spawn(second);
    assert!(timeout(2 * SECOND, first).await.is_err(), "it gave up");
    let began = Instant::now();
    assert_eq!(text(second.await.unwrap()).await, "slow");
    assert!(began.elapsed() < 4 * SECOND);
    assert_eq!(origin.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn s33_when_the_first_reader_goes_away_the_others_read_on() {
    let cache = Cache::builder().tier(memory()).build().unwrap();
    let (origin, object) = (Origin::default(), pattern(10_000));
    let body = object.clone();
    let fetch = origin.does(async move |_| Ok(streamed(&body, 1_000)));
    let first = cache.get_or_fetch("a", fetch).await.unwrap();
    let second = cache.get_or_fetch("a", origin.gives("x")).await.unwrap();
    drop(first);
    assert_eq!(whole(second).await, object);
    assert_eq!(origin.fetches(), 1);
}

/// Where a fetcher can panic before its answer.
#[derive(Clone, Copy, Debug)]
enum Panics {
    InTheCall,
    InItsFuture,
}

#[tokio::test(start_paused = true)]
async fn s34_a_fetcher_that_panics_gives_an_error_to_all_and_frees_the_key() {
    for panics in [Panics::InTheCall, Panics::InItsFuture] {
        let cache = Cache::builder().tier(memory()).fetches_max(1);
        let cache = cache.build().unwrap();
        let reads = (0..10).map(|_| {
            let fetch = move |_| {
                assert!(!matches!(panics, Panics::InTheCall), "as the test wants");
                async move {
                    tokio::task::yield_now().await;
                    assert!(!matches!(panics, Panics::InItsFuture), "as the test wants");
                    Ok::<_, Error>(Fetched::bytes("never"))
                }
            };
            cache.get_or_fetch("a", fetch).into_future()
        });
        for read in timeout(SECOND, join_all(reads)).await.unwrap() {
            read.unwrap_err();
        }
        settle(&cache).await;
        assert_eq!(cache.in_flight(), InFlight::default(), "{panics:?}");
        let fetch = Origin::default().gives("well");
        let again = timeout(SECOND, cache.get_or_fetch("a", fetch).into_future());
        assert_eq!(text(again.await.unwrap().unwrap()).await, "well");
    }
}

#[tokio::test(start_paused = true)]
async fn s34_a_body_that_panics_gives_an_error_after_its_bytes_and_frees_the_key() {
    let cache = Cache::builder().tier(memory()).fetches_max(1);
    let cache = cache.build().unwrap();
    let fetch = Origin::default().does(async |_| {
        let panics = stream::poll_fn(|_| panic!("as the test wants"));
        let given = stream::iter([Ok::<_, Error>(pattern(1_000))]);
        Ok(Fetched::stream(Some(2_000), given.chain(panics)))
    });
    let first = cache.get_or_fetch("a", fetch).await.unwrap();
    let (bytes, end) = timeout(SECOND, to_the_end(first)).await.unwrap();
    assert_eq!(bytes, pattern(1_000));
    end.unwrap_err();
    settle(&cache).await;
    assert_eq!(cache.in_flight(), InFlight::default());
    let usage = cache.usage()[0];
    assert_eq!((usage.entries, usage.staged), (0, 0));
    let fetch = Origin::default().gives("well");
    let again = timeout(SECOND, cache.get_or_fetch("a", fetch).into_future());
    assert_eq!(text(again.await.unwrap().unwrap()).await, "well");
}

fn stale_for_a_while() -> Policy {
    strict().stale_while_revalidate(30 * SECOND)
}

#[tokio::test(start_paused = true)]
async fn s36_a_thousand_stale_hits_are_one_refresh() {
    let clock = clock();
    // In the first tier, and in one below from which nothing is promoted.
    for in_first in [true, false] {
        let (hot, cold) = (memory_at(&clock), memory_at(&clock));
        let builder = Cache::builder().tier(hot.clone());
        let builder = builder.tier(Tier::new(cold).promote(Promote::Never));
        let builder = builder.policy(stale_for_a_while()).clock(clock.clone());
        let cache = builder.build().unwrap();
        let origin = Origin::default();
        let first = cache.get_or_fetch("a", origin.gives("old")).await.unwrap();
        assert_eq!(text(first).await, "old");
        settle(&cache).await;
        if !in_first {
            hot.remove("a").await.unwrap();
        }
        clock.advance(61 * SECOND);
        let began = Instant::now();
        let reads = (0..1_000).map(|_| {
            let (cache, origin) = (cache.clone(), origin.clone());
            tokio::spawn(async move {
                let fetch = origin.does(async |_| {
                    sleep(SECOND).await;
                    Ok(Fetched::bytes("new"))
                });
                let response = cache.get_or_fetch("a", fetch).await.unwrap();
                assert!(response.status().is_stale());
                assert_eq!(text(response).await, "old");
            })
        });
        for read in join_all(reads).await {
            read.unwrap();
        }
        assert!(began.elapsed() < SECOND / 2, "nobody waited for it");
        settle(&cache).await;
        assert_eq!(origin.fetches(), 2, "in the first tier: {in_first}");
        assert_eq!(cache.counters().refreshes, 1);
        let fresh = cache.get("a").await.unwrap();
        assert!(!fresh.status().is_stale());
        assert_eq!(text(fresh).await, "new");
    }
}

#[tokio::test(start_paused = true)]
async fn s36_a_refresh_that_a_full_queue_dropped_can_be_asked_for_again() {
    let clock = clock();
    let builder = Cache::builder().tier(memory_at(&clock)).refreshes(1, 1);
    let builder = builder.policy(stale_for_a_while()).clock(clock.clone());
    let cache = builder.build().unwrap();
    let origin = Origin::default();
    for key in ["a", "b"] {
        cache.get_or_fetch(key, origin.gives("old")).await.unwrap();
    }
    settle(&cache).await;
    clock.advance(61 * SECOND);
    let slow = origin.does(async |_| {
        sleep(SECOND).await;
        Ok(Fetched::bytes("new"))
    });
    cache.get_or_fetch("a", slow).await.unwrap();
    let stale = cache.get_or_fetch("b", origin.gives("new")).await.unwrap();
    assert!(
        stale.status().is_stale(),
        "a full queue never blocks a read"
    );
    assert_eq!(cache.counters().refreshes_dropped, 1);
    settle(&cache).await;
    let still = cache.get("b").allow_stale().await.unwrap();
    assert_eq!(text(still).await, "old");
    cache.get_or_fetch("b", origin.gives("new")).await.unwrap();
    settle(&cache).await;
    for key in ["a", "b"] {
        assert_eq!(text(cache.get(key).await.unwrap()).await, "new");
    }
}

#[tokio::test(start_paused = true)]
async fn a_result_that_lives_for_no_time_is_shared_by_those_who_waited_for_it() {
    let cache = Cache::builder().tier(memory()).policy(strict()).build();
    let cache = cache.unwrap();
    let origin = Origin::default();
    for round in 1..=2 {
        let reads = (0..100).map(|_| {
            let fetch = origin.does(async |_| {
                sleep(Duration::from_millis(10)).await;
                Ok(Fetched::bytes("brief"))
            });
            let request = cache.get_or_fetch("a", fetch);
            request.ttl(Duration::ZERO).into_future()
        });
        for read in join_all(reads).await {
            assert_eq!(text(read.unwrap()).await, "brief");
        }
        settle(&cache).await;
        assert_eq!(origin.fetches(), round, "and by nobody else");
    }
}

/// A cache whose second tier, from which nothing is promoted, has `a` since 61 seconds.
async fn stale_below(clock: &ManualClock) -> (Cache, Memory) {
    let (hot, cold) = (memory_at(clock), memory_at(clock));
    let builder = Cache::builder().tier(hot.clone());
    let builder = builder.tier(Tier::new(cold.clone()).promote(Promote::Never));
    let builder = builder.policy(stale_for_a_while()).clock(clock.clone());
    let cache = builder.build().unwrap();
    cache.insert("a", "old", Draft::new()).await.unwrap();
    hot.remove("a").await.unwrap();
    clock.advance(61 * SECOND);
    (cache, cold)
}

/// A fetcher that takes five seconds.
fn slow(origin: &Origin) -> impl FnOnce(FetchContext) -> Fetching + Send + use<> {
    origin.does(async |_| {
        sleep(5 * SECOND).await;
        Ok(Fetched::bytes("new"))
    })
}

type Fetching = BoxFuture<'static, larder::Result<Fetched>>;

/// The reads that come while the refresh runs find the object in the lower tier only.
#[tokio::test(start_paused = true)]
async fn s36_a_stale_hit_lower_down_is_served_at_once_while_its_refresh_runs() {
    let clock = clock();
    let (cache, _cold) = stale_below(&clock).await;
    let origin = Origin::default();
    for _ in 0..3 {
        let began = Instant::now();
        let response = cache.get_or_fetch("a", slow(&origin)).await.unwrap();
        assert!(response.status().is_stale());
        assert_eq!(text(response).await, "old");
        assert!(began.elapsed() < SECOND, "it waited for the origin");
        sleep(SECOND).await;
    }
    settle(&cache).await;
    assert_eq!(origin.fetches(), 1);
    assert_eq!(text(cache.get("a").await.unwrap()).await, "new");
}

/// What could be served meanwhile has gone: its readers wait for the fetch.
#[tokio::test(start_paused = true)]
async fn s40_a_stale_copy_that_goes_while_its_refresh_runs_is_waited_for() {
    let clock = clock();
    let (cache, cold) = stale_below(&clock).await;
    let origin = Origin::default();
    let stale = cache.get_or_fetch("a", slow(&origin)).await.unwrap();
    assert!(stale.status().is_stale());
    sleep(SECOND).await;
    cold.remove("a").await.unwrap();
    let late = cache.get_or_fetch("a", origin.gives("other"));
    assert_eq!(text(late.await.unwrap()).await, "new");
    assert_eq!(origin.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn s43_a_window_that_ends_while_the_refresh_runs_ends_for_its_joiners_too() {
    let clock = clock();
    let (cache, _cold) = stale_below(&clock).await;
    let origin = Origin::default();
    let stale = cache.get_or_fetch("a", slow(&origin)).await.unwrap();
    assert!(stale.status().is_stale());
    sleep(SECOND).await;
    clock.advance(30 * SECOND);
    assert!(cache.get("a").await.unwrap().is_absent(), "91 seconds old");
    let late = cache.get_or_fetch("a", origin.gives("other"));
    assert_eq!(text(late.await.unwrap()).await, "new");
    assert_eq!(origin.fetches(), 1);
}
