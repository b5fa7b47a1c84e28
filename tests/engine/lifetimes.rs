//! Who decides how long an object lives.

use std::time::Duration;

use larder::{Cache, Draft, Fetched, Key, Memory, Policy, Promote, Source, Store, StoreExt, Tier};
use larder_conformance::Model;

use crate::{
    source::memory_at,
    support::{Origin, SECOND, clock, memory, settle, strict, text},
};

#[tokio::test(start_paused = true)]
async fn lifetimes_are_merged_field_by_field_and_the_nearest_wins() {
    let outer = strict().stale_while_revalidate(20 * SECOND);
    let outer = outer.stale_if_error(30 * SECOND);
    let cache = Cache::builder().tier(memory()).policy(outer);
    let cache = cache.build().unwrap();
    let fetch = Origin::default().does(async |_| {
        let nearest = Policy::new().stale_if_error(3 * SECOND);
        Ok(Fetched::bytes("x").policy(nearest))
    });
    let middle = Policy::new().ttl(7 * SECOND).stale_if_error(5 * SECOND);
    let request = cache.get_or_fetch("a", fetch).policy(middle);
    let response = request.await.unwrap();
    settle(&cache).await;
    let stored = cache.get("a").await.unwrap();
    for response in [response, stored] {
        let header = response.metadata().unwrap();
        assert_eq!(header.ttl, Some(7 * SECOND), "by the request");
        assert_eq!(header.stale_while_revalidate, 20 * SECOND, "by the cache");
        assert_eq!(header.stale_if_error, 3 * SECOND, "by the fetch result");
    }
}

#[tokio::test(start_paused = true)]
async fn a_fetch_result_decides_over_the_request_and_the_request_over_the_cache() {
    let cache = Cache::builder().tier(memory()).policy(strict());
    let cache = cache.build().unwrap();
    let ttl = async |key: &str, request: Option<u32>, result: Option<u32>| {
        let fetch = Origin::default().does(async move |_| {
            let fetched = Fetched::bytes("x");
            Ok(match result {
                Some(seconds) => fetched.ttl(seconds * SECOND),
                None => fetched,
            })
        });
        let read = cache.get_or_fetch(key, fetch);
        let read = match request {
            Some(seconds) => read.ttl(seconds * SECOND),
            None => read,
        };
        read.await.unwrap().metadata().unwrap().ttl.unwrap()
    };
    assert_eq!(ttl("a", None, None).await, 60 * SECOND);
    assert_eq!(ttl("b", Some(7), None).await, 7 * SECOND);
    assert_eq!(ttl("c", None, Some(3)).await, 3 * SECOND);
    assert_eq!(ttl("d", Some(7), Some(3)).await, 3 * SECOND);
    assert_eq!(ttl("e", Some(7), Some(90)).await, 90 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_contradictory_request_is_refused() {
    let cache = Cache::builder().tier(memory()).build().unwrap();
    let origin = Origin::default();
    let request = cache.get_or_fetch("a", origin.gives("x"));
    let refused = request.policy(Policy::new().jitter(2.0)).await;
    assert!(refused.unwrap_err().is_invalid());
    assert_eq!(origin.fetches(), 0);
}

/// What 50 fetches of one cache are stamped with.
async fn stamps(seed: u64, jitter: f64) -> Vec<Duration> {
    let policy = strict().ttl(100 * SECOND).jitter(jitter);
    let cache = Cache::builder().tier(memory()).policy(policy).seed(seed);
    let cache = cache.build().unwrap();
    let mut stamps = Vec::new();
    for number in 0..50 {
        let key = format!("k{number}");
        let fetch = Origin::default().gives("x");
        let response = cache.get_or_fetch(&key, fetch).await.unwrap();
        stamps.push(response.metadata().unwrap().ttl.unwrap());
    }
    stamps
}

#[tokio::test(start_paused = true)]
async fn jitter_spreads_what_was_fetched_together_and_only_shortens() {
    let stamps_1 = stamps(1, 0.5).await;
    let least = *stamps_1.iter().min().unwrap();
    let most = *stamps_1.iter().max().unwrap();
    assert!(least >= 50 * SECOND && least < 60 * SECOND, "{least:?}");
    assert!(most <= 100 * SECOND && most > 90 * SECOND, "{most:?}");
    assert_eq!(stamps(1, 0.5).await, stamps_1, "by the seed alone");
    assert_ne!(stamps(2, 0.5).await, stamps_1);
    assert_eq!(stamps(1, 0.0).await, [100 * SECOND; 50]);
}

#[tokio::test(start_paused = true)]
async fn a_tier_caps_the_lifetime_of_what_it_stores_and_the_others_do_not() {
    let clock = clock();
    let (hot, cold) = (memory_at(&clock), memory_at(&clock));
    let capped = Tier::new(hot.clone()).ttl_max(10 * SECOND);
    let builder = Cache::builder().tier(capped).tier(cold);
    let cache = builder
        .policy(strict())
        .clock(clock.clone())
        .build()
        .unwrap();
    let origin = Origin::default();
    cache.get_or_fetch("a", origin.gives("x")).await.unwrap();
    let brief = cache.get_or_fetch("b", origin.gives("x")).ttl(SECOND);
    brief.await.unwrap();
    settle(&cache).await;
    let ttl = async |key: &str| {
        let metadata = hot.stat(Key::new(key).unwrap()).await.unwrap();
        metadata.unwrap().ttl.unwrap()
    };
    assert_eq!(ttl("a").await, 10 * SECOND);
    assert_eq!(ttl("b").await, SECOND, "a cap only shortens");
    clock.advance(9 * SECOND);
    let hit = cache.get("a").await.unwrap();
    assert!(matches!(
        hit.status().source(),
        Source::Tier { index: 0, .. }
    ));
    clock.advance(SECOND);
    let below = cache.get_or_fetch("a", origin.gives("y")).await.unwrap();
    assert!(matches!(
        below.status().source(),
        Source::Tier { index: 1, .. }
    ));
    assert!(!below.status().is_stale());
    assert_eq!(text(below).await, "x");
    assert_eq!(origin.fetches(), 2);
}

/// A cache whose lower tier has `a`, of four bytes, and the upper has not.
async fn lower_hit(tier: impl FnOnce(Tier) -> Tier) -> (Cache, Memory) {
    let (hot, cold) = (memory(), Model::new());
    let written = cold.write("a", "body", Draft::new()).await.unwrap();
    assert!(written.is_done());
    let builder = Cache::builder().tier(hot.clone());
    let cache = builder.tier(tier(Tier::new(cold))).policy(strict());
    (cache.build().unwrap(), hot)
}

/// After how many hits lower down the upper tier has the object, if after any of three.
async fn promoted_after(tier: impl FnOnce(Tier) -> Tier) -> Option<u32> {
    let (cache, hot) = lower_hit(tier).await;
    for hits in 1..=3 {
        let response = cache.get("a").await.unwrap();
        assert!(matches!(
            response.status().source(),
            Source::Tier { index: 1, .. }
        ));
        assert_eq!(text(response).await, "body");
        settle(&cache).await;
        if hot.exists("a").await.unwrap() {
            assert_eq!(hot.read("a", 9).await.unwrap().unwrap(), "body");
            assert_eq!(cache.tiers()[0].counters.fills, 1);
            return Some(hits);
        }
    }
    None
}

#[tokio::test(start_paused = true)]
async fn hits_lower_down_are_promoted_as_their_tier_says() {
    assert_eq!(promoted_after(|tier| tier).await, Some(1));
    let second = |tier: Tier| tier.promote(Promote::OnSecondHit);
    assert_eq!(promoted_after(second).await, Some(2));
    let never = |tier: Tier| tier.promote(Promote::Never);
    assert_eq!(promoted_after(never).await, None);
    assert_eq!(promoted_after(|tier| tier.promote_max(4)).await, Some(1));
    assert_eq!(promoted_after(|tier| tier.promote_max(3)).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_second_hit_is_of_the_same_key() {
    let (hot, cold) = (memory(), Model::new());
    for number in 0..100 {
        let key = format!("k{number}");
        let written = cold.write(&key, "body", Draft::new()).await.unwrap();
        assert!(written.is_done());
    }
    let scanned = Tier::new(cold).promote(Promote::OnSecondHit);
    let builder = Cache::builder().tier(hot.clone()).tier(scanned);
    let cache = builder.policy(strict()).build().unwrap();
    for number in 0..100 {
        cache.get(&format!("k{number}")).await.unwrap();
    }
    settle(&cache).await;
    assert_eq!(hot.usage().entries, 0, "a scan promotes nothing");
}

#[tokio::test(start_paused = true)]
async fn a_stale_hit_lower_down_is_promoted_with_its_age_and_refreshed() {
    let clock = clock();
    // Tiers that answer at once, and tiers that take their time.
    for lazy in [false, true] {
        let model = |lazy: bool| {
            if lazy {
                Model::new().lazy()
            } else {
                Model::new()
            }
        };
        let (hot, cold) = (model(lazy), model(lazy));
        let builder = Cache::builder().tier(hot.clone()).tier(cold.clone());
        let policy = strict().stale_while_revalidate(30 * SECOND);
        let builder = builder.policy(policy).clock(clock.clone());
        let cache = builder.build().unwrap();
        cache.insert("a", "old", Draft::new()).await.unwrap();
        hot.remove("a").await.unwrap();
        clock.advance(65 * SECOND);
        let origin = Origin::default();
        let slow = origin.does(async |_| {
            tokio::time::sleep(SECOND).await;
            Ok(Fetched::bytes("new"))
        });
        let stale = cache.get_or_fetch("a", slow).await.unwrap();
        assert!(stale.status().is_stale());
        assert_eq!(stale.status().age(), 65 * SECOND);
        assert!(matches!(
            stale.status().source(),
            Source::Tier { index: 1, .. }
        ));
        assert_eq!(text(stale).await, "old");
        tokio::time::sleep(SECOND / 2).await;
        let promoted = cache.get("a").allow_stale().await.unwrap();
        assert!(matches!(
            promoted.status().source(),
            Source::Tier { index: 0, .. }
        ));
        assert_eq!(promoted.status().age(), 65 * SECOND, "lazy: {lazy}");
        settle(&cache).await;
        assert_eq!(origin.fetches(), 1, "refreshed, lazy: {lazy}");
        for store in [hot, cold] {
            assert_eq!(store.read("a", 9).await.unwrap().unwrap(), "new");
        }
    }
}

/// A user's write is stamped with the lifetimes of its draft, over those of the cache.
#[tokio::test]
async fn a_draft_s_lifetimes_are_nearer_than_the_cache_s() {
    let clock = clock();
    let hot = memory_at(&clock);
    let builder = Cache::builder().tier(hot).policy(strict());
    let cache = builder.clock(clock.clone()).build().unwrap();
    let draft = Draft::new().with(|header| header.ttl = Some(5 * SECOND));
    cache.insert("short", "v1", draft).await.unwrap();
    cache.insert("long", "v1", Draft::new()).await.unwrap();
    clock.advance(6 * SECOND);
    assert!(cache.get("short").await.unwrap().is_absent());
    assert_eq!(text(cache.get("long").await.unwrap()).await, "v1");
}
