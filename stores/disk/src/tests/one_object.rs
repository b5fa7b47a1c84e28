//! One object that cannot be read, on a disk that works.

use bytes::Bytes;
use larder_store::{ByteRange, Draft, Key, Lookup, Store, StoreExt};

use super::{bounded, open, sized};
use crate::{
    Disk,
    faults::{Failure, Faults, Rule},
    medium::Op,
};

const CAPACITY: u64 = 16 << 20;
const READS: [Op; 2] = [Op::Read, Op::ReadNow];

struct Fixture {
    store: Disk,
    faults: Faults,
    folder: tempfile::TempDir,
}

fn body(key: &str, len: usize) -> Bytes {
    key.bytes().cycle().take(len).collect()
}

async fn set(store: &Disk, key: &str, len: usize) {
    let commit = store.write(key, body(key, len), Draft::new()).await;
    assert!(commit.unwrap().is_done());
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

/// A store that was opened again, so that nothing of it is in the log's memory.
async fn reopened(len: usize) -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let faults = Faults::default();
    let builder = || sized(folder.path(), CAPACITY);
    let store = open(builder(), folder.path(), &faults).await.unwrap();
    for key in ["a", "b", "c"] {
        set(&store, key, len).await;
    }
    store.close().await.unwrap();
    let store = open(builder(), folder.path(), &faults).await.unwrap();
    Fixture {
        store,
        faults,
        folder,
    }
}

impl Fixture {
    /// The file of a large object, within the store's folder.
    fn file(&self, key: &str) -> &'static str {
        let volume = self.store.volume();
        let hash = volume.hash(Key::new(key).unwrap());
        let blob = volume.index.read(hash).blob(hash).cloned();
        let path = blob.expect("it is large").path();
        path.to_string_lossy().into_owned().leak()
    }

    /// The object is gone, the others are there, and it can be stored again.
    async fn heals(&self, len: usize) {
        let Self { store, faults, .. } = self;
        assert!(!is_there(store, "a", len).await);
        assert!(faults.struck() > 0);
        let figures = store.figures();
        assert_eq!(figures.corrupt, 1);
        assert!(figures.io_errors > 0 && !figures.passing_through);
        assert_eq!(store.usage().entries, 2);
        assert!(is_there(store, "b", len).await && is_there(store, "c", len).await);
        set(store, "a", len).await;
        assert!(is_there(store, "a", len).await, "in another place");
        store.close().await.unwrap();
    }
}

const LARGE: usize = 700_000;

#[test]
fn s90_a_large_object_whose_file_cannot_be_read_is_dropped() {
    bounded(async {
        let fixture = reopened(LARGE).await;
        let file = fixture.file("a");
        let rule = Rule::new(Failure::Broken).on(&READS).under(file);
        fixture.faults.add(rule);
        let found = fixture
            .store
            .get_stream(Key::new("a").unwrap(), ByteRange::FULL);
        let Lookup::Hit(object) = found.await.unwrap() else {
            panic!("it is there");
        };
        let error = object.body.bytes(1 << 20).await.unwrap_err();
        assert!(error.is_corrupt(), "{error:?}");
        fixture.heals(LARGE).await;
    });
}

#[test]
fn s90_a_large_object_whose_file_cannot_be_opened_is_dropped() {
    for (op, failure) in [
        (Op::Open, Failure::Broken),
        (Op::Open, Failure::ReadOnly),
        (Op::Len, Failure::Broken),
    ] {
        bounded(async {
            let fixture = reopened(LARGE).await;
            let file = fixture.file("a");
            let rule = Rule::new(failure).on(&[op]).under(file);
            fixture.faults.add(rule);
            fixture.heals(LARGE).await;
        });
    }
}

/// A folder stands where the file was: it does not go by removing the file either.
#[test]
fn s90_a_large_object_whose_file_is_a_folder_is_dropped() {
    bounded(async {
        let fixture = reopened(LARGE).await;
        let path = fixture.folder.path().join(fixture.file("a"));
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("of somebody else"), "").unwrap();
        // Nothing is made to fail by the test.
        let rule = Rule::new(Failure::Broken)
            .on(&[Op::Read])
            .under("no such file");
        fixture.faults.add(rule);
        assert!(!is_there(&fixture.store, "a", LARGE).await);
        assert!(is_there(&fixture.store, "b", LARGE).await);
        for round in 0..3 {
            set(&fixture.store, "a", LARGE).await;
            assert!(is_there(&fixture.store, "a", LARGE).await, "{round}");
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            assert!(!fixture.store.figures().passing_through);
        }
        assert!(path.join("of somebody else").exists());
        fixture.store.close().await.unwrap();
    });
}

/// Where the page cache has nothing, and the place on the disk is bad.
#[test]
fn s90_a_small_object_in_a_bad_place_is_dropped() {
    bounded(async {
        let fixture = reopened(5_000).await;
        let rule = || Rule::new(Failure::Broken).under("seg/");
        fixture.faults.add(rule().on(&[Op::ReadNow]).times(1));
        fixture.faults.add(rule().on(&[Op::Read]).times(2));
        fixture.heals(5_000).await;
    });
}

#[test]
fn s90_a_failure_that_passes_drops_nothing() {
    for len in [5_000, LARGE] {
        bounded(async {
            let fixture = reopened(len).await;
            let rule = || Rule::new(Failure::Broken);
            fixture.faults.add(rule().on(&[Op::ReadNow]).times(1));
            fixture.faults.add(rule().on(&[Op::Read]).times(1));
            assert!(is_there(&fixture.store, "a", len).await);
            assert_eq!(fixture.faults.struck(), 2);
            assert_eq!(fixture.store.figures().corrupt, 0);
            fixture.store.close().await.unwrap();
        });
    }
}

/// While all files fail, none of them is at fault.
#[test]
fn s90_a_disk_that_fails_as_a_whole_drops_nothing() {
    for op in [Op::Open, Op::Len, Op::Read] {
        for failure in [Failure::Broken, Failure::ReadOnly] {
            bounded(async {
                let fixture = reopened(LARGE).await;
                let ops = [op, Op::ReadNow];
                fixture.faults.add(Rule::new(failure).on(&ops));
                for _ in 0..3 {
                    for key in ["a", "b", "c"] {
                        let error = fixture.store.read(key, 1 << 20).await.unwrap_err();
                        assert!(error.is_unavailable(), "{op:?}: {error:?}");
                    }
                }
                fixture.faults.clear();
                for key in ["a", "b", "c"] {
                    assert!(is_there(&fixture.store, key, LARGE).await);
                }
                fixture.store.close().await.unwrap();
            });
        }
    }
}
