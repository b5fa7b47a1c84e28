//! When a flight spills, and what becomes of it when it cannot.

use std::{sync::mpsc, time::Duration};

use bytes::Bytes;
use larder::{ByteRange, Cache, Fetched, Memory, Response, Tier};
use larder_conformance::{Model, Setup};
use tokio::{
    runtime::{self, Runtime},
    task::spawn_blocking,
    time::{sleep, timeout},
};

use crate::{
    source::{chunks, feed, pattern, streamed, to_the_end, whole},
    support::{Origin, SECOND, memory, put, settle, strict},
};

const KIB: usize = 1 << 10;
const CHUNK: usize = 16 * KIB;
/// The least that a window may have.
const WINDOW: usize = 128 * KIB;
/// The longest that a test may take; nothing is asserted by it but that it ends.
const LIMIT: Duration = Duration::from_secs(60);

/// A tier that takes no object whose length is known.
fn refusing() -> Tier {
    Tier::new(memory()).object_max(0)
}

/// A runtime with one blocking thread, which is busy until the sender is dropped.
fn busy(mut builder: runtime::Builder) -> (Runtime, mpsc::Sender<()>) {
    let builder = builder.enable_all().max_blocking_threads(1);
    let runtime = builder.build().unwrap();
    let (sender, receiver) = mpsc::channel::<()>();
    runtime.spawn_blocking(move || receiver.recv());
    (runtime, sender)
}

fn runtimes() -> [runtime::Builder; 2] {
    [
        runtime::Builder::new_current_thread(),
        runtime::Builder::new_multi_thread(),
    ]
}

/// A cache for an object that no tier takes. Its flights may be silent for a second.
fn hasty() -> Cache {
    let builder = Cache::builder().tier(refusing()).policy(strict());
    let builder = builder.spool_memory(WINDOW as u64).idle_timeout(SECOND);
    builder.build().unwrap()
}

async fn fetch(cache: &Cache, object: &Bytes) -> Response {
    let object = object.clone();
    let fetch = Origin::default().does(async move |_| Ok(streamed(&object, CHUNK)));
    cache.get_or_fetch("a", fetch).await.unwrap()
}

async fn read_at_pace(response: Response, pause: Duration) -> Bytes {
    let mut body = response.into_body().unwrap();
    let mut all = Vec::new();
    while let Some(chunk) = body.chunk().await.unwrap() {
        all.extend_from_slice(&chunk);
        sleep(pause).await;
    }
    all.into()
}

#[test]
fn s87_a_single_reader_gets_everything_while_all_blocking_threads_are_busy() {
    for builder in runtimes() {
        let (runtime, busy) = busy(builder);
        runtime.block_on(async {
            let (cache, object) = (hasty(), pattern(200 * CHUNK));
            let read = async { whole(fetch(&cache, &object).await).await };
            let read = timeout(LIMIT, read).await.expect("it ends by itself");
            assert_eq!(read, object);
            assert_eq!(cache.counters().readers_cut, 0);
            cache.close().await.unwrap();
        });
        drop(busy);
    }
}

#[test]
fn s87_two_readers_get_everything_while_all_blocking_threads_are_busy() {
    for builder in runtimes() {
        let (runtime, busy) = busy(builder);
        runtime.block_on(async {
            let (cache, object) = (hasty(), pattern(100 * CHUNK));
            let slow = fetch(&cache, &object).await;
            let quick = fetch(&cache, &object).await;
            assert!(quick.status().is_joined());
            let both = async {
                tokio::join!(
                    read_at_pace(slow, Duration::from_millis(1)),
                    read_at_pace(quick, Duration::ZERO)
                )
            };
            let (slow, quick) = timeout(LIMIT, both).await.expect("it ends by itself");
            assert_eq!((&slow, &quick), (&object, &object));
            assert_eq!(cache.counters().spill_refused, 1);
        });
        drop(busy);
    }
}

#[test]
fn s87_a_reader_that_stops_fails_and_the_other_gets_everything() {
    for builder in runtimes() {
        let (runtime, busy) = busy(builder);
        runtime.block_on(async {
            let (cache, object) = (hasty(), pattern(100 * CHUNK));
            let stopped = fetch(&cache, &object).await;
            let quick = fetch(&cache, &object).await;
            let read = timeout(LIMIT, whole(quick)).await;
            assert_eq!(read.expect("it ends by itself"), object);
            let (bytes, end) = to_the_end(stopped).await;
            assert!(end.unwrap_err().is_timeout());
            assert!(object.starts_with(&bytes));
            settle(&cache).await;
        });
        drop(busy);
    }
}

/// Many may still be here when the threads are free again.
#[tokio::test(start_paused = true)]
async fn s87_a_thread_that_is_busy_for_a_moment_costs_nothing() {
    let (free, wait) = mpsc::channel::<()>();
    drop(spawn_blocking(move || wait.recv()));
    let (cache, object) = (hasty(), pattern(100 * CHUNK));
    let slow = fetch(&cache, &object).await;
    let quick = fetch(&cache, &object).await;
    drop(free);
    assert_eq!(whole(quick).await, object);
    assert_eq!(whole(slow).await, object);
    assert!(cache.counters().spilled_bytes > 0);
    assert_eq!(cache.counters().spill_refused, 0);
}

#[tokio::test(start_paused = true)]
async fn s94_a_reader_at_its_own_pace_spills_nothing_whatever_the_chunks() {
    for chunk in [100, CHUNK, 64 * KIB, 200 * KIB] {
        let builder = Cache::builder().tier(refusing()).policy(strict());
        let cache = builder.spool_memory(WINDOW as u64).build().unwrap();
        let object = pattern(64 * CHUNK);
        let body = object.clone();
        let fetch = Origin::default().does(async move |_| Ok(streamed(&body, chunk)));
        let response = cache.get_or_fetch("a", fetch).await.unwrap();
        let read = read_at_pace(response, Duration::from_micros(100)).await;
        assert_eq!(read, object);
        let counters = cache.counters();
        assert_eq!((counters.spilled_bytes, counters.spill_refused), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn s94_hits_that_a_hotter_store_refuses_spill_nothing() {
    let object = pattern(5 << 20);
    let colder = Model::with(Setup::new(8 << 20, 8 << 20)).chunked(CHUNK);
    put(&colder, object.clone()).await;
    // The store refuses it, and its tier does not know that before.
    let hotter = Memory::new(2 << 20);
    let builder = Cache::builder().tier(hotter).tier(colder).policy(strict());
    let cache = builder.spool_memory(WINDOW as u64).build().unwrap();
    for pause in [Duration::ZERO, Duration::from_millis(1)] {
        let response = cache.get("a").await.unwrap();
        assert_eq!(read_at_pace(response, pause).await, object);
        settle(&cache).await;
        let range = ByteRange::try_from(1_000..2_000).unwrap();
        let part = whole(cache.get("a").range(range).await.unwrap()).await;
        assert_eq!(part, object.slice(1_000..2_000));
        settle(&cache).await;
    }
    assert_eq!(cache.counters().spilled_bytes, 0);
}

#[tokio::test(start_paused = true)]
async fn s94_a_reader_that_lags_and_catches_up_again_and_again_gets_every_byte() {
    let builder = Cache::builder().tier(refusing()).policy(strict());
    let builder = builder.spool_memory(WINDOW as u64);
    let cache = builder.spool_disk_max(64 << 20).build().unwrap();
    let object = pattern(512 * CHUNK);
    let (source, fetched) = feed(None);
    let fetch = Origin::default().does(async move |_| Ok(fetched));
    let response = cache.get_or_fetch("a", fetch).await.unwrap();
    let (mut slow, mut quick) = (response.into_body().unwrap(), {
        let joined = cache.get("a").await.unwrap();
        joined.into_body().unwrap()
    });
    let (mut at, mut spilled) = (0, Vec::new());
    for batch in chunks(&object, 64 * CHUNK) {
        for chunk in chunks(&batch, CHUNK) {
            source.gives(chunk);
        }
        // Every other time the second keeps up with the first.
        let keeps_up = spilled.len() % 2 == 0;
        let mut seen = 0;
        for body in [&mut quick, &mut slow] {
            let mut got = 0;
            while !keeps_up && got < batch.len() {
                let chunk = body.chunk().await.unwrap().unwrap();
                let from = at + got;
                assert_eq!(chunk, object.slice(from..from + chunk.len()));
                got += chunk.len();
            }
        }
        while keeps_up && seen < batch.len() {
            let chunk = quick.chunk().await.unwrap().unwrap();
            assert_eq!(chunk, object.slice(at + seen..at + seen + chunk.len()));
            seen += chunk.len();
            let mut got = 0;
            while got < chunk.len() {
                got += slow.chunk().await.unwrap().unwrap().len();
            }
            assert_eq!(got, chunk.len());
        }
        at += batch.len();
        spilled.push(cache.counters().spilled_bytes);
    }
    drop(source);
    assert_eq!(spilled[0], 0, "both keep up");
    assert!(spilled[1] > spilled[0], "one lags");
    assert_eq!(spilled[2], spilled[1], "both keep up again");
    assert!(spilled[7] > spilled[6]);
    assert!(slow.chunk().await.unwrap().is_none());
    assert_eq!(cache.counters().spill_refused, 0);
}

#[tokio::test(start_paused = true)]
async fn s94_all_spill_files_stay_within_their_total_and_give_it_back() {
    let builder = Cache::builder().tier(refusing()).policy(strict());
    let builder = builder.spool_memory(WINDOW as u64).idle_timeout(5 * SECOND);
    let cache = builder.spool_disk_total(1 << 20).build().unwrap();
    let object = pattern(56 * CHUNK);
    let start = async |key| {
        let body = object.clone();
        let fetch = Origin::default().does(async move |_| Ok(streamed(&body, CHUNK)));
        cache.get_or_fetch(key, fetch).await.unwrap()
    };
    let first = start("a").await;
    assert_eq!(whole(cache.get("a").await.unwrap()).await, object);
    let spilled = cache.counters().spilled_bytes;
    assert!(spilled > 0);
    let second = start("b").await;
    assert_eq!(whole(cache.get("b").await.unwrap()).await, object);
    let counters = cache.counters();
    assert!(counters.spilled_bytes <= 1 << 20);
    assert_eq!(
        (counters.spill_refused, counters.readers_cut),
        (1, 1),
        "the second flight finds no room"
    );
    assert_eq!(whole(first).await, object, "the first has its bytes");
    assert!(to_the_end(second).await.1.unwrap_err().is_timeout());
    settle(&cache).await;
    let third = start("c").await;
    assert_eq!(whole(cache.get("c").await.unwrap()).await, object);
    assert_eq!(whole(third).await, object, "the room was given back");
}

#[tokio::test(start_paused = true)]
async fn s94_what_nobody_needs_any_more_closes_the_flight_and_a_newcomer_fetches() {
    let builder = Cache::builder().tier(refusing()).policy(strict());
    let cache = builder.spool_memory(WINDOW as u64).build().unwrap();
    let (object, origin) = (pattern(64 * CHUNK), Origin::default());
    let (source, fetched) = feed(Some(object.len() as u64));
    let fetch = origin.does(async move |_| Ok(fetched));
    let first = cache.get_or_fetch("a", fetch).await.unwrap();
    let mut first = first.into_body().unwrap();
    for (number, chunk) in chunks(&object, CHUNK).into_iter().enumerate() {
        source.gives(chunk.clone());
        assert_eq!(first.chunk().await.unwrap().unwrap(), chunk);
        if number == 2 {
            let early = cache.get("a").await.unwrap();
            assert!(early.status().is_joined(), "the window has all of it");
        }
    }
    let body = object.clone();
    let fetch = origin.does(async move |_| Ok::<Fetched, _>(streamed(&body, CHUNK)));
    let late = cache.get_or_fetch("a", fetch).await.unwrap();
    assert!(!late.status().is_joined());
    assert_eq!(whole(late).await, object);
    drop(source);
    assert!(first.chunk().await.unwrap().is_none());
    assert_eq!((origin.fetches(), cache.counters().spilled_bytes), (2, 0));
}
