//! Commits and deletes go bottom-up, shared tiers first, and leave no older copy behind.

use larder::{Cache, Draft, ErrorKind, Fetched, Tier};
use larder_conformance::{Fault, Faulty, Model, Op, Setup};

use crate::{
    levers::{
        KEY, breathe, deleting, evict, faulty, held, inserting, reading, seen, small, stalled,
    },
    support::{Origin, SECOND, clock, settle, strict},
};

/// Four tiers of which the second is shared.
fn four() -> (Cache, [Faulty<Model>; 4]) {
    let tiers = [faulty(), faulty(), faulty(), faulty()];
    let mut builder = Cache::builder().policy(strict()).clock(clock());
    for (index, tier) in tiers.iter().enumerate() {
        let tier = Tier::new(tier.clone());
        builder = builder.tier(if index == 1 { tier.shared() } else { tier });
    }
    (builder.build().unwrap(), tiers)
}

/// The shared tier, then bottom-up, tier 0 last.
const ORDER: [usize; 4] = [1, 3, 2, 0];

/// Stalls `op` in one tier after the other, and sees which tiers came before.
async fn assert_order(cache: &Cache, tiers: &[Faulty<Model>; 4], op: Op) {
    for (position, &slow) in ORDER.iter().enumerate() {
        let before = tiers.each_ref().map(|tier| tier.faults().calls(op));
        tiers[slow].faults().on(op).inject(Fault::Stall);
        let work = match op {
            Op::Commit => tokio::spawn({
                let set = inserting(cache, "a");
                async move { set.await.unwrap().map(drop) }
            }),
            _ => deleting(cache),
        };
        stalled(&tiers[slow], 1).await;
        breathe().await;
        for (other, &tier) in ORDER.iter().enumerate() {
            let calls = tiers[tier].faults().calls(op) - before[tier];
            let expected = u64::from(other <= position);
            assert_eq!(
                calls, expected,
                "{op:?} in tier {tier} while {slow} is at it"
            );
        }
        tiers[slow].faults().release();
        work.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn commits_go_to_shared_tiers_first_and_then_bottom_up() {
    let (cache, tiers) = four();
    assert_order(&cache, &tiers, Op::Commit).await;
}

#[tokio::test(start_paused = true)]
async fn deletes_go_to_shared_tiers_first_and_then_bottom_up() {
    let (cache, tiers) = four();
    assert_order(&cache, &tiers, Op::Delete).await;
}

#[tokio::test(start_paused = true)]
async fn fills_go_to_shared_tiers_first_and_then_bottom_up() {
    let (cache, tiers) = four();
    for (position, &slow) in ORDER.iter().enumerate() {
        tiers[slow].faults().on(Op::Commit).inject(Fault::Stall);
        let origin = Origin::default();
        assert_eq!(reading(&cache, origin.gives("a")).await.unwrap(), "a");
        stalled(&tiers[slow], 1).await;
        for (other, &tier) in ORDER.iter().enumerate() {
            let expected = (other < position).then_some("a");
            assert_eq!(held(tiers[tier].inner()).await.as_deref(), expected);
        }
        tiers[slow].faults().release();
        settle(&cache).await;
        cache.delete(KEY).await.unwrap();
    }
}

fn two(upper: &Faulty<Model>, lower: &Faulty<Model>) -> Cache {
    let tiers = Cache::builder().tier(upper.clone()).tier(lower.clone());
    tiers.policy(strict()).clock(clock()).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn s19_a_set_whose_copy_in_tier_0_is_evicted_is_read_from_below() {
    let (upper, lower) = (faulty(), faulty());
    let cache = two(&upper, &lower);
    cache.insert(KEY, "v1", Draft::new()).await.unwrap();
    cache.insert(KEY, "v2", Draft::new()).await.unwrap();
    evict(upper.inner()).await;
    assert_eq!(seen(&cache).await.as_deref(), Some("v2"));
}

#[tokio::test(start_paused = true)]
async fn s19_a_set_that_the_lower_tier_fails_leaves_no_older_copy_there() {
    for op in [Op::Set, Op::Write, Op::Commit] {
        for fault in [Fault::Fail(ErrorKind::Full), Fault::Stall, Fault::Panic] {
            let (upper, lower) = (faulty(), faulty());
            let cache = two(&upper, &lower);
            cache.insert(KEY, "v1", Draft::new()).await.unwrap();
            lower.faults().on(op).inject(fault);
            let written = cache.insert(KEY, "v2", Draft::new()).await.unwrap();
            assert_eq!(written.tiers, 1, "{op:?} {fault:?}");
            assert_eq!(held(lower.inner()).await, None, "{op:?} {fault:?}");
            evict(upper.inner()).await;
            assert_eq!(seen(&cache).await, None, "{op:?} {fault:?}");
            assert_eq!(lower.inner().fences() + upper.inner().fences(), 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn s70_a_reader_from_below_during_a_set_never_brings_the_older_object_back() {
    let (upper, lower, origin) = (faulty(), faulty(), Origin::default());
    let cache = two(&upper, &lower);
    cache.insert(KEY, "v1", Draft::new()).await.unwrap();
    evict(upper.inner()).await;
    // The reader opens v1 below, and is about to promote it.
    lower.faults().on(Op::Body).inject(Fault::Stall);
    let reader = reading(&cache, origin.gives("unused"));
    stalled(&lower, 1).await;
    cache.insert(KEY, "v2", Draft::new()).await.unwrap();
    evict(upper.inner()).await;
    lower.faults().release();
    assert_eq!(reader.await.unwrap(), "v1", "it began before");
    settle(&cache).await;
    assert_eq!(held(upper.inner()).await, None);
    assert_eq!(seen(&cache).await.as_deref(), Some("v2"));
}

#[tokio::test(start_paused = true)]
async fn s70_a_reader_from_below_between_two_tiers_of_a_set_never_brings_the_older_object_back() {
    for slow in [0, 1] {
        let (tiers, origin) = ([faulty(), faulty()], Origin::default());
        let cache = two(&tiers[0], &tiers[1]);
        cache.insert(KEY, "v1", Draft::new()).await.unwrap();
        tiers[slow].faults().on(Op::Commit).inject(Fault::Stall);
        let set = inserting(&cache, "v2");
        stalled(&tiers[slow], 1).await;
        evict(tiers[0].inner()).await;
        let during = reading(&cache, origin.gives("unused")).await.unwrap();
        assert_eq!(during, if slow == 0 { "v2" } else { "v1" });
        breathe().await;
        tiers[slow].faults().release();
        set.await.unwrap().unwrap();
        assert_eq!(seen(&cache).await.as_deref(), Some("v2"));
        settle(&cache).await;
        for tier in &tiers {
            assert_eq!(held(tier.inner()).await.as_deref(), Some("v2"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn s70_a_set_while_a_promotion_commits_wins() {
    let (upper, lower, origin) = (faulty(), faulty(), Origin::default());
    let cache = two(&upper, &lower);
    cache.insert(KEY, "v1", Draft::new()).await.unwrap();
    evict(upper.inner()).await;
    upper.faults().on(Op::Commit).inject(Fault::Stall);
    assert_eq!(reading(&cache, origin.gives("unused")).await.unwrap(), "v1");
    stalled(&upper, 1).await;
    let set = inserting(&cache, "v2");
    breathe().await;
    assert_eq!(
        held(lower.inner()).await.as_deref(),
        Some("v1"),
        "its turn has not come"
    );
    upper.faults().release();
    set.await.unwrap().unwrap();
    settle(&cache).await;
    for tier in [&upper, &lower] {
        assert_eq!(held(tier.inner()).await.as_deref(), Some("v2"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s71_after_many_sets_at_once_every_tier_has_the_same() {
    for _ in 0..20 {
        let tiers = [
            Model::new().lazy(),
            Model::new().lazy(),
            Model::new().lazy(),
        ];
        let mut builder = Cache::builder().policy(strict());
        for tier in &tiers {
            builder = builder.tier(tier.clone());
        }
        let cache = builder.build().unwrap();
        let sets = ["a", "b", "c", "d"].map(|bytes| inserting(&cache, bytes));
        for set in sets {
            assert_eq!(set.await.unwrap().unwrap(), 3);
        }
        let first = held(&tiers[0]).await;
        assert!(first.is_some());
        for tier in &tiers {
            assert_eq!(held(tier).await, first);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn s71_of_two_sets_at_once_the_one_whose_turn_comes_later_is_in_every_tier() {
    let tiers = [faulty(), faulty(), faulty()];
    let mut builder = Cache::builder().policy(strict()).clock(clock());
    for tier in &tiers {
        builder = builder.tier(tier.clone());
    }
    let cache = builder.build().unwrap();
    tiers[1].faults().on(Op::Commit).inject(Fault::Stall);
    let first = inserting(&cache, "a");
    stalled(&tiers[1], 1).await;
    let second = inserting(&cache, "b");
    breathe().await;
    tiers[1].faults().release();
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
    for tier in 0..3 {
        assert_eq!(
            seen(&cache).await.as_deref(),
            Some("b"),
            "with {tier} tiers empty"
        );
        assert_eq!(held(tiers[tier].inner()).await.as_deref(), Some("b"));
        settle(&cache).await;
        for upper in &tiers[..=tier] {
            evict(upper.inner()).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn s72_a_set_that_tier_0_refuses_as_too_large_removes_the_older_object_there() {
    let by_store = || Tier::new(Model::with(Setup::new(4096, 4)).whole());
    let by_setting = || Tier::new(small()).object_max(4);
    let uppers: [fn() -> Tier; 2] = [by_store, by_setting];
    for upper in uppers {
        for declared in [true, false] {
            let tiers = Cache::builder().tier(upper()).tier(small());
            let cache = tiers.policy(strict()).clock(clock()).build().unwrap();
            cache.insert(KEY, "v1", Draft::new()).await.unwrap();
            let draft = if declared {
                Draft::new().len(9)
            } else {
                Draft::new()
            };
            let mut writer = cache.set_with_writer(KEY, draft).await.unwrap();
            writer.write("version 2").await.unwrap();
            assert_eq!(writer.commit().await.unwrap().tiers, 1);
            assert_eq!(cache.usage()[0].entries, 0);
            assert_eq!(seen(&cache).await.as_deref(), Some("version 2"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn s72_a_fetched_object_that_a_tier_does_not_take_removes_the_older_one_there() {
    let (upper, lower, origin) = (faulty(), faulty(), Origin::default());
    let cache = two(&upper, &lower);
    for op in [Op::Set, Op::Write, Op::Commit] {
        cache.insert(KEY, "v1", Draft::new()).await.unwrap();
        lower
            .faults()
            .on(op)
            .inject(Fault::Fail(ErrorKind::TooLarge));
        let fresh = cache.refresh(KEY, origin.gives("v2")).await.unwrap();
        drop(fresh);
        settle(&cache).await;
        assert_eq!(held(lower.inner()).await, None, "{op:?}");
        assert_eq!(held(upper.inner()).await.as_deref(), Some("v2"), "{op:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn s73_a_commit_that_timed_out_but_was_done_is_removed_before_the_set_returns() {
    let (upper, lower) = (faulty(), faulty());
    let cache = two(&upper, &lower);
    lower.faults().on(Op::Commit).inject(Fault::StallAfter);
    assert_eq!(inserting(&cache, "v1").await.unwrap().unwrap(), 1);
    assert_eq!(held(lower.inner()).await, None);
    assert_eq!(
        cache.insert(KEY, "v2", Draft::new()).await.unwrap().tiers,
        2
    );
    lower.faults().release();
    breathe().await;
    assert_eq!(held(lower.inner()).await.as_deref(), Some("v2"));
}

#[tokio::test(start_paused = true)]
async fn s75_an_absence_that_only_tier_0_stores_leaves_no_older_copy_below() {
    let (upper, lower, origin, time) = (small(), small(), Origin::default(), clock());
    let cache = Cache::builder()
        .tier(upper.clone())
        .tier(Tier::new(lower.clone()).negatives(false))
        .policy(
            strict()
                .negative_ttl(60 * SECOND)
                .stale_if_error(600 * SECOND),
        )
        .clock(time.clone())
        .build()
        .unwrap();
    cache.insert(KEY, "v1", Draft::new()).await.unwrap();
    time.advance(61 * SECOND);
    let absent = origin.does(async |_| Ok(Fetched::absent()));
    assert!(cache.get_or_fetch(KEY, absent).await.unwrap().is_absent());
    settle(&cache).await;
    assert_eq!(
        held(&upper).await.as_deref(),
        Some(""),
        "the absence is stored"
    );
    assert_eq!(held(&lower).await, None);
    evict(&upper).await;
    assert_eq!(seen(&cache).await, None);
}

#[tokio::test(start_paused = true)]
async fn s75_an_answer_that_nobody_stores_leaves_no_older_copy() {
    type Answer = fn() -> Fetched;
    let answers: [Answer; 2] = [Fetched::absent, || Fetched::bytes("v2").no_store()];
    for answer in answers {
        let (upper, lower, origin) = (faulty(), faulty(), Origin::default());
        let cache = two(&upper, &lower);
        cache.insert(KEY, "v1", Draft::new()).await.unwrap();
        let fetch = origin.does(async move |_| Ok(answer()));
        drop(cache.refresh(KEY, fetch).await.unwrap());
        settle(&cache).await;
        for tier in [&upper, &lower] {
            assert_eq!(held(tier.inner()).await, None);
        }
        assert_eq!(seen(&cache).await, None);
    }
}
