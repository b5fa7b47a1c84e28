//! A disk without room.

use std::{collections::BTreeMap, fs, time::Duration};

use larder_disk::{Builder, Disk};
use larder_store::Store;

use crate::{
    KIB, MIB,
    common::{Mount, Random, Scratch, copy_folder, draft, found, key, put, stranger, within},
};

const HANGS: Duration = Duration::from_secs(20);

/// What each name may hold: one of these versions, or, always, nothing.
#[derive(Default)]
struct Model {
    allowed: BTreeMap<String, Vec<u64>>,
    /// How each change ended.
    changes: BTreeMap<String, Vec<String>>,
    version: u64,
    refused: u64,
}

impl Model {
    /// Sets, deletes and reads without order; each must end, and no error but "no room" may come.
    async fn work(&mut self, store: &Disk, steps: u64, names: u64, random: &mut Random) {
        for _ in 0..steps {
            let name = format!("{}", random.below(names));
            match random.below(10) {
                0 => self.delete(store, &name).await,
                1..4 => self.check(store, &name).await,
                _ => {
                    let most = [2 * KIB, 60 * KIB, 200 * KIB, 2500 * KIB][random.size_below(4)];
                    self.set(store, &name, random.size_below(most)).await;
                }
            }
        }
    }

    async fn set(&mut self, store: &Disk, name: &str, len: usize) {
        self.version += 1;
        let version = self.version;
        let allowed = self.allowed.entry(name.to_owned()).or_default();
        match within(HANGS, "a set", put(store, name, draft(version), len)).await {
            Ok(done) => {
                assert!(done.is_done());
                *allowed = vec![version];
                self.note(name, format!("set {version}"));
            }
            Err(error) => {
                assert!(error.is_full() || error.is_unavailable(), "{error:?}");
                // What an error leaves is the old, or the new, or nothing.
                allowed.push(version);
                self.refused += 1;
                self.note(name, format!("set {version} refused"));
            }
        }
    }

    async fn delete(&mut self, store: &Disk, name: &str) {
        let deleted = within(HANGS, "a delete", store.delete(key(name), None)).await;
        match deleted {
            Ok(done) => {
                assert!(done.is_done());
                self.allowed.remove(name);
                self.note(name, "deleted".into());
            }
            Err(error) => {
                assert!(error.is_full() || error.is_unavailable(), "{error:?}");
                self.note(name, "delete refused".into());
            }
        }
    }

    fn note(&mut self, name: &str, change: String) {
        self.changes.entry(name.into()).or_default().push(change);
    }

    async fn check(&self, store: &Disk, name: &str) {
        let there = within(HANGS, "a get", found(store, name)).await.unwrap();
        let allowed = self.allowed.get(name).map_or(&[][..], |allowed| allowed);
        let right = there.is_none_or(|version| allowed.contains(&version));
        assert!(
            right,
            "{name} has version {there:?}, allowed are {allowed:?} after {:?}",
            self.changes.get(name)
        );
    }

    /// How many objects are there, once each is known to be right.
    async fn check_all(&self, store: &Disk, names: u64) -> u64 {
        loop {
            let before = store.usage().evictions;
            let mut present = 0;
            for id in 0..names {
                let name = format!("{id}");
                self.check(store, &name).await;
                present += u64::from(found(store, &name).await.unwrap().is_some());
            }
            let usage = store.usage();
            // Otherwise more was evicted meanwhile.
            if usage.evictions == before {
                assert_eq!(usage.entries, present);
                return present;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s56_a_full_disk_with_small_segments() {
    full(|builder| builder.segment_size(2 * MIB), 20 * MIB).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s56_a_full_disk_with_segments_that_hardly_fit() {
    full(|builder| builder, 0).await;
}

async fn full(settings: fn(Builder) -> Builder, live_least: u64) {
    const NAMES: u64 = 1_500;
    let Some(mount) = Mount::new(64) else {
        return;
    };
    let root = mount.store();
    let mut random = Random::seeded();
    let open = async || {
        settings(Disk::builder(&root, 1 << 30))
            .open()
            .await
            .unwrap()
    };
    let store = open().await;
    let mut model = Model::default();

    // Filled to the brim by the store itself.
    model.work(&store, 2_500, NAMES, &mut random).await;
    let usage = store.usage();
    println!(
        "by itself: {usage:?}, {:?}, {} refused",
        store.figures(),
        model.refused
    );
    assert!(usage.live >= live_least, "{usage:?}");
    assert!(says_so(&store), "{usage:?}, {:?}", store.figures());
    assert_eq!(store.figures().refused, model.refused);
    model.check_all(&store, NAMES).await;

    // And by a stranger.
    let file = mount.path().join("stranger");
    stranger(&file);
    model.work(&store, 1_500, NAMES, &mut random).await;
    println!("stranger: {:?}, {:?}", store.usage(), store.figures());
    model.check_all(&store, NAMES).await;
    let copy = Scratch::in_memory();
    copy_folder(&root, &copy.store()).unwrap();
    let killed = settings(Disk::builder(copy.store(), 1 << 30))
        .open()
        .await
        .unwrap();
    model.check_all(&killed, NAMES).await;
    killed.close().await.unwrap();

    // Closed and opened without room.
    within(HANGS, "a close", store.close()).await.unwrap();
    drop(store);
    let store = open().await;
    let present = model.check_all(&store, NAMES).await;
    model.work(&store, 300, NAMES, &mut random).await;

    // There is room again.
    fs::remove_file(&file).unwrap();
    recovers(&store).await;
    let refused = model.refused;
    let small = async |model: &mut Model, random: &mut Random| {
        for id in 0..200 {
            model
                .set(&store, &format!("{id}"), random.size_below(20 * KIB))
                .await;
        }
    };
    small(&mut model, &mut random).await;
    println!(
        "after: {:?}, {:?}, {present} were left",
        store.usage(),
        store.figures()
    );
    assert_eq!(model.refused, refused, "refused though there is room");
    assert!(!store.figures().passing_through);
    model.check_all(&store, NAMES).await;
    store.close().await.unwrap();
    drop(store);
    let store = open().await;
    model.check_all(&store, NAMES).await;
    store.close().await.unwrap();
}

/// That there is less room than it was given.
fn says_so(store: &Disk) -> bool {
    let capacity = store.usage().capacity.unwrap();
    capacity < 1 << 30 || store.figures().passing_through
}

/// By itself, that is by being asked as before.
async fn recovers(store: &Disk) {
    let mut in_a_row = 0;
    for _ in 0..1_000 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let taken = put(store, "probe", draft(1), 10 * KIB).await;
        in_a_row = if taken.is_ok() { in_a_row + 1 } else { 0 };
        if in_a_row == 20 {
            return crate::common::delete(store, "probe").await;
        }
    }
    panic!("it stays: {:?}, {:?}", store.usage(), store.figures());
}
