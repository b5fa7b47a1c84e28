//! Who must go, and that nobody waits for it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use larder_memory::{Eviction, Memory};
use larder_store::{Commit, Draft, Store, StoreExt};

use super::{BARE, Random, is_there, key, policies, set};

/// A key that comes back from the history may be the hand's own victim; it must be there all the
/// same.
#[tokio::test]
async fn what_was_committed_is_there_whatever_was_hit_before() {
    let store = Memory::builder(20 * (BARE + 2 + 100)).build().unwrap();
    let mut random = Random(5);
    for _ in 0..20_000 {
        let name = format!("{:02}", random.below(60));
        let len = 50 + usize::try_from(random.below(1500)).unwrap();
        set(&store, &name, len).await.unwrap();
        assert!(is_there(&store, &name).await);
        for _ in 0..20 {
            let name = format!("{:02}", random.below(60));
            drop(store.read(&name, 10_000).await.unwrap());
        }
    }
}

#[tokio::test]
async fn s53_a_lone_entry_that_was_hit_can_be_evicted() {
    for policy in policies() {
        let capacity = policy.entry_overhead() + 96 + 1 + 1000;
        let store = Memory::builder(capacity).policy(policy).build().unwrap();
        set(&store, "a", 1000).await.unwrap();
        for _ in 0..50 {
            assert!(is_there(&store, "a").await);
            drop(store.read("a", 1000).await.unwrap());
        }
        // W-TinyLFU lets in only what was asked for more often. It counts to 15, and halves all
        // counts once enough other keys were asked for.
        let mut rounds = 0;
        loop {
            set(&store, "b", 1000).await.unwrap();
            assert!(store.usage().live <= capacity);
            rounds += 1;
            drop(store.read(&format!("other{rounds}"), 1).await.unwrap());
            if store.read("b", 1000).await.unwrap().is_some() {
                break;
            }
            assert!(policy != Eviction::S3Fifo && rounds < 50_000, "{policy:?}");
        }
        println!("{policy:?}: {rounds}");
        assert!(is_there(&store, "b").await, "{policy:?}");
        assert!(!is_there(&store, "a").await, "{policy:?}");
    }
}

fn s08_writers_and_victims(lasting: Duration) {
    for policy in policies() {
        let room = 3 * (policy.entry_overhead() + 96 + 3 + 500);
        let store = Memory::builder(room)
            .staging_max(1 << 20)
            .policy(policy)
            .build()
            .unwrap();
        let (done, finished) = std::sync::mpsc::channel();
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        for seed in 0..16 {
            let (store, stop, done) = (store.clone(), Arc::clone(&stop), done.clone());
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .build()
                    .unwrap();
                let mut random = Random(seed);
                let mut count = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    let name = format!("{:03}", random.below(64));
                    runtime.block_on(async {
                        match random.below(8) {
                            0 => store.remove(&name).await.unwrap(),
                            1..3 => drop(store.read(&name, 1000).await.unwrap()),
                            _ => set(&store, &name, 500).await.unwrap(),
                        }
                    });
                    count += 1;
                }
                done.send(count).unwrap();
            });
        }
        let (bell, timer) = std::sync::mpsc::channel::<()>();
        let _ = timer.recv_timeout(lasting);
        drop(bell);
        stop.store(true, Ordering::Relaxed);
        for _ in 0..16 {
            let count = finished.recv_timeout(Duration::from_secs(20));
            assert!(count.expect("no deadlock") > 0);
        }
        let usage = store.usage();
        assert!(
            usage.live <= room && usage.entries <= 3,
            "{policy:?}: {usage:?}"
        );
        assert_eq!(usage.staged, 0);
    }
}

#[test]
fn s08_sixteen_writers_with_room_for_three_do_not_deadlock() {
    s08_writers_and_victims(Duration::from_millis(600));
}

#[test]
#[ignore = "takes ten seconds a policy"]
fn s08_sixteen_writers_with_room_for_three_for_ten_seconds() {
    s08_writers_and_victims(Duration::from_secs(10));
}

#[tokio::test]
async fn a_fence_outlives_an_eviction_but_not_a_change() {
    let capacity = 2 * (BARE + 1 + 1000);
    let store = Memory::builder(capacity).build().unwrap();
    set(&store, "a", 1000).await.unwrap();
    let fence = store.fence(key("a")).await.unwrap();
    for name in ["b", "c", "d", "e"] {
        set(&store, name, 1000).await.unwrap();
    }
    assert!(!is_there(&store, "a").await);
    let draft = Draft::new().fence(fence.clone());
    assert!(
        store
            .write("a", "1", draft.clone())
            .await
            .unwrap()
            .is_done()
    );
    assert_eq!(
        store.write("a", "2", draft.clone()).await.unwrap(),
        Commit::Superseded
    );
    let absent = store.fence(key("none")).await.unwrap();
    store.remove("none").await.unwrap();
    let late = store.write("none", "1", Draft::new().fence(absent)).await;
    assert_eq!(late.unwrap(), Commit::Superseded);
    let stale = store.delete(key("a"), Some(fence)).await.unwrap();
    assert_eq!(stale, Commit::Superseded);
    assert_eq!(store.read("a", 9).await.unwrap().unwrap(), "1");
}
