//! Callers that come to a flight when its answer is open: they assess it like a stored entry.

use std::time::Duration;

use larder::{Cache, Draft, Fetched, ManualClock, Policy, Stale, Tier};

use crate::{
    levers::{breathe, small},
    source::{Feed, chunks, feed, memory_at, pattern, to_the_end, whole},
    support::{Origin, SECOND, clock, settle, strict, text},
};

const HOUR: Duration = Duration::from_secs(3_600);

/// A cache with one tier, and a flight of `a` whose answer is open and whose body still streams.
async fn streaming(policy: Policy) -> (Cache, ManualClock, Origin, Feed) {
    let clock = clock();
    let builder = Cache::builder().tier(memory_at(&clock)).policy(policy);
    let cache = builder.clock(clock.clone()).build().unwrap();
    let origin = Origin::default();
    let feed = opened(&cache, &origin).await;
    (cache, clock, origin, feed)
}

/// Opens a flight of `a` whose body is fed by hand, and leaves it.
async fn opened(cache: &Cache, origin: &Origin) -> Feed {
    let (feed, fetched) = feed(None);
    feed.gives(pattern(100));
    let fetch = origin.does(async move |_| Ok(fetched));
    drop(cache.get_or_fetch("a", fetch).await.unwrap());
    feed
}

#[tokio::test(start_paused = true)]
async fn s84_an_answer_that_has_expired_is_not_joined() {
    let (cache, clock, origin, feed) = streaming(strict().ttl(10 * SECOND)).await;
    clock.advance(9 * SECOND);
    let fresh = cache.get("a").await.unwrap();
    assert!(fresh.status().is_joined());
    clock.advance(HOUR);
    assert!(
        cache.get("a").await.unwrap().is_absent(),
        "a get looks, and finds nothing"
    );
    let next = cache.get_or_fetch("a", origin.gives("new")).await.unwrap();
    assert!(!next.status().is_joined() && next.status().age() < SECOND);
    assert_eq!(text(next).await, "new");
    assert_eq!(origin.fetches(), 2);
    settle_all_but_one(&cache).await;
    // The demoted flight keeps its reader, and publishes nothing over what began later.
    feed.gives(pattern(10));
    drop(feed);
    assert_eq!(whole(fresh).await.len(), 110);
    settle(&cache).await;
    assert_eq!(text(cache.get("a").await.unwrap()).await, "new");
}

async fn settle_all_but_one(cache: &Cache) {
    while cache.in_flight().flights > 1 || cache.in_flight().refreshes > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn s84_callers_that_come_later_join_the_next_flight_until_its_answer_opens() {
    let (cache, clock, origin, feed) = streaming(strict().ttl(10 * SECOND)).await;
    clock.advance(HOUR);
    let gate = crate::levers::Gate::new();
    let reads: Vec<_> = (0..10)
        .map(|_| {
            let (cache, fetch) = (
                cache.clone(),
                origin.gives_after(&gate, || Fetched::bytes("new")),
            );
            tokio::spawn(async move { text(cache.get_or_fetch("a", fetch).await.unwrap()).await })
        })
        .collect();
    gate.reached().await;
    breathe().await;
    gate.open();
    for read in reads {
        assert_eq!(read.await.unwrap(), "new");
    }
    assert_eq!(origin.fetches(), 2);
    drop(feed);
    settle(&cache).await;
}

#[tokio::test(start_paused = true)]
async fn s84_a_bound_on_age_holds_for_an_answer_that_is_open() {
    let (cache, clock, origin, _feed) = streaming(strict()).await;
    clock.advance(3 * SECOND);
    let request = cache.get_or_fetch("a", origin.gives("new"));
    let response = request.max_age(SECOND).await.unwrap();
    assert_eq!(text(response).await, "new");
    assert_eq!(origin.fetches(), 2);
    clock.advance(SECOND);
    let response = cache.get("a").max_age(SECOND).await.unwrap();
    assert!(response.status().age() <= SECOND);
}

#[tokio::test(start_paused = true)]
async fn s84_an_answer_in_its_window_is_served_and_refreshed() {
    let policy = strict()
        .ttl(10 * SECOND)
        .stale_while_revalidate(10 * SECOND);
    let (cache, clock, origin, feed) = streaming(policy).await;
    clock.advance(15 * SECOND);
    assert!(
        cache.get("a").await.unwrap().is_absent(),
        "nothing would refresh it"
    );
    let allowed = cache.get("a").allow_stale().await.unwrap();
    assert!(matches!(
        allowed.status().stale(),
        Some(Stale::WhileRevalidate)
    ));
    let stale = cache.get_or_fetch("a", origin.gives("new")).await.unwrap();
    assert!(matches!(
        stale.status().stale(),
        Some(Stale::WhileRevalidate)
    ));
    settle_all_but_one(&cache).await;
    assert_eq!(text(cache.get("a").await.unwrap()).await, "new");
    drop(feed);
    assert_eq!(whole(stale).await, pattern(100));
    settle(&cache).await;
    assert_eq!(text(cache.get("a").await.unwrap()).await, "new");
    assert_eq!(origin.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn s84_a_hit_that_is_still_promoted_is_assessed_when_it_is_joined() {
    let clock = clock();
    let (hot, cold) = (small(), memory_at(&clock));
    let policy = strict().ttl(10 * SECOND);
    let lower = Cache::builder().tier(cold.clone()).policy(policy);
    let lower = lower.clock(clock.clone()).build().unwrap();
    lower
        .insert("a", pattern(1_000), Draft::new())
        .await
        .unwrap();
    let slow = larder_conformance::Faulty::new(hot);
    slow.faults()
        .on(larder_conformance::Op::Commit)
        .always(larder_conformance::Fault::Stall);
    let builder = Cache::builder()
        .tier(Tier::new(slow.clone()).timeout(HOUR))
        .tier(cold);
    let cache = builder.policy(policy).clock(clock.clone()).build().unwrap();
    let first = cache.get("a").await.unwrap();
    assert_eq!(whole(first).await, pattern(1_000));
    clock.advance(20 * SECOND);
    let origin = Origin::default();
    let next = cache.get_or_fetch("a", origin.gives("new")).await;
    assert_eq!(text(next.unwrap()).await, "new");
    assert_eq!(origin.fetches(), 1);
    slow.faults().clear();
}

#[tokio::test(start_paused = true)]
async fn s84_a_copy_is_served_on_an_error_only_within_its_window() {
    let clock = clock();
    let policy = strict().ttl(10 * SECOND).stale_if_error(10 * SECOND);
    let builder = Cache::builder().tier(memory_at(&clock)).policy(policy);
    let cache = builder.clock(clock.clone()).build().unwrap();
    let origin = Origin::default();
    for (fails_at, served) in [(19, true), (21, false)] {
        cache.insert("a", "old", Draft::new()).await.unwrap();
        clock.advance(15 * SECOND);
        let failing = {
            let clock = clock.clone();
            origin.does(async move |_| {
                clock.advance((fails_at - 15) * SECOND);
                Err(crate::support::broken())
            })
        };
        let read = cache.get_or_fetch("a", failing).await;
        assert_eq!(read.is_ok(), served, "failed at {fails_at} s");
        settle(&cache).await;
    }
}

#[tokio::test(start_paused = true)]
async fn s84_a_third_flight_waits_for_one_of_two_and_then_runs_alone() {
    let (cache, clock, origin, first) = streaming(strict().ttl(10 * SECOND)).await;
    clock.advance(HOUR);
    let second = opened(&cache, &origin).await;
    clock.advance(HOUR);
    assert!(
        cache.get("a").await.unwrap().is_absent(),
        "a get never waits for them"
    );
    let third = tokio::spawn({
        let (cache, fetch) = (cache.clone(), origin.gives("third"));
        async move { text(cache.get_or_fetch("a", fetch).await.unwrap()).await }
    });
    tokio::time::sleep(29 * SECOND).await;
    // The sources give something now and then, so that they are not idle.
    assert!(!third.is_finished());
    first.gives(pattern(1));
    second.gives(pattern(1));
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!(third.await.unwrap(), "third");
    assert_eq!(origin.fetches(), 3);
    assert!(
        cache.get("a").await.unwrap().is_absent(),
        "it stored nothing"
    );
    // With one of them gone there is a place again.
    drop(first);
    settle_all_but_one(&cache).await;
    let fourth = cache
        .get_or_fetch("a", origin.gives("fourth"))
        .await
        .unwrap();
    assert_eq!(text(fourth).await, "fourth");
    drop(second);
    settle(&cache).await;
    assert_eq!(text(cache.get("a").await.unwrap()).await, "fourth");
}

#[tokio::test(start_paused = true)]
async fn s84_the_third_flight_begins_when_one_of_two_ends() {
    let (cache, clock, origin, first) = streaming(strict().ttl(10 * SECOND)).await;
    clock.advance(HOUR);
    let second = opened(&cache, &origin).await;
    clock.advance(HOUR);
    let reads: Vec<_> = (0..5)
        .map(|_| {
            let (cache, fetch) = (cache.clone(), origin.gives("third"));
            tokio::spawn(async move { text(cache.get_or_fetch("a", fetch).await.unwrap()).await })
        })
        .collect();
    breathe().await;
    drop(first);
    for read in reads {
        assert_eq!(read.await.unwrap(), "third");
    }
    assert_eq!(origin.fetches(), 3, "one of the five fetched for all");
    drop(second);
    settle(&cache).await;
    assert_eq!(text(cache.get("a").await.unwrap()).await, "third");
}

#[tokio::test(start_paused = true)]
async fn s84_a_demoted_flight_publishes_unless_something_newer_was_published() {
    for newer_fails in [true, false] {
        let (cache, clock, origin, old) = streaming(strict().ttl(10 * SECOND)).await;
        clock.advance(11 * SECOND);
        let (new, fetched) = feed(None);
        new.gives(pattern(50));
        let fetch = origin.does(async move |_| Ok(fetched));
        let reader = cache.get_or_fetch("a", fetch).await.unwrap();
        // The old one lands first, in both cases, and what it publishes may have expired.
        drop(old);
        settle_all_but_one(&cache).await;
        if newer_fails {
            new.fails(crate::support::broken());
        }
        drop(new);
        let (bytes, end) = to_the_end(reader).await;
        assert_eq!((bytes.len(), end.is_err()), (50, newer_fails));
        settle(&cache).await;
        let len = cache
            .stat("a")
            .await
            .unwrap()
            .map(|metadata| metadata.len());
        assert_eq!(
            len,
            Some(if newer_fails { 100 } else { 50 }),
            "fails: {newer_fails}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn s84_a_large_answer_is_staged_again_when_an_older_one_lands_before_it() {
    let object = pattern(3 << 19); // More than a window.
    let (clock, origin) = (clock(), Origin::default());
    let builder = Cache::builder().tier(larder_conformance::Model::new());
    let builder = builder.policy(strict().ttl(10 * SECOND));
    let cache = builder.clock(clock.clone()).build().unwrap();
    let old = opened(&cache, &origin).await;
    clock.advance(11 * SECOND);
    let (new, fetched) = feed(Some(object.len() as u64));
    let fetch = origin.does(async move |_| Ok(fetched));
    let reader = tokio::spawn({
        let cache = cache.clone();
        async move { whole(cache.get_or_fetch("a", fetch).await.unwrap()).await }
    });
    let mut parts = chunks(&object, 64 << 10).into_iter();
    parts.by_ref().take(20).for_each(|part| new.gives(part));
    breathe().await;
    drop(old);
    settle_all_but_one(&cache).await;
    parts.for_each(|part| new.gives(part));
    drop(new);
    assert_eq!(reader.await.unwrap(), object);
    settle(&cache).await;
    assert_eq!(whole(cache.get("a").await.unwrap()).await, object);
    assert_eq!(origin.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn s84_a_delete_retires_both_flights_of_a_key() {
    let (cache, clock, origin, first) = streaming(strict().ttl(10 * SECOND)).await;
    clock.advance(HOUR);
    let second = opened(&cache, &origin).await;
    cache.delete("a").await.unwrap();
    assert_eq!(cache.in_flight().flights, 2, "they go on for their readers");
    let third = cache
        .get_or_fetch("a", origin.gives("third"))
        .await
        .unwrap();
    assert_eq!(text(third).await, "third");
    drop((first, second));
    settle(&cache).await;
    assert_eq!(text(cache.get("a").await.unwrap()).await, "third");
}

#[tokio::test(start_paused = true)]
async fn s84_the_next_flight_shares_the_lease_of_the_one_that_it_demotes() {
    let (clock, shared) = (clock(), larder_conformance::Model::new());
    let builder = Cache::builder().tier(Tier::new(shared.clone()).shared());
    let builder = builder.policy(strict().ttl(10 * SECOND)).leases(shared);
    let cache = builder.clock(clock.clone()).build().unwrap();
    let origin = Origin::default();
    let first = opened(&cache, &origin).await;
    clock.advance(HOUR);
    let began = tokio::time::Instant::now();
    let next = cache.get_or_fetch("a", origin.gives("new")).await.unwrap();
    assert_eq!(text(next).await, "new");
    assert_eq!(
        began.elapsed(),
        Duration::ZERO,
        "it waits for no lease of its own process"
    );
    drop(first);
    settle(&cache).await;
    assert_eq!(text(cache.get("a").await.unwrap()).await, "new");
    assert_eq!(cache.counters().leases_granted, 1);
}
