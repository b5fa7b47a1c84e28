//! A whole file of the log goes between two runs.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use larder_disk::{Builder, Disk, inspect};
use larder_store::Store;

use crate::{
    KIB, MIB, Scratch,
    common::{copy_folder, delete, files, finds, found, set},
};

fn builder(root: &Path) -> Builder {
    Disk::builder(root, 8 * MIB).segment_size(128 << 10)
}

/// The newest version of each object, zero where it is deleted.
type Versions = BTreeMap<String, u64>;

/// Objects that are replaced, deleted, and set again after that.
async fn fill(store: &Disk) -> Versions {
    let mut versions = Versions::new();
    for version in 1..=4 {
        for id in 0..100_u64 {
            let name = format!("{id}");
            let (turn, kind) = (id % 5, id % 3);
            if version == 1 || turn == version {
                let len = [900, 20 * KIB, 40 * KIB][usize::try_from(kind).unwrap()];
                set(store, &name, version, len).await;
                versions.insert(name, version);
            } else if turn + 1 == version {
                delete(store, &name).await;
                versions.insert(name, 0);
            }
        }
    }
    assert_eq!(store.usage().evictions, 0);
    versions
}

/// A store in a folder of its own, closed, or as a kill leaves it.
async fn left(folder: &Scratch, closed: bool) -> (PathBuf, Versions) {
    let root = folder.store();
    let store = builder(&root).open().await.unwrap();
    let versions = fill(&store).await;
    let original = folder.path().join("original");
    if closed {
        store.close().await.unwrap();
    } else {
        // Whatever is still in a buffer, and whatever is still to be sealed.
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    copy_folder(&root, &original).unwrap();
    drop(store);
    (original, versions)
}

/// What becomes of the file, by name.
type Loss = (&'static str, fn(&Path));

const LOSSES: [Loss; 5] = [
    ("removed", |file| fs::remove_file(file).unwrap()),
    ("emptied", |file| fs::write(file, "").unwrap()),
    ("renamed", |file| {
        fs::rename(file, file.with_extension("bak")).unwrap();
    }),
    ("given another number", |file| {
        fs::rename(file, file.with_file_name("0000000001.seg")).unwrap();
    }),
    ("zeroed", |file| {
        let len = usize::try_from(fs::metadata(file).unwrap().len()).unwrap();
        fs::write(file, vec![0; len]).unwrap();
    }),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s99_a_lost_segment_of_a_closed_store_brings_nothing_back() {
    lost(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s99_a_lost_segment_of_a_killed_store_brings_nothing_back() {
    lost(false).await;
}

async fn lost(closed: bool) {
    let folder = Scratch::in_memory();
    let (original, versions) = left(&folder, closed).await;
    let segments: Vec<_> = files(&original)
        .into_iter()
        .filter(|file| file.starts_with("seg") && fs::metadata(original.join(file)).is_ok())
        .collect();
    assert!(segments.len() > 5);
    let (mut kept, mut all) = (0, 0);
    for (index, segment) in segments.iter().enumerate() {
        // Of each segment one loss, and of some each.
        let losses = if index % 4 == 1 {
            0..LOSSES.len()
        } else {
            index % 3..index % 3 + 1
        };
        for (how, lose) in &LOSSES[losses] {
            let what = format!("{} {how}", segment.display());
            let copy = Scratch::in_memory();
            copy_folder(&original, &copy.store()).unwrap();
            let before = inspect(copy.store()).unwrap();
            lose(&copy.store().join(segment));
            let id = number(segment);
            // Twice: what was found at the first start holds for the next.
            for round in 0..2 {
                let store = builder(&copy.store()).open().await.unwrap();
                for (name, version) in &versions {
                    let found = found(&store, name).await.unwrap();
                    let right = found.is_none_or(|found| found == *version);
                    assert!(right, "{what}, start {round}: {name} has {found:?}");
                    kept += u64::from(found.is_some());
                    all += u64::from(*version > 0);
                }
                // What was written after the lost segment had ended is surely the newest.
                for object in &before.objects {
                    if object.segment > id || (closed && object.segment != id) {
                        finds(&store, &object.key, versions[&object.key]).await;
                    }
                }
                if round == 0 && closed {
                    store.close().await.unwrap();
                } else if round == 0 {
                    // As a kill leaves it.
                    let next = copy.path().join("next");
                    copy_folder(&copy.store(), &next).unwrap();
                    store.close().await.unwrap();
                    drop(store);
                    fs::remove_dir_all(copy.store()).unwrap();
                    fs::rename(next, copy.store()).unwrap();
                } else {
                    for name in versions.keys() {
                        set(&store, name, 9, 700).await;
                    }
                    store.close().await.unwrap();
                }
            }
            let store = builder(&copy.store()).open().await.unwrap();
            for name in versions.keys() {
                finds(&store, name, 9).await;
            }
            store.close().await.unwrap();
        }
    }
    println!("closed {closed}: {kept} of {all} objects were kept");
}

fn number(segment: &Path) -> u64 {
    let name = segment.file_stem().unwrap().to_str().unwrap();
    name.parse().unwrap()
}

/// A segment that ended is known to its last record.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s99_a_segment_that_is_cut_off_brings_nothing_back() {
    for closed in [true, false] {
        let folder = Scratch::in_memory();
        let (original, versions) = left(&folder, closed).await;
        let segments = inspect(&original).unwrap().segments;
        for segment in segments.iter().filter(|segment| segment.is_sealed) {
            for part in [1, 4, 7] {
                let copy = Scratch::in_memory();
                copy_folder(&original, &copy.store()).unwrap();
                let file = copy.store().join(format!("seg/{:010}.seg", segment.id));
                let file = fs::File::options().write(true).open(file).unwrap();
                file.set_len(segment.len * part / 8).unwrap();
                let store = builder(&copy.store()).open().await.unwrap();
                for (name, version) in &versions {
                    let found = found(&store, name).await.unwrap();
                    assert!(found.is_none_or(|found| found == *version), "{name}");
                }
                store.close().await.unwrap();
            }
        }
    }
}

/// Segments that the store itself has removed are not missed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s99_what_was_evicted_is_not_missed() {
    let folder = Scratch::in_memory();
    let store = builder(&folder.store()).open().await.unwrap();
    for id in 0..2_000 {
        set(&store, &format!("{id}"), 1, 10 * KIB).await;
    }
    assert!(store.usage().evictions > 0);
    let mut before = None;
    while before != Some(store.usage().evictions) {
        before = Some(store.usage().evictions);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (copy, usage) = (Scratch::in_memory(), store.usage());
    copy_folder(&folder.store(), &copy.store()).unwrap();
    let killed = builder(&copy.store()).open().await.unwrap();
    assert_eq!(killed.usage().entries, usage.entries);
    for store in [killed, store] {
        store.close().await.unwrap();
    }
}
