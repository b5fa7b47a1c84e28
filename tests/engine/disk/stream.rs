//! A stream larger than memory: its readers follow what the disk has staged.

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use larder::{Body, ByteRange, Error, Fetched, Store};

use super::{Place, is_from_disk};
use crate::{
    levers::{Gate, KEY},
    source::{Ledger, chunks, pattern, whole},
    support::{Origin, at_rest, strict},
};

const LEN: usize = 64 << 20;
const CHUNK: usize = 64 << 10;

/// A source that counts what is held of it, and stands at a gate half-way.
fn source(object: &Bytes, ledger: &Ledger, gate: &Gate) -> Fetched {
    let (ledger, gate) = (ledger.clone(), gate.clone());
    let chunks = stream::iter(chunks(object, CHUNK)).enumerate();
    let chunks = chunks.then(move |(at, chunk)| {
        let (ledger, gate) = (ledger.clone(), gate.clone());
        async move {
            if at == LEN / CHUNK / 2 {
                gate.pass().await;
            }
            Ok::<_, Error>(ledger.counts(chunk))
        }
    });
    Fetched::stream(Some(LEN as u64), chunks)
}

/// Checks the next `len` bytes at least, from `at` on; gives where they end.
async fn follow(body: &mut Body, object: &[u8], mut at: usize, len: usize) -> usize {
    let end = at + len;
    while at < end {
        let chunk = body.chunk().await.unwrap().expect("there is more");
        assert!(object[at..].starts_with(&chunk), "other bytes after {at}");
        at += chunk.len();
    }
    at
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s27_readers_of_64_mib_read_from_the_disk_what_has_left_the_window() {
    let place = Place::new(1 << 20);
    let disk = place.builder(256 << 20).open().await.unwrap();
    let stack = place.stack(disk, strict());
    let cache = &stack.cache;
    let (object, ledger, half) = (pattern(LEN), Ledger::default(), Gate::new());
    let origin = Origin::default();
    let fetched = source(&object, &ledger, &half);
    let fetch = origin.does(async move |_| Ok(fetched));

    let first = cache.get_or_fetch(KEY, fetch).await.unwrap();
    let idle = cache.get_or_fetch(KEY, origin.fails()).await.unwrap();
    let first = tokio::spawn(whole(first));
    half.reached().await;

    // Half of it has passed: who comes now begins at the beginning all the same.
    let late = cache.get_or_fetch(KEY, origin.fails()).await.unwrap();
    assert!(late.status().is_joined());
    let mut late = late.into_body().unwrap();
    let at = follow(&mut late, &object, 0, LEN / 4).await;
    let range = ByteRange::try_from(5 << 20..7 << 20).unwrap();
    let part = cache.get(KEY).range(range).await.unwrap();
    assert_eq!(whole(part).await, object[5 << 20..7 << 20]);
    assert!(!first.is_finished(), "the source stands half-way");

    half.open();
    assert_eq!(first.await.unwrap(), object);
    assert_eq!(follow(&mut late, &object, at, LEN - at).await, LEN);
    assert!(late.chunk().await.unwrap().is_none());
    assert_eq!(whole(idle).await, object, "who reads only when all is over");
    at_rest(cache).await;

    assert_eq!(origin.fetches(), 1);
    assert_eq!(cache.counters().spilled_bytes, 0, "the disk has staged it");
    assert!(
        ledger.peak() <= 4 << 20,
        "{} bytes were held",
        ledger.peak()
    );
    assert_eq!(ledger.now(), 0);
    let usage = cache.usage();
    assert_eq!((usage[0].entries, usage[1].entries), (0, 1));
    assert_eq!(stack.disk.usage().staged, 0);
    let hit = cache.get(KEY).await.unwrap();
    assert!(is_from_disk(&hit));
    assert_eq!(whole(hit).await, object);
    stack.close().await;
}
