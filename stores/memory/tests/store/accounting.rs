//! What is counted equals what is there.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::TryStreamExt;
use larder_memory::Memory;
use larder_store::{Draft, Store, StoreExt};

use super::{Random, clocked, expiring, is_there, key, open, policies, set};

/// Against a model that knows what was set and deleted, and learns only from look-ups what was
/// evicted.
#[tokio::test]
async fn s50_usage_equals_the_live_set() {
    for policy in policies() {
        let builder = Memory::builder(40 << 10).object_max(8 << 10).policy(policy);
        let (store, now) = clocked(builder);
        let mut model: HashMap<String, u64> = HashMap::new();
        let mut random = Random(11);
        for step in 0..8_000_u64 {
            let name = "k".repeat(1 + usize::try_from(random.below(40)).unwrap());
            let len = random.below(2000);
            let weight = policy.entry_overhead() + 96 + name.len() as u64 + len;
            match random.below(10) {
                0 | 1 => {
                    store.remove(&name).await.unwrap();
                    model.remove(&name);
                }
                2 => {
                    // A write that fails, aborts or is superseded leaves all as it was.
                    let fence = store.fence(key(&name)).await.unwrap();
                    let draft = Draft::new().len(5).fence(fence);
                    let mut writer = open(&store, &name, draft).await;
                    writer.write(Bytes::from_static(b"1234")).await.unwrap();
                    assert_eq!(store.usage().staged, 4);
                    match random.below(3) {
                        0 => assert!(writer.commit().await.unwrap_err().is_corrupt()),
                        1 => writer.abort().await.unwrap(),
                        _ => drop(writer),
                    }
                }
                3 => {
                    let draft = Draft::new().with(|header| header.content_type = Some("12".into()));
                    let touch = store.as_touch().unwrap().touch(key(&name), draft);
                    if touch.await.unwrap().is_done() {
                        let stat = store.stat(key(&name)).await.unwrap();
                        if let Some(metadata) = stat {
                            let len = metadata.len();
                            let exact = policy.entry_overhead() + 98 + name.len() as u64 + len;
                            model.insert(name, exact);
                        }
                    }
                }
                4 => {
                    now.fetch_add(5, Ordering::Relaxed);
                    let at = now.load(Ordering::Relaxed) + random.below(50);
                    let body = vec![0; usize::try_from(len).unwrap()];
                    let _ = store.write(&name, body, expiring(at)).await.unwrap();
                    model.insert(name, weight);
                }
                _ => {
                    let body = vec![0; usize::try_from(len).unwrap()];
                    let _ = store.write(&name, body, Draft::new()).await.unwrap();
                    model.insert(name, weight);
                }
            }
            if step % 50 == 0 {
                check(&store, &mut model).await;
            }
        }
    }
}

/// Drops from the model what is gone, and compares.
async fn check(store: &Memory, model: &mut HashMap<String, u64>) {
    let mut there = HashMap::new();
    for (name, weight) in model.drain() {
        if is_there(store, &name).await {
            there.insert(name, weight);
        }
    }
    *model = there;
    let usage = store.usage();
    let keys: Vec<_> = store
        .as_list()
        .unwrap()
        .list("")
        .try_collect()
        .await
        .unwrap();
    assert_eq!(keys.len(), model.len());
    assert_eq!(usage.entries, model.len() as u64);
    assert_eq!(usage.live, model.values().sum::<u64>());
    assert!(usage.live <= usage.capacity.unwrap());
    assert_eq!(usage.staged, 0);
}

#[tokio::test]
async fn evictions_are_not_overwrites_or_deletes() {
    for policy in policies() {
        let store = Memory::builder(1 << 20).policy(policy).build().unwrap();
        for round in 0..50 {
            set(&store, "a", 100 + round).await.unwrap();
            set(&store, "b", 100 + round).await.unwrap();
            store.remove("b").await.unwrap();
        }
        let usage = store.usage();
        assert_eq!((usage.entries, usage.evictions), (1, 0), "{policy:?}");
    }
}
