//! Several refreshes of one key: one runs, one waits, and none takes from another.

use larder::{Cache, Fetched, Stale};

use crate::{
    levers::{Gate, KEY, breathe, held, reading, refreshing, seen, small},
    source::{feed, pattern, streamed, whole},
    support::{Origin, SECOND, settle, strict, text},
};

#[tokio::test(start_paused = true)]
async fn s86_refreshes_faster_than_the_origin_are_all_answered_by_few_fetches() {
    for with_bus in [false, true] {
        let (tier, origin) = (small(), Origin::default());
        let builder = Cache::builder().tier(tier.clone()).policy(strict());
        let cache = if with_bus {
            builder.bus(larder::Memory::new(1 << 20)).build().unwrap()
        } else {
            builder.build().unwrap()
        };
        let mut refreshes = Vec::new();
        for _ in 0..95 {
            let slow = origin.does(async |_| {
                tokio::time::sleep(SECOND).await;
                Ok(Fetched::bytes("new"))
            });
            refreshes.push(refreshing(&cache, slow));
            tokio::time::sleep(SECOND / 10).await;
        }
        for refresh in refreshes {
            assert_eq!(refresh.await.unwrap(), "new");
        }
        settle(&cache).await;
        let fetches = origin.fetches();
        assert!((9..=12).contains(&fetches), "one a second: {fetches}");
        let stored = cache.tiers()[0].counters.fills;
        assert_eq!(stored, fetches as u64, "each was stored");
        assert_eq!(cache.counters().flights_retired, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn s86_a_refresh_that_fails_discards_nothing() {
    for first_is in ["awaited", "left"] {
        let (tier, origin) = (small(), Origin::default());
        let cache = Cache::builder()
            .tier(tier.clone())
            .policy(strict())
            .build()
            .unwrap();
        let gate = Gate::new();
        let first = refreshing(&cache, origin.gives_after(&gate, || Fetched::bytes("new")));
        gate.reached().await;
        let failing = tokio::spawn({
            let (cache, fetch) = (cache.clone(), origin.fails());
            async move { cache.refresh(KEY, fetch).await }
        });
        if first_is == "awaited" {
            gate.open();
            assert_eq!(first.await.unwrap(), "new");
        } else {
            breathe().await;
            gate.open();
        }
        // The copy that the first one stored covers the failure.
        let covered = failing.await.unwrap().unwrap();
        assert!(matches!(covered.status().stale(), Some(Stale::Error(_))));
        settle(&cache).await;
        assert_eq!(text(covered).await, "new");
        assert_eq!(held(&tier).await.as_deref(), Some("new"), "{first_is}");
        assert_eq!(tier.fences(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn s86_a_refresh_that_fails_leaves_the_fetch_before_it_alone() {
    let (tier, origin, gate) = (small(), Origin::default(), Gate::new());
    let cache = Cache::builder()
        .tier(tier.clone())
        .policy(strict())
        .build()
        .unwrap();
    let reader = reading(
        &cache,
        origin.gives_after(&gate, || Fetched::bytes("fetched")),
    );
    gate.reached().await;
    cache.refresh(KEY, origin.fails()).await.unwrap_err();
    gate.open();
    assert_eq!(reader.await.unwrap(), "fetched");
    settle(&cache).await;
    assert_eq!(held(&tier).await.as_deref(), Some("fetched"));
}

#[tokio::test(start_paused = true)]
async fn s86_a_write_behind_that_waits_outlives_a_refresh_that_fails() {
    let builder = Cache::builder().tier(small()).policy(strict());
    let slow = crate::levers::faulty();
    slow.faults()
        .on(larder_conformance::Op::Set)
        .always(larder_conformance::Fault::Delay(SECOND));
    let builder = builder.tier(larder::Tier::new(slow.clone()).behind());
    let cache = builder.build().unwrap();
    cache
        .insert(KEY, "written", larder::Draft::new())
        .await
        .unwrap();
    let failed = cache.refresh(KEY, Origin::default().fails()).await;
    assert!(failed.unwrap().status().is_stale());
    settle(&cache).await;
    assert_eq!(held(&slow).await.as_deref(), Some("written"));
}

#[tokio::test(start_paused = true)]
async fn s86_the_next_read_sees_what_a_refresh_has_stored() {
    let origin = Origin::default();
    // Whole and small, whole and large, streamed.
    for len in [10, 1 << 20, 2 << 20] {
        let cache = Cache::builder().tier(larder::Memory::new(64 << 20));
        let cache = cache.policy(strict()).build().unwrap();
        cache
            .insert(KEY, "old", larder::Draft::new())
            .await
            .unwrap();
        let new = pattern(len);
        let fetch = {
            let new = new.clone();
            origin.does(async move |_| {
                Ok(if new.len() > 1 << 20 {
                    streamed(&new, 64 << 10)
                } else {
                    Fetched::bytes(new)
                })
            })
        };
        let refreshed = cache.refresh(KEY, fetch).await.unwrap();
        if len > 1 << 20 {
            assert_eq!(whole(refreshed).await, new);
        }
        assert_eq!(whole(cache.get(KEY).await.unwrap()).await, new, "{len}");
    }
}

#[tokio::test(start_paused = true)]
async fn s86_a_refresh_waits_no_longer_than_a_fetch_may_take() {
    let (tier, origin) = (small(), Origin::default());
    let cache = Cache::builder()
        .tier(tier)
        .policy(strict())
        .build()
        .unwrap();
    let (feed, fetched) = feed(None);
    feed.gives(pattern(10));
    let streaming = origin.does(async move |_| Ok(fetched));
    drop(cache.refresh(KEY, streaming).await.unwrap());
    let second = refreshing(&cache, origin.gives("second"));
    tokio::time::sleep(29 * SECOND).await;
    assert!(!second.is_finished());
    feed.gives(pattern(10));
    assert_eq!(second.await.unwrap(), "second");
    drop(feed);
    settle(&cache).await;
    assert_eq!(origin.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn s86_a_delete_between_two_refreshes_ends_only_the_first() {
    let (tier, origin, gate) = (small(), Origin::default(), Gate::new());
    let cache = Cache::builder()
        .tier(tier.clone())
        .policy(strict())
        .build()
        .unwrap();
    let first = refreshing(&cache, origin.gives_after(&gate, || Fetched::bytes("old")));
    gate.reached().await;
    let second = refreshing(&cache, origin.gives("new"));
    breathe().await;
    cache.delete(KEY).await.unwrap();
    assert_eq!(
        second.await.unwrap(),
        "new",
        "nothing before it runs any more"
    );
    gate.open();
    assert_eq!(first.await.unwrap(), "old");
    settle(&cache).await;
    assert_eq!(seen(&cache).await.as_deref(), Some("new"));
    assert_eq!(text(cache.get(KEY).await.unwrap()).await, "new");
}
