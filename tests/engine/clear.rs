//! `clear` deletes what was there when it was called, whatever is under way.

use larder::{Cache, Draft, ErrorKind, Fetched, Store, Tier};
use larder_conformance::{Fault, Faulty, Model, Op};

use crate::{
    levers::{
        Gate, KEY, breathe, evict, faulty, halves, held, inserting, reading, seen, small, stalled,
    },
    plain::Plain,
    support::{Origin, clock, settle, strict},
};

fn stack(tiers: &[Faulty<Model>; 3]) -> Cache {
    let mut builder = Cache::builder().policy(strict()).clock(clock());
    for tier in tiers {
        builder = builder.tier(tier.clone());
    }
    builder.build().unwrap()
}

fn three() -> [Faulty<Model>; 3] {
    [faulty(), faulty(), faulty()]
}

fn clearing(cache: &Cache) -> tokio::task::JoinHandle<larder::Result<()>> {
    let cache = cache.clone();
    tokio::spawn(async move { cache.clear().await })
}

async fn assert_empty(cache: &Cache, tiers: &[Faulty<Model>]) {
    settle(cache).await;
    assert_eq!(seen(cache).await, None);
    for (index, tier) in tiers.iter().enumerate() {
        assert_eq!(tier.usage().entries, 0, "tier {index}");
        assert_eq!(tier.inner().fences(), 0, "tier {index}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_clear_empties_every_tier() {
    let tiers = three();
    let cache = stack(&tiers);
    for key in 0..20 {
        cache
            .insert(&key.to_string(), "a", Draft::new())
            .await
            .unwrap();
    }
    evict(tiers[1].inner()).await;
    cache.clear().await.unwrap();
    assert_empty(&cache, &tiers).await;
}

#[tokio::test(start_paused = true)]
async fn a_clear_where_a_tier_cannot_list_is_unsupported_and_deletes_nothing() {
    let (upper, lower) = (small(), small());
    let cache = Cache::builder()
        .tier(upper.clone())
        .tier(Plain::new(lower.clone()))
        .policy(strict())
        .clock(clock())
        .build()
        .unwrap();
    cache.insert(KEY, "a", Draft::new()).await.unwrap();
    let error = cache.clear().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    for tier in [&upper, &lower] {
        assert_eq!(held(tier).await.as_deref(), Some("a"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_flight_begun_before_a_clear_publishes_nothing_after_it() {
    let (tiers, origin, gate) = (three(), Origin::default(), Gate::new());
    let cache = stack(&tiers);
    let middle = gate.clone();
    let reader = reading(
        &cache,
        origin.does(async move |_| Ok(halves(&middle, "a", "b"))),
    );
    gate.reached().await;
    cache.clear().await.unwrap();
    gate.open();
    assert_eq!(reader.await.unwrap(), "ab");
    assert_empty(&cache, &tiers).await;
}

#[tokio::test(start_paused = true)]
async fn a_clear_during_the_commit_of_a_fill_removes_it() {
    for slow in 0..3 {
        let (tiers, origin) = (three(), Origin::default());
        let cache = stack(&tiers);
        tiers[slow].faults().on(Op::Commit).inject(Fault::Stall);
        assert_eq!(reading(&cache, origin.gives("a")).await.unwrap(), "a");
        stalled(&tiers[slow], 1).await;
        let clear = clearing(&cache);
        breathe().await;
        assert!(!clear.is_finished());
        tiers[slow].faults().release();
        clear.await.unwrap().unwrap();
        assert_empty(&cache, &tiers).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_clear_during_the_commit_of_a_set_removes_it() {
    for slow in 0..3 {
        let tiers = three();
        let cache = stack(&tiers);
        tiers[slow].faults().on(Op::Commit).inject(Fault::Stall);
        let set = inserting(&cache, "a");
        stalled(&tiers[slow], 1).await;
        let clear = clearing(&cache);
        breathe().await;
        tiers[slow].faults().release();
        set.await.unwrap().unwrap();
        clear.await.unwrap().unwrap();
        assert_empty(&cache, &tiers).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_promotion_that_begins_during_a_clear_brings_nothing_back() {
    let (tiers, origin) = (three(), Origin::default());
    let cache = stack(&tiers);
    cache.insert(KEY, "a", Draft::new()).await.unwrap();
    evict(tiers[0].inner()).await;
    evict(tiers[1].inner()).await;
    tiers[2]
        .faults()
        .on(Op::Delete)
        .key(KEY)
        .inject(Fault::Stall);
    let clear = clearing(&cache);
    stalled(&tiers[2], 1).await;
    assert_eq!(reading(&cache, origin.gives("unused")).await.unwrap(), "a");
    tiers[2].faults().release();
    clear.await.unwrap().unwrap();
    assert_empty(&cache, &tiers).await;
}

/// A read finds the object in the lowest tier, which evicts it before the clear lists it.
#[tokio::test(start_paused = true)]
async fn a_promotion_of_what_is_evicted_during_a_clear_brings_nothing_back() {
    let (tiers, origin) = (three(), Origin::default());
    let cache = stack(&tiers);
    cache.insert(KEY, "a", Draft::new()).await.unwrap();
    evict(tiers[0].inner()).await;
    evict(tiers[1].inner()).await;
    // The clear waits for a commit of another key before it lists anything.
    tiers[0].faults().on(Op::Commit).inject(Fault::Stall);
    let other = tokio::spawn({
        let cache = cache.clone();
        async move { cache.insert("other", "b", Draft::new()).await }
    });
    stalled(&tiers[0], 1).await;
    let clear = clearing(&cache);
    breathe().await;
    tiers[1].faults().on(Op::Set).inject(Fault::Stall);
    let reader = reading(&cache, origin.gives("unused"));
    stalled(&tiers[1], 1).await;
    evict(tiers[2].inner()).await;
    tiers[0].faults().release();
    other.await.unwrap().unwrap();
    clear.await.unwrap().unwrap();
    tiers[1].faults().release();
    assert_eq!(reader.await.unwrap(), "a");
    // A retired flight is in no table.
    breathe().await;
    assert_empty(&cache, &tiers).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_queued_to_be_written_behind_never_lands_after_a_clear() {
    let (upper, lower) = (faulty(), faulty());
    let cache = Cache::builder()
        .tier(upper.clone())
        .tier(Tier::new(lower.clone()).behind())
        .policy(strict())
        .clock(clock())
        .build()
        .unwrap();
    for step in [Op::Set, Op::Write, Op::Commit] {
        lower.faults().on(step).inject(Fault::Stall);
        cache.insert(KEY, "a", Draft::new()).await.unwrap();
        stalled(&lower, 1).await;
        // No tier lists the key any more.
        evict(upper.inner()).await;
        let clear = clearing(&cache);
        breathe().await;
        lower.faults().release();
        clear.await.unwrap().unwrap();
        assert_empty(&cache, &[upper.clone(), lower.clone()]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_clear_goes_on_past_a_tier_that_cannot_list_now_and_says_so() {
    for fault in [Fault::Fail(ErrorKind::Unavailable), Fault::Stall] {
        let tiers = three();
        let cache = stack(&tiers);
        cache.insert(KEY, "a", Draft::new()).await.unwrap();
        tiers[2].faults().on(Op::List).inject(fault);
        assert!(cache.clear().await.is_err(), "{fault:?}");
        assert_empty(&cache, &tiers).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_set_staged_before_a_clear_and_committed_after_it_stays() {
    let (tiers, origin) = (three(), Origin::default());
    let cache = stack(&tiers);
    let mut writer = cache.set_with_writer(KEY, Draft::new()).await.unwrap();
    writer.write("a").await.unwrap();
    cache.clear().await.unwrap();
    writer.commit().await.unwrap();
    assert_eq!(
        reading(&cache, origin.does(async |_| Ok(Fetched::absent())))
            .await
            .unwrap(),
        "a"
    );
}
