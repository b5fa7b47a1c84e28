//! `refresh` asks the origin anew, whatever is under way, and its answer is what stays.

use larder::{Cache, Draft, Fetched, Tier};
use larder_conformance::{Fault, Op};

use crate::{
    levers::{
        Gate, KEY, breathe, faulty, held, inserting, reading, refreshing, seen, small, stalled,
    },
    support::{Origin, SECOND, clock, settle, strict, text},
};

#[tokio::test(start_paused = true)]
async fn s78_a_refresh_does_not_share_a_fetch_that_began_before_it() {
    let (upper, lower, origin, gate) = (small(), small(), Origin::default(), Gate::new());
    let cache = Cache::builder()
        .tier(upper.clone())
        .tier(lower.clone())
        .policy(strict())
        .build()
        .unwrap();
    let reader = reading(&cache, origin.gives_after(&gate, || Fetched::bytes("old")));
    gate.reached().await;
    let fresh = refreshing(&cache, origin.gives("new"));
    assert_eq!(fresh.await.unwrap(), "new");
    gate.open();
    assert_eq!(reader.await.unwrap(), "old");
    settle(&cache).await;
    for tier in [&upper, &lower] {
        assert_eq!(held(tier).await.as_deref(), Some("new"));
        assert_eq!(tier.fences(), 0);
    }
    assert_eq!(origin.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn s78_of_a_fetch_and_a_later_refresh_the_later_stays_whichever_ends_first() {
    for later_first in [true, false] {
        let (tier, origin) = (small(), Origin::default());
        let (first, second) = (Gate::new(), Gate::new());
        let cache = Cache::builder().tier(tier.clone()).build().unwrap();
        let old = reading(&cache, origin.gives_after(&first, || Fetched::bytes("old")));
        first.reached().await;
        let new = refreshing(
            &cache,
            origin.gives_after(&second, || Fetched::bytes("new")),
        );
        second.reached().await;
        let (earlier, later) = if later_first {
            (&second, &first)
        } else {
            (&first, &second)
        };
        earlier.open();
        breathe().await;
        later.open();
        assert_eq!(old.await.unwrap(), "old");
        assert_eq!(new.await.unwrap(), "new");
        settle(&cache).await;
        assert_eq!(held(&tier).await.as_deref(), Some("new"));
    }
}

#[tokio::test(start_paused = true)]
async fn s78_readers_join_a_refresh_and_not_what_it_replaced() {
    let (origin, old, new) = (Origin::default(), Gate::new(), Gate::new());
    let cache = Cache::builder().tier(small()).build().unwrap();
    let before = reading(&cache, origin.gives_after(&old, || Fetched::bytes("old")));
    old.reached().await;
    let fresh = refreshing(&cache, origin.gives_after(&new, || Fetched::bytes("new")));
    new.reached().await;
    let joiner = reading(&cache, origin.gives("unused"));
    breathe().await;
    new.open();
    assert_eq!(joiner.await.unwrap(), "new");
    assert_eq!(fresh.await.unwrap(), "new");
    old.open();
    assert_eq!(before.await.unwrap(), "old");
    assert_eq!(origin.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn s78_a_refresh_during_the_commit_of_a_fill_replaces_it() {
    for slow in [0, 1] {
        let (tiers, origin) = ([faulty(), faulty()], Origin::default());
        let cache = Cache::builder()
            .tier(tiers[0].clone())
            .tier(tiers[1].clone())
            .policy(strict())
            .clock(clock())
            .build()
            .unwrap();
        tiers[slow].faults().on(Op::Commit).inject(Fault::Stall);
        assert_eq!(reading(&cache, origin.gives("old")).await.unwrap(), "old");
        stalled(&tiers[slow], 1).await;
        let fresh = refreshing(&cache, origin.gives("new"));
        breathe().await;
        tiers[slow].faults().release();
        assert_eq!(fresh.await.unwrap(), "new");
        settle(&cache).await;
        for tier in &tiers {
            assert_eq!(held(tier.inner()).await.as_deref(), Some("new"));
            assert_eq!(tier.inner().fences(), 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn s78_a_refresh_replaces_what_is_queued_to_be_written_behind() {
    let (upper, lower, origin) = (faulty(), faulty(), Origin::default());
    let gate = Gate::new();
    let cache = Cache::builder()
        .tier(upper.clone())
        .tier(Tier::new(lower.clone()).behind())
        .policy(strict())
        .clock(clock())
        .build()
        .unwrap();
    lower.faults().on(Op::Write).inject(Fault::Stall);
    cache.insert(KEY, "old", Draft::new()).await.unwrap();
    stalled(&lower, 1).await;
    let fresh = refreshing(&cache, origin.gives_after(&gate, || Fetched::bytes("new")));
    gate.reached().await;
    lower.faults().release();
    breathe().await;
    gate.open();
    assert_eq!(fresh.await.unwrap(), "new");
    settle(&cache).await;
    for tier in [&upper, &lower] {
        assert_eq!(held(tier.inner()).await.as_deref(), Some("new"));
        assert_eq!(tier.inner().fences(), 0);
    }
    assert_eq!(seen(&cache).await.as_deref(), Some("new"));
}

#[tokio::test(start_paused = true)]
async fn s78_a_refresh_that_a_set_overtakes_leaves_what_the_set_queued() {
    let (upper, lower, origin) = (faulty(), faulty(), Origin::default());
    let cache = Cache::builder()
        .tier(upper.clone())
        .tier(Tier::new(lower.clone()).behind())
        .policy(strict())
        .clock(clock())
        .build()
        .unwrap();
    upper.faults().on(Op::Commit).inject(Fault::Stall);
    lower.faults().on(Op::Write).inject(Fault::Stall);
    let set = inserting(&cache, "new");
    stalled(&upper, 1).await;
    let overtaken = refreshing(&cache, origin.gives("old"));
    breathe().await;
    upper.faults().release();
    set.await.unwrap().unwrap();
    assert_eq!(overtaken.await.unwrap(), "old");
    stalled(&lower, 1).await;
    lower.faults().release();
    settle(&cache).await;
    for tier in [&upper, &lower] {
        assert_eq!(held(tier.inner()).await.as_deref(), Some("new"));
    }
}

#[tokio::test]
async fn s78_a_refresh_asks_though_an_earlier_fetch_failed_not_long_ago() {
    let origin = Origin::default();
    let policy = strict().error_ttl(10 * SECOND);
    let cache = Cache::builder()
        .tier(small())
        .policy(policy)
        .build()
        .unwrap();
    assert!(cache.get_or_fetch(KEY, origin.fails()).await.is_err());
    let refreshed = cache.refresh(KEY, origin.gives("new")).await.unwrap();
    assert_eq!(text(refreshed).await, "new");
    assert_eq!(origin.fetches(), 2);
}
