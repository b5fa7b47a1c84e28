//! What is left of keys that are gone: nothing. A binary of its own, since it looks at the memory
//! of the whole process.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)] // The helpers below are tests, too.
#![allow(clippy::print_stdout)] // A test that fails shows what it printed: its seed.

mod common;

use std::{fs, time::Duration};

use common::{Random, Scratch, draft, eventually, key, put};
use larder_disk::Disk;
use larder_store::{ByteRange, Draft, Store};

/// The bytes of memory that this process has.
fn resident() -> u64 {
    let text = fs::read_to_string("/proc/self/statm").unwrap();
    let pages = text.split(' ').nth(1).unwrap();
    pages.parse::<u64>().unwrap() * 4096
}

/// A key that comes once, whatever is done with it.
async fn once(store: &Disk, id: u64) {
    let name = format!("{id:x}");
    let name = key(&name);
    match id % 16 {
        0..6 => drop(store.get_stream(name, ByteRange::FULL).await.unwrap()),
        6..8 => drop(store.stat(name).await.unwrap()),
        8 => drop(store.delete(name, None).await.unwrap()),
        9 => drop(store.fence(name).await.unwrap()),
        10 => drop(
            store
                .as_touch()
                .unwrap()
                .touch(name, draft(1))
                .await
                .unwrap(),
        ),
        11 => {
            let mut writer = store.set_with_writer(name, draft(1)).await.unwrap();
            writer.write("left".into()).await.unwrap();
            if id % 32 < 16 {
                writer.abort().await.unwrap();
            }
        }
        12 => {
            let mut writer = store
                .set_with_writer(name, Draft::new().len(9))
                .await
                .unwrap();
            writer.write("short".into()).await.unwrap();
            assert!(writer.commit().await.is_err());
        }
        13 => {
            let fence = store.fence(name).await.unwrap();
            assert!(store.delete(name, None).await.unwrap().is_done());
            let late = put(store, name.as_str(), draft(1).fence(fence), 10).await;
            assert!(!late.unwrap().is_done());
        }
        14 => {
            assert!(
                put(store, name.as_str(), draft(1), 30)
                    .await
                    .unwrap()
                    .is_done()
            );
            assert!(store.delete(name, None).await.unwrap().is_done());
        }
        _ => assert!(
            put(store, name.as_str(), draft(1), 300)
                .await
                .unwrap()
                .is_done()
        ),
    }
}

#[tokio::test]
async fn s18_a_million_keys_leave_nothing_behind() {
    let folder = Scratch::in_memory();
    let store = Disk::open(folder.store(), 8 << 20).await.unwrap();
    let mut random = Random::seeded();
    let start = random.next() >> 16 << 4;
    // By now every table has the size that it is to keep.
    for id in 0..250_000 {
        once(&store, start + id).await;
    }
    let before = resident();
    let evictions = store.usage().evictions;
    for id in 250_000..1_250_000 {
        once(&store, start + id).await;
    }
    let grown = resident().saturating_sub(before);
    let usage = store.usage();
    println!("{grown} bytes more, {usage:?}");
    assert!(grown < 6 << 20, "grown by {grown} bytes");
    assert!(usage.evictions > evictions + 10_000, "{usage:?}");
    assert!(usage.live <= 8 << 20, "{usage:?}");
    eventually(Duration::from_secs(5), "nothing is staged", || {
        store.usage().staged == 0
    })
    .await;
    store.close().await.unwrap();
}
