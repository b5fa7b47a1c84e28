//! Files that are not what they were: an object that is read is right, or is not read.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use futures_util::StreamExt;
use larder_disk::{Builder, Disk};
use larder_store::Store;

use crate::{
    KIB, MIB,
    common::{Random, Scratch, copy_folder, delete, draft, files, finds, found, key, set},
};

/// Small segments, so that there are several: with 512 KiB each, and large objects above 128 KiB.
const CAPACITY: u64 = 8 * MIB;

fn builder(root: &Path) -> Builder {
    Disk::builder(root, CAPACITY)
}

/// For each name the versions that may be found: the one that is there first, then those that were.
type Versions = BTreeMap<String, Vec<u64>>;

/// Objects of each kind, replaced, touched and deleted.
async fn fill(store: &Disk) -> Versions {
    let mut versions = Versions::new();
    for version in 1..=3 {
        for id in 0..24_u64 {
            if version > 1 && id % version != 0 {
                continue;
            }
            let lens = [
                0,
                50,
                1_000,
                6 * KIB,
                90 * KIB,
                127 * KIB,
                200 * KIB,
                400 * KIB,
            ];
            let name = format!("{id}");
            set(
                store,
                &name,
                version,
                lens[usize::try_from(id % 8).unwrap()],
            )
            .await;
            versions.entry(name).or_default().insert(0, version);
        }
    }
    for id in [3, 4, 6, 15] {
        let name = format!("{id}");
        delete(store, &name).await;
        versions.get_mut(&name).unwrap().insert(0, 0);
    }
    for id in [5, 14, 20] {
        let name = format!("{id}");
        let version = versions[&name][0];
        let touched = store.as_touch().unwrap().touch(key(&name), draft(version));
        assert!(touched.await.unwrap().is_done());
    }
    assert_eq!(store.usage().evictions, 0);
    versions
}

/// What was done to a file.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Flip(usize, u8),
    Truncate(usize),
    Zero(usize, usize),
    Extend(usize),
    Swap(usize, usize, usize),
    Remove,
}

impl Damage {
    fn do_to(self, file: &Path) {
        let mut bytes = fs::read(file).unwrap();
        match self {
            Self::Flip(place, bit) => bytes[place] ^= 1 << bit,
            Self::Truncate(len) => bytes.truncate(len),
            Self::Zero(place, len) => {
                let end = bytes.len().min(place + len);
                bytes[place..end].fill(0);
            }
            Self::Extend(len) => bytes.resize(bytes.len() + len, 0xa5),
            Self::Swap(one, other, len) => {
                let (first, second) = bytes.split_at_mut(other);
                let len = len.min(second.len()).min(other - one);
                first[one..one + len].swap_with_slice(&mut second[..len]);
            }
            Self::Remove => return fs::remove_file(file).unwrap(),
        }
        fs::write(file, bytes).unwrap();
    }

    /// Some of each, most where the forms are: at the ends.
    fn of(len: usize, dense: usize, random: &mut Random) -> Vec<Self> {
        let mut all = vec![
            Self::Remove,
            Self::Truncate(0),
            Self::Extend(1),
            Self::Extend(5_000),
        ];
        for edge in [1, 8, 40, 63, 64, 65, 104] {
            all.push(Self::Truncate(edge.min(len)));
            all.push(Self::Truncate(len.saturating_sub(edge)));
        }
        if len > 0 {
            for _ in 0..dense {
                let bit = u8::try_from(random.below(8)).unwrap();
                let place = random.size_below(len);
                all.push(Self::Flip(place, bit));
                all.push(Self::Flip(place.min(place % 300), bit));
                all.push(Self::Flip(len - 1 - place.min(place % 300), bit));
            }
            for _ in 0..dense / 4 {
                let place = random.size_below(len);
                all.push(Self::Truncate(place));
                all.push(Self::Zero(place, 1 + random.size_below(5_000)));
                let later = place + (len - place) / 2;
                all.push(Self::Swap(place, later, 4096));
            }
        }
        all
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s57_a_damaged_file_of_a_closed_store_gives_no_wrong_bytes() {
    damaged(true, 8).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s57_a_damaged_file_of_a_killed_store_gives_no_wrong_bytes() {
    damaged(false, 8).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn s57_damage_at_many_more_places() {
    damaged(true, 400).await;
    damaged(false, 400).await;
}

async fn damaged(closed: bool, dense: usize) {
    let mut random = Random::seeded();
    let folder = Scratch::in_memory();
    let root = folder.store();
    let store = builder(&root).open().await.unwrap();
    let versions = fill(&store).await;
    tokio::time::sleep(std::time::Duration::from_millis(60)).await;
    let original = folder.path().join("original");
    if closed {
        store.close().await.unwrap();
    }
    copy_folder(&root, &original).unwrap();
    drop(store);
    let found = files(&original);
    assert!(found.iter().filter(|file| file.starts_with("seg")).count() > 1);
    assert!(found.iter().filter(|file| file.starts_with("blob")).count() > 2);
    let mut healed = 0;
    for file in found {
        let len = usize::try_from(fs::metadata(original.join(&file)).unwrap().len()).unwrap();
        for damage in Damage::of(len, dense, &mut random) {
            healed += 1;
            let case = Case {
                file: &file,
                damage,
                versions: &versions,
                closed,
                heal: healed % 4 == 0,
            };
            case.check(&original).await;
        }
    }
}

struct Case<'a> {
    file: &'a PathBuf,
    damage: Damage,
    versions: &'a Versions,
    /// The store was closed: what it holds is known to the snapshot and to the log, so one damage
    /// brings nothing back.
    closed: bool,
    heal: bool,
}

impl Case<'_> {
    async fn check(&self, original: &Path) {
        println!("{}: {:?}", self.file.display(), self.damage);
        let folder = Scratch::in_memory();
        let root = folder.store();
        copy_folder(original, &root).unwrap();
        self.damage.do_to(&root.join(self.file));
        let store = match builder(&root).open().await {
            Ok(store) => store,
            Err(error) => {
                assert!(self.file.ends_with("FORMAT"), "{error:?}");
                return;
            }
        };
        for (name, versions) in self.versions {
            self.read(&store, name, versions).await;
        }
        let mut keys = store.as_list().unwrap().list("");
        while let Some(listed) = keys.next().await {
            assert!(listed.is_ok_and(|name| self.versions.contains_key(&*name)));
        }
        if !self.heal {
            store.close().await.unwrap();
            return;
        }
        for name in self.versions.keys() {
            set(&store, name, 9, 700).await;
            finds(&store, name, 9).await;
        }
        let entries = store.usage().entries;
        assert_eq!(entries, self.versions.len() as u64);
        store.close().await.unwrap();
        drop(store);
        let store = builder(&root).open().await.unwrap();
        for name in self.versions.keys() {
            finds(&store, name, 9).await;
        }
        assert_eq!(store.usage().entries, entries);
        store.close().await.unwrap();
    }

    async fn read(&self, store: &Disk, name: &str, versions: &[u64]) {
        let allowed = if self.closed {
            &versions[..1]
        } else {
            versions
        };
        let right =
            |version: &Option<u64>| version.is_none_or(|version| allowed.contains(&version));
        match found(store, name).await {
            Ok(version) => assert!(right(&version), "{name} has {version:?} of {versions:?}"),
            Err(error) => {
                assert!(error.is_corrupt(), "{name}: {error:?}");
                assert!(store.figures().corrupt > 0);
                let again = found(store, name).await;
                assert_eq!(again.unwrap(), None, "{name} is corrupt and still there");
            }
        }
    }
}

/// An undamaged copy has everything, or the tests above prove nothing.
#[tokio::test]
async fn s57_without_damage_everything_is_there() {
    for closed in [true, false] {
        let folder = Scratch::in_memory();
        let store = builder(&folder.store()).open().await.unwrap();
        let versions = fill(&store).await;
        tokio::time::sleep(std::time::Duration::from_millis(60)).await;
        if closed {
            store.close().await.unwrap();
        }
        let copy = Scratch::in_memory();
        copy_folder(&folder.store(), &copy.store()).unwrap();
        let store = builder(&copy.store()).open().await.unwrap();
        for (name, versions) in &versions {
            finds(
                &store,
                name,
                Some(versions[0]).filter(|&version| version > 0),
            )
            .await;
        }
        assert_eq!(store.figures().corrupt, 0);
    }
}

/// Files that lose their bytes while they are open, as a failing disk or a stranger does it.
#[tokio::test]
async fn s57_files_that_change_beneath_an_open_store_give_no_wrong_bytes() {
    let mut random = Random::seeded();
    let folder = Scratch::in_memory();
    let root = folder.store();
    let store = builder(&root).open().await.unwrap();
    let versions = fill(&store).await;
    tokio::time::sleep(std::time::Duration::from_millis(60)).await;
    let (mut corrupt, mut missing) = (0, 0);
    let mut gone = std::collections::BTreeSet::new();
    // First the large objects alone: those are found, and break off.
    for folder in ["blob", ""] {
        let is_meant =
            |file: &&std::path::PathBuf| file.starts_with(folder) && !file.ends_with("LOCK");
        for file in files(&root).iter().filter(is_meant) {
            let path = root.join(file);
            let len = fs::metadata(&path).unwrap().len();
            let change = fs::File::options().write(true).open(&path).unwrap();
            if random.below(3) == 0 {
                change.set_len(len / 2).unwrap();
            }
            for _ in 0..200 {
                let place = random.below(len.max(1));
                std::os::unix::fs::FileExt::write_all_at(&change, b"stranger", place).unwrap();
            }
        }
        for (name, versions) in &versions {
            match found(&store, name).await {
                Ok(Some(version)) => assert_eq!(version, versions[0]),
                Ok(None) => missing += u64::from(versions[0] > 0 && gone.insert(name)),
                Err(error) => {
                    assert!(error.is_corrupt(), "{name}: {error:?}");
                    corrupt += 1;
                    gone.insert(name);
                    assert_eq!(found(&store, name).await.unwrap(), None);
                }
            }
        }
    }
    assert!(
        corrupt > 0 && corrupt + missing > 5,
        "{corrupt} corrupt, {missing} missing"
    );
    assert_eq!(store.figures().corrupt, corrupt + missing);
    for name in versions.keys() {
        set(&store, name, 9, 300 * KIB).await;
        finds(&store, name, 9).await;
    }
    store.close().await.unwrap();
}
