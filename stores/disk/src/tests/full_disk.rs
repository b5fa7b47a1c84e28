//! A disk without room.

use futures_util::TryStreamExt;
use larder_store::{Draft, List, Store, StoreExt};

use super::{bounded, is_clear, open, sized, small, until};
use crate::{
    Disk,
    faults::{Failure, Faults, Rule},
    medium::Op,
};

const BODY: usize = 4_000;

fn body(number: usize) -> Vec<u8> {
    number.to_le_bytes().repeat(BODY / 8)
}

/// Sets objects until there is none that goes through; gives their number.
async fn fill(store: &Disk, prefix: &str, count: usize) -> usize {
    for number in 0..count {
        let key = format!("{prefix}/{number}");
        let written = store.write(&key, body(number), Draft::new());
        if let Err(error) = written.await {
            assert!(is_clear(&error), "{error:?}");
            return number;
        }
    }
    count
}

/// The numbers of those that are there, each read and compared.
async fn found(store: &Disk, prefix: &str, count: usize) -> Vec<usize> {
    let mut found = Vec::new();
    for number in 0..count {
        let bytes = store.read(&format!("{prefix}/{number}"), 1 << 20).await;
        if let Some(bytes) = bytes.unwrap() {
            assert_eq!(bytes, body(number));
            found.push(number);
        }
    }
    found
}

#[test]
fn s56_without_room_for_segments_the_store_shrinks_then_passes_through() {
    bounded(async {
        let folder = tempfile::tempdir().unwrap();
        let faults = Faults::default();
        let builder = sized(folder.path(), 4 << 20);
        let store = open(builder, folder.path(), &faults).await.unwrap();
        assert_eq!(fill(&store, "before", 200).await, 200);

        faults.add(Rule::new(Failure::Full).on(&[Op::Allocate, Op::Create]));
        let refused = fill(&store, "full", 5_000).await;
        assert!(refused < 5_000, "room out of nothing");
        let usage = store.usage();
        assert!(usage.capacity < Some(4 << 20), "{usage:?}");
        assert!(usage.stored <= 4 << 20, "{usage:?}");
        until("it passes through", async || {
            let _ = store.write("probe", vec![0; BODY], Draft::new()).await;
            store.figures().passing_through
        })
        .await;
        assert!(store.figures().refused > 0);

        let listed: Vec<_> = store.list("").try_collect().await.unwrap();
        let before = found(&store, "before", 200).await;
        let full = found(&store, "full", refused).await;
        assert!(before.len() + full.len() > 0, "reads do not go on");
        assert!(listed.len() >= before.len() + full.len());

        faults.clear();
        until("it recovers by itself", async || {
            !store.figures().passing_through
        })
        .await;
        until("a set goes through", async || {
            fill(&store, "after", 1).await == 1
        })
        .await;
        store.close().await.unwrap();
    });
}

#[test]
fn s56_a_delete_on_a_full_disk_holds_or_fails() {
    bounded(async {
        let folder = tempfile::tempdir().unwrap();
        let faults = Faults::default();
        let store = open(small(folder.path()), folder.path(), &faults);
        let store = store.await.unwrap();
        fill(&store, "a", 40).await;
        faults.add(Rule::new(Failure::Full).on(&[Op::Write, Op::Allocate]));
        let mut deleted = Vec::new();
        for number in 0..40 {
            if store.remove(&format!("a/{number}")).await.is_ok() {
                deleted.push(number);
            }
        }
        drop(store.close().await);
        faults.clear();
        let store = open(small(folder.path()), folder.path(), &faults);
        let store = store.await.unwrap();
        for number in found(&store, "a", 40).await {
            assert!(!deleted.contains(&number), "a/{number} is back");
        }
        store.close().await.unwrap();
    });
}

#[test]
fn s56_a_blob_that_finds_no_room_leaves_nothing() {
    bounded(async {
        let folder = tempfile::tempdir().unwrap();
        let faults = Faults::default();
        let builder = sized(folder.path(), 4 << 20);
        let store = open(builder, folder.path(), &faults).await.unwrap();
        let written = store.write("kept", vec![1; 300_000], Draft::new()).await;
        assert!(written.unwrap().is_done());
        // They count in what is stored.
        until("the spare segments are there", async || {
            store.volume().log.spares() == 2
        })
        .await;
        for failure in [Failure::Broken, Failure::Full, Failure::Short] {
            faults.add(Rule::new(failure).on(&[Op::Write]).under("blob/"));
            let stored = store.usage().stored;
            let written = store.write("new", vec![2; 600_000], Draft::new()).await;
            let error = written.unwrap_err();
            assert!(is_clear(&error), "{error:?}");
            faults.clear();
            assert!(!store.exists("new").await.unwrap());
            until("its room is given back", async || {
                store.usage().stored <= stored && store.usage().staged == 0
            })
            .await;
            let kept = store.read("kept", 1 << 20).await.unwrap();
            // A full disk makes the store smaller.
            let evicted = kept.is_none() && failure != Failure::Broken;
            assert!(evicted || kept.is_some_and(|kept| kept == vec![1; 300_000]));
        }
        until("a blob goes through", async || {
            let written = store.write("new", vec![2; 600_000], Draft::new()).await;
            written.is_ok_and(|commit| commit.is_done())
        })
        .await;
        store.close().await.unwrap();
    });
}
