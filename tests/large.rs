//! Memory while one large object streams to many readers. Long: run each by name, in release.
//!
//! `cargo test --release --test large -- --ignored --nocapture 50_readers`
//! `cargo test --release --test large -- --ignored --nocapture 1000_followers`
#![allow(clippy::print_stdout)] // Its figures are what it is run for.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use larder::{Cache, Error, Fetched, Memory, Tier};

const CHUNK: u64 = 128 << 10;

/// How many read how much, and by how many MiB the process may grow.
#[derive(Clone, Copy)]
struct Case {
    len: u64,
    readers: u64,
    growth_max_mib: u64,
}

/// Peak resident memory of this process in MiB, as Linux tells it.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let mut words = line.expect("a peak").split_whitespace();
    let kib: u64 = words.find_map(|word| word.parse().ok()).expect("a number");
    kib >> 10
}

/// What stands at an offset: the number of its chunk.
#[allow(clippy::cast_possible_truncation)] // A byte of it is enough.
fn byte_at(offset: u64) -> u8 {
    (offset / CHUNK) as u8
}

/// The first chunk waits until all have joined.
fn source(cache: Cache, case: Case) -> impl Stream<Item = Result<Bytes, Error>> + Send + 'static {
    let all = stream::once(async move {
        while cache.counters().joined + 1 < case.readers {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(Bytes::new())
    });
    all.chain(stream::iter((0..case.len / CHUNK).map(|number| {
        let chunk = vec![byte_at(number * CHUNK); usize::try_from(CHUNK).expect("small")];
        Ok(Bytes::from(chunk))
    })))
}

/// Reads to the end at a pace of its own, and checks that every piece stands in its place.
async fn read(cache: Cache, case: Case, reader: u64) -> u64 {
    let (len, source) = (case.len, source(cache.clone(), case));
    let fetch = async move |_| Ok::<_, Error>(Fetched::stream(Some(len), source));
    let response = cache.get_or_fetch("film", fetch).await.expect("an answer");
    let mut body = response.into_body().expect("a body");
    let mut at = 0_u64;
    while let Some(bytes) = body.chunk().await.expect("a chunk") {
        let end = at + bytes.len() as u64;
        let (first, last) = (bytes[0], bytes[bytes.len() - 1]);
        assert_eq!(first, byte_at(at), "bytes of another place");
        assert_eq!(last, byte_at(end - 1), "bytes of another place");
        at = end;
        // Ten speeds; the slowest rests often.
        if (at / CHUNK).is_multiple_of(8) && !reader.is_multiple_of(10) {
            tokio::time::sleep(Duration::from_micros(200 * (reader % 10))).await;
        }
    }
    at
}

fn stream_to_all(case: Case) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        // No tier admits it: the spill file stands behind the window.
        let memory = Tier::new(Memory::new(8 << 20)).object_max(1 << 20);
        let cache = Cache::builder()
            .tier(memory)
            .spool_disk_max(case.len)
            .build()
            .expect("a cache");
        let before = peak_mib();
        let read = |reader| tokio::spawn(read(cache.clone(), case, reader));
        let readers: Vec<_> = (0..case.readers).map(read).collect();
        for reader in readers {
            assert_eq!(reader.await.expect("no panic"), case.len);
        }
        let growth = peak_mib() - before;
        let counters = cache.counters();
        println!(
            "{} readers: resident memory grew by {growth} MiB; {counters:?}",
            case.readers
        );
        assert_eq!(counters.fetches, 1);
        assert!(growth <= case.growth_max_mib, "{growth} MiB");
    });
}

#[test]
#[ignore = "streams 200 GiB; takes minutes"]
fn s26_4_gib_to_50_readers_at_different_speeds_within_48_mib() {
    stream_to_all(Case {
        len: 4 << 30,
        readers: 50,
        growth_max_mib: 48,
    });
}

#[test]
#[ignore = "its memory is measured by the process: one test at a time"]
fn s26_64_mib_to_1000_followers_within_32_mib() {
    stream_to_all(Case {
        len: 64 << 20,
        readers: 1_000,
        growth_max_mib: 32,
    });
}
