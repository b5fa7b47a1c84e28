//! A key that could not be deleted in a tier is not read there until it has been.

use larder::{Cache, Draft, Error, ErrorKind, StoreExt};
use larder_conformance::{Fault, Faulty, Model, Op};

use crate::{
    levers::{KEY, breathe, evict, faulty, held, reading, seen, stalled},
    support::{Origin, clock, settle, strict},
};

const DOWN: Fault = Fault::Fail(ErrorKind::Unavailable);

fn cache(tiers: &[Faulty<Model>; 2], suspects_max: usize) -> Cache {
    let [upper, lower] = tiers.clone();
    let tiers = Cache::builder().tier(upper).tier(lower);
    tiers
        .suspects_max(suspects_max)
        .policy(strict())
        .clock(clock())
        .build()
        .unwrap()
}

fn two() -> [Faulty<Model>; 2] {
    [faulty(), faulty()]
}

#[tokio::test(start_paused = true)]
async fn a_delete_that_fails_in_a_tier_is_reported_and_the_key_is_not_read_there() {
    for index in 0..2 {
        for fault in [DOWN, Fault::Stall, Fault::Panic] {
            let (tiers, origin) = (two(), Origin::default());
            let cache = cache(&tiers, 8);
            cache.insert(KEY, "v1", Draft::new()).await.unwrap();
            tiers[index].faults().on(Op::Delete).inject(fault);
            cache.delete(KEY).await.unwrap_err();
            assert_eq!(held(tiers[index].inner()).await.as_deref(), Some("v1"));
            assert_eq!(
                held(tiers[1 - index].inner()).await,
                None,
                "the others are tried"
            );
            assert_eq!(cache.in_flight().suspects, 1);
            assert_eq!(seen(&cache).await, None, "tier {index} {fault:?}");
            assert_eq!(cache.stat(KEY).await.unwrap(), None);
            // The next answer removes what is there.
            assert_eq!(reading(&cache, origin.gives("v2")).await.unwrap(), "v2");
            settle(&cache).await;
            assert_eq!(cache.in_flight().suspects, 0);
            assert_ne!(held(tiers[index].inner()).await.as_deref(), Some("v1"));
            assert_eq!(seen(&cache).await.as_deref(), Some("v2"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_suspect_key_is_trusted_again_once_a_delete_succeeded() {
    let tiers = two();
    let cache = cache(&tiers, 8);
    cache.insert(KEY, "v1", Draft::new()).await.unwrap();
    tiers[1].faults().on(Op::Delete).inject(DOWN);
    cache.delete(KEY).await.unwrap_err();
    cache.delete(KEY).await.unwrap();
    assert_eq!(cache.in_flight().suspects, 0);
    cache.insert(KEY, "v2", Draft::new()).await.unwrap();
    evict(tiers[0].inner()).await;
    assert_eq!(seen(&cache).await.as_deref(), Some("v2"));
}

#[tokio::test(start_paused = true)]
async fn a_set_that_a_suspect_tier_takes_is_read_there() {
    let tiers = two();
    let cache = cache(&tiers, 8);
    cache.insert(KEY, "v1", Draft::new()).await.unwrap();
    tiers[1].faults().on(Op::Delete).inject(DOWN);
    cache.delete(KEY).await.unwrap_err();
    cache.insert(KEY, "v2", Draft::new()).await.unwrap();
    assert_eq!(cache.in_flight().suspects, 0);
    evict(tiers[0].inner()).await;
    assert_eq!(seen(&cache).await.as_deref(), Some("v2"));
}

#[tokio::test(start_paused = true)]
async fn a_set_that_a_suspect_tier_refuses_removes_what_is_there_and_ends_the_suspicion() {
    for op in [Op::Set, Op::Commit] {
        let tiers = two();
        let cache = cache(&tiers, 8);
        cache.insert(KEY, "v1", Draft::new()).await.unwrap();
        tiers[1].faults().on(Op::Delete).inject(DOWN);
        cache.delete(KEY).await.unwrap_err();
        tiers[1].faults().on(op).inject(DOWN);
        cache.insert(KEY, "v2", Draft::new()).await.unwrap();
        assert_eq!(held(tiers[1].inner()).await, None, "{op:?}");
        assert_eq!(cache.in_flight().suspects, 0, "{op:?}: a delete succeeded");
    }
}

#[tokio::test(start_paused = true)]
async fn s72_a_set_that_a_tier_can_neither_take_nor_delete_makes_the_key_suspect_there() {
    for index in 0..2 {
        for op in [Op::Set, Op::Write, Op::Commit] {
            let tiers = two();
            let cache = cache(&tiers, 8);
            cache.insert(KEY, "v1", Draft::new()).await.unwrap();
            let faults = tiers[index].faults();
            faults.on(op).inject(DOWN);
            faults.on(Op::Delete).inject(DOWN);
            let written = cache.insert(KEY, "v2", Draft::new()).await.unwrap();
            assert_eq!(written.tiers, 1, "it succeeds, and is counted");
            assert_eq!(cache.counters().suspects, 1);
            assert_eq!(held(tiers[index].inner()).await.as_deref(), Some("v1"));
            if index == 1 {
                evict(tiers[0].inner()).await;
            }
            let expected = (index == 0).then_some("v2");
            assert_eq!(
                seen(&cache).await.as_deref(),
                expected,
                "tier {index} {op:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_fill_that_adds_nothing_to_a_suspect_tier_does_not_end_the_suspicion() {
    // The fill looks while a write behind is under way there, whose commit is done but said not
    // to be, and then cannot open its writer.
    let ([upper, lower], origin) = (two(), Origin::default());
    let gate = crate::levers::Gate::new();
    let cache = Cache::builder()
        .tier(upper.clone())
        .tier(larder::Tier::new(lower.clone()).behind())
        .policy(strict())
        .clock(clock())
        .behind_queue(8, 8)
        .build()
        .unwrap();
    lower.faults().on(Op::Write).inject(Fault::Stall);
    cache.insert(KEY, "v1", Draft::new()).await.unwrap();
    stalled(&lower, 1).await;
    evict(upper.inner()).await;
    let fetch = origin.gives_after(&gate, || larder::Fetched::bytes("too long to be held"));
    let reader = reading(&cache, fetch);
    gate.reached().await;
    lower
        .faults()
        .on(Op::Commit)
        .inject(Fault::FailAfter(ErrorKind::Unavailable));
    lower.faults().on(Op::Delete).inject(DOWN);
    lower.faults().release();
    settle_behind(&cache).await;
    assert_eq!(cache.in_flight().suspects, 1);
    gate.open();
    reader.await.unwrap();
    settle(&cache).await;
    evict(upper.inner()).await;
    assert_eq!(seen(&cache).await, None, "v1 is older than what was read");
}

async fn settle_behind(cache: &Cache) {
    while cache.in_flight().behind > 0 {
        breathe().await;
    }
}

#[tokio::test(start_paused = true)]
async fn too_many_suspects_make_the_tier_distrusted_until_it_is_cleared() {
    let (tiers, origin) = (two(), Origin::default());
    let cache = cache(&tiers, 1);
    for key in ["a", "b", KEY] {
        cache.insert(key, "v1", Draft::new()).await.unwrap();
    }
    tiers[1].faults().on(Op::Delete).always(DOWN);
    cache.delete("a").await.unwrap_err();
    evict(tiers[0].inner()).await;
    assert_eq!(
        seen(&cache).await.as_deref(),
        Some("v1"),
        "one suspect fits"
    );
    cache.delete("b").await.unwrap_err();
    evict(tiers[0].inner()).await;
    assert_eq!(seen(&cache).await, None, "no key is read there");
    assert!(cache.get("b").await.unwrap().is_absent());
    assert!(cache.clear().await.is_err(), "not while it cannot delete");
    assert_eq!(seen(&cache).await, None);
    tiers[1].faults().clear();
    cache.clear().await.unwrap();
    assert_eq!(cache.in_flight().suspects, 0);
    assert_eq!(reading(&cache, origin.gives("v2")).await.unwrap(), "v2");
    settle(&cache).await;
    evict(tiers[0].inner()).await;
    assert_eq!(seen(&cache).await.as_deref(), Some("v2"), "trusted again");
}

#[tokio::test(start_paused = true)]
async fn a_delete_that_fails_during_a_clear_keeps_the_tier_distrusted() {
    let tiers = two();
    let cache = cache(&tiers, 0);
    cache.insert("other", "v1", Draft::new()).await.unwrap();
    tiers[1]
        .faults()
        .on(Op::Delete)
        .key("other")
        .inject(Fault::Stall);
    let clear = tokio::spawn({
        let cache = cache.clone();
        async move { cache.clear().await }
    });
    stalled(&tiers[1], 1).await;
    cache.insert(KEY, "v1", Draft::new()).await.unwrap();
    tiers[1].faults().on(Op::Delete).key(KEY).inject(DOWN);
    cache.delete(KEY).await.unwrap_err();
    tiers[1].faults().release();
    clear.await.unwrap().unwrap();
    assert_eq!(held(tiers[1].inner()).await.as_deref(), Some("v1"));
    assert_eq!(seen(&cache).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_clear_ends_the_suspicion_of_keys_that_are_not_there_any_more() {
    let tiers = two();
    let cache = cache(&tiers, 8);
    tiers[1].faults().on(Op::Delete).inject(DOWN);
    cache.delete(KEY).await.unwrap_err();
    assert_eq!(cache.in_flight().suspects, 1);
    cache.clear().await.unwrap();
    assert_eq!(cache.in_flight().suspects, 0);
}

#[tokio::test(start_paused = true)]
async fn a_delete_reports_the_first_failure() {
    let tiers = two();
    let cache = cache(&tiers, 8);
    tiers[1]
        .faults()
        .on(Op::Delete)
        .inject(Fault::Fail(ErrorKind::Full));
    tiers[0].faults().on(Op::Delete).inject(DOWN);
    let error: Error = cache.delete(KEY).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Full, "the lower tier comes first");
    assert!(!tiers[0].inner().exists(KEY).await.unwrap());
}
