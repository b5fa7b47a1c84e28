//! What is counted is what is there.

use std::{collections::BTreeMap, time::Duration};

use futures_util::TryStreamExt;
use larder_disk::Disk;
use larder_store::{Draft, Store, StoreExt};

use crate::{
    KIB, MIB,
    common::{
        Random, bytes_of_files, delete, draft, eventually, finds, found, key, open_again, set,
    },
    with,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s50_usage_is_the_live_set_after_whatever_happened() {
    let (folder, mut store) = with(256 * MIB, |builder| builder).await;
    let mut random = Random::seeded();
    // The version of each object, and what it counts for.
    let mut model: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for step in 1..=800 {
        let name = format!("{}", random.below(60));
        let before = store.usage();
        let was = model.get(&name).copied();
        match random.below(10) {
            0..2 => {
                delete(&store, &name).await;
                let freed = before.live - store.usage().live;
                assert_eq!(freed, model.remove(&name).map_or(0, |(_, size)| size));
            }
            2 => touch(&store, &name, was.map(|(version, _)| version)).await,
            3 => drop(store.set_with_writer(key(&name), draft(step)).await),
            _ => {
                let most = [10, 5 * KIB, 300 * KIB, 2500 * KIB][random.size_below(4)];
                set(&store, &name, step, random.size_below(most)).await;
                model.insert(name.clone(), (step, 0));
            }
        }
        let usage = store.usage();
        if let Some((_, size)) = model.get_mut(&name) {
            *size = usage.live + was.map_or(0, |(_, size)| size) - before.live;
        }
        assert_eq!(usage.entries, model.len() as u64);
        if step % 200 == 0 {
            store = reopened(store, &folder, step % 400 == 0).await;
            assert_eq!(
                (store.usage().entries, store.usage().live),
                (usage.entries, usage.live)
            );
        }
    }
    eventually(Duration::from_secs(5), "nothing is staged", || {
        store.usage().staged == 0
    })
    .await;
    for (name, (version, _)) in &model {
        finds(&store, name, *version).await;
    }
    for name in model.keys() {
        delete(&store, name).await;
    }
    let usage = store.usage();
    assert_eq!((usage.entries, usage.live, usage.evictions), (0, 0, 0));
}

/// The same header again, so that the object counts for the same.
async fn touch(store: &Disk, name: &str, version: Option<u64>) {
    let touch = store.as_touch().unwrap();
    let touched = touch.touch(key(name), draft(version.unwrap_or(0))).await;
    assert_eq!(touched.unwrap().is_done(), version.is_some());
}

async fn reopened(store: Disk, folder: &crate::Scratch, close: bool) -> Disk {
    if close {
        store.close().await.unwrap();
    }
    drop(store);
    open_again(|| Disk::builder(folder.store(), 256 * MIB)).await
}

/// With evictions all the time: what is counted, listed and found is the same, the files stay
/// within the capacity, and a reopened store counts the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s50_usage_is_the_live_set_after_evictions() {
    let (folder, store) = with(8 * MIB, |builder| builder).await;
    let mut random = Random::seeded();
    for step in 0..1_500 {
        let name = format!("{}", random.below(400));
        match random.below(8) {
            0 => delete(&store, &name).await,
            1..4 => drop(found(&store, &name).await.unwrap()),
            _ => {
                let most = [300, 100 * KIB, 700 * KIB][random.size_below(3)];
                set(&store, &name, step, random.size_below(most)).await;
            }
        }
        let usage = store.usage();
        assert!(
            usage.live <= usage.stored && usage.live <= 8 * MIB,
            "{usage:?}"
        );
    }
    assert!(store.usage().evictions > 0);
    let settled = || bytes_of_files(&folder.store()) <= 8 * MIB && store.usage().stored <= 8 * MIB;
    eventually(Duration::from_secs(30), "the files stay within", settled).await;
    quiet(&store).await;
    counts(&store).await;
    let usage = store.usage();
    store.close().await.unwrap();
    let store = Disk::open(folder.store(), 8 * MIB).await.unwrap();
    let after = store.usage();
    assert_eq!((after.entries, after.live), (usage.entries, usage.live));
    counts(&store).await;
}

/// Waits until nothing is evicted any more.
async fn quiet(store: &Disk) {
    let mut before = None;
    loop {
        let usage = store.usage();
        if before.replace(usage) == Some(usage) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn counts(store: &Disk) {
    let listed: Vec<_> = (store.as_list().unwrap().list(""))
        .try_collect()
        .await
        .unwrap();
    assert_eq!(listed.len() as u64, store.usage().entries, "listed");
    for name in &listed {
        assert!(found(store, name).await.unwrap().is_some(), "{name}");
    }
}

/// Expired objects are absent, and count until they are removed; never below nothing.
#[tokio::test]
async fn s50_writes_that_fail_count_for_nothing() {
    let (_folder, store) = with(16 * MIB, |builder| builder).await;
    set(&store, "a", 1, 2000 * KIB).await;
    let before = at_rest(&store).await;
    for len in [5, 100 * KIB, 1500 * KIB] {
        let declared = Draft::new().len(len as u64 + 1);
        let mut short = store.set_with_writer(key("a"), declared).await.unwrap();
        short.write(vec![1; len].into()).await.unwrap();
        assert!(store.usage().staged >= len as u64);
        assert!(short.commit().await.unwrap_err().is_corrupt());
        let fence = store.fence(key("a")).await.unwrap();
        store.remove("nobody").await.unwrap();
        let touch = store.as_touch().unwrap().touch(key("a"), draft(1));
        assert!(touch.await.unwrap().is_done());
        let late = crate::common::put(&store, "a", draft(2).fence(fence), len).await;
        assert!(!late.unwrap().is_done());
        let mut dropped = store.set_with_writer(key("a"), Draft::new()).await.unwrap();
        dropped.write(vec![1; len].into()).await.unwrap();
        drop(dropped);
        eventually(Duration::from_secs(5), "nothing is staged", || {
            store.usage().staged == 0
        })
        .await;
        let after = store.usage();
        assert_eq!((after.entries, after.live), (before.entries, before.live));
    }
    eventually(Duration::from_secs(5), "the files are gone", || {
        store.usage().stored == before.stored
    })
    .await;
    finds(&store, "a", 1).await;
}

/// Its usage once it has made the files that it keeps ready.
async fn at_rest(store: &larder_disk::Disk) -> larder_store::Usage {
    loop {
        let usage = store.usage();
        tokio::time::sleep(Duration::from_millis(100)).await;
        if store.usage().stored == usage.stored {
            return usage;
        }
    }
}
