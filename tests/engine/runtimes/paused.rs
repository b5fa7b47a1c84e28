//! tokio's clock is paused: what waits for the disk holds it back.

use larder::{Cache, Counters, Disk, Draft, Fetched, Memory, Tier};
use tokio::time::{Instant, sleep};

use super::KIB;
use crate::{
    source::{chunks, pattern, streamed, whole},
    support::{Origin, SECOND, strict, text},
};

/// Memory over disk, and the disk's folder.
async fn stack() -> (Cache, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::open(folder.path(), 256 << 20).await.unwrap();
    let memory = Memory::builder(1 << 20).object_max(64 << 10).build();
    let builder = Cache::builder().tier(memory.unwrap()).tier(disk);
    (builder.policy(strict()).build().unwrap(), folder)
}

/// What the tests do with a cache over a disk, once.
async fn use_it(cache: &Cache) {
    let (small, large) = (pattern(100), pattern(1000 * KIB));
    for _ in 0..2 {
        for (key, object) in [("small", &small), ("large", &large)] {
            let written = cache.insert(key, object.clone(), Draft::new()).await;
            assert!(written.unwrap().tiers > 0);
            assert_eq!(whole(cache.get(key).await.unwrap()).await, *object);
            assert!(cache.stat(key).await.unwrap().is_some());
        }
        cache.delete("large").await.unwrap();
    }
    cache.clear().await.unwrap();
    assert_sound(cache);
    cache.close().await.unwrap();
}

/// Nothing has run into a time-out, nor failed.
fn assert_sound(cache: &Cache) {
    for tier in cache.tiers() {
        let counts = tier.counters;
        let failures = [counts.timeouts, counts.stalls, counts.errors];
        assert_eq!(failures, [0; 3], "{}", tier.name);
    }
    let Counters { fetch_errors, .. } = cache.counters();
    assert_eq!(fetch_errors, 0);
}

#[tokio::test(start_paused = true)]
async fn s89_under_a_paused_clock_every_operation_of_a_disk_succeeds() {
    let (cache, _folder) = stack().await;
    let (small, large) = (pattern(100), pattern(5000 * KIB));
    let origin = Origin::default();
    for round in 0..20 {
        // The second time on, what is replaced is first settled by a thread of the store.
        for (key, object) in [("small", &small), ("large", &large)] {
            let written = cache.insert(key, object.clone(), Draft::new()).await;
            assert!(written.unwrap().tiers > 0, "round {round}");
            let metadata = cache.stat(key).await.unwrap().unwrap();
            assert_eq!(metadata.len(), object.len() as u64);
            assert_eq!(whole(cache.get(key).await.unwrap()).await, *object);
        }
        let mut writer = cache
            .set_with_writer("piecewise", Draft::new())
            .await
            .unwrap();
        for chunk in chunks(&large, 100 * KIB) {
            writer.write(chunk).await.unwrap();
        }
        assert!(writer.commit().await.unwrap().tiers > 0);
        let object = large.clone();
        let fetch = origin.does(async move |_| Ok(streamed(&object, 100 * KIB)));
        let fetched = cache.get_or_fetch("fetched", fetch).await.unwrap();
        assert_eq!(whole(fetched).await, large);
        let fetch = origin.does(async |_| Ok(Fetched::bytes("new")));
        assert_eq!(
            text(cache.refresh("small", fetch).await.unwrap()).await,
            "new"
        );
        cache.delete("large").await.unwrap();
        assert!(cache.stat("large").await.unwrap().is_none());
        cache.delete("fetched").await.unwrap();
        sleep(SECOND).await;
    }
    cache.clear().await.unwrap();
    assert_sound(&cache);
    cache.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn s89_a_paused_clock_goes_on_when_the_disk_is_done() {
    let (cache, _folder) = stack().await;
    cache.insert("a", "one", Draft::new()).await.unwrap();
    cache.insert("a", "two", Draft::new()).await.unwrap();
    let began = Instant::now();
    sleep(3600 * SECOND).await;
    assert_eq!(began.elapsed(), 3600 * SECOND);
    cache.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn s89_a_disk_of_another_runtime_holds_the_callers_paused_clock_back() {
    let other = super::home();
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::open(folder.path().to_owned(), 64 << 20);
    let disk = other.spawn(disk).await.unwrap().unwrap();
    let memory = Memory::builder(1 << 20).object_max(4 << 10).build();
    let builder = Cache::builder().tier(memory.unwrap()).tier(disk);
    use_it(&builder.policy(strict()).build().unwrap()).await;
    other.shutdown_background();
}

#[test]
fn s89_a_paused_clock_is_held_back_with_a_single_blocking_thread() {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let builder = builder
        .enable_time()
        .start_paused(true)
        .max_blocking_threads(1);
    let runtime = builder.build().unwrap();
    runtime.block_on(async {
        let (cache, _folder) = stack().await;
        use_it(&cache).await;
    });
}

#[tokio::test(start_paused = true)]
async fn s89_a_spill_file_holds_a_paused_clock_back() {
    let folder = tempfile::tempdir().unwrap();
    let refuses = Tier::new(Memory::new(1 << 20)).object_max(0);
    let builder = Cache::builder().tier(refuses).policy(strict());
    let builder = builder.spool_memory(128 << 10).spool_dir(folder.path());
    let cache = builder.build().unwrap();
    let object = pattern(900 * KIB);
    let fetch = {
        let object = object.clone();
        Origin::default().does(async move |_| Ok(streamed(&object, 10 * KIB)))
    };
    let one = cache.get_or_fetch("a", fetch).await.unwrap();
    let two = cache.get("a").await.unwrap();
    assert_eq!(whole(one).await, object);
    assert_eq!(whole(two).await, object);
    let counts = cache.counters();
    assert!(counts.spilled_bytes > 0 && counts.readers_cut == 0);
    cache.close().await.unwrap();
}
