//! Callers outside of the cache's runtime, and runtimes that a cache cannot do with.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, future::join, stream};
use larder::{ByteRange, Cache, Disk, Draft, Error, Fetched, Memory, Tier};
use larder_conformance::{Fault, Faulty, Model, Op};
use tokio::runtime::{Builder, Handle};

use super::{KIB, assert_no_panic, block_on, count_panics, home, timeless};
use crate::{
    source::{chunks, pattern, whole},
    support::{Origin, SECOND, strict},
};

/// A store of somebody's own that waits by tokio's ambient timer, wherever it is polled.
fn drowsy() -> Faulty<Model> {
    let store = Faulty::new(Model::new().chunked(64 * KIB));
    for op in [
        Op::Get,
        Op::Body,
        Op::Set,
        Op::Write,
        Op::Commit,
        Op::Delete,
        Op::Stat,
        Op::Fence,
    ] {
        let delay = Fault::Delay(Duration::from_millis(1));
        store.faults().on(op).always(delay);
    }
    store
}

/// A source that waits by tokio's ambient timer, as a client of an origin does.
fn slow(object: &Bytes) -> Fetched {
    let chunks = stream::iter(chunks(object, 64 * KIB)).then(async |chunk| {
        tokio::time::sleep(Duration::from_millis(1)).await;
        Ok::<_, Error>(chunk)
    });
    Fetched::stream(Some(object.len() as u64), chunks)
}

/// Reads, writes, deletes: whatever a caller polls.
async fn use_it(cache: &Cache) {
    let (small, large) = (pattern(100), pattern(700 * KIB));
    let stored = cache.insert("small", small.clone(), Draft::new()).await;
    assert!(stored.unwrap().tiers > 0);
    let mut writer = cache.set_with_writer("large", Draft::new()).await.unwrap();
    for chunk in chunks(&large, 50 * KIB) {
        writer.write(chunk).await.unwrap();
    }
    assert!(writer.commit().await.unwrap().tiers > 0);
    for (key, object) in [("small", &small), ("large", &large)] {
        let metadata = cache.stat(key).await.unwrap().unwrap();
        assert_eq!(metadata.len(), object.len() as u64);
        assert_eq!(whole(cache.get(key).await.unwrap()).await, *object);
        let range = ByteRange::try_from(10..90).unwrap();
        let part = cache.get(key).range(range).await.unwrap();
        assert_eq!(whole(part).await, object.slice(10..90));
    }
    let origin = Origin::default();
    let object = large.clone();
    let fetch = origin.does(async move |_| Ok(slow(&object)));
    let fetched = cache.get_or_fetch("fetched", fetch).await.unwrap();
    assert_eq!(whole(fetched).await, large);
    let fetch = origin.does(async |_| {
        tokio::time::sleep(Duration::from_millis(1)).await;
        Ok(Fetched::bytes("new"))
    });
    let refreshed = cache.refresh("small", fetch).await.unwrap();
    assert_eq!(whole(refreshed).await, "new");
    for key in ["small", "large", "fetched"] {
        cache.delete(key).await.unwrap();
        assert!(cache.get(key).await.unwrap().into_body().is_none());
    }
    cache.insert("left", "x", Draft::new()).await.unwrap();
    cache.clear().await.unwrap();
    cache.close().await.unwrap();
}

/// Two readers of one flight, one of which reads when the other is done: from the spill file.
async fn lag(cache: &Cache) {
    let object = pattern(900 * KIB);
    let fetch = {
        let object = object.clone();
        Origin::default().does(async move |_| Ok(slow(&object)))
    };
    let (one, two) = join(
        cache.get_or_fetch("a", fetch).into_future(),
        cache.get("a").into_future(),
    )
    .await;
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!(whole(one).await, object);
    assert_eq!(whole(two).await, object);
    assert!(cache.counters().spilled_bytes > 0);
    cache.close().await.unwrap();
}

fn each_caller(test: impl AsyncFn()) {
    count_panics();
    block_on(test());
    timeless().block_on(test());
    let with_timers = Builder::new_current_thread().enable_all().build();
    with_timers.unwrap().block_on(test());
    assert_no_panic();
}

#[test]
fn s89_a_caller_may_be_in_another_runtime_in_one_without_timers_or_in_none() {
    let home = home();
    each_caller(async || {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::open(folder.path().to_owned(), 64 << 20);
        let disk = home.spawn(disk).await.unwrap().unwrap();
        let memory = Memory::builder(16 << 20)
            .object_max(4 << 10)
            .build()
            .unwrap();
        let stacks = [
            vec![Tier::new(drowsy())],
            vec![Tier::new(Memory::new(1 << 20)), Tier::new(drowsy())],
            vec![Tier::new(memory), Tier::new(disk)],
        ];
        for (number, tiers) in stacks.into_iter().enumerate() {
            let builder = tiers
                .into_iter()
                .fold(Cache::builder(), larder::Builder::tier);
            let cache = builder.runtime(home.handle().clone()).policy(strict());
            let cache = cache.build().unwrap();
            use_it(&cache).await;
            let counts = cache.tiers();
            let errors = |tier: &larder::TierReport| tier.counters.errors + tier.counters.timeouts;
            let errors: u64 = counts.iter().map(errors).sum();
            assert_eq!(errors, 0, "stack {number}: {counts:?}");
        }
    });
}

#[test]
fn s89_a_reader_that_lags_may_be_anywhere() {
    let home = home();
    each_caller(async || {
        // Of files in memory Linux reads nothing at once: those are read by a blocking job.
        let in_memory = tempfile::tempdir_in("/dev/shm").ok();
        for folder in [Some(tempfile::tempdir().unwrap()), in_memory] {
            let Some(folder) = folder else { continue };
            let refuses = Tier::new(Memory::new(1 << 20)).object_max(0);
            let builder = Cache::builder().tier(refuses).policy(strict());
            let builder = builder.spool_memory(128 << 10).spool_dir(folder.path());
            let cache = builder.runtime(home.handle().clone()).build().unwrap();
            lag(&cache).await;
        }
    });
}

#[test]
fn s89_a_silent_source_runs_into_the_time_outs_of_the_caches_runtime() {
    let home = home();
    each_caller(async || {
        let store = drowsy();
        store.faults().on(Op::Stat).always(Fault::Stall);
        let tier = Tier::new(store.clone()).timeout(SECOND / 20);
        let builder = Cache::builder().tier(tier).idle_timeout(SECOND / 20);
        let cache = builder.runtime(home.handle().clone()).build().unwrap();
        store.faults().clear();
        cache
            .insert("a", pattern(200 * KIB), Draft::new())
            .await
            .unwrap();
        store.faults().on(Op::Stat).always(Fault::Stall);
        store.faults().on(Op::Body).always(Fault::Stall);
        assert!(cache.stat("a").await.unwrap_err().is_timeout());
        let body = cache.get("a").await.unwrap().into_body().unwrap();
        assert!(body.bytes(1 << 20).await.unwrap_err().is_timeout());
    });
}

#[test]
fn s89_build_names_what_its_runtime_lacks() {
    let invalid = |handle: Option<Handle>| {
        let builder = Cache::builder().tier(Memory::new(1 << 20));
        let builder = handle.into_iter().fold(builder, larder::Builder::runtime);
        let error = builder.build().unwrap_err();
        assert!(error.is_invalid(), "{error:?}");
        error.to_string()
    };
    let timeless = timeless();
    let message = invalid(Some(timeless.handle().clone()));
    assert!(message.contains("enable_time"), "{message}");
    let message = timeless.block_on(async { invalid(None) });
    assert!(message.contains("enable_time"), "{message}");
    let message = invalid(None);
    assert!(message.contains("runtime"), "{message}");
    let gone = home().handle().clone();
    let message = invalid(Some(gone));
    assert!(message.contains("ended"), "{message}");
    // Input and output are not asked for.
    let home = home();
    let cache = Cache::builder().tier(Memory::new(1 << 20));
    assert!(cache.runtime(home.handle().clone()).build().is_ok());
}
