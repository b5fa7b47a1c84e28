//! Many readers of one flight, each at its own pace, in bounded memory.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, future::join_all, stream};
use larder::{Cache, Draft, ErrorKind, Fetched, Response, StoreExt, Tier};
use larder_conformance::{Fault, Faulty, Model, Op, Setup};
use tokio::time::{Instant, sleep};

use crate::{
    plain::Plain,
    source::{Ledger, chunks, feed, pattern, streamed, to_the_end, whole},
    support::{Origin, SECOND, memory, settle, strict},
};

const KIB: usize = 1 << 10;
const CHUNK: usize = 16 * KIB;
/// The least that a window may have.
const WINDOW: usize = 128 * KIB;
const MILLI: Duration = Duration::from_millis(1);

/// A tier that takes no object whose length is known.
fn refusing() -> Tier {
    Tier::new(memory()).object_max(0)
}

/// A cache with one tier, the smallest window, and its spill files where they can be counted.
fn cache(tier: impl Into<Tier>) -> (Cache, Arc<tempfile::TempDir>) {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let builder = Cache::builder().tier(tier).policy(strict());
    let builder = builder.spool_memory(WINDOW as u64).spool_dir(dir.path());
    (builder.build().unwrap(), dir)
}

/// A source that gives a counted chunk every so often.
fn paced(object: &Bytes, every: Duration, ledger: &Ledger) -> Fetched {
    let ledger = ledger.clone();
    let chunks = stream::iter(chunks(object, CHUNK)).then(move |chunk| {
        let ledger = ledger.clone();
        async move {
            sleep(every).await;
            Ok::<_, larder::Error>(ledger.counts(chunk))
        }
    });
    Fetched::stream(Some(object.len() as u64), chunks)
}

/// Reads to the end, with a pause after each chunk, and compares every byte.
async fn read_at_pace(response: Response, pause: Duration, object: Bytes) {
    let mut body = response.into_body().unwrap();
    let mut at = 0;
    while let Some(chunk) = body.chunk().await.unwrap() {
        assert_eq!(chunk, object.slice(at..at + chunk.len()));
        at += chunk.len();
        drop(chunk);
        if !pause.is_zero() {
            sleep(pause).await;
        }
    }
    assert_eq!(at, object.len());
}

/// 1,000 readers of one object that comes in 320 ms: most keep up, every tenth takes up to thrice
/// as long, the first never reads.
async fn a_thousand_readers(tier: impl Into<Tier>) -> Cache {
    let (cache, _dir) = cache(tier);
    let (object, ledger) = (pattern(32 * CHUNK), Ledger::default());
    let source = paced(&object, 10 * MILLI, &ledger);
    let fetch = Origin::default().does(async move |_| Ok(source));
    let stopped = cache.get_or_fetch("a", fetch).await.unwrap();
    let began = Instant::now();
    let readers = (0..1_000_u32).map(|number| {
        let (cache, object) = (cache.clone(), object.clone());
        let pause = match number % 10 {
            0 => MILLI * (number / 40),
            quick => MILLI * quick,
        };
        tokio::spawn(async move {
            let response = cache.get("a").await.unwrap();
            assert!(response.status().is_joined());
            read_at_pace(response, pause, object).await;
        })
    });
    for reader in join_all(readers).await {
        reader.unwrap();
    }
    let took = began.elapsed();
    assert!(took < 32 * 30 * MILLI, "slowed down: {took:?}");
    assert!(ledger.peak() <= WINDOW, "{} bytes held", ledger.peak());
    assert_eq!(whole(stopped).await, object, "though it reads at last");
    settle(&cache).await;
    cache
}

#[tokio::test(start_paused = true)]
async fn s26_a_thousand_readers_of_what_a_tier_takes_go_at_their_own_pace() {
    let cache = a_thousand_readers(memory()).await;
    assert_eq!(cache.counters().spilled_bytes, 0, "the tier stages it");
}

#[tokio::test(start_paused = true)]
async fn s26_a_thousand_readers_of_what_no_tier_takes_go_at_their_own_pace() {
    let cache = a_thousand_readers(refusing()).await;
    assert!(cache.counters().spilled_bytes > 0);
    assert_eq!(cache.counters().readers_cut, 0);
}

#[tokio::test(start_paused = true)]
async fn s35_a_first_caller_that_never_reads_does_not_slow_the_others() {
    for tier in [Tier::new(memory()), refusing()] {
        let (cache, _dir) = cache(tier);
        let object = pattern(64 * CHUNK);
        let source = paced(&object, MILLI, &Ledger::default());
        let fetch = Origin::default().does(async move |_| Ok(source));
        let unread = cache.get_or_fetch("a", fetch).await.unwrap();
        let began = Instant::now();
        let second = cache.get("a").await.unwrap();
        read_at_pace(second, Duration::ZERO, object).await;
        assert!(began.elapsed() < 128 * MILLI, "{:?}", began.elapsed());
        drop(unread);
    }
}

#[tokio::test(start_paused = true)]
async fn s27_a_reader_that_joins_when_nine_tenths_have_passed_gets_all_of_it() {
    let object = pattern(100 * CHUNK);
    for tier in [Tier::new(memory()), Tier::new(Model::new())] {
        let (cache, _dir) = cache(tier);
        let (feed, fetched) = feed(Some(object.len() as u64));
        let fetch = Origin::default().does(async move |_| Ok(fetched));
        let first = cache.get_or_fetch("a", fetch).await.unwrap();
        let mut first = first.into_body().unwrap();
        for chunk in chunks(&object.slice(..90 * CHUNK), CHUNK) {
            feed.gives(chunk.clone());
            assert_eq!(first.chunk().await.unwrap().unwrap(), chunk);
        }
        let late = cache.get("a").await.unwrap();
        assert!(late.status().is_joined());
        for chunk in chunks(&object.slice(90 * CHUNK..), CHUNK) {
            feed.gives(chunk);
        }
        drop(feed);
        let rest = tokio::spawn(async move { first.bytes(1 << 30).await.unwrap() });
        assert_eq!(whole(late).await, object);
        assert_eq!(rest.await.unwrap(), object.slice(90 * CHUNK..));
    }
}

#[tokio::test(start_paused = true)]
async fn s79_followers_get_every_byte_though_staging_fails_half_way() {
    let object = pattern(64 * CHUNK);
    for fault in [Fault::Fail(ErrorKind::Full), Fault::Stall, Fault::Panic] {
        let store = Faulty::new(memory());
        let (cache, _dir) = cache(store.clone());
        store.faults().on(Op::Write).nth(32).inject(fault);
        let body = object.clone();
        let fetch = Origin::default().does(async move |_| Ok(streamed(&body, CHUNK)));
        let quick = cache.get_or_fetch("a", fetch).await.unwrap();
        let slow = cache.get("a").await.unwrap();
        assert_eq!(whole(quick).await, object, "{fault:?}");
        assert_eq!(whole(slow).await, object, "{fault:?}");
        assert!(cache.counters().spilled_bytes > 0, "the rest was spilled");
        settle(&cache).await;
        assert!(cache.get("a").await.unwrap().is_absent());
    }
}

#[tokio::test(start_paused = true)]
async fn s79_followers_get_every_byte_though_the_entry_is_evicted_or_deleted() {
    let object = pattern(64 * CHUNK);
    for evicts in [true, false] {
        let store = Model::with(Setup::new(2 << 20, 2 << 20));
        let (cache, _dir) = cache(store.clone());
        let body = object.clone();
        let fetch = Origin::default().does(async move |_| Ok(streamed(&body, CHUNK)));
        let slow = cache.get_or_fetch("a", fetch).await.unwrap();
        settle(&cache).await;
        assert!(store.exists("a").await.unwrap());
        if evicts {
            drop(store.write("b", object.clone(), Draft::new()).await);
        } else {
            cache.delete("a").await.unwrap();
        }
        assert!(!store.exists("a").await.unwrap());
        assert_eq!(whole(slow).await, object, "evicted: {evicts}");
    }
}

#[tokio::test(start_paused = true)]
async fn s79_followers_read_from_another_tier_what_one_has_lost() {
    let object = pattern(64 * CHUNK);
    let (losing, keeping) = (Plain::new(Model::new()), Model::new());
    let (_, dir) = cache(memory());
    let builder = Cache::builder().tier(losing.clone()).tier(keeping);
    let builder = builder.spool_memory(WINDOW as u64).spool_dir(dir.path());
    let cache = builder.build().unwrap();
    let body = object.clone();
    let fetch = Origin::default().does(async move |_| Ok(streamed(&body, CHUNK)));
    let slow = cache.get_or_fetch("a", fetch).await.unwrap();
    settle(&cache).await;
    losing.lose_staged();
    assert_eq!(whole(slow).await, object);
}

#[tokio::test(start_paused = true)]
async fn s79_what_is_lost_everywhere_is_an_error_and_never_a_clean_end() {
    let object = pattern(64 * CHUNK);
    let losing = Plain::new(Model::new());
    let (cache, _dir) = cache(losing.clone());
    // Of no declared length, so that nothing but the flight knows where the end is.
    let (feed, fetched) = feed(None);
    let fetch = Origin::default().does(async move |_| Ok(fetched));
    let slow = cache.get_or_fetch("a", fetch).await.unwrap();
    for chunk in chunks(&object, CHUNK) {
        feed.gives(chunk);
    }
    drop(feed);
    settle(&cache).await;
    losing.lose_staged();
    let (bytes, end) = to_the_end(slow).await;
    assert!(end.unwrap_err().is_corrupt());
    assert!(object.starts_with(&bytes));
    let next = cache.get("a").await.unwrap();
    assert_eq!(whole(next).await, object, "the entry itself is whole");
}

#[tokio::test(start_paused = true)]
async fn s80_past_the_spill_limit_a_reader_that_blocks_fails_and_the_others_go_on() {
    let builder = Cache::builder().tier(refusing()).policy(strict());
    let builder = builder.spool_memory(WINDOW as u64).idle_timeout(5 * SECOND);
    let dir = tempfile::tempdir().unwrap();
    let builder = builder.spool_disk_max(256 << 10).spool_dir(dir.path());
    let cache = builder.build().unwrap();
    let (object, ledger) = (pattern(128 * CHUNK), Ledger::default());
    let (origin, source) = (Origin::default(), paced(&object, MILLI, &ledger));
    let fetch = origin.does(async move |_| Ok(source));
    let stuck = cache.get_or_fetch("a", fetch).await.unwrap();
    let reading = cache.get("a").await.unwrap();
    let began = Instant::now();
    assert_eq!(whole(reading).await, object);
    let took = began.elapsed();
    assert!(took > 5 * SECOND && took < 6 * SECOND, "{took:?}");
    assert!(ledger.peak() <= WINDOW, "{} bytes held", ledger.peak());
    let counters = cache.counters();
    assert!(counters.spilled_bytes > 0 && counters.spilled_bytes <= 256 << 10);
    assert_eq!((counters.readers_cut, counters.spill_refused), (1, 1));
    let (bytes, end) = to_the_end(stuck).await;
    assert!(end.unwrap_err().is_timeout());
    assert!(object.starts_with(&bytes));
    settle(&cache).await;
    assert_eq!(ledger.now(), 0, "nothing is held any more");
}

#[tokio::test(start_paused = true)]
async fn s80_once_bytes_are_gone_nobody_joins_and_a_newcomer_fetches_for_itself() {
    let dir = tempfile::tempdir().unwrap();
    let builder = Cache::builder().tier(refusing()).policy(strict());
    let builder = builder.spool_memory(WINDOW as u64).spool_dir(dir.path());
    let cache = builder.spool_disk_max(0).build().unwrap();
    let object = pattern(64 * CHUNK);
    let origin = Origin::default();
    let (feed, fetched) = feed(Some(object.len() as u64));
    let fetch = origin.does(async move |_| Ok(fetched));
    let first = cache.get_or_fetch("a", fetch).await.unwrap();
    let mut first = first.into_body().unwrap();
    for chunk in chunks(&object.slice(..32 * CHUNK), CHUNK) {
        feed.gives(chunk.clone());
        assert_eq!(first.chunk().await.unwrap().unwrap(), chunk);
    }
    let body = object.clone();
    let fetch = origin.does(async move |_| Ok(streamed(&body, CHUNK)));
    let newcomer = cache.get_or_fetch("a", fetch).await.unwrap();
    assert!(!newcomer.status().is_joined());
    assert_eq!(whole(newcomer).await, object);
    feed.gives(object.slice(32 * CHUNK..));
    drop(feed);
    assert_eq!(
        first.bytes(1 << 30).await.unwrap(),
        object.slice(32 * CHUNK..)
    );
    assert_eq!(origin.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn s80_where_nothing_can_be_spilled_the_slowest_sets_the_pace_and_all_get_all() {
    let builder = Cache::builder().tier(refusing()).policy(strict());
    let builder = builder.spool_memory(WINDOW as u64);
    let dir = tempfile::tempdir().unwrap();
    let cache = builder.spool_dir(dir.path()).build().unwrap();
    drop(dir);
    let (object, ledger) = (pattern(64 * CHUNK), Ledger::default());
    let source = paced(&object, MILLI, &ledger);
    let fetch = Origin::default().does(async move |_| Ok(source));
    let first = cache.get_or_fetch("a", fetch).await.unwrap();
    let second = cache.get("a").await.unwrap();
    let began = Instant::now();
    let slow = tokio::spawn(read_at_pace(first, 20 * MILLI, object.clone()));
    read_at_pace(second, Duration::ZERO, object).await;
    assert!(began.elapsed() > 50 * 20 * MILLI, "it waits for the other");
    slow.await.unwrap();
    assert!(ledger.peak() <= WINDOW, "{} bytes held", ledger.peak());
    assert_eq!(cache.counters().spill_refused, 1);
    settle(&cache).await;
    assert_eq!(cache.usage()[0].entries, 0);
}
