//! What entries really take, against what they count for. A binary of its own: the allocator
//! counts for the whole process.

#![allow(clippy::unwrap_used)] // The helpers below are tests, too.

use larder_memory::{Eviction, Memory};
use larder_store::{Draft, Store, StoreExt};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const MIB: u64 = 1 << 20;

fn heap() -> u64 {
    dhat::HeapStats::get().curr_bytes as u64
}

/// What every block costs beside its own size, with the usual allocators.
const BLOCK: u64 = 8;

async fn absent(store: &Memory, index: u64) {
    let draft = Draft::new().with(|header| {
        header.absent = true;
        header.expires_at = Some(larder_store::Timestamp::from_millis(u64::MAX - index));
    });
    let key = format!("objects/{index:08}");
    assert!(store.write(&key, "", draft).await.unwrap().is_done());
}

fn policies() -> Vec<Eviction> {
    vec![
        Eviction::S3Fifo,
        #[cfg(feature = "moka")]
        Eviction::Lru,
    ]
}

#[tokio::test]
async fn s51_entries_take_no_more_than_they_count_for() {
    let _profiler = dhat::Profiler::builder().testing().build();
    for policy in policies() {
        let before = (heap(), dhat::HeapStats::get().curr_blocks as u64);
        let store = Memory::builder(64 * MIB).policy(policy).build().unwrap();
        for index in 0..10_000 {
            absent(&store, index).await;
        }
        let usage = store.usage();
        assert_eq!(usage.entries, 10_000);
        let blocks = dhat::HeapStats::get().curr_blocks as u64 - before.1;
        let taken = heap() - before.0 + blocks * BLOCK;
        let each = (taken / usage.entries, usage.live / usage.entries);
        println!("{policy:?}: {} taken, {} counted", each.0, each.1);
        assert!(taken <= usage.live, "{policy:?}: {each:?}");
    }
    // A body takes its length, however its buffer grew.
    let before = heap();
    let store = Memory::new(64 * MIB);
    for index in 0..20 {
        let name = format!("{index}");
        let key = larder_store::Key::new(&name).unwrap();
        let mut writer = store.set_with_writer(key, Draft::new()).await.unwrap();
        for _ in 0..9 {
            writer.write(vec![7; 40_000].into()).await.unwrap();
        }
        assert!(writer.commit().await.unwrap().is_done());
    }
    let taken = heap() - before;
    assert!(taken <= store.usage().live + MIB / 10, "{taken}");
    drop(store);
    // Small entries that come and go: the tables and the history stay in proportion.
    for policy in policies() {
        let before = heap();
        let store = Memory::builder(MIB).policy(policy).build().unwrap();
        // The second policy is slow where every allocation is traced.
        let count = if policy == Eviction::S3Fifo {
            50_000
        } else {
            5_000
        };
        for index in 0..count {
            absent(&store, index).await;
        }
        let usage = store.usage();
        assert!(usage.live <= MIB, "{policy:?}: {usage:?}");
        assert!(usage.entries > 1_000, "{policy:?}: {usage:?}");
        assert_eq!(usage.entries + usage.evictions, count);
        let taken = heap() - before;
        println!("{policy:?}: {taken} taken of {MIB}");
        assert!(taken <= MIB + MIB / 10, "{policy:?}: {taken} bytes");
    }
}
