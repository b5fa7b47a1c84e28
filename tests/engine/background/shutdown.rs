//! S46: close beside work that is queued, running, or just being asked for.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, future::join_all, stream};
use larder::{Cache, Draft, Error, Fetched, InFlight, Result, Store, Tier, Written};
use larder_conformance::{Fault, Faulty, Model, Op};
use tokio::{sync::oneshot, task::JoinHandle, time::Instant};

use super::{make_stale, patient_with_stale};
use crate::support::{Origin, SECOND, assert_clean, faulty, impatient, text};

const KEYS: [&str; 5] = ["a", "b", "c", "d", "e"];

#[tokio::test(start_paused = true)]
async fn s46_close_with_a_full_queue_of_refreshes_ends_at_once() {
    let store = faulty();
    let (cache, clock) = patient_with_stale();
    let cache = cache.refreshes(1, 4).tier(store.clone()).build().unwrap();
    make_stale(&cache, &clock, &KEYS).await;
    for key in KEYS {
        let stuck = Origin::default().does(async |_| std::future::pending().await);
        assert!(
            cache
                .get_or_fetch(key, stuck)
                .await
                .unwrap()
                .status()
                .is_stale()
        );
    }
    assert_eq!(
        (
            cache.in_flight().refreshes,
            cache.counters().refreshes_dropped
        ),
        (4, 1)
    );
    let began = Instant::now();
    cache.close().await.unwrap();
    assert_eq!(
        began.elapsed(),
        Duration::ZERO,
        "nobody waits for a refresh"
    );
    assert_eq!(cache.in_flight(), InFlight::default());
    assert_clean(&store);
}

/// A cache with a tier behind, and more writes queued for it than run at once.
async fn with_queue(lower: &Faulty<Model>) -> Cache {
    let behind = Tier::new(lower.clone()).behind();
    let cache = impatient()
        .close_timeout(3 * SECOND)
        .tier(faulty())
        .tier(behind);
    let cache = cache.build().unwrap();
    for number in 0..40 {
        let written = cache.insert(&format!("k{number}"), "x", Draft::new()).await;
        assert_eq!(written.unwrap().tiers, 2);
    }
    cache
}

#[tokio::test(start_paused = true)]
async fn s46_close_writes_what_waits_to_be_written_behind() {
    let lower = faulty();
    lower
        .faults()
        .on(Op::Commit)
        .always(Fault::Delay(SECOND / 2));
    let cache = with_queue(&lower).await;
    assert_eq!(cache.in_flight().behind, 40);
    cache.close().await.unwrap();
    assert_eq!(
        (lower.usage().entries, cache.tiers()[1].counters.fills),
        (40, 40)
    );
    assert_eq!(cache.in_flight(), InFlight::default());
}

#[tokio::test(start_paused = true)]
async fn s46_close_cuts_writes_behind_that_do_not_end_in_time() {
    let lower = faulty();
    lower.faults().on(Op::Commit).always(Fault::Stall);
    let cache = with_queue(&lower).await;
    let began = Instant::now();
    assert!(cache.close().await.unwrap_err().is_timeout());
    assert_eq!(began.elapsed(), 3 * SECOND);
    tokio::task::yield_now().await;
    assert_eq!(cache.in_flight(), InFlight::default(), "they were cut");
    assert_clean(&lower);
}

#[tokio::test(start_paused = true)]
async fn s46_all_who_close_wait_for_the_same_end() {
    let store = faulty();
    store.faults().on(Op::Commit).inject(Fault::Delay(SECOND));
    let cache = impatient().tier(store.clone()).build().unwrap();
    let began = Instant::now();
    let inserted = insert(&cache, &store).await;
    let (first, second) = tokio::join!(async { (cache.close().await, began.elapsed()) }, async {
        (cache.clone().close().await, began.elapsed())
    },);
    assert_eq!(inserted.await.unwrap().unwrap().tiers, 1);
    for (closed, elapsed) in [first, second] {
        closed.unwrap();
        assert_eq!(elapsed, SECOND);
    }
    cache.close().await.unwrap();
    assert_eq!(store.faults().calls(Op::Close), 1);
}

#[tokio::test(start_paused = true)]
async fn s46_a_close_that_is_dropped_goes_on_and_can_be_waited_for_again() {
    let store = faulty();
    store.faults().on(Op::Commit).inject(Fault::Delay(SECOND));
    let cache = impatient().tier(store.clone()).build().unwrap();
    let inserted = insert(&cache, &store).await;
    let dropped = tokio::time::timeout(SECOND / 2, cache.close()).await;
    assert!(dropped.is_err());
    assert!(cache.get("a").await.unwrap_err().is_closed());
    assert_eq!(inserted.await.unwrap().unwrap().tiers, 1);
    tokio::time::sleep(SECOND).await;
    assert_eq!(store.faults().calls(Op::Close), 1, "it went on by itself");
    cache.close().await.unwrap();
    assert_eq!(store.faults().calls(Op::Close), 1);
}

/// Inserts, and waits until the store is asked to commit.
async fn insert(cache: &Cache, store: &Faulty<Model>) -> JoinHandle<Result<Written>> {
    let cache = cache.clone();
    let insert = tokio::spawn(async move { cache.insert("a", "new", Draft::new()).await });
    while store.faults().calls(Op::Commit) == 0 {
        tokio::task::yield_now().await;
    }
    insert
}

/// What every operation may say while the cache is being closed.
fn done_or_closed<T>(result: Result<T>) {
    if let Err(error) = result {
        assert!(error.is_closed(), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s46_close_races_all_that_can_be_asked_for() {
    for _ in 0..30 {
        let lower = Tier::new(Model::new().lazy()).behind();
        let cache = impatient().tier(Model::new()).tier(lower).build().unwrap();
        let client = |number: usize| {
            let cache = cache.clone();
            tokio::spawn(async move {
                for round in 0..20 {
                    let key = format!("k{}", (number + round) % 4);
                    let fetch = Origin::default().gives("fetched");
                    match (number + round) % 5 {
                        0 => done_or_closed(cache.insert(&key, "set", Draft::new()).await),
                        1 => done_or_closed(cache.delete(&key).await),
                        2 => done_or_closed(cache.refresh(&key, fetch).await),
                        3 => done_or_closed(cache.stat(&key).await),
                        _ => done_or_closed(cache.get_or_fetch(&key, fetch).await),
                    }
                }
            })
        };
        let clients: Vec<_> = (0..4).map(client).collect();
        tokio::task::yield_now().await;
        cache.close().await.unwrap();
        for client in join_all(clients).await {
            client.unwrap();
        }
        // A straggler's refusal may have to be cleaned up yet; what it leaves is no key.
        let left = cache.in_flight();
        assert_eq!((left.turns, left.refreshes, left.behind), (0, 0, 0));
        assert!(cache.get("k0").await.unwrap_err().is_closed());
    }
}

/// A refresh that was begun behind, and a reader that joined it and has read its first bytes.
async fn joined_refresh() -> (Cache, oneshot::Sender<()>, larder::Body) {
    let (cache, clock) = patient_with_stale();
    let cache = cache.tier(faulty()).build().unwrap();
    make_stale(&cache, &clock, &["a"]).await;
    let (more, waits) = oneshot::channel();
    let rest = stream::once(async { waits.await.map_err(|_| Error::invalid("forgotten")) });
    let rest = rest.map(|rest| rest.map(|()| Bytes::from_static(b"new")));
    let first = stream::iter([Ok(Bytes::from_static(b"brand "))]);
    let fetch = Origin::default().does(async |_| Ok(Fetched::stream(None, first.chain(rest))));
    assert!(
        cache
            .get_or_fetch("a", fetch)
            .await
            .unwrap()
            .status()
            .is_stale()
    );
    tokio::task::yield_now().await;
    let unused = Origin::default().gives("not wanted");
    let joined = cache
        .get_or_fetch("a", unused)
        .max_age(SECOND)
        .await
        .unwrap();
    assert!(joined.status().is_joined());
    let mut body = joined.into_body().unwrap();
    assert_eq!(body.chunk().await.unwrap().unwrap(), "brand ");
    (cache, more, body)
}

#[tokio::test(start_paused = true)]
async fn s46_a_refresh_that_has_a_reader_survives_the_last_handle() {
    let (cache, more, mut body) = joined_refresh().await;
    drop(cache);
    tokio::time::sleep(SECOND).await;
    more.send(()).unwrap();
    assert_eq!(body.chunk().await.unwrap().unwrap(), "new");
    assert!(body.chunk().await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn s46_close_lets_a_refresh_that_has_a_reader_end_within_the_deadline() {
    let (cache, more, body) = joined_refresh().await;
    let closing = tokio::spawn({
        let cache = cache.clone();
        async move { cache.close().await }
    });
    tokio::time::sleep(SECOND).await;
    more.send(()).unwrap();
    assert_eq!(body.bytes(64).await.unwrap(), "new");
    closing.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn s46_the_last_handle_stops_refreshes_and_ends_what_was_acknowledged() {
    let lower = faulty();
    lower.faults().on(Op::Commit).always(Fault::Delay(SECOND));
    let cache = with_queue(&lower).await;
    assert_eq!(text(cache.get("k0").await.unwrap()).await, "x");
    drop(cache);
    tokio::time::sleep(10 * SECOND).await;
    assert_eq!(lower.usage().entries, 40);
}
