//! Fills that find something newer in a tier, mostly from another process: two caches over one
//! shared store stand for two processes.

use larder::{Cache, Draft, ErrorKind, Fetched, Store, StoreExt, Tier};
use larder_conformance::{Fault, Faulty, Model, Op};

use crate::{
    levers::{
        Gate, KEY, breathe, evict, faulty, held, reading, refreshing, seen, small, stalled, tag,
        tagged,
    },
    support::{Origin, SECOND, clock, settle, strict},
};

/// A process: a tier of its own above the shared one.
fn process(private: &Model, shared: &Faulty<Model>) -> Cache {
    Cache::builder()
        .tier(private.clone())
        .tier(Tier::new(shared.clone()).shared())
        .policy(strict())
        .clock(clock())
        .build()
        .unwrap()
}

/// A cache over three stores that a test also writes to directly, as another process would.
fn stack(tiers: &[Faulty<Model>; 3]) -> Cache {
    let mut builder = Cache::builder().policy(strict()).clock(clock());
    for tier in tiers {
        builder = builder.tier(tier.clone());
    }
    builder.build().unwrap()
}

async fn write_beside(store: &Faulty<Model>, bytes: &'static str) {
    let commit = store.inner().write(KEY, bytes, Draft::new()).await.unwrap();
    assert!(commit.is_done());
}

fn three() -> [Faulty<Model>; 3] {
    [faulty(), faulty(), faulty()]
}

#[tokio::test(start_paused = true)]
async fn s20_a_fill_begun_before_a_delete_in_another_process_is_not_published() {
    let (here, there, shared) = (small(), small(), faulty());
    let (cache, other) = (process(&here, &shared), process(&there, &shared));
    let (origin, gate) = (Origin::default(), Gate::new());
    let reader = reading(&cache, origin.gives_after(&gate, || Fetched::bytes("old")));
    gate.reached().await;
    other.delete(KEY).await.unwrap();
    gate.open();
    assert_eq!(reader.await.unwrap(), "old");
    settle(&cache).await;
    for (name, tier) in [
        ("shared", shared.inner()),
        ("here", &here),
        ("there", &there),
    ] {
        assert_eq!(held(tier).await, None, "{name}");
        assert_eq!(tier.fences(), 0, "{name}");
    }
    assert_eq!(reading(&cache, origin.gives("new")).await.unwrap(), "new");
    settle(&cache).await;
    assert_eq!(seen(&other).await.as_deref(), Some("new"));
}

#[tokio::test(start_paused = true)]
async fn s20_a_fill_begun_before_a_set_in_another_process_is_not_published() {
    let (here, there, shared) = (small(), small(), faulty());
    let (cache, other) = (process(&here, &shared), process(&there, &shared));
    let (origin, gate) = (Origin::default(), Gate::new());
    let reader = reading(&cache, origin.gives_after(&gate, || Fetched::bytes("old")));
    gate.reached().await;
    other.insert(KEY, "new", Draft::new()).await.unwrap();
    gate.open();
    assert_eq!(reader.await.unwrap(), "old");
    settle(&cache).await;
    assert_eq!(
        held(&here).await,
        None,
        "S77: nothing stays in the private tier"
    );
    assert_eq!(seen(&cache).await.as_deref(), Some("new"));
    assert_eq!(seen(&other).await.as_deref(), Some("new"));
}

#[tokio::test(start_paused = true)]
async fn s20_a_delete_in_another_process_between_two_tiers_of_a_fill_wins_in_the_shared_one() {
    let (here, there, shared) = (faulty(), small(), faulty());
    let cache = Cache::builder()
        .tier(here.clone())
        .tier(Tier::new(shared.clone()).shared())
        .policy(strict())
        .clock(clock())
        .build()
        .unwrap();
    let (other, origin) = (process(&there, &shared), Origin::default());
    here.faults().on(Op::Commit).inject(Fault::Stall);
    assert_eq!(reading(&cache, origin.gives("old")).await.unwrap(), "old");
    stalled(&here, 1).await;
    other.delete(KEY).await.unwrap();
    here.faults().release();
    settle(&cache).await;
    assert_eq!(held(shared.inner()).await, None);
    assert_eq!(seen(&other).await, None);
}

#[tokio::test(start_paused = true)]
async fn s77_a_fill_superseded_in_a_shared_tier_in_the_middle_leaves_nothing_in_the_others() {
    let (tiers, origin, gate) = (three(), Origin::default(), Gate::new());
    let cache = Cache::builder()
        .tier(tiers[0].clone())
        .tier(Tier::new(tiers[1].clone()).shared())
        .tier(tiers[2].clone())
        .policy(strict())
        .clock(clock())
        .build()
        .unwrap();
    let reader = reading(&cache, origin.gives_after(&gate, || Fetched::bytes("old")));
    gate.reached().await;
    write_beside(&tiers[1], "new").await;
    gate.open();
    assert_eq!(reader.await.unwrap(), "old");
    settle(&cache).await;
    assert_eq!(held(tiers[0].inner()).await, None);
    assert_eq!(held(tiers[2].inner()).await, None);
    assert_eq!(cache.tiers()[1].counters.superseded, 1);
    assert_eq!(seen(&cache).await.as_deref(), Some("new"));
}

#[tokio::test(start_paused = true)]
async fn s77_a_fill_superseded_above_takes_back_what_it_published_below() {
    let (tiers, origin, gate) = (three(), Origin::default(), Gate::new());
    let cache = stack(&tiers);
    let reader = reading(&cache, origin.gives_after(&gate, || Fetched::bytes("old")));
    gate.reached().await;
    write_beside(&tiers[1], "new").await;
    gate.open();
    assert_eq!(reader.await.unwrap(), "old");
    settle(&cache).await;
    assert_eq!(held(tiers[2].inner()).await, None, "taken back");
    assert_eq!(
        held(tiers[1].inner()).await.as_deref(),
        Some("new"),
        "left alone"
    );
    assert_eq!(held(tiers[0].inner()).await, None, "aborted");
    for (report, tier) in cache.tiers().iter().zip(&tiers) {
        assert_eq!(report.counters.fills, 0);
        assert_eq!(tier.inner().fences(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn s77_a_fill_superseded_above_takes_back_what_it_queued_to_be_written_behind() {
    let (tiers, origin, gate) = (three(), Origin::default(), Gate::new());
    let cache = Cache::builder()
        .tier(tiers[0].clone())
        .tier(tiers[1].clone())
        .tier(Tier::new(tiers[2].clone()).behind())
        .policy(strict())
        .clock(clock())
        .build()
        .unwrap();
    let reader = reading(&cache, origin.gives_after(&gate, || Fetched::bytes("old")));
    gate.reached().await;
    write_beside(&tiers[1], "new").await;
    gate.open();
    assert_eq!(reader.await.unwrap(), "old");
    settle(&cache).await;
    assert_eq!(held(tiers[2].inner()).await, None);
    assert_eq!(seen(&cache).await.as_deref(), Some("new"));
}

#[tokio::test(start_paused = true)]
async fn s77_what_cannot_be_taken_back_is_suspect() {
    for op in [Op::Fence, Op::Stat, Op::Delete] {
        let (tiers, origin, gate) = (three(), Origin::default(), Gate::new());
        let cache = stack(&tiers);
        let reader = reading(&cache, origin.gives_after(&gate, || Fetched::bytes("old")));
        gate.reached().await;
        write_beside(&tiers[1], "new").await;
        tiers[2]
            .faults()
            .on(op)
            .inject(Fault::Fail(ErrorKind::Unavailable));
        gate.open();
        assert_eq!(reader.await.unwrap(), "old");
        settle(&cache).await;
        assert_eq!(cache.in_flight().suspects, 1, "{op:?}");
        tiers[1].inner().remove(KEY).await.unwrap();
        assert_eq!(
            seen(&cache).await,
            None,
            "{op:?}: it is there, but not read"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn s77_a_refresh_superseded_in_the_shared_tier_leaves_no_older_copy_above() {
    let (here, there, shared) = (small(), small(), faulty());
    let (cache, other) = (process(&here, &shared), process(&there, &shared));
    let (origin, gate) = (Origin::default(), Gate::new());
    cache.insert(KEY, "v1", Draft::new()).await.unwrap();
    let fresh = refreshing(&cache, origin.gives_after(&gate, || Fetched::bytes("v2")));
    gate.reached().await;
    other.insert(KEY, "v3", Draft::new()).await.unwrap();
    gate.open();
    assert_eq!(fresh.await.unwrap(), "v2");
    settle(&cache).await;
    assert_eq!(
        seen(&cache).await.as_deref(),
        Some("v3"),
        "not v1: v2 was seen here"
    );
    assert_eq!(here.fences() + shared.inner().fences(), 0);
}

#[tokio::test(start_paused = true)]
async fn s15_taking_back_leaves_a_newer_object_alone() {
    // Something newer lands in the lowest tier before the fill notices that it is superseded.
    let (tiers, origin) = (three(), Origin::default());
    let cache = stack(&tiers);
    tiers[1].faults().on(Op::Commit).inject(Fault::Stall);
    assert_eq!(reading(&cache, origin.gives("old")).await.unwrap(), "old");
    stalled(&tiers[1], 1).await;
    write_beside(&tiers[2], "new").await;
    write_beside(&tiers[1], "new").await;
    tiers[1].faults().release();
    settle(&cache).await;
    for tier in &tiers[1..] {
        assert_eq!(held(tier.inner()).await.as_deref(), Some("new"));
    }
}

#[tokio::test(start_paused = true)]
async fn s15_taking_back_leaves_an_object_alone_that_lands_while_it_looks() {
    for op in [Op::Stat, Op::Delete] {
        let (tiers, origin, gate) = (three(), Origin::default(), Gate::new());
        let cache = stack(&tiers);
        let reader = reading(&cache, origin.gives_after(&gate, || Fetched::bytes("old")));
        gate.reached().await;
        write_beside(&tiers[1], "new").await;
        let fault = if op == Op::Stat {
            Fault::StallAfter
        } else {
            Fault::Stall
        };
        tiers[2].faults().on(op).inject(fault);
        gate.open();
        assert_eq!(reader.await.unwrap(), "old");
        stalled(&tiers[2], 1).await;
        write_beside(&tiers[2], "new").await;
        tiers[2].faults().release();
        settle(&cache).await;
        for tier in &tiers[1..] {
            assert_eq!(held(tier.inner()).await.as_deref(), Some("new"), "{op:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn s15_removing_the_older_copy_leaves_a_newer_object_alone() {
    // The tier refuses the fetched object, so that only the older copy is to go.
    let (upper, lower, origin, gate) = (faulty(), faulty(), Origin::default(), Gate::new());
    let cache = Cache::builder()
        .tier(upper.clone())
        .tier(Tier::new(lower.clone()).object_max(4))
        .policy(strict())
        .clock(clock())
        .build()
        .unwrap();
    cache.insert(KEY, "v1", Draft::new()).await.unwrap();
    let fetch = origin.gives_after(&gate, || Fetched::bytes("version 2"));
    let fresh = refreshing(&cache, fetch);
    gate.reached().await;
    write_beside(&lower, "v3").await;
    gate.open();
    assert_eq!(fresh.await.unwrap(), "version 2");
    settle(&cache).await;
    assert_eq!(held(lower.inner()).await.as_deref(), Some("v3"));
    assert_eq!(seen(&cache).await.as_deref(), Some("v3"));
}

#[tokio::test(start_paused = true)]
async fn s17_a_304_does_not_renew_what_another_process_replaced() {
    let (here, there, shared, time) = (small(), small(), faulty(), clock());
    let process = |private: &Model| {
        Cache::builder()
            .tier(private.clone())
            .tier(Tier::new(shared.clone()).shared())
            .policy(strict())
            .clock(time.clone())
            .build()
            .unwrap()
    };
    let (cache, other) = (process(&here), process(&there));
    let (origin, gate) = (Origin::default(), Gate::new());
    cache.insert(KEY, "old", tagged("v1")).await.unwrap();
    time.advance(61 * SECOND);
    let fetch = origin.gives_after(&gate, || Fetched::not_modified().ttl(1000 * SECOND));
    let reader = reading(&cache, fetch);
    gate.reached().await;
    other.insert(KEY, "new", tagged("v2")).await.unwrap();
    gate.open();
    assert_eq!(reader.await.unwrap(), "old", "as its origin said");
    settle(&cache).await;
    let metadata = shared.inner().stat(larder::Key::new(KEY).unwrap());
    let metadata = metadata.await.unwrap().unwrap();
    assert_eq!(
        (metadata.etag.clone(), metadata.ttl),
        (Some(tag("v2")), Some(60 * SECOND))
    );
    assert_eq!(
        reading(&cache, origin.gives("unused")).await.unwrap(),
        "new"
    );
    settle(&cache).await;
    assert_eq!(held(&here).await.as_deref(), Some("new"), "and promoted");
}

#[tokio::test(start_paused = true)]
async fn s17_a_renewal_that_is_superseded_counts_no_fill() {
    let (tiers, origin, gate, time) = (three(), Origin::default(), Gate::new(), clock());
    let mut builder = Cache::builder().policy(strict()).clock(time.clone());
    for tier in &tiers {
        builder = builder.tier(tier.clone());
    }
    let cache = builder.build().unwrap();
    cache.insert(KEY, "old", tagged("v1")).await.unwrap();
    let fills = cache.tiers()[2].counters.fills;
    time.advance(61 * SECOND);
    let reader = reading(&cache, origin.gives_after(&gate, Fetched::not_modified));
    gate.reached().await;
    write_beside(&tiers[1], "new").await;
    gate.open();
    assert_eq!(reader.await.unwrap(), "old");
    settle(&cache).await;
    assert_eq!(cache.tiers()[2].counters.fills, fills);
    assert_eq!(held(tiers[1].inner()).await.as_deref(), Some("new"));
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_fails_to_open_does_not_hide_that_the_fill_is_superseded() {
    // The shared tier has something newer, and does not let the fill write.
    let (here, there, shared) = (small(), small(), faulty());
    let (cache, other) = (process(&here, &shared), process(&there, &shared));
    let (origin, gate) = (Origin::default(), Gate::new());
    let reader = reading(&cache, origin.gives_after(&gate, || Fetched::bytes("old")));
    gate.reached().await;
    other.insert(KEY, "new", Draft::new()).await.unwrap();
    shared
        .faults()
        .on(Op::Set)
        .inject(Fault::Fail(ErrorKind::Full));
    gate.open();
    assert_eq!(reader.await.unwrap(), "old");
    settle(&cache).await;
    assert_eq!(seen(&cache).await.as_deref(), Some("new"));
    assert_eq!(held(&here).await.as_deref(), Some("new"));
}

#[tokio::test(start_paused = true)]
async fn a_private_copy_is_not_promoted_into_the_shared_tier_above_it() {
    // What another process has deleted from the shared tier is not there again.
    let (here, shared, disk, there) = (small(), faulty(), small(), small());
    let cache = Cache::builder()
        .tier(here.clone())
        .tier(Tier::new(shared.clone()).shared())
        .tier(disk.clone())
        .policy(strict())
        .clock(clock())
        .build()
        .unwrap();
    let other = process(&there, &shared);
    cache.insert(KEY, "old", Draft::new()).await.unwrap();
    other.delete(KEY).await.unwrap();
    evict(&here).await;
    let _ = seen(&cache).await;
    settle(&cache).await;
    breathe().await;
    assert_eq!(held(shared.inner()).await, None);
    assert_eq!(seen(&other).await, None);
}
