//! Tiers that are written behind: a set deletes there first, its bytes follow.

use larder::{Cache, Draft, ErrorKind, Fetched, Store, StoreExt, Tier};
use larder_conformance::{Fault, Faulty, Model, Op};

use crate::{
    levers::{
        Gate, KEY, breathe, deleting, evict, faulty, held, inserting, reading, seen, stalled,
    },
    support::{Origin, SECOND, clock, settle, strict},
};

fn cache(upper: &Faulty<Model>, lower: &Faulty<Model>) -> Cache {
    Cache::builder()
        .tier(upper.clone())
        .tier(Tier::new(lower.clone()).behind())
        .policy(strict())
        .clock(clock())
        .build()
        .unwrap()
}

/// Where a write behind can stand still.
const STEPS: [Op; 3] = [Op::Set, Op::Write, Op::Commit];

#[tokio::test(start_paused = true)]
async fn a_set_deletes_there_before_it_returns_and_the_bytes_follow() {
    let (upper, lower) = (faulty(), faulty());
    let cache = cache(&upper, &lower);
    cache.insert(KEY, "v1", Draft::new()).await.unwrap();
    settle(&cache).await;
    assert_eq!(held(lower.inner()).await.as_deref(), Some("v1"));
    lower.faults().on(Op::Write).inject(Fault::Stall);
    let written = cache.insert(KEY, "v2", Draft::new()).await.unwrap();
    assert_eq!(written.tiers, 2);
    assert_eq!(held(lower.inner()).await, None, "v1 is gone, v2 follows");
    assert_eq!(cache.in_flight().behind, 1);
    stalled(&lower, 1).await;
    lower.faults().release();
    settle(&cache).await;
    assert_eq!(held(lower.inner()).await.as_deref(), Some("v2"));
    evict(upper.inner()).await;
    assert_eq!(seen(&cache).await.as_deref(), Some("v2"));
}

#[tokio::test(start_paused = true)]
async fn a_set_waits_for_the_delete_there_and_not_for_the_bytes() {
    let (upper, lower) = (faulty(), faulty());
    let cache = cache(&upper, &lower);
    lower.faults().on(Op::Delete).inject(Fault::Stall);
    let set = inserting(&cache, "v1");
    stalled(&lower, 1).await;
    breathe().await;
    assert!(!set.is_finished());
    assert_eq!(held(upper.inner()).await, None, "tier 0 comes last");
    lower.faults().on(Op::Set).inject(Fault::Stall);
    lower.faults().release();
    set.await.unwrap().unwrap();
    stalled(&lower, 1).await;
    assert_eq!(seen(&cache).await.as_deref(), Some("v1"));
    lower.faults().release();
    settle(&cache).await;
}

#[tokio::test(start_paused = true)]
async fn s76_queued_bytes_never_land_after_a_delete() {
    for step in STEPS {
        for fault in [Fault::Stall, Fault::StallAfter] {
            let (upper, lower) = (faulty(), faulty());
            let cache = cache(&upper, &lower);
            lower.faults().on(step).inject(fault);
            cache.insert(KEY, "v1", Draft::new()).await.unwrap();
            stalled(&lower, 1).await;
            let delete = deleting(&cache);
            breathe().await;
            lower.faults().release();
            delete.await.unwrap().unwrap();
            settle(&cache).await;
            assert_eq!(held(lower.inner()).await, None, "{step:?} {fault:?}");
            assert_eq!(held(upper.inner()).await, None);
            assert_eq!(lower.inner().fences(), 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn s76_queued_bytes_never_land_over_a_second_set() {
    for step in STEPS {
        for fault in [Fault::Stall, Fault::StallAfter] {
            let (upper, lower) = (faulty(), faulty());
            let cache = cache(&upper, &lower);
            lower.faults().on(step).inject(fault);
            cache.insert(KEY, "v1", Draft::new()).await.unwrap();
            stalled(&lower, 1).await;
            let set = inserting(&cache, "v2");
            breathe().await;
            lower.faults().release();
            set.await.unwrap().unwrap();
            settle(&cache).await;
            for tier in [&upper, &lower] {
                assert_eq!(
                    held(tier.inner()).await.as_deref(),
                    Some("v2"),
                    "{step:?} {fault:?}"
                );
                assert_eq!(tier.inner().fences(), 0);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn s76_bytes_that_wait_for_a_worker_never_land_after_a_delete() {
    let (upper, lower) = (faulty(), faulty());
    let cache = cache(&upper, &lower);
    // All workers stand still at other keys.
    lower.faults().on(Op::Set).always(Fault::Stall);
    for other in 0..16 {
        let key = format!("other {other}");
        cache.insert(&key, "v1", Draft::new()).await.unwrap();
    }
    stalled(&lower, 16).await;
    cache.insert(KEY, "v1", Draft::new()).await.unwrap();
    breathe().await;
    assert_eq!(lower.faults().stalled(), 16, "it waits");
    cache.delete(KEY).await.unwrap();
    lower.faults().clear();
    lower.faults().release();
    settle(&cache).await;
    assert_eq!(held(lower.inner()).await, None);
    assert_eq!(lower.usage().entries, 16);
}

#[tokio::test(start_paused = true)]
async fn s76_a_fetch_during_a_queued_write_is_not_undone_by_it() {
    // Tier 0 lost the set, its bytes wait, the origin has something newer.
    let (upper, lower, origin, gate) = (faulty(), faulty(), Origin::default(), Gate::new());
    let cache = cache(&upper, &lower);
    lower.faults().on(Op::Write).inject(Fault::Stall);
    cache.insert(KEY, "v1", Draft::new()).await.unwrap();
    stalled(&lower, 1).await;
    evict(upper.inner()).await;
    let reader = reading(&cache, origin.gives_after(&gate, || Fetched::bytes("v2")));
    gate.reached().await;
    gate.open();
    assert_eq!(reader.await.unwrap(), "v2");
    breathe().await;
    lower.faults().release();
    settle(&cache).await;
    assert_eq!(held(upper.inner()).await.as_deref(), Some("v2"));
    assert_eq!(held(lower.inner()).await.as_deref(), Some("v2"));
}

#[tokio::test(start_paused = true)]
async fn a_write_behind_that_fails_leaves_no_older_copy() {
    for step in STEPS {
        for fault in [Fault::Fail(ErrorKind::Full), Fault::Stall, Fault::Panic] {
            let (upper, lower) = (faulty(), faulty());
            let cache = cache(&upper, &lower);
            cache.insert(KEY, "v1", Draft::new()).await.unwrap();
            settle(&cache).await;
            lower.faults().on(step).inject(fault);
            cache.insert(KEY, "v2", Draft::new()).await.unwrap();
            settle(&cache).await;
            assert_eq!(held(lower.inner()).await, None, "{step:?} {fault:?}");
            assert_eq!(cache.in_flight().suspects, 0);
            cache.insert(KEY, "v3", Draft::new()).await.unwrap();
            settle(&cache).await;
            assert_eq!(
                held(lower.inner()).await.as_deref(),
                Some("v3"),
                "the worker lives"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_behind_whose_delete_fails_makes_the_key_suspect_and_queues_nothing() {
    let (upper, lower) = (faulty(), faulty());
    let cache = cache(&upper, &lower);
    cache.insert(KEY, "v1", Draft::new()).await.unwrap();
    settle(&cache).await;
    lower
        .faults()
        .on(Op::Delete)
        .inject(Fault::Fail(ErrorKind::Unavailable));
    assert_eq!(
        cache.insert(KEY, "v2", Draft::new()).await.unwrap().tiers,
        1
    );
    settle(&cache).await;
    assert_eq!(
        held(lower.inner()).await.as_deref(),
        Some("v1"),
        "it could not be removed"
    );
    evict(upper.inner()).await;
    assert_eq!(seen(&cache).await, None, "and is not read");
}

#[tokio::test(start_paused = true)]
async fn bytes_beyond_the_queue_are_dropped_counted_and_leave_no_older_copy() {
    let (upper, lower) = (faulty(), faulty());
    let cache = Cache::builder()
        .tier(upper.clone())
        .tier(Tier::new(lower.clone()).behind())
        .behind_queue(8, 4)
        .policy(strict())
        .clock(clock())
        .build()
        .unwrap();
    cache.insert(KEY, "v1", Draft::new()).await.unwrap();
    settle(&cache).await;
    assert_eq!(
        cache
            .insert(KEY, "version 2", Draft::new())
            .await
            .unwrap()
            .tiers,
        1
    );
    settle(&cache).await;
    assert_eq!(held(lower.inner()).await, None);
    assert_eq!(cache.counters().behind_dropped, 1);
    cache.insert(KEY, "v3", Draft::new()).await.unwrap();
    settle(&cache).await;
    assert_eq!(
        held(lower.inner()).await.as_deref(),
        Some("v3"),
        "the bytes were given back"
    );
}

#[tokio::test(start_paused = true)]
async fn s73_a_write_behind_whose_commit_timed_out_is_not_read() {
    let (upper, lower) = (faulty(), faulty());
    let cache = cache(&upper, &lower);
    lower.faults().on(Op::Commit).inject(Fault::StallAfter);
    lower
        .faults()
        .on(Op::Delete)
        .nth(2)
        .inject(Fault::Fail(ErrorKind::Unavailable));
    cache.insert(KEY, "v1", Draft::new()).await.unwrap();
    stalled(&lower, 1).await;
    tokio::time::sleep(10 * SECOND).await;
    assert_eq!(
        held(lower.inner()).await.as_deref(),
        Some("v1"),
        "done, and said not to be"
    );
    assert_eq!(cache.in_flight().suspects, 1);
    evict(upper.inner()).await;
    assert_eq!(seen(&cache).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_last_write_behind_lands_however_writes_and_workers_interleave() {
    let (upper, lower) = (Model::new(), Model::new());
    let cache = Cache::builder()
        .tier(upper.clone())
        .tier(Tier::new(lower.clone()).behind())
        .build()
        .unwrap();
    for round in 0..2_000 {
        let bytes = round.to_string();
        cache
            .insert(KEY, bytes.clone(), Draft::new())
            .await
            .unwrap();
        if round % 4 == 0 {
            settle(&cache).await;
            assert_eq!(held(&lower).await, Some(bytes));
        }
    }
    settle(&cache).await;
    let _ = lower.exists(KEY).await;
}
