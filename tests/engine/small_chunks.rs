//! S93: small slices of large buffers. The cache holds no more than it counts.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use larder::{ByteRange, Cache, Disk, Draft, Error, Fetched, Key, Store, StoreExt, Tier};
use larder_conformance::{Fault, Model, Op};
use tokio::time::sleep;

use crate::{
    source::{Ledger, to_the_end, whole},
    support::{Origin, SECOND, faulty, memory, settle, strict},
};

const KIB: usize = 1 << 10;
/// Of the buffer that each chunk is a slice of.
const BUFFER: usize = 64 * KIB;
/// Buffers on their way: one with the source, one with the tiers.
const UNDER_WAY: usize = 2 * BUFFER;

/// The number's chunk: the start of a buffer of its own, which is counted.
fn slice(ledger: &Ledger, number: usize, len: usize) -> Bytes {
    let byte = u8::try_from(number % 251).unwrap();
    ledger.counts(Bytes::from(vec![byte; BUFFER])).slice(..len)
}

/// A source of slices, with a moment before each.
fn slices(ledger: &Ledger, count: usize, len: usize) -> Fetched {
    let ledger = ledger.clone();
    let chunks = stream::iter(0..count).then(move |number| {
        let chunk = slice(&ledger, number, len);
        async move {
            tokio::task::yield_now().await;
            Ok::<_, Error>(chunk)
        }
    });
    Fetched::stream(None, chunks)
}

/// The bytes of that source.
fn bytes(count: usize, len: usize) -> Vec<u8> {
    let byte = |number| u8::try_from(number % 251).unwrap();
    (0..count)
        .flat_map(|number| vec![byte(number); len])
        .collect()
}

#[tokio::test(start_paused = true)]
async fn s93_a_window_holds_what_it_counts() {
    let tiers: [fn() -> Tier; 3] = [
        || Tier::new(memory()).object_max(0),
        || Tier::new(memory()),
        || Tier::new(Model::new()),
    ];
    for tier in tiers {
        for len in [1, 64, 16_000] {
            let builder = Cache::builder().tier(tier()).policy(strict());
            let cache = builder.spool_memory(128 << 10).build().unwrap();
            let (ledger, count) = (Ledger::default(), 4_000.min((3 << 20) / len));
            let fetched = slices(&ledger, count, len);
            let fetch = Origin::default().does(async move |_| Ok(fetched));
            let stopped = cache.get_or_fetch("a", fetch).await.unwrap();
            sleep(SECOND).await;
            let now = ledger.now();
            assert!(now <= UNDER_WAY, "{now} bytes are held for chunks of {len}");
            let read = whole(stopped).await;
            assert!(read == bytes(count, len), "chunks of {len}");
            assert!(ledger.peak() <= UNDER_WAY, "{} bytes", ledger.peak());
            settle(&cache).await;
            assert_eq!(ledger.now(), 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn s93_large_chunks_are_kept_as_they_are_and_count() {
    let builder = Cache::builder().tier(Tier::new(memory()).object_max(0));
    let builder = builder.policy(strict()).spool_memory(512 << 10);
    let cache = builder.build().unwrap();
    let ledger = Ledger::default();
    let fetched = slices(&ledger, 100, BUFFER);
    let fetch = Origin::default().does(async move |_| Ok(fetched));
    let stopped = cache.get_or_fetch("a", fetch).await.unwrap();
    sleep(SECOND).await;
    assert!(ledger.now() <= 512 << 10, "{} bytes", ledger.now());
    let mut body = stopped.into_body().unwrap();
    let first = body.chunk().await.unwrap().unwrap();
    assert_eq!(first.len(), BUFFER, "it is not cut up");
    drop(body);
}

#[tokio::test(start_paused = true)]
async fn s93_a_suffix_of_tiny_chunks_beside_a_quick_reader_takes_little() {
    let builder = Cache::builder().tier(Tier::new(memory()).object_max(0));
    let builder = builder.policy(strict()).spool_memory(128 << 10);
    let cache = builder.spool_disk_max(0).build().unwrap();
    let (ledger, count) = (Ledger::default(), 20_000);
    let fetched = slices(&ledger, count, 8);
    let fetch = Origin::default().does(async move |_| Ok(fetched));
    let quick = cache.get_or_fetch("a", fetch).await.unwrap();
    let tail = ByteRange::suffix(100_000).unwrap();
    let tail = cache.get("a").range(tail);
    let (quick, tail) = tokio::join!(whole(quick), tail);
    let all = bytes(count, 8);
    assert!(quick == all);
    let tail = to_the_end(tail.unwrap()).await.0;
    assert!(tail == all[all.len() - 100_000..]);
    assert!(ledger.peak() <= UNDER_WAY, "{} bytes", ledger.peak());
}

#[tokio::test(start_paused = true)]
async fn s93_what_waits_to_be_written_behind_holds_what_it_counts() {
    let lower = faulty();
    lower.faults().on(Op::Set).always(Fault::Stall);
    let builder = Cache::builder().tier(memory()).policy(strict());
    let cache = builder.tier(Tier::new(lower.clone()).behind());
    let cache = cache.build().unwrap();
    let ledger = Ledger::default();
    for number in 0..50 {
        let attribute = ("name".into(), slice(&ledger, number, 10));
        let draft = Draft::new().with(|header| header.attributes.push(attribute));
        let key = format!("{number}");
        let mut writer = cache.set_with_writer(&key, draft).await.unwrap();
        for number in 0..20 {
            let chunk = slice(&ledger, number, 64);
            writer.write(chunk).await.unwrap();
        }
        writer.commit().await.unwrap();
    }
    sleep(Duration::from_millis(10)).await;
    assert!(cache.in_flight().behind > 0, "they wait");
    assert_eq!(ledger.now(), 0, "bytes are held for writes that wait");
    lower.faults().clear();
    lower.faults().release();
    settle(&cache).await;
    assert_eq!(lower.inner().usage().entries, 50);
    let held = lower.inner().read("7", 9_999).await.unwrap().unwrap();
    assert!(held == bytes(20, 64));
}

/// Writes an object in small slices, and checks what is held before and after the commit.
async fn write_to(store: impl Store) {
    let ledger = Ledger::default();
    let attribute = ("name".into(), slice(&ledger, 0, 10));
    let draft = Draft::new().len(640);
    let draft = draft.with(|header| header.attributes.push(attribute));
    let key = Key::new("a").unwrap();
    let mut writer = store.set_with_writer(key, draft).await.unwrap();
    for number in 0..10 {
        writer.write(slice(&ledger, number, 64)).await.unwrap();
    }
    assert_eq!(ledger.now(), 0, "{} holds buffers", store.kind());
    assert!(writer.commit().await.unwrap().is_done());
    assert_eq!(ledger.now(), 0, "{} keeps buffers", store.kind());
}

#[tokio::test]
async fn s93_stores_hold_what_they_count() {
    write_to(memory()).await;
    write_to(Model::new()).await;
    let folder = tempfile::tempdir().unwrap();
    for large_object in [256 << 10, 0] {
        let path = folder.path().join(large_object.to_string());
        let builder = Disk::builder(path, 64 << 20).large_object(large_object);
        write_to(builder.open().await.unwrap()).await;
    }
}
