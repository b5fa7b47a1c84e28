//! One life of a store: a fixed workload, and what must hold of it whatever fails.

use std::{collections::BTreeSet, path::Path, time::Duration};

use futures_util::TryStreamExt;
use larder_store::{ByteRange, Commit, Error, Key, List, Lookup, Result, Store, StoreExt, Touch};

use super::{
    PATIENCE, is_clear,
    objects::{Kind, Model, body, draft},
    open, small,
};
use crate::{Disk, faults::Faults};

/// How sure one can be of the disk meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Disks {
    Failing,
    /// Nothing fails any more; what was lost is gone, and some of the rest may just be going.
    Healed,
    Sound,
}

/// Opens a store, works with it, closes it and opens it again, all with these faults; then once
/// more without.
pub(super) async fn life(path: &Path, faults: &Faults) {
    let mut model = Model::default();
    for part in 0..2 {
        let opened = within("open", open(small(path), path, faults)).await;
        let store = match opened {
            Ok(store) => store,
            Err(error) => {
                assert!(is_clear(&error), "{error:?}");
                break;
            }
        };
        work(&store, &mut model, part).await;
        read_all(&store, &model, Disks::Failing).await;
        let healed = part == 1 && faults.struck() > 0;
        if healed {
            faults.clear();
            works_again(&store, &mut model).await;
            read_all(&store, &model, Disks::Healed).await;
        }
        let closed = within("close", store.close()).await;
        assert!(closed.is_ok() || !healed, "{closed:?}");
    }
    faults.clear();
    let store = within("open", open(small(path), path, faults)).await;
    let store = store.expect("a store opens on a sound disk");
    read_all(&store, &model, Disks::Sound).await;
    works_again(&store, &mut model).await;
    read_all(&store, &model, Disks::Sound).await;
    within("close", store.close()).await.unwrap();
}

/// The first part of the workload alone.
pub(super) async fn fill(store: &Disk) -> Model {
    let mut model = Model::default();
    work(store, &mut model, 0).await;
    model
}

/// Sets, replaces, deletes and touches, small and large, and more than there is room for.
async fn work(store: &Disk, model: &mut Model, part: u64) {
    for number in 0..24 {
        set(store, model, &format!("small/{number}"), Kind::Small).await;
    }
    for number in 0..2 {
        set(store, model, &format!("large/{number}"), Kind::Large).await;
    }
    for number in (0..24).step_by(5) {
        set(store, model, &format!("small/{number}"), Kind::Small).await;
    }
    for number in (1..24).step_by(7) {
        delete(store, model, &format!("small/{number}"), Kind::Small).await;
    }
    for number in (2..24).step_by(6) {
        touch(store, model, &format!("small/{number}"), Kind::Small).await;
    }
    touch(store, model, "large/0", Kind::Large).await;
    set(store, model, "large/1", Kind::Large).await;
    delete(store, model, "large/0", Kind::Large).await;
    read_all(store, model, Disks::Failing).await;
    for number in 0..60 {
        let key = format!("crowd/{part}/{number}");
        set(store, model, &key, Kind::Small).await;
        read(store, model, "small/3", Disks::Failing).await;
    }
    for number in 2..4 {
        set(store, model, &format!("large/{number}"), Kind::Large).await;
    }
    for number in (0..24).step_by(4) {
        delete(store, model, &format!("small/{number}"), Kind::Small).await;
    }
}

async fn set(store: &Disk, model: &mut Model, key: &str, kind: Kind) -> bool {
    let turn = model.turn(key, kind);
    let written = store.write(key, body(key, turn, kind), draft(turn));
    let done = done(within("set", written).await);
    if done {
        model.set(key, turn);
    }
    done
}

async fn delete(store: &Disk, model: &mut Model, key: &str, kind: Kind) {
    let turn = model.turn(key, kind);
    let name = Key::new(key).unwrap();
    if done(within("delete", store.delete(name, None)).await) {
        model.deleted(key, turn);
    }
}

async fn touch(store: &Disk, model: &mut Model, key: &str, kind: Kind) {
    let turn = model.turn(key, kind);
    let name = Key::new(key).unwrap();
    if done(within("touch", store.touch(name, draft(turn))).await) {
        model.touched(key, turn);
    }
}

/// Whether it took effect; if it failed, it must have said so as a failing disk does.
fn done(result: Result<Commit>) -> bool {
    match result {
        Ok(commit) => commit.is_done(),
        Err(error) => {
            assert!(is_clear(&error) || error.is_corrupt(), "{error:?}");
            false
        }
    }
}

/// Reads one object, and says whether it was there.
async fn read(store: &Disk, model: &Model, key: &str, disk: Disks) -> bool {
    let reading = async {
        let name = Key::new(key)?;
        let found = store.get_stream(name, ByteRange::FULL).await?;
        let Lookup::Hit(object) = found else {
            return Ok(None);
        };
        let bytes = object.body.bytes(1 << 20).await?;
        Ok::<_, Error>(Some((object.metadata, bytes)))
    };
    match within("read", reading).await {
        Ok(Some((metadata, bytes))) => {
            model.check(key, &metadata, &bytes);
            true
        }
        Ok(None) => false,
        Err(error) => {
            let allowed = disk == Disks::Failing && (is_clear(&error) || error.is_corrupt());
            assert!(allowed, "{key}: {error:?}");
            false
        }
    }
}

/// Reads everything that ever was; on a sound disk the list, the usage and what is there agree.
pub(super) async fn read_all(store: &Disk, model: &Model, disk: Disks) {
    let mut found = BTreeSet::new();
    for key in model.keys() {
        match within("stat", store.stat(Key::new(&key).unwrap())).await {
            Ok(Some(metadata)) => model.check_header(&key, &metadata),
            Ok(None) => {}
            Err(error) => assert!(disk == Disks::Failing, "{error:?}"),
        }
        if read(store, model, &key, disk).await {
            found.insert(key);
        }
    }
    let listed = within("list", store.list("").try_collect::<Vec<_>>()).await;
    if disk == Disks::Failing {
        return;
    }
    let listed = listed.unwrap();
    if disk == Disks::Healed {
        return;
    }
    let names: BTreeSet<_> = listed.iter().map(ToString::to_string).collect();
    assert_eq!(names.len(), listed.len(), "a key is listed twice");
    assert_eq!(names, found, "the list is another than what can be read");
    let usage = store.usage();
    assert_eq!(usage.entries, found.len() as u64, "{usage:?}");
    assert!(usage.live <= usage.stored, "{usage:?}");
    assert!(usage.stored <= 1 << 20, "{usage:?}");
    assert_eq!(usage.staged, 0, "{usage:?}");
}

/// Once nothing fails any more a set goes through, and can be read.
pub(super) async fn works_again(store: &Disk, model: &mut Model) {
    let begun = tokio::time::Instant::now();
    for (key, kind) in [("healed", Kind::Small), ("healed/large", Kind::Large)] {
        while !set(store, model, key, kind).await {
            assert!(
                begun.elapsed() < Duration::from_secs(10),
                "it does not recover"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    assert!(read(store, model, "healed", Disks::Sound).await);
    assert!(
        !store.figures().passing_through,
        "it stores, and says that it cannot"
    );
}

async fn within<T>(what: &str, doing: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(PATIENCE, doing).await;
    done.unwrap_or_else(|_| panic!("{what} hangs"))
}
