//! More than the disk takes at once.

use larder_disk::{Admission, Disk, Overload};
use larder_store::Store;

use crate::{
    KIB, MIB,
    common::{Random, draft, found, put},
    with,
};

/// How many were taken, and how many refused.
async fn burst(store: &Disk, count: u64) -> (Vec<u64>, u64) {
    let writers = (0..16).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            let (mut taken, mut refused) = (Vec::new(), 0);
            for id in (writer..count).step_by(16) {
                match put(&store, &format!("{id}"), draft(id), 16 * KIB).await {
                    Ok(done) => {
                        assert!(done.is_done());
                        taken.push(id);
                    }
                    Err(error) => {
                        assert!(error.is_full(), "{error:?}");
                        refused += 1;
                    }
                }
            }
            (taken, refused)
        })
    });
    let (mut taken, mut refused) = (Vec::new(), 0);
    for writer in writers.collect::<Vec<_>>() {
        let (some, others) = writer.await.unwrap();
        taken.extend(some);
        refused += others;
    }
    (taken, refused)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s54_a_burst_waits_for_the_disk_and_loses_nothing() {
    const COUNT: u64 = 4_000;
    let (folder, store) = with(256 * MIB, |builder| builder.segment_size(MIB)).await;
    let (taken, refused) = burst(&store, COUNT).await;
    assert_eq!((taken.len() as u64, refused), (COUNT, 0));
    let (usage, figures) = (store.usage(), store.figures());
    assert_eq!((usage.entries, usage.evictions), (COUNT, 0));
    assert_eq!((figures.refused, figures.lost), (0, 0));
    found_all(&store, &taken).await;
    store.close().await.unwrap();
    let store = Disk::open(folder.store(), 256 * MIB).await.unwrap();
    found_all(&store, &taken).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s54_a_burst_that_is_refused_is_counted() {
    const COUNT: u64 = 4_000;
    let settings = |builder: larder_disk::Builder| {
        let small = builder.segment_size(MIB / 2).large_object(16 * 1024);
        small.overload(Overload::Refuse)
    };
    let (folder, store) = with(256 * MIB, settings).await;
    let (taken, refused) = burst(&store, COUNT).await;
    assert_eq!(taken.len() as u64 + refused, COUNT);
    assert!(refused > 0, "the disk kept up with everything: no test");
    assert!(taken.len() > 20, "nothing was taken: {}", taken.len());
    let (usage, figures) = (store.usage(), store.figures());
    assert_eq!((usage.entries, usage.evictions), (taken.len() as u64, 0));
    assert_eq!((figures.refused, figures.lost), (refused, 0));
    found_all(&store, &taken).await;
    store.close().await.unwrap();
    let store = Disk::open(folder.store(), 256 * MIB).await.unwrap();
    assert_eq!(store.usage().entries, taken.len() as u64);
    found_all(&store, &taken).await;
}

async fn found_all(store: &Disk, ids: &[u64]) {
    for &id in ids {
        let found = found(store, &format!("{id}")).await.unwrap();
        assert_eq!(found, Some(id), "silently dropped");
    }
}

#[tokio::test]
async fn the_write_rate_is_held_and_counted() {
    let (_folder, store) = with(64 * MIB, |builder| builder.write_rate_max(MIB)).await;
    let (mut taken, mut refused) = (0, 0);
    for id in 0..400 {
        match put(&store, &format!("{id}"), draft(id), 30 * KIB).await {
            Ok(_) => taken += 1,
            Err(error) => {
                assert!(error.is_full(), "{error:?}");
                refused += 1;
            }
        }
    }
    assert!(taken >= 20, "a second's worth is let in: {taken}");
    assert!(refused >= 100, "twelve times a second's worth: {refused}");
    assert_eq!(store.figures().refused, refused);
    assert_eq!(store.usage().entries, taken);
}

#[tokio::test]
async fn a_large_object_is_let_in_when_it_comes_again() {
    let (_folder, store) = with(64 * MIB, |builder| builder.admission(Admission::SecondHit)).await;
    let mut random = Random::seeded();
    for round in 0..10 {
        let name = format!("{}", random.next());
        let first = put(&store, &name, draft(round), 2000 * KIB).await;
        assert!(first.unwrap_err().is_full());
        let second = put(&store, &name, draft(round), 2000 * KIB).await;
        assert!(second.unwrap().is_done());
        // What is small comes in at once.
        let small = put(&store, &format!("small/{name}"), draft(round), 10 * KIB).await;
        assert!(small.unwrap().is_done());
    }
    assert_eq!(store.figures().refused, 10);
    assert_eq!((store.usage().entries, store.usage().staged), (20, 0));
}
