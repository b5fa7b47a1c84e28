//! Operations to be counted under valgrind: `cargo xtask instructions` runs this with each case and
//! two counts, and takes the difference, so that what the start costs is not in it.
//!
//! `instructions CASE COUNT`

use std::{env, hint::black_box};

use bytes::Bytes;
use larder::{ByteRange, Cache, Disk, Draft, Error, Fetched, Key, Memory, Store, StoreExt};
use larder_store::Lookup;

const KEYS: usize = 100;
const LEN: usize = 4096;

fn main() {
    let words: Vec<String> = env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["memory-hit", count] => runtime.block_on(memory_hits(number(count))),
        ["disk-hit", count] => runtime.block_on(disk_hits(number(count))),
        ["miss", count] => runtime.block_on(misses(number(count))),
        // What `cargo bench` gives, too: there is nothing to measure without valgrind.
        _ => {}
    }
}

fn number(word: &str) -> usize {
    word.parse().expect("a count")
}

fn keys(count: usize) -> Vec<String> {
    (0..count).map(|key| format!("docs/{key}.html")).collect()
}

fn body() -> Bytes {
    Bytes::from_static(&[7; LEN])
}

async fn fill(store: &dyn Store, keys: &[String]) {
    for key in keys {
        let written = store.write(key, body(), Draft::new()).await;
        assert!(written.expect("written").is_done());
    }
}

/// A fresh object through the cache's whole read path.
async fn memory_hits(count: usize) {
    let (store, keys) = (Memory::new(16 << 20), keys(KEYS));
    fill(&store, &keys).await;
    let cache = Cache::builder().tier(store).build().expect("a cache");
    for key in keys.iter().cycle().take(count) {
        let hit = cache.get(key).await.expect("an answer");
        black_box(hit.into_body().expect("a body"));
    }
}

/// An object in the page cache, opened and read through the store.
async fn disk_hits(count: usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Disk::open(folder.path(), 64 << 20).await.expect("a store");
    let keys = keys(KEYS);
    fill(&store, &keys).await;
    for key in keys.iter().cycle().take(count) {
        let key = Key::new(key).expect("a key");
        match store.get_stream(key, ByteRange::FULL).await {
            Ok(Lookup::Hit(object)) => {
                black_box(object.body.bytes(LEN as u64).await.expect("a body"));
            }
            other => panic!("{other:?}"),
        }
    }
    store.close().await.expect("closed");
}

/// A key that no tier has, fetched and stored, to the end of the commit.
async fn misses(count: usize) {
    let cache = Cache::builder().tier(Memory::new(4 << 20));
    let cache = cache.build().expect("a cache");
    for key in keys(count) {
        let fetch = async |_| Ok::<_, Error>(Fetched::bytes(body()));
        black_box(cache.get_or_fetch(&key, fetch).await.expect("an answer"));
        while cache.in_flight().flights > 0 {
            tokio::task::yield_now().await;
        }
    }
}
