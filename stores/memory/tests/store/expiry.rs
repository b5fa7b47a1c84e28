//! Hard expiry, by a clock that the test moves.

use std::sync::atomic::Ordering;

use futures_util::StreamExt;
use larder_memory::Memory;
use larder_store::{ByteRange, Commit, Draft, Lookup, Store, StoreExt};

use super::{clocked, expiring, is_there, key, set};

#[tokio::test]
async fn an_expired_entry_is_a_miss_and_counts_until_it_is_gone() {
    let (store, now) = clocked(Memory::builder(1 << 20));
    for name in ["found", "stat", "touched", "swept", "replaced"] {
        let _ = store.write(name, "1", expiring(2_000)).await.unwrap();
    }
    now.store(1_999, Ordering::Relaxed);
    assert!(is_there(&store, "found").await);
    now.store(2_000, Ordering::Relaxed);
    assert_eq!(store.usage().entries, 5);
    let lookup = store.get_stream(key("found"), ByteRange::FULL).await;
    let Lookup::Miss(fence) = lookup.unwrap() else {
        panic!("found after it expired");
    };
    assert!(!is_there(&store, "stat").await);
    assert_eq!(store.usage().entries, 3);
    let touch = store
        .as_touch()
        .unwrap()
        .touch(key("touched"), Draft::new());
    assert_eq!(touch.await.unwrap(), Commit::Superseded);
    let keys: Vec<_> = store.as_list().unwrap().list("").collect().await;
    assert!(keys.is_empty());
    let _ = store.write("replaced", "2", Draft::new()).await.unwrap();
    assert_eq!(store.usage().entries, 1, "a commit sweeps");
    assert_eq!(store.usage().evictions, 0);
    let commit = store.write("found", "2", Draft::new().fence(fence)).await;
    assert!(commit.unwrap().is_done());
}

#[tokio::test]
async fn commits_sweep_what_has_expired() {
    let (store, now) = clocked(Memory::builder(4 << 20));
    for index in 0..1_000 {
        let name = format!("old{index}");
        let _ = store
            .write(&name, "1", expiring(2_000 + index))
            .await
            .unwrap();
    }
    now.store(9_000, Ordering::Relaxed);
    for index in 0..400 {
        set(&store, &format!("new{index}"), 1).await.unwrap();
    }
    assert_eq!(store.usage().entries, 400);
    // Dead on arrival.
    let _ = store.write("late", "1", expiring(1)).await.unwrap();
    assert_eq!(store.usage().entries, 400);
}

#[tokio::test]
async fn expiring_is_no_change_and_ends_no_fence() {
    let (store, now) = clocked(Memory::builder(1 << 20));
    for name in ["found", "stat", "swept"] {
        let _ = store.write(name, "1", expiring(2_000)).await.unwrap();
        let fence = store.fence(key(name)).await.unwrap();
        now.store(2_000, Ordering::Relaxed);
        match name {
            "found" => assert!(store.read(name, 9).await.unwrap().is_none()),
            "stat" => assert!(!is_there(&store, name).await),
            _ => set(&store, "other", 1).await.unwrap(),
        }
        assert!(store.usage().entries <= 1);
        let commit = store.write(name, "2", Draft::new().fence(fence)).await;
        assert!(commit.unwrap().is_done(), "{name}");
        store.remove(name).await.unwrap();
        now.store(1_000, Ordering::Relaxed);
    }
}
