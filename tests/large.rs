//! Memory while one large object streams to many readers. Long: run each by name, in release.
//!
//! `cargo test --release --test large -- --ignored --nocapture 50_readers`
//! `cargo test --release --test large -- --ignored --nocapture 1000_followers`
#![allow(clippy::print_stdout)] // Its figures are what it is run for.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
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

/// Every chunk begins with its number.
fn source(len: u64) -> impl futures_util::Stream<Item = Result<Bytes, Error>> + Send + 'static {
    stream::iter((0..len / CHUNK).map(|number| {
        let mut chunk = vec![0; usize::try_from(CHUNK).expect("small")];
        chunk[..8].copy_from_slice(&number.to_le_bytes());
        Ok(Bytes::from(chunk))
    }))
}

/// Reads to the end at a pace of its own, and checks that every chunk stands in its place.
async fn read(cache: Cache, len: u64, reader: u64) -> u64 {
    tokio::time::sleep(Duration::from_millis(reader % 50 * 20)).await;
    let fetch = async move |_| Ok::<_, Error>(Fetched::stream(Some(len), source(len)));
    let response = cache.get_or_fetch("film", fetch).await.expect("an answer");
    let mut body = response.into_body().expect("a body");
    let (mut at, mut number) = (0_u64, Vec::new());
    while let Some(bytes) = body.chunk().await.expect("a chunk") {
        for &byte in bytes
            .iter()
            .take(if at.is_multiple_of(CHUNK) { 8 } else { 0 })
        {
            number.push(byte);
        }
        if at.is_multiple_of(CHUNK) && number.len() == 8 {
            let told = u64::from_le_bytes(number[..].try_into().expect("eight"));
            assert_eq!(told, at / CHUNK, "bytes of another place");
        }
        number.clear();
        at += bytes.len() as u64;
        // Ten speeds; the slowest rests often.
        if at.is_multiple_of(CHUNK * 8) && !reader.is_multiple_of(10) {
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
        let read = |reader| tokio::spawn(read(cache.clone(), case.len, reader));
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
