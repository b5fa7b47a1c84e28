//! How large an object may be, and what all together may count for.

use bytes::Bytes;
use larder_memory::{Eviction, Memory};
use larder_store::{Draft, Store, StoreExt};

use super::{BARE, is_there, key, open, policies, set};

#[tokio::test]
async fn s49_an_oversized_object_is_refused_and_evicts_nothing() {
    for policy in policies() {
        let builder = Memory::builder(64 << 10).object_max(16 << 10);
        let store = builder.policy(policy).build().unwrap();
        let mut filled = 0;
        while store.usage().evictions == 0 {
            set(&store, &format!("fill{filled}"), 1000).await.unwrap();
            filled += 1;
        }
        let before = store.usage();
        let most = 16_u64 << 10;

        let declared = store.set_with_writer(key("x"), Draft::new().len(most + 1));
        assert!(declared.await.unwrap_err().is_too_large());
        let mut writer = open(&store, "x", Draft::new()).await;
        let whole = Bytes::from(vec![0; usize::try_from(most).unwrap()]);
        writer.write(whole.clone()).await.unwrap();
        let over = writer.write(Bytes::from_static(b"x")).await;
        assert!(over.unwrap_err().is_too_large());
        assert!(writer.commit().await.unwrap_err().is_too_large());
        // Too heavy for the whole store by its metadata.
        let tags = vec!["x".repeat(60 << 10).into()];
        let heavy = Draft::new().with(|header| header.tags = tags);
        let heavy = store.write("x", whole.clone(), heavy).await;
        assert!(heavy.unwrap_err().is_too_large());
        assert_eq!(store.usage(), before, "{policy:?}");

        // Exactly the limit fits.
        let fits = store.write("x", whole, Draft::new()).await.unwrap();
        assert!(fits.is_done());
        if policy == Eviction::S3Fifo {
            assert!(is_there(&store, "x").await);
        }
    }
}

#[tokio::test]
async fn s49_an_object_of_exactly_the_greatest_size_always_fits() {
    let capacity = 64 << 10;
    let room = capacity - BARE - 2;
    for object_max in [1, 5_000, capacity / 8, capacity / 2, room - 1, room] {
        let store = Memory::builder(capacity).object_max(object_max).build();
        let store = store.unwrap();
        let body = usize::try_from(object_max).unwrap();
        for round in 0..300_u32 {
            // Keys come back from the history, and what is there has been hit.
            let name = format!("{:02}", round * 7 % 40);
            set(&store, &name, body).await.unwrap();
            for _ in 0..3 {
                assert!(store.read(&name, capacity).await.unwrap().is_some());
            }
            assert!(store.usage().live <= capacity);
        }
    }
}

#[tokio::test]
async fn s51_absent_entries_stay_within_the_capacity() {
    for policy in policies() {
        let store = Memory::builder(1 << 20).policy(policy).build().unwrap();
        for index in 0..50_000 {
            let draft = Draft::new().with(|header| header.absent = true);
            let name = format!("{index}");
            assert!(store.write(&name, "", draft).await.unwrap().is_done());
        }
        let usage = store.usage();
        assert!(usage.live <= 1 << 20, "{policy:?}: {usage:?}");
        assert!(usage.live >= 900 << 10, "{policy:?}: {usage:?}");
        assert_eq!(usage.entries + usage.evictions, 50_000, "{policy:?}");
    }
}

#[tokio::test]
async fn open_writers_have_a_limit_together() {
    let store = Memory::builder(64 << 10)
        .object_max(40 << 10)
        .staging_max(64 << 10)
        .build()
        .unwrap();
    let mut first = open(&store, "a", Draft::new()).await;
    first.write(Bytes::from(vec![1; 40 << 10])).await.unwrap();
    let mut second = open(&store, "b", Draft::new()).await;
    let full = second.write(Bytes::from(vec![1; 30 << 10])).await;
    assert!(full.unwrap_err().is_full());
    assert!(second.commit().await.unwrap_err().is_full());
    assert_eq!(store.usage().staged, 40 << 10);
    // Also such as have written nothing yet.
    let mut idle = Vec::new();
    let full = loop {
        match store.set_with_writer(key("c"), Draft::new()).await {
            Ok(writer) => idle.push(writer),
            Err(error) => break error,
        }
    };
    assert!(full.is_full() && idle.len() < 60);
    drop(idle);
    assert!(first.commit().await.unwrap().is_done());
    assert_eq!(store.usage().staged, 0);
    set(&store, "b", 40 << 10).await.unwrap();
}

#[test]
#[should_panic(expected = "a capacity of 0 bytes is not between 514 and")]
fn a_capacity_of_nothing_panics() {
    drop(Memory::new(0));
}
