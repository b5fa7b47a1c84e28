//! The handle, its end, and its capabilities.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use futures_util::{FutureExt, StreamExt};
use larder_memory::Memory;
use larder_store::{ByteRange, Commit, Draft, Lookup, Store, StoreExt};

use super::{BARE, expiring, is_there, key, open, policies, set};

#[tokio::test]
async fn s17_touch_keeps_the_body_and_obeys_its_limits() {
    let store = Memory::builder(3_000).object_max(2_000).build().unwrap();
    let _ = store.write("a", "body", Draft::new()).await.unwrap();
    let touch = store.as_touch().unwrap();
    let tagged = Draft::new().with(|header| header.content_type = Some("text/plain".into()));
    let fence = store.fence(key("a")).await.unwrap();
    let done = touch.touch(key("a"), tagged.clone().len(4).fence(fence.clone()));
    let Commit::Done(Some(metadata)) = done.await.unwrap() else {
        panic!("not touched");
    };
    assert_eq!(metadata.content_type.as_deref(), Some("text/plain"));
    assert_eq!(store.usage().live, BARE + 1 + 4 + 10);
    assert_eq!(store.read("a", 9).await.unwrap().unwrap(), "body");
    let stale = touch.touch(key("a"), tagged.clone().fence(fence)).await;
    assert_eq!(stale.unwrap(), Commit::Superseded);
    let missing = touch.touch(key("b"), tagged.clone()).await;
    assert_eq!(missing.unwrap(), Commit::Superseded);
    assert!(touch.touch(key("a"), tagged.len(5)).await.is_err());
    let heavy = Draft::new().with(|header| header.tags = vec!["x".repeat(3_000).into()]);
    assert!(
        touch
            .touch(key("a"), heavy)
            .await
            .unwrap_err()
            .is_too_large()
    );
    assert_eq!(store.stat(key("a")).await.unwrap().unwrap(), metadata);
}

#[tokio::test]
async fn close_frees_all_and_refuses_what_comes_later() {
    for policy in policies() {
        let store = Memory::builder(1 << 20).policy(policy).build().unwrap();
        let body = vec![7; 9];
        let _ = store.write("a", body, expiring(u64::MAX)).await.unwrap();
        let lookup = store.get_stream(key("a"), ByteRange::FULL).await.unwrap();
        let mut late = open(&store, "b", Draft::new()).await;
        late.write("1".into()).await.unwrap();
        let committed = open(&store, "c", Draft::new()).await;
        store.close().await.unwrap();
        store.clone().close().await.unwrap();

        assert!(late.write("2".into()).await.unwrap_err().is_closed());
        assert!(late.commit().await.unwrap_err().is_closed());
        assert!(committed.commit().await.unwrap_err().is_closed());
        assert!(store.stat(key("a")).await.unwrap_err().is_closed());
        assert!(store.fence(key("a")).await.unwrap_err().is_closed());
        assert!(store.remove("a").await.unwrap_err().is_closed());
        assert!(store.read("a", 9).await.unwrap_err().is_closed());
        assert!(set(&store, "a", 1).await.unwrap_err().is_closed());
        let touch = store.as_touch().unwrap().touch(key("a"), Draft::new());
        assert!(touch.await.unwrap_err().is_closed());
        let first = store.as_list().unwrap().list("").next().await.unwrap();
        assert!(first.unwrap_err().is_closed());
        let usage = store.usage();
        assert_eq!((usage.entries, usage.live, usage.staged), (0, 0, 0));
        let Lookup::Hit(object) = lookup else {
            panic!("no hit");
        };
        assert_eq!(object.body.bytes(9).await.unwrap(), vec![7; 9]);
    }
}

#[tokio::test]
async fn clones_are_one_store() {
    let store = Memory::new(1 << 20);
    let clone = store.clone();
    let _ = clone.write("a", "1", Draft::new()).await.unwrap();
    assert!(is_there(&store, "a").await);
    assert_eq!(store.identity(), clone.identity());
    assert_eq!(Box::new(clone).identity(), store.identity());
    assert_ne!(store.identity(), Memory::new(1 << 20).identity());
}

#[tokio::test]
async fn a_listing_gives_each_key_of_its_prefix_once() {
    for policy in policies() {
        let store = Memory::builder(4 << 20).policy(policy).build().unwrap();
        for index in 0..500 {
            set(&store, &format!("a/{index}"), 10).await.unwrap();
            set(&store, &format!("b/{index}"), 10).await.unwrap();
        }
        let keys = store.as_list().unwrap().list("b/");
        store.remove("b/7").await.unwrap();
        let mut keys: Vec<_> = keys.map(|key| key.unwrap().to_string()).collect().await;
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), 500);
    }
}

/// Touching reads and writes; a delete or an overwrite in between must not be undone by it.
#[test]
fn s13_a_touch_brings_nothing_back() {
    let store = Memory::new(1 << 20);
    let stop = Arc::new(AtomicBool::new(false));
    let toucher = {
        let (store, stop) = (store.clone(), Arc::clone(&stop));
        std::thread::spawn(move || {
            let mut touched = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                let touch = store.as_touch().unwrap().touch(key("a"), Draft::new());
                let done = touch.now_or_never().expect("every reply is ready");
                touched += u64::from(done.unwrap().is_done());
            }
            touched
        })
    };
    for round in 0..20_000_u32 {
        let round = async {
            let body = round.to_le_bytes().to_vec();
            let _ = store.write("a", body.clone(), Draft::new()).await.unwrap();
            assert_eq!(store.read("a", 9).await.unwrap().unwrap(), body);
            if round % 2 == 0 {
                store.remove("a").await.unwrap();
                assert!(!is_there(&store, "a").await);
            }
        };
        round.now_or_never().expect("every reply is ready");
    }
    stop.store(true, Ordering::Relaxed);
    assert!(toucher.join().unwrap() > 100);
}
