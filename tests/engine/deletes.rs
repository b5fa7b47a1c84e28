//! What is deleted stays deleted, whatever was under way.

use futures_util::FutureExt;
use larder::{Cache, Draft, Fetched, Key, Store};
use larder_conformance::{Fault, Faulty, Model, Op};

use crate::{
    levers::{
        Gate, KEY, body, breathe, deleting, evict, faulty, halves, held, inserting, reading, seen,
        small, stalled, tag, tagged,
    },
    support::{Origin, SECOND, clock, settle, strict},
};

fn stack(tiers: &[Faulty<Model>]) -> Cache {
    let mut builder = Cache::builder().policy(strict()).clock(clock());
    for tier in tiers {
        builder = builder.tier(tier.clone());
    }
    builder.build().unwrap()
}

fn three() -> [Faulty<Model>; 3] {
    [faulty(), faulty(), faulty()]
}

async fn assert_gone(cache: &Cache, tiers: &[Faulty<Model>]) {
    settle(cache).await;
    assert_eq!(seen(cache).await, None, "through the cache");
    for (index, tier) in tiers.iter().enumerate() {
        assert_eq!(held(tier.inner()).await, None, "in tier {index}");
        assert_eq!(tier.inner().fences(), 0, "fences of tier {index}");
    }
}

#[tokio::test(start_paused = true)]
async fn s13_a_delete_during_a_fill_that_streams_stays() {
    let (tiers, origin, gate) = (three(), Origin::default(), Gate::new());
    let cache = stack(&tiers);
    let middle = gate.clone();
    let reader = reading(
        &cache,
        origin.does(async move |_| Ok(halves(&middle, "a", "b"))),
    );
    gate.reached().await;
    cache.delete(KEY).await.unwrap();
    gate.open();
    assert_eq!(reader.await.unwrap(), "ab");
    assert_gone(&cache, &tiers).await;
}

#[tokio::test(start_paused = true)]
async fn s13_a_delete_between_two_tiers_of_a_fill_stays() {
    for slow in 0..3 {
        let (tiers, origin) = (three(), Origin::default());
        let cache = stack(&tiers);
        tiers[slow].faults().on(Op::Commit).inject(Fault::Stall);
        assert_eq!(reading(&cache, origin.gives("a")).await.unwrap(), "a");
        stalled(&tiers[slow], 1).await;
        let delete = deleting(&cache);
        breathe().await;
        tiers[slow].faults().release();
        delete.await.unwrap().unwrap();
        assert_gone(&cache, &tiers).await;
    }
}

#[tokio::test(start_paused = true)]
async fn s13_a_delete_between_two_tiers_of_a_set_stays() {
    for slow in 0..3 {
        let tiers = three();
        let cache = stack(&tiers);
        tiers[slow].faults().on(Op::Commit).inject(Fault::Stall);
        let set = inserting(&cache, "a");
        stalled(&tiers[slow], 1).await;
        let delete = deleting(&cache);
        breathe().await;
        assert!(!delete.is_finished(), "it takes its turn");
        tiers[slow].faults().release();
        assert_eq!(set.await.unwrap().unwrap(), 3);
        delete.await.unwrap().unwrap();
        assert_gone(&cache, &tiers).await;
    }
}

#[tokio::test(start_paused = true)]
async fn s13_a_delete_during_a_commit_that_never_ends_waits_for_the_time_out_and_stays() {
    for fault in [Fault::Stall, Fault::StallAfter] {
        let tiers = three();
        let cache = stack(&tiers);
        tiers[1].faults().on(Op::Commit).inject(fault);
        let set = inserting(&cache, "a");
        stalled(&tiers[1], 1).await;
        tokio::time::timeout(6 * SECOND, cache.delete(KEY))
            .await
            .expect("bounded by the tier's time-out")
            .unwrap();
        assert_eq!(set.await.unwrap().unwrap(), 2, "without the slow tier");
        tiers[1].faults().release();
        assert_gone(&cache, &tiers).await;
    }
}

#[tokio::test(start_paused = true)]
async fn s13_a_delete_during_a_promotion_that_streams_stays() {
    let (tiers, origin) = (three(), Origin::default());
    let cache = stack(&tiers);
    cache.insert(KEY, "a", Draft::new()).await.unwrap();
    evict(tiers[0].inner()).await;
    evict(tiers[1].inner()).await;
    tiers[2].faults().on(Op::Body).inject(Fault::Stall);
    let reader = reading(&cache, origin.gives("unused"));
    stalled(&tiers[2], 1).await;
    cache.delete(KEY).await.unwrap();
    tiers[2].faults().release();
    assert_eq!(
        reader.await.unwrap(),
        "a",
        "an open body is read to its end"
    );
    assert_gone(&cache, &tiers).await;
}

#[tokio::test(start_paused = true)]
async fn s13_a_delete_while_a_promotion_commits_stays() {
    for slow in 0..2 {
        let (tiers, origin) = (three(), Origin::default());
        let cache = stack(&tiers);
        cache.insert(KEY, "a", Draft::new()).await.unwrap();
        evict(tiers[0].inner()).await;
        evict(tiers[1].inner()).await;
        tiers[slow].faults().on(Op::Commit).inject(Fault::Stall);
        assert_eq!(reading(&cache, origin.gives("unused")).await.unwrap(), "a");
        stalled(&tiers[slow], 1).await;
        let delete = deleting(&cache);
        breathe().await;
        tiers[slow].faults().release();
        delete.await.unwrap().unwrap();
        assert_gone(&cache, &tiers).await;
    }
}

#[tokio::test(start_paused = true)]
async fn s13_a_promotion_that_begins_between_two_tiers_of_a_delete_brings_nothing_back() {
    let (tiers, origin) = (three(), Origin::default());
    let cache = stack(&tiers);
    cache.insert(KEY, "a", Draft::new()).await.unwrap();
    evict(tiers[0].inner()).await;
    tiers[1].faults().on(Op::Delete).inject(Fault::Stall);
    let delete = deleting(&cache);
    stalled(&tiers[1], 1).await;
    assert_eq!(held(tiers[2].inner()).await, None, "bottom-up");
    // The delete has not returned: what is read now may still be the object.
    assert_eq!(reading(&cache, origin.gives("unused")).await.unwrap(), "a");
    breathe().await;
    tiers[1].faults().release();
    delete.await.unwrap().unwrap();
    assert_gone(&cache, &tiers).await;
}

#[tokio::test(start_paused = true)]
async fn s13_a_fetch_that_begins_between_two_tiers_of_a_delete_brings_nothing_back() {
    let (tiers, origin, gate) = (three(), Origin::default(), Gate::new());
    let cache = stack(&tiers);
    tiers[1].faults().on(Op::Delete).inject(Fault::Stall);
    let delete = deleting(&cache);
    stalled(&tiers[1], 1).await;
    let reader = reading(&cache, origin.gives_after(&gate, || Fetched::bytes("a")));
    gate.reached().await;
    tiers[1].faults().release();
    delete.await.unwrap().unwrap();
    gate.open();
    assert_eq!(reader.await.unwrap(), "a");
    assert_gone(&cache, &tiers).await;
}

#[test]
fn s13_a_write_or_delete_that_was_cut_off_takes_place_before_what_follows() {
    // One worker runs the newest task first, so that only the turns keep the order.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let task = runtime.spawn(async {
        let tier = Faulty::new(small());
        let cache = Cache::builder().tier(tier.clone()).build().unwrap();
        let mut writer = cache.set_with_writer(KEY, Draft::new()).await.unwrap();
        writer.write("a").await.unwrap();
        tier.faults().on(Op::Commit).inject(Fault::Stall);
        begin(writer.commit());
        let delete = deleting(&cache);
        breathe().await;
        tier.faults().release();
        delete.await.unwrap().unwrap();
        breathe().await;
        assert_eq!(held(tier.inner()).await, None, "the delete came later");

        tier.faults().on(Op::Delete).inject(Fault::Stall);
        begin(cache.delete(KEY));
        let insert = inserting(&cache, "b");
        breathe().await;
        tier.faults().release();
        insert.await.unwrap().unwrap();
        breathe().await;
        let last = held(tier.inner()).await;
        assert_eq!(last.as_deref(), Some("b"), "the set came later");
    });
    runtime.block_on(task).unwrap();
}

/// Polls once, and goes away.
fn begin<T>(operation: impl Future<Output = T>) {
    assert!(operation.now_or_never().is_none());
}

#[tokio::test(start_paused = true)]
async fn s14_a_conditional_read_that_begins_after_a_delete_is_never_not_modified() {
    let (tiers, origin) = (three(), Origin::default());
    let cache = stack(&tiers);
    cache.insert(KEY, "a", tagged("v1")).await.unwrap();
    evict(tiers[0].inner()).await;
    tiers[1].faults().on(Op::Get).inject(Fault::StallAfter);
    let before = reading(&cache, origin.gives("unused"));
    stalled(&tiers[1], 1).await;
    cache.delete(KEY).await.unwrap();
    let after = cache.get(KEY).if_none_match(tag("v1")).await.unwrap();
    assert!(after.is_absent());
    tiers[1].faults().release();
    assert_eq!(before.await.unwrap(), "a");
    assert_gone(&cache, &tiers).await;
}

#[tokio::test(start_paused = true)]
async fn s14_a_conditional_read_that_a_delete_overtakes_is_not_not_modified() {
    let (tiers, origin) = (three(), Origin::default());
    let cache = stack(&tiers);
    cache.insert(KEY, "a", tagged("v1")).await.unwrap();
    evict(tiers[0].inner()).await;
    for fetches in [false, true] {
        cache.insert(KEY, "a", tagged("v1")).await.unwrap();
        evict(tiers[0].inner()).await;
        tiers[1].faults().on(Op::Get).inject(Fault::StallAfter);
        let read = tokio::spawn({
            let (cache, fetch) = (cache.clone(), origin.gives("new"));
            async move {
                if fetches {
                    cache
                        .get_or_fetch(KEY, fetch)
                        .if_none_match(tag("v1"))
                        .await
                } else {
                    cache.get(KEY).if_none_match(tag("v1")).await
                }
            }
        });
        stalled(&tiers[1], 1).await;
        cache.delete(KEY).await.unwrap();
        tiers[1].faults().release();
        let answer = read.await.unwrap().unwrap();
        assert!(!answer.is_not_modified());
        let expected = fetches.then(|| "new".to_owned());
        assert_eq!(body(answer).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn s17_a_304_for_an_object_that_was_replaced_meanwhile_leaves_the_new_one_alone() {
    for deleted in [false, true] {
        let (tiers, origin, gate, time) = (three(), Origin::default(), Gate::new(), clock());
        let mut builder = Cache::builder().policy(strict()).clock(time.clone());
        for tier in &tiers {
            builder = builder.tier(tier.clone());
        }
        let cache = builder.build().unwrap();
        cache.insert(KEY, "old", tagged("v1")).await.unwrap();
        time.advance(61 * SECOND);
        let fetch = origin.gives_after(&gate, || Fetched::not_modified().ttl(1000 * SECOND));
        let reader = reading(&cache, fetch);
        gate.reached().await;
        if deleted {
            cache.delete(KEY).await.unwrap();
        } else {
            cache.insert(KEY, "new", tagged("v2")).await.unwrap();
        }
        gate.open();
        assert_eq!(reader.await.unwrap(), "old", "as its origin said");
        if deleted {
            assert_gone(&cache, &tiers).await;
            continue;
        }
        settle(&cache).await;
        for tier in &tiers {
            assert_eq!(held(tier.inner()).await.as_deref(), Some("new"));
            let key = Key::new(KEY).unwrap();
            let metadata = tier.inner().stat(key).await.unwrap().unwrap();
            assert_eq!(metadata.etag, Some(tag("v2")));
            assert_eq!(metadata.ttl, Some(60 * SECOND));
            assert_eq!(tier.inner().fences(), 0);
        }
    }
}
