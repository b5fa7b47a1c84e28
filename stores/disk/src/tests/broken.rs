//! A disk that fails at one thing.

use bytes::Bytes;
use larder_store::{Draft, Result, Store, StoreExt};

use super::{bounded, is_clear, open, sized, until};
use crate::{
    Disk, Durability,
    faults::{By, Failure, Faults, Rule},
    medium::Op,
};

const CAPACITY: u64 = 4 << 20;

async fn open_with(folder: &tempfile::TempDir, faults: &Faults) -> Result<Disk> {
    open(sized(folder.path(), CAPACITY), folder.path(), faults).await
}

async fn set(store: &Disk, key: &str, len: usize) -> Result<()> {
    let commit = store.write(key, body(key, len), Draft::new()).await?;
    assert!(commit.is_done());
    Ok(())
}

fn body(key: &str, len: usize) -> Bytes {
    key.bytes().cycle().take(len).collect()
}

async fn is_there(store: &Disk, key: &str, len: usize) -> bool {
    match store.read(key, 1 << 20).await.unwrap() {
        Some(bytes) => {
            assert!(bytes == body(key, len), "wrong bytes of {key}");
            true
        }
        None => false,
    }
}

/// What cannot be read is neither a miss nor gone: it is there when the disk is well again.
async fn cannot_be_read(under: &'static str, len: usize, failure: Failure) {
    let folder = tempfile::tempdir().unwrap();
    let faults = Faults::default();
    let store = open_with(&folder, &faults).await.unwrap();
    for key in ["a", "b"] {
        set(&store, key, len).await.unwrap();
    }
    store.close().await.unwrap();

    let store = open_with(&folder, &faults).await.unwrap();
    let reads = [Op::Read, Op::ReadNow];
    faults.add(Rule::new(failure).on(&reads).under(under));
    for _ in 0..3 {
        let error = store.read("a", 1 << 20).await.unwrap_err();
        assert!(error.is_unavailable(), "{error:?}");
    }
    assert_eq!(store.usage().entries, 2);
    assert!(store.figures().io_errors > 0);
    faults.clear();
    assert!(is_there(&store, "a", len).await && is_there(&store, "b", len).await);
    store.close().await.unwrap();
}

#[test]
fn s56_a_small_object_that_cannot_be_read_is_unavailable() {
    bounded(cannot_be_read("seg/", 5_000, Failure::Broken));
}

#[test]
fn s56_a_large_object_that_cannot_be_read_is_unavailable() {
    bounded(cannot_be_read("blob/", 700_000, Failure::Broken));
}

/// The system may have less in its cache than was asked for; that is no fault.
#[test]
fn s56_a_part_in_the_page_cache_is_enough_to_begin_with() {
    bounded(async {
        let folder = tempfile::tempdir().unwrap();
        let faults = Faults::default();
        let store = open_with(&folder, &faults).await.unwrap();
        set(&store, "small", 9_000).await.unwrap();
        set(&store, "large", 700_000).await.unwrap();
        store.close().await.unwrap();
        let store = open_with(&folder, &faults).await.unwrap();
        faults.add(Rule::new(Failure::Short).on(&[Op::ReadNow]));
        assert!(is_there(&store, "small", 9_000).await);
        assert!(is_there(&store, "large", 700_000).await);
        store.close().await.unwrap();
    });
}

/// Sets objects that fill several segments while something fails, and finds all of them, but for
/// those that a full disk made it evict: in this process, and in the next.
async fn loses_nothing(rule: Rule) {
    const COUNT: usize = 120;
    let folder = tempfile::tempdir().unwrap();
    let faults = Faults::default();
    faults.add(rule.clone());
    let store = open_with(&folder, &faults).await.unwrap();
    for number in 0..COUNT {
        // While the disk seems to fail nothing is stored.
        until("it goes on", async || {
            set(&store, &format!("a/{number}"), 5_000).await.is_ok()
        })
        .await;
    }
    let found = found(&store, COUNT).await;
    let evicted = usize::try_from(store.usage().evictions).unwrap();
    assert_eq!((found.len() + evicted, store.figures().lost), (COUNT, 0));
    // What fails at the close is said or not; nothing hangs on it.
    drop(store.close().await);
    assert!(faults.struck() > 0, "nothing failed of {rule:?}");

    faults.clear();
    let store = open_with(&folder, &faults).await.unwrap();
    assert_eq!(self::found(&store, COUNT).await, found);
    assert_eq!(store.usage().entries, found.len() as u64);
    store.close().await.unwrap();
}

async fn found(store: &Disk, count: usize) -> Vec<usize> {
    let mut found = Vec::new();
    for number in 0..count {
        if is_there(store, &format!("a/{number}"), 5_000).await {
            found.push(number);
        }
    }
    found
}

#[test]
fn s56_a_footer_that_cannot_be_written_loses_nothing() {
    for failure in [Failure::Full, Failure::Short, Failure::Broken] {
        let rule = Rule::new(failure).on(&[Op::Write]).by(By::Sealer);
        bounded(loses_nothing(rule.under("seg/").times(2)));
    }
}

#[test]
fn s56_a_segment_that_cannot_be_cut_or_synced_loses_nothing() {
    for op in [Op::SetLen, Op::Sync] {
        let rule = Rule::new(Failure::Broken).on(&[op]).by(By::Sealer);
        bounded(loses_nothing(rule.under("seg/").times(2)));
    }
}

#[test]
fn s56_a_snapshot_that_cannot_be_written_loses_nothing() {
    for failure in [Failure::Full, Failure::Short] {
        let rule = Rule::new(failure).under("index");
        bounded(loses_nothing(rule.by(By::Sealer)));
    }
}

#[test]
fn s56_a_sync_that_fails_fails_the_commit() {
    bounded(async {
        let folder = tempfile::tempdir().unwrap();
        let faults = Faults::default();
        let builder = sized(folder.path(), CAPACITY).durability(Durability::OnCommit);
        let store = open(builder, folder.path(), &faults).await.unwrap();
        set(&store, "before", 5_000).await.unwrap();
        faults.add(Rule::new(Failure::Broken).on(&[Op::Sync]));
        for (key, len) in [("small", 5_000), ("large", 300_000)] {
            let error = set(&store, key, len).await.unwrap_err();
            assert!(is_clear(&error), "{error:?}");
        }
        faults.clear();
        until("a commit goes through", async || {
            set(&store, "after", 5_000).await.is_ok()
        })
        .await;
        assert!(is_there(&store, "before", 5_000).await);
        store.close().await.unwrap();
    });
}

#[test]
fn s60_a_folder_that_cannot_be_written_is_a_clear_error() {
    bounded(async {
        let folder = tempfile::tempdir().unwrap();
        let faults = Faults::default();
        let changes = [Op::Create, Op::MakeDir, Op::Open, Op::Write, Op::Remove];
        faults.add(Rule::new(Failure::ReadOnly).on(&changes));
        let error = open_with(&folder, &faults).await.unwrap_err();
        assert!(error.is_unavailable(), "{error:?}");
    });
}
