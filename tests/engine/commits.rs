//! Who comes while a flight commits, or could not use what it found.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{poll, stream};
use larder::{Cache, Draft, Fetched, Promote, Response, Tier};
use larder_conformance::{Fault, Faulty, Model, Op};
use tokio::task::JoinHandle;

use crate::{
    levers::{KEY, body, breathe, evict, faulty, held, reading, seen, stalled},
    plain::Plain,
    support::{Origin, SECOND, clock, settle, stale_is_served, strict, text},
};

#[tokio::test(start_paused = true)]
async fn a_stale_hit_below_is_refreshed_though_its_promotion_still_commits() {
    let (upper, lower, origin, time) = (faulty(), faulty(), Origin::default(), clock());
    let cache = Cache::builder()
        .tier(upper.clone())
        .tier(lower.clone())
        .policy(strict().stale_while_revalidate(60 * SECOND))
        .clock(time.clone())
        .build()
        .unwrap();
    cache.insert(KEY, "old", Draft::new()).await.unwrap();
    time.advance(61 * SECOND);
    evict(upper.inner()).await;
    upper.faults().on(Op::Commit).inject(Fault::Stall);
    let stale = reading(&cache, origin.gives("new")).await.unwrap();
    assert_eq!(stale, "old");
    stalled(&upper, 1).await;
    breathe().await;
    upper.faults().release();
    settle(&cache).await;
    assert_eq!(origin.fetches(), 1);
    for tier in [&upper, &lower] {
        assert_eq!(held(tier.inner()).await.as_deref(), Some("new"));
    }
}

#[tokio::test(start_paused = true)]
async fn s81_a_reader_that_cannot_join_a_flight_waits_for_its_commit_and_does_not_fetch() {
    let (store, origin) = (Plain::new(Model::new()), Origin::default());
    let tier = Faulty::new(store.clone());
    let cache = Cache::builder()
        .tier(tier.clone())
        .spool_memory(128 << 10)
        .spool_disk_max(0)
        .policy(strict())
        .clock(clock())
        .build()
        .unwrap();
    tier.faults().on(Op::Commit).inject(Fault::Stall);
    let long = origin.does(async |_| {
        let chunk = || Ok::<_, larder::Error>(Bytes::from(vec![b'a'; 16 << 10]));
        Ok(Fetched::stream(
            None,
            stream::iter((0..64).map(move |_| chunk())),
        ))
    });
    let first = cache.get_or_fetch(KEY, long).await.unwrap();
    stalled(&tier, 1).await;
    // What the first reader has not read yet was staged, and is lost: nobody else can join.
    store.lose_staged();
    let lost = first.into_body().unwrap().bytes(2 << 20).await;
    assert!(lost.is_err());
    let second = reading(&cache, origin.gives("fetched again"));
    breathe().await;
    tier.faults().release();
    assert_eq!(second.await.unwrap().len(), 1 << 20);
    assert_eq!(origin.fetches(), 1);
}

/// An object of this age below an empty tier 0, and a plain `get` that has just found it.
async fn found_by_a_get(age: Duration) -> (Cache, Faulty<Model>, JoinHandle<Response>) {
    let (upper, lower, time) = (faulty(), faulty(), clock());
    let cache = Cache::builder()
        .tier(upper.clone())
        .tier(Tier::new(lower.clone()).promote(Promote::Never))
        .policy(strict())
        .clock(time.clone())
        .build()
        .unwrap();
    cache.insert(KEY, "old", Draft::new()).await.unwrap();
    time.advance(age);
    evict(upper.inner()).await;
    lower.faults().on(Op::Get).inject(Fault::StallAfter);
    let first = tokio::spawn({
        let cache = cache.clone();
        async move { cache.get(KEY).await.unwrap() }
    });
    stalled(&lower, 1).await;
    (cache, lower, first)
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_does_not_accept_what_it_joined_still_fetches() {
    let (cache, lower, first) = found_by_a_get(30 * SECOND).await;
    let origin = Origin::default();
    let second = tokio::spawn({
        let (cache, fetch) = (cache.clone(), origin.gives("new"));
        async move { cache.get_or_fetch(KEY, fetch).max_age(10 * SECOND).await }
    });
    breathe().await;
    lower.faults().release();
    assert_eq!(text(first.await.unwrap()).await, "old");
    let second = second.await.unwrap().unwrap();
    assert_eq!(body(second).await.as_deref(), Some("new"));
}

#[tokio::test(start_paused = true)]
async fn a_reader_whose_object_goes_before_it_is_opened_still_fetches() {
    let (cache, lower, first) = found_by_a_get(SECOND).await;
    let origin = Origin::default();
    let second = tokio::spawn({
        let (cache, fetch) = (cache.clone(), origin.gives("new"));
        async move { cache.get_or_fetch(KEY, fetch).await }
    });
    breathe().await;
    // The first takes the object that is open, the second is to open it for itself.
    lower.faults().on(Op::Get).inject(Fault::Stall);
    lower.faults().release();
    let first = first.await.unwrap();
    stalled(&lower, 1).await;
    cache.delete(KEY).await.unwrap();
    lower.faults().release();
    assert_eq!(text(first).await, "old");
    let second = second.await.unwrap().unwrap();
    assert_eq!(body(second).await.as_deref(), Some("new"));
    settle(&cache).await;
    assert_eq!(seen(&cache).await.as_deref(), Some("new"));
}

/// The fetcher of who is served stale is for the refresh behind: were the object that is open given
/// to another, and deleted before it is opened again, nobody could fetch for that reader.
#[tokio::test(start_paused = true)]
async fn who_has_lent_its_fetcher_gets_the_object_that_is_open() {
    let (upper, lower, origin) = (faulty(), faulty(), Origin::default());
    let time = clock();
    let tiers = Cache::builder().tier(upper.clone());
    let tiers = tiers.tier(Tier::new(lower.clone()).promote(Promote::Never));
    let cache = tiers.policy(stale_is_served()).clock(time.clone());
    let cache = cache.build().unwrap();
    cache.insert(KEY, "old", Draft::new()).await.unwrap();
    evict(upper.inner()).await;
    time.advance(70 * SECOND);
    lower.faults().on(Op::Get).inject(Fault::Stall);
    let read = |fetch| {
        let cache = cache.clone();
        tokio::spawn(async move { cache.get_or_fetch(KEY, fetch).await })
    };
    // It comes first and is the last to look what was found.
    let mut lender = Box::pin(cache.get_or_fetch(KEY, origin.gives("new")).into_future());
    while cache.in_flight().flights == 0 {
        assert!(poll!(&mut lender).is_pending());
        breathe().await;
    }
    stalled(&lower, 1).await;
    let others: Vec<_> = (0..3).map(|_| read(origin.gives("new"))).collect();
    breathe().await;
    // Whoever has to open it again finds it deleted.
    lower.faults().on(Op::Get).always(Fault::Stall);
    lower.faults().release();
    breathe().await;
    cache.delete(KEY).await.unwrap();
    lower.faults().clear();
    lower.faults().release();
    assert_eq!(body(lender.await.unwrap()).await.as_deref(), Some("old"));
    for other in others {
        let read = other.await.unwrap().unwrap();
        assert_eq!(body(read).await.as_deref(), Some("new"));
    }
}
