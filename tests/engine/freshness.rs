//! How old an answer may be: ages, windows, clocks, absence.

use std::time::Duration;

use larder::{
    Cache, Clock, Draft, Fetched, IfNoneMatch, Source, Stale, Store, StoreExt, Tier, Timestamp,
};

use crate::{
    source::{memory_at, pattern, streamed, whole},
    support::{Origin, SECOND, clock, settle, strict, text},
};

const HOUR: Duration = Duration::from_secs(3_600);
const YEAR: Duration = Duration::from_secs(365 * 86_400);

#[tokio::test(start_paused = true)]
async fn s38_absence_is_cached_under_its_own_lifetime_and_has_no_body() {
    let clock = clock();
    let store = memory_at(&clock);
    let policy = strict().negative_ttl(5 * SECOND);
    let policy = policy
        .stale_while_revalidate(30 * SECOND)
        .stale_if_error(30 * SECOND);
    let builder = Cache::builder().tier(store.clone()).policy(policy);
    let cache = builder.clock(clock.clone()).build().unwrap();
    let origin = Origin::default();
    let absent = |origin: &Origin| origin.does(async |_| Ok(Fetched::absent()));
    let first = cache.get_or_fetch("a", absent(&origin)).await.unwrap();
    assert!(first.is_absent() && first.into_body().is_none());
    settle(&cache).await;
    assert_eq!(store.usage().entries, 1);
    clock.advance(4 * SECOND);
    let known = cache.get_or_fetch("a", absent(&origin)).await.unwrap();
    assert!(known.is_absent() && known.status().is_hit());
    assert!(known.metadata().unwrap().absent);
    assert_eq!(known.status().age(), 4 * SECOND);
    clock.advance(SECOND);
    let again = cache.get_or_fetch("a", origin.fails()).await;
    again.expect_err("neither fresh nor stale after its own lifetime");
    assert_eq!(origin.fetches(), 2);
    let there = cache.get_or_fetch("a", origin.gives("x")).await.unwrap();
    assert_eq!(text(there).await, "x");
}

#[tokio::test(start_paused = true)]
async fn s38_absence_satisfies_no_validator_and_counts_in_bytes() {
    let clock = clock();
    let policy = strict().negative_ttl(5 * SECOND);
    let builder = Cache::builder().tier(memory_at(&clock)).policy(policy);
    let cache = builder.clock(clock).build().unwrap();
    for _ in 0..2 {
        let fetch = Origin::default().does(async |_| Ok(Fetched::absent()));
        let request = cache.get_or_fetch("a", fetch);
        let response = request.if_none_match(IfNoneMatch::ANY).await.unwrap();
        assert!(response.is_absent() && !response.is_not_modified());
        settle(&cache).await;
    }
    let usage = cache.usage()[0];
    assert!(usage.entries == 1 && usage.live > 0, "{usage:?}");
}

#[tokio::test(start_paused = true)]
async fn absence_that_is_not_stored_still_removes_what_was_there() {
    let clock = clock();
    // By its lifetime of zero, by its tier, by its own word.
    for case in ["lifetime", "tier", "no_store"] {
        let (hot, cold) = (memory_at(&clock), memory_at(&clock));
        let negatives = Tier::new(cold.clone()).negatives(case != "tier");
        let seconds = if case == "lifetime" { 0 } else { 5 };
        let policy = strict().negative_ttl(seconds * SECOND);
        let builder = Cache::builder().tier(hot.clone()).tier(negatives);
        let builder = builder.policy(policy).clock(clock.clone());
        let cache = builder.build().unwrap();
        cache.insert("a", "x", Draft::new()).await.unwrap();
        clock.advance(61 * SECOND);
        let fetch = Origin::default().does(async move |_| {
            let absent = Fetched::absent();
            Ok(if case == "no_store" {
                absent.no_store()
            } else {
                absent
            })
        });
        assert!(cache.get_or_fetch("a", fetch).await.unwrap().is_absent());
        settle(&cache).await;
        let entries = [&hot, &cold].map(|store| store.usage().entries);
        let expected = if case == "tier" { [1, 0] } else { [0, 0] };
        assert_eq!(entries, expected, "{case}");
    }
}

#[tokio::test(start_paused = true)]
async fn s41_an_entry_promoted_from_a_lower_tier_keeps_its_age() {
    let clock = clock();
    let (hot, cold) = (memory_at(&clock), memory_at(&clock));
    let builder = Cache::builder().tier(hot.clone()).tier(cold.clone());
    let builder = builder.policy(strict()).clock(clock.clone());
    let cache = builder.build().unwrap();
    cache.insert("a", "x", Draft::new()).await.unwrap();
    hot.remove("a").await.unwrap();
    clock.advance(40 * SECOND);
    let lower = cache.get("a").await.unwrap();
    assert!(matches!(
        lower.status().source(),
        Source::Tier { index: 1, .. }
    ));
    assert_eq!(lower.status().age(), 40 * SECOND);
    settle(&cache).await;
    clock.advance(19 * SECOND);
    let promoted = cache.get("a").await.unwrap();
    assert!(matches!(
        promoted.status().source(),
        Source::Tier { index: 0, .. }
    ));
    assert_eq!(promoted.status().age(), 59 * SECOND);
    clock.advance(SECOND);
    assert!(
        cache.get("a").await.unwrap().is_absent(),
        "its minute is over"
    );
}

#[tokio::test(start_paused = true)]
async fn s41_age_counts_from_when_the_fetch_began() {
    let clock = clock();
    let builder = Cache::builder().tier(memory_at(&clock)).policy(strict());
    let cache = builder.clock(clock.clone()).build().unwrap();
    let ages = clock.clone();
    let fetch = Origin::default().does(async move |_| {
        ages.advance(50 * SECOND);
        Ok(streamed(&pattern(5_000), 1_000))
    });
    let response = cache.get_or_fetch("a", fetch).await.unwrap();
    assert_eq!(response.status().age(), 50 * SECOND);
    clock.advance(5 * SECOND);
    assert_eq!(whole(response).await, pattern(5_000));
    settle(&cache).await;
    let hit = cache.get("a").await.unwrap();
    assert_eq!(hit.status().age(), 55 * SECOND);
    clock.advance(5 * SECOND);
    assert!(cache.get("a").await.unwrap().is_absent());
}

#[tokio::test(start_paused = true)]
async fn s42_a_clock_that_steps_back_makes_nothing_immortal() {
    let clock = clock();
    let policy = strict()
        .stale_if_error(10 * SECOND)
        .negative_ttl(5 * SECOND);
    let builder = Cache::builder()
        .tier(memory_at(&clock))
        .tier(memory_at(&clock));
    let builder = builder.policy(policy).clock(clock.clone());
    let cache = builder.build().unwrap();
    let origin = Origin::default();
    cache.insert("a", "ahead", Draft::new()).await.unwrap();
    let fetch = origin.does(async |_| Ok(Fetched::absent()));
    assert!(cache.get_or_fetch("gone", fetch).await.unwrap().is_absent());
    settle(&cache).await;
    clock.set(Timestamp::from_millis(clock.now().as_millis() - 3_600_000));
    let failed = cache.get_or_fetch("a", origin.fails()).await;
    failed.expect_err("its age is unknown, so it is not served at all");
    for key in ["a", "gone"] {
        let response = cache.get_or_fetch(key, origin.gives("now")).await.unwrap();
        assert_eq!(response.status().age(), Duration::ZERO);
        assert_eq!(text(response).await, "now", "{key}");
        settle(&cache).await;
        assert!(cache.get(key).await.unwrap().status().is_hit());
    }
    clock.advance(60 * SECOND);
    assert!(
        cache.get("a").await.unwrap().is_absent(),
        "a minute is a minute"
    );
}

#[tokio::test(start_paused = true)]
async fn s42_clocks_that_differ_by_a_little_share_what_they_stored() {
    let clock = clock();
    let builder = Cache::builder().tier(memory_at(&clock)).policy(strict());
    let cache = builder.clock(clock.clone()).build().unwrap();
    cache.insert("a", "x", Draft::new()).await.unwrap();
    clock.set(Timestamp::from_millis(clock.now().as_millis() - 3_000));
    let hit = cache.get("a").await.unwrap();
    assert_eq!(
        (hit.status().is_hit(), hit.status().age()),
        (true, Duration::ZERO)
    );
}

#[tokio::test(start_paused = true)]
async fn s42_a_clock_that_jumps_a_year_ahead_serves_nothing_old() {
    let clock = clock();
    let policy = strict()
        .stale_while_revalidate(30 * SECOND)
        .stale_if_error(HOUR);
    // The store still has it, so that the judgement is the engine's.
    let policy = policy.keep(2 * YEAR);
    let builder = Cache::builder().tier(memory_at(&clock)).policy(policy);
    let cache = builder.clock(clock.clone()).build().unwrap();
    let origin = Origin::default();
    cache.insert("a", "old", Draft::new()).await.unwrap();
    let open = cache.get("a").await.unwrap();
    clock.advance(YEAR);
    assert!(cache.get("a").await.unwrap().is_absent());
    let failed = cache.get_or_fetch("a", origin.fails()).await;
    failed.expect_err("a year is beyond every window");
    let new = cache.get_or_fetch("a", origin.gives("new")).await.unwrap();
    assert_eq!(text(new).await, "new");
    assert_eq!(text(open).await, "old", "what was open stays whole");
}

#[tokio::test(start_paused = true)]
async fn s43_each_window_ends_and_stale_beyond_it_is_never_served() {
    let clock = clock();
    let policy = strict()
        .stale_while_revalidate(10 * SECOND)
        .stale_if_error(20 * SECOND);
    // From the first tier, and from one below.
    for lower in [false, true] {
        let hot = memory_at(&clock);
        let builder = Cache::builder().tier(hot.clone()).tier(memory_at(&clock));
        let builder = builder.policy(policy).clock(clock.clone());
        let cache = builder.build().unwrap();
        let origin = Origin::default();
        cache.insert("a", "old", Draft::new()).await.unwrap();
        if lower {
            hot.remove("a").await.unwrap();
        }
        let while_revalidating = |response: larder::Response| {
            let stale = response.status().stale();
            assert!(matches!(stale, Some(Stale::WhileRevalidate)), "{stale:?}");
        };
        clock.advance(59 * SECOND);
        assert!(!cache.get("a").await.unwrap().status().is_stale());
        clock.advance(SECOND);
        while_revalidating(cache.get("a").allow_stale().await.unwrap());
        let fresh_only = cache.get("a").await.unwrap();
        assert!(fresh_only.is_absent(), "nothing revalidates it");
        clock.advance(9 * SECOND);
        let read = cache.get_or_fetch("a", origin.fails()).await.unwrap();
        while_revalidating(read);
        settle(&cache).await;
        clock.advance(SECOND);
        let none = cache.get("a").await.unwrap();
        assert!(none.is_absent(), "a read that cannot fetch gets none");
        let failed = cache.get_or_fetch("a", origin.fails()).await.unwrap();
        assert!(matches!(failed.status().stale(), Some(Stale::Error(_))));
        assert_eq!(text(failed).await, "old");
        clock.advance(9 * SECOND);
        let failed = cache.get_or_fetch("a", origin.fails()).await.unwrap();
        assert_eq!(failed.status().age(), 79 * SECOND);
        clock.advance(SECOND);
        let failed = cache.get_or_fetch("a", origin.fails()).await;
        failed.expect_err("80 seconds are 60 and 20");
    }
}

#[tokio::test(start_paused = true)]
async fn s43_a_bound_on_age_rules_out_what_is_stale_also_while_the_origin_fails() {
    let clock = clock();
    let policy = strict().stale_while_revalidate(HOUR).stale_if_error(HOUR);
    let builder = Cache::builder().tier(memory_at(&clock)).policy(policy);
    let cache = builder.clock(clock.clone()).build().unwrap();
    cache.insert("a", "old", Draft::new()).await.unwrap();
    clock.advance(100 * SECOND);
    let bound = |seconds: u32| {
        let request = cache.get_or_fetch("a", Origin::default().fails());
        request.max_age(seconds * SECOND)
    };
    assert!(bound(100).await.unwrap().status().is_stale());
    bound(99).await.expect_err("older than this caller accepts");
    settle(&cache).await;
}

#[tokio::test(start_paused = true)]
async fn a_copy_served_on_error_says_why() {
    let clock = clock();
    let policy = strict().stale_if_error(HOUR);
    let builder = Cache::builder().tier(memory_at(&clock)).policy(policy);
    let cache = builder.clock(clock.clone()).build().unwrap();
    cache.insert("a", "old", Draft::new()).await.unwrap();
    clock.advance(61 * SECOND);
    let refused = || std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
    let fetch = async move |_| Err::<Fetched, _>(refused());
    let response = cache.get_or_fetch("a", fetch).await.unwrap();
    assert!(response.status().is_stale() && response.status().is_hit());
    assert_eq!(cache.counters().stale, 1);
    let shown = response.status().to_string();
    assert!(shown.contains("stale, since the fetch failed"), "{shown}");
    let Some(Stale::Error(error)) = response.status().stale() else {
        panic!("no reason in {shown}");
    };
    let cause = error.find_source::<std::io::Error>().unwrap();
    assert_eq!(cause.kind(), std::io::ErrorKind::ConnectionRefused);
    assert_eq!(text(response).await, "old");
}
