//! What may bring back an object that was replaced or deleted: a tombstone, or a record that voids
//! older ones, that goes before what it voids.

use std::{fs, os::unix::fs::FileExt, path::Path, sync::Arc};

use larder_store::{Draft, Key, Store, StoreExt};

use super::{bounded, open, sized, until};
use crate::{
    Disk,
    config::Durability,
    faults::{By, Failure, Faults, Rule},
    flusher,
    log::Chunk,
    medium::Op,
    record::Header,
    segment::{FooterPlace, Queue, Segment},
    volume::Located,
};

const CAPACITY: u64 = 2 << 20;

async fn store(path: &Path, faults: &Faults) -> Disk {
    open(sized(path, CAPACITY), path, faults).await.unwrap()
}

/// Opens it again as the log alone tells.
async fn again(store: Disk, path: &Path, faults: &Faults) -> Disk {
    store.close().await.unwrap();
    for name in ["index.snap.a", "index.snap.b"] {
        let _ = fs::remove_file(path.join(name));
    }
    self::store(path, faults).await
}

async fn set(store: &Disk, key: &str, len: usize) {
    let body = key.bytes().cycle().take(len).collect::<Vec<u8>>();
    let commit = store.write(key, body, Draft::new()).await.unwrap();
    assert!(commit.is_done());
}

async fn is_there(store: &Disk, key: &str) -> bool {
    store.read(key, 1 << 20).await.unwrap().is_some()
}

fn located(store: &Disk, key: &str) -> Option<Located> {
    let volume = store.volume();
    volume.locate(volume.hash(Key::new(key).unwrap()))
}

/// Writes other objects until something holds.
async fn crowd(store: &Disk, until: impl Fn() -> bool) {
    while !until() {
        // Each is new, so that none goes to the main log.
        let number = store.volume().log.draw();
        set(store, &format!("crowd {number}"), 1_000).await;
    }
}

/// Has the keeper write "key" again in the main log, which will last; gives its segment.
async fn move_to_main(store: &Disk) -> Arc<Segment> {
    set(store, "key", 500).await;
    assert!(is_there(store, "key").await);
    crowd(store, || {
        located(store, "key").is_some_and(|found| found.segment.queue == Queue::Main)
    })
    .await;
    located(store, "key").unwrap().segment
}

/// The segment that new objects go to.
async fn newest(store: &Disk) -> Arc<Segment> {
    let volume = store.volume();
    volume.log.settled(volume.log.draw()).await.unwrap();
    let all = volume.segments.all();
    let newest = all
        .into_iter()
        .rfind(|segment| segment.queue == Queue::Probation);
    newest.unwrap()
}

fn exists(path: &Path, segment: &Segment) -> bool {
    path.join(segment.path()).exists()
}

/// Deletes what stands in the main log; then the segment of its tombstone goes, and with it what
/// `harm` does to that.
async fn delete_and_reclaim(harm: impl AsyncFnOnce(&Disk, &Path, &Faults, &Arc<Segment>)) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let faults = Faults::default();
    let store = self::store(path, &faults).await;
    let old = move_to_main(&store).await;
    store.remove("key").await.unwrap();
    let tombstone = newest(&store).await;
    harm(&store, path, &faults, &tombstone).await;
    crowd(&store, || !exists(path, &tombstone)).await;
    assert!(exists(path, &old));
    faults.clear();
    let store = again(store, path, &faults).await;
    assert!(!is_there(&store, "key").await);
    store.close().await.unwrap();
}

#[test]
fn s55_a_tombstone_outlives_its_segment() {
    bounded(delete_and_reclaim(async |_, _, _, _| {}));
}

#[test]
fn s56_a_list_that_cannot_be_read_takes_no_tombstone_with_it() {
    bounded(delete_and_reclaim(async |_, _, faults, tombstone| {
        let path = Box::leak(tombstone.path().display().to_string().into_boxed_str());
        let rule = Rule::new(Failure::Broken).on(&[Op::Read]).by(By::Keeper);
        faults.add(rule.under(path).times(2));
    }));
}

#[test]
fn s57_a_damaged_tombstone_that_is_listed_still_counts() {
    bounded(delete_and_reclaim(async |store, path, _, tombstone| {
        // Once it is sealed its list tells of it.
        let sealed = || matches!(tombstone.footer(), FooterPlace::File);
        crowd(store, || newest_is_other(store, tombstone)).await;
        until("it is sealed", async || sealed()).await;
        let hash = store.volume().hash(Key::new("key").unwrap());
        let mut options = fs::OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .open(path.join(tombstone.path()));
        let file = file.unwrap();
        let mut bytes = vec![0; usize::try_from(tombstone.end()).unwrap()];
        file.read_exact_at(&mut bytes, 0).unwrap();
        let mut at = 64;
        while let Some(header) = Header::parse(&bytes[at..], tombstone.seed) {
            if header.hash == hash {
                file.write_all_at(&[!bytes[at + 4]], at as u64 + 4).unwrap();
                return;
            }
            at += header.size();
        }
        panic!("there is no tombstone");
    }));
}

fn newest_is_other(store: &Disk, than: &Segment) -> bool {
    let all = store.volume().segments.all();
    let newest = all
        .iter()
        .rfind(|segment| segment.queue == Queue::Probation);
    newest.is_some_and(|newest| newest.id != than.id)
}

/// The record of a large object whose file is missing is no object, but it voids older ones.
async fn lose_a_file(again: impl AsyncFn(Disk, &Path, &Faults) -> Disk) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let faults = Faults::default();
    let store = self::store(path, &faults).await;
    let old = move_to_main(&store).await;
    set(&store, "key", 50_000).await;
    let found = located(&store, "key").unwrap();
    let blob = found.blob.unwrap().path();
    store.close().await.unwrap();
    fs::remove_file(path.join(blob)).unwrap();
    let store = again(self::store(path, &faults).await, path, &faults).await;
    assert!(!is_there(&store, "key").await);
    crowd(&store, || !exists(path, &found.segment)).await;
    assert!(exists(path, &old));
    let store = self::again(store, path, &faults).await;
    assert!(!is_there(&store, "key").await);
    store.close().await.unwrap();
}

#[test]
fn s55_a_large_object_without_its_file_is_not_followed_by_an_older_one() {
    bounded(lose_a_file(async |store, _, _| store));
    bounded(lose_a_file(again));
}

#[test]
fn s55_a_copy_says_that_it_has_an_original() {
    bounded(async {
        let folder = tempfile::tempdir().unwrap();
        let store = self::store(folder.path(), &Faults::default()).await;
        let segment = move_to_main(&store).await;
        let place = located(&store, "key").unwrap().place;
        let volume = store.volume();
        volume.log.settled(volume.log.draw()).await.unwrap();
        let mut bytes = vec![0; place.len()];
        segment
            .file
            .read_exact_at(&mut bytes, place.start())
            .unwrap();
        assert!(Header::parse(&bytes, segment.seed).unwrap().shadow);
        store.close().await.unwrap();
    });
}

/// The write of a segment fails after a part of it has reached the file, and what is there cannot
/// be cut off.
#[test]
fn s55_what_was_written_in_part_and_deleted_is_not_found() {
    bounded(async {
        let folder = tempfile::tempdir().unwrap();
        let killed = tempfile::tempdir().unwrap();
        let faults = Faults::default();
        let store = self::store(folder.path(), &faults).await;
        let rule = Rule::new(Failure::Short).on(&[Op::Write]).by(By::Flusher);
        faults.add(rule.under("seg").times(1));
        faults.add(Rule::new(Failure::Broken).on(&[Op::SetLen]));
        set(&store, "key", 100).await;
        set(&store, "more", 10_000).await;
        until("it is lost", async || !is_there(&store, "key").await).await;
        until("it is deleted", async || store.remove("key").await.is_ok()).await;
        super::restart::copy(folder.path(), killed.path());
        faults.clear();
        store.close().await.unwrap();
        let store = self::store(killed.path(), &faults).await;
        assert!(!is_there(&store, "key").await);
        store.close().await.unwrap();
    });
}

/// The sealer may be about to sync a segment, which then is not dirty any more; nobody knows yet
/// whether it can.
#[test]
fn s56_a_commit_does_not_rely_on_a_sync_of_another() {
    bounded(async {
        let folder = tempfile::tempdir().unwrap();
        let faults = Faults::default();
        let builder = sized(folder.path(), CAPACITY).durability(Durability::OnCommit);
        let store = open(builder, folder.path(), &faults).await.unwrap();
        set(&store, "key", 100).await;
        let segment = newest(&store).await;
        assert!(!segment.take_dirty());
        let volume = store.volume();
        let sequence = volume.log.draw();
        volume.log.settled(sequence).await.unwrap();
        let chunk = Chunk {
            offset: segment.flushed(),
            segment,
            bytes: Vec::new(),
            sequences: sequence..sequence + 1,
            seals: false,
        };
        faults.add(Rule::new(Failure::Broken).on(&[Op::Sync]));
        flusher::sync(volume, &[Arc::new(chunk)]);
        assert!(volume.log.settled(sequence).await.is_err());
        faults.clear();
        store.close().await.unwrap();
    });
}
