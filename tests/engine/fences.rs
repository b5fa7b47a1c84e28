//! What began before a write or a delete never lands after it.

use larder::{Cache, Draft, Fetched, Store};
use larder_conformance::{Fault, Model, Op};

use crate::{
    levers::{
        Gate, KEY, breathe, evict, faulty, halves, held, inserting, reading, refreshing, seen,
        small, stalled,
    },
    support::{Origin, SECOND, broken, clock, settle, strict, text},
};

fn two_tiers(upper: impl Store, lower: impl Store) -> Cache {
    Cache::builder()
        .tier(upper)
        .tier(lower)
        .policy(strict())
        .clock(clock())
        .build()
        .unwrap()
}

async fn assert_everywhere(cache: &Cache, tiers: [&Model; 2], expected: Option<&str>) {
    settle(cache).await;
    assert_eq!(seen(cache).await.as_deref(), expected, "through the cache");
    for (index, tier) in tiers.into_iter().enumerate() {
        assert_eq!(held(tier).await.as_deref(), expected, "in tier {index}");
        assert_eq!(tier.fences(), 0, "fences of tier {index}");
    }
}

#[tokio::test(start_paused = true)]
async fn s12_a_fetch_that_ends_after_a_set_does_not_replace_it() {
    let (upper, lower, origin, gate) = (small(), small(), Origin::default(), Gate::new());
    let cache = two_tiers(upper.clone(), lower.clone());
    let reader = reading(&cache, origin.gives_after(&gate, || Fetched::bytes("old")));
    gate.reached().await;
    cache.insert(KEY, "new", Draft::new()).await.unwrap();
    gate.open();
    assert_eq!(reader.await.unwrap(), "old", "it asked before the set");
    assert_everywhere(&cache, [&upper, &lower], Some("new")).await;
}

#[tokio::test(start_paused = true)]
async fn s12_a_refresh_that_ends_after_a_set_does_not_replace_it() {
    let (upper, lower, origin, gate) = (small(), small(), Origin::default(), Gate::new());
    let cache = two_tiers(upper.clone(), lower.clone());
    cache.insert(KEY, "first", Draft::new()).await.unwrap();
    let reader = refreshing(&cache, origin.gives_after(&gate, || Fetched::bytes("old")));
    gate.reached().await;
    cache.insert(KEY, "new", Draft::new()).await.unwrap();
    gate.open();
    assert_eq!(reader.await.unwrap(), "old");
    assert_everywhere(&cache, [&upper, &lower], Some("new")).await;
}

#[tokio::test(start_paused = true)]
async fn s12_a_refresh_behind_that_ends_after_a_set_does_not_replace_it() {
    let (upper, lower, origin, gate) = (small(), small(), Origin::default(), Gate::new());
    let time = clock();
    let cache = Cache::builder()
        .tier(upper.clone())
        .tier(lower.clone())
        .policy(strict().stale_while_revalidate(60 * SECOND))
        .clock(time.clone())
        .build()
        .unwrap();
    cache.insert(KEY, "first", Draft::new()).await.unwrap();
    time.advance(61 * SECOND);
    let fetch = origin.gives_after(&gate, || Fetched::bytes("old"));
    let stale = cache.get_or_fetch(KEY, fetch).await.unwrap();
    assert!(stale.status().is_stale());
    gate.reached().await;
    cache.insert(KEY, "new", Draft::new()).await.unwrap();
    gate.open();
    assert_everywhere(&cache, [&upper, &lower], Some("new")).await;
    assert_eq!(origin.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn s12_a_refresh_behind_that_is_queued_during_a_set_finds_it_and_does_not_fetch() {
    let (upper, origin, gate) = (small(), Origin::default(), Gate::new());
    let time = clock();
    let cache = Cache::builder()
        .tier(upper)
        .policy(strict().stale_while_revalidate(60 * SECOND))
        .clock(time.clone())
        .refreshes(1, 8)
        .build()
        .unwrap();
    for key in ["other", KEY] {
        cache.insert(key, "first", Draft::new()).await.unwrap();
    }
    time.advance(61 * SECOND);
    let slow = origin.gives_after(&gate, || Fetched::bytes("other's"));
    drop(cache.get_or_fetch("other", slow).await.unwrap());
    gate.reached().await;
    drop(cache.get_or_fetch(KEY, origin.gives("old")).await.unwrap());
    breathe().await;
    assert_eq!(cache.in_flight().refreshes, 2, "one runs, one waits");
    cache.insert(KEY, "new", Draft::new()).await.unwrap();
    gate.open();
    settle(&cache).await;
    assert_eq!(seen(&cache).await.as_deref(), Some("new"));
    assert_eq!(origin.fetches(), 1, "the other's");
}

#[tokio::test(start_paused = true)]
async fn s12_a_fetch_that_is_queued_during_a_set_does_not_replace_it() {
    let (upper, lower, origin, gate) = (small(), small(), Origin::default(), Gate::new());
    let cache = Cache::builder()
        .tier(upper.clone())
        .tier(lower.clone())
        .policy(strict())
        .fetches_max(1)
        .build()
        .unwrap();
    let slow = origin.gives_after(&gate, || Fetched::bytes("other's"));
    let other = tokio::spawn({
        let cache = cache.clone();
        async move { text(cache.get_or_fetch("other", slow).await.unwrap()).await }
    });
    gate.reached().await;
    let reader = reading(&cache, origin.gives("old"));
    breathe().await;
    assert_eq!(origin.fetches(), 1, "the key's fetch waits");
    cache.insert(KEY, "new", Draft::new()).await.unwrap();
    gate.open();
    assert_eq!(other.await.unwrap(), "other's");
    assert_eq!(reader.await.unwrap(), "old");
    assert_everywhere(&cache, [&upper, &lower], Some("new")).await;
}

#[tokio::test(start_paused = true)]
async fn s12_a_set_staged_before_the_miss_wins_over_its_fetch() {
    for set_first in [true, false] {
        let (upper, lower, origin, gate) = (small(), small(), Origin::default(), Gate::new());
        let cache = two_tiers(upper.clone(), lower.clone());
        let mut writer = cache.set_with_writer(KEY, Draft::new()).await.unwrap();
        writer.write("new").await.unwrap();
        let reader = reading(&cache, origin.gives_after(&gate, || Fetched::bytes("old")));
        gate.reached().await;
        if set_first {
            writer.commit().await.unwrap();
            gate.open();
            assert_eq!(reader.await.unwrap(), "old");
        } else {
            gate.open();
            assert_eq!(reader.await.unwrap(), "old");
            settle(&cache).await;
            assert_eq!(seen(&cache).await.as_deref(), Some("old"));
            writer.commit().await.unwrap();
        }
        assert_everywhere(&cache, [&upper, &lower], Some("new")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn s12_a_set_waits_for_a_fill_in_its_commit_phase_and_wins() {
    let (upper, lower, origin) = (faulty(), faulty(), Origin::default());
    let cache = two_tiers(upper.clone(), lower.clone());
    upper.faults().on(Op::Commit).inject(Fault::Stall);
    let reader = reading(&cache, origin.gives("old"));
    assert_eq!(reader.await.unwrap(), "old");
    stalled(&upper, 1).await;
    assert_eq!(held(lower.inner()).await.as_deref(), Some("old"));
    let set = inserting(&cache, "new");
    breathe().await;
    assert!(!set.is_finished(), "the commit phases take turns");
    upper.faults().release();
    assert_eq!(set.await.unwrap().unwrap(), 2);
    assert_everywhere(&cache, [upper.inner(), lower.inner()], Some("new")).await;
}

#[tokio::test(start_paused = true)]
async fn s16_an_aborted_write_does_not_stop_later_fills() {
    let (upper, lower, origin, gate) = (small(), small(), Origin::default(), Gate::new());
    let cache = two_tiers(upper.clone(), lower.clone());
    let mut early = cache.set_with_writer(KEY, Draft::new()).await.unwrap();
    early.write("never").await.unwrap();
    early.abort();
    let reader = reading(&cache, origin.gives_after(&gate, || Fetched::bytes("one")));
    gate.reached().await;
    let mut late = cache.set_with_writer(KEY, Draft::new()).await.unwrap();
    late.write("never").await.unwrap();
    drop(late);
    gate.open();
    assert_eq!(reader.await.unwrap(), "one");
    assert_everywhere(&cache, [&upper, &lower], Some("one")).await;
}

#[tokio::test(start_paused = true)]
async fn s16_a_failed_write_does_not_stop_later_fills() {
    let (upper, lower, origin) = (faulty(), faulty(), Origin::default());
    let cache = two_tiers(upper.clone(), lower.clone());
    for tier in [&upper, &lower] {
        let fault = Fault::Fail(larder::ErrorKind::Unavailable);
        tier.faults().on(Op::Commit).inject(fault);
    }
    let failed = cache.insert(KEY, "never", Draft::new()).await;
    assert!(failed.unwrap_err().is_unavailable());
    assert_eq!(reading(&cache, origin.gives("one")).await.unwrap(), "one");
    assert_everywhere(&cache, [upper.inner(), lower.inner()], Some("one")).await;
}

#[tokio::test(start_paused = true)]
async fn s74_after_a_delete_a_new_reader_never_gets_the_flights_bytes() {
    let (upper, lower, origin, gate) = (small(), small(), Origin::default(), Gate::new());
    let cache = two_tiers(upper.clone(), lower.clone());
    let middle = gate.clone();
    let before = reading(
        &cache,
        origin.does(async move |_| Ok(halves(&middle, "old, ", "but whole"))),
    );
    gate.reached().await;
    cache.delete(KEY).await.unwrap();
    assert_eq!(seen(&cache).await, None, "nobody joins it");
    let after = reading(&cache, origin.gives("new"));
    assert_eq!(after.await.unwrap(), "new");
    gate.open();
    assert_eq!(before.await.unwrap(), "old, but whole", "its readers stay");
    assert_everywhere(&cache, [&upper, &lower], Some("new")).await;
}

#[tokio::test(start_paused = true)]
async fn s74_after_a_set_a_new_reader_never_gets_the_flights_bytes() {
    let (upper, lower, origin, gate) = (small(), small(), Origin::default(), Gate::new());
    let cache = two_tiers(upper.clone(), lower.clone());
    let middle = gate.clone();
    let before = reading(
        &cache,
        origin.does(async move |_| Ok(halves(&middle, "old, ", "but whole"))),
    );
    gate.reached().await;
    cache.insert(KEY, "new", Draft::new()).await.unwrap();
    evict(&upper).await;
    evict(&lower).await;
    let after = reading(&cache, origin.gives("newer"));
    assert_eq!(
        after.await.unwrap(),
        "newer",
        "not joined, though the set is gone"
    );
    gate.open();
    assert_eq!(before.await.unwrap(), "old, but whole");
    assert_everywhere(&cache, [&upper, &lower], Some("newer")).await;
}

#[tokio::test(start_paused = true)]
async fn s74_a_delete_while_a_flight_looks_keeps_new_readers_out_of_it() {
    let (upper, lower, origin) = (faulty(), faulty(), Origin::default());
    let cache = two_tiers(upper.clone(), lower.clone());
    cache.insert(KEY, "old", Draft::new()).await.unwrap();
    evict(upper.inner()).await;
    lower.faults().on(Op::Get).inject(Fault::StallAfter);
    let before = reading(&cache, origin.gives("unused"));
    stalled(&lower, 1).await;
    cache.delete(KEY).await.unwrap();
    let after = reading(&cache, origin.gives("new"));
    assert_eq!(after.await.unwrap(), "new");
    lower.faults().release();
    assert_eq!(
        before.await.unwrap(),
        "old",
        "it found it before the delete"
    );
    assert_everywhere(&cache, [upper.inner(), lower.inner()], Some("new")).await;
}

#[tokio::test(start_paused = true)]
async fn s74_an_old_fetch_that_fails_after_a_delete_is_not_held_against_new_readers() {
    let (origin, gate) = (Origin::default(), Gate::new());
    let policy = strict().error_ttl(60 * SECOND);
    let cache = Cache::builder()
        .tier(small())
        .policy(policy)
        .clock(clock())
        .build()
        .unwrap();
    let fails = {
        let gate = gate.clone();
        origin.does(async move |_| {
            gate.pass().await;
            Err(broken())
        })
    };
    let before = tokio::spawn({
        let cache = cache.clone();
        async move { cache.get_or_fetch(KEY, fails).await.map(drop) }
    });
    gate.reached().await;
    cache.delete(KEY).await.unwrap();
    gate.open();
    before.await.unwrap().unwrap_err();
    settle(&cache).await;
    assert_eq!(cache.in_flight().failures, 0);
    assert_eq!(reading(&cache, origin.gives("new")).await.unwrap(), "new");
}
