//! What is there after a store was closed, dropped or killed, and opened again.

use std::{path::Path, time::Duration};

use larder_disk::{Disk, Durability};
use larder_store::{Store, StoreExt};

use crate::{
    KIB, KINDS, MIB,
    common::{
        Random, Scratch, copy_folder, delete, draft, finds, found, key, open_again, open_body,
        read, set, version_of, within,
    },
    new, set_each_kind, with,
};

#[tokio::test]
async fn everything_is_there_after_a_close() {
    let (folder, mut store) = new(64 * MIB).await;
    for version in 1..=5 {
        set_each_kind(&store, version).await;
        set(&store, &format!("{version}"), version, 0).await;
        set(&store, "deleted", version, 10).await;
        delete(&store, "deleted").await;
        within(Duration::from_secs(5), "a close", store.close())
            .await
            .unwrap();
        store = Disk::open(folder.store(), 64 * MIB).await.unwrap();
        for (name, _) in KINDS {
            finds(&store, name, version).await;
        }
        for earlier in 1..=version {
            finds(&store, &format!("{earlier}"), earlier).await;
        }
        finds(&store, "deleted", None).await;
        assert_eq!(store.usage().entries, 3 + version);
    }
    assert_eq!(store.figures().corrupt, 0);
}

/// The version before had another `OPEN`. A folder of it is opened warm, and is of this one then.
#[tokio::test]
async fn s60_a_folder_of_the_version_before_is_opened() {
    for open in [None, Some(""), Some("of another boot")] {
        let (folder, store) = new(64 * MIB).await;
        set_each_kind(&store, 1).await;
        store.close().await.unwrap();
        drop(store);
        let root = folder.store();
        let format = std::fs::read_to_string(root.join("FORMAT")).unwrap();
        let id = format.lines().nth(1).unwrap();
        let before = format!("larder-disk 1\n{id}\n");
        let sum = crc32c::crc32c(before.as_bytes());
        std::fs::write(root.join("FORMAT"), format!("{before}{sum:08x}\n")).unwrap();
        if let Some(text) = open {
            std::fs::write(root.join("OPEN"), text).unwrap();
        }
        let store = Disk::open(&root, 64 * MIB).await.unwrap();
        for (name, _) in KINDS {
            finds(&store, name, 1).await;
        }
        store.close().await.unwrap();
        let now = std::fs::read_to_string(root.join("FORMAT")).unwrap();
        assert_eq!(now, format);
    }
}

/// Without a close, too, at once, and whatever was in the buffers.
#[tokio::test]
async fn everything_is_there_after_a_drop() {
    let (folder, mut store) = new(64 * MIB).await;
    for version in 1..=20 {
        set_each_kind(&store, version).await;
        for id in 0..50 {
            set(&store, &format!("{version}/{id}"), id, 500).await;
        }
        drop(store);
        store = open_again(|| Disk::builder(folder.store(), 64 * MIB)).await;
        for (name, _) in KINDS {
            finds(&store, name, version).await;
        }
        for id in 0..50 {
            finds(&store, &format!("{version}/{id}"), id).await;
        }
        assert_eq!(store.usage().entries, 3 + version * 50);
    }
}

/// A store that is closed lets go of its folder, whoever still holds something of it.
#[tokio::test]
async fn a_closed_store_can_be_opened_though_bodies_and_writers_are_left() {
    let (folder, store) = new(64 * MIB).await;
    set_each_kind(&store, 1).await;
    let mut bodies = Vec::new();
    for (name, _) in KINDS {
        bodies.push((name, open_body(&store, name).await));
    }
    let mut writer = store.set_with_writer(key("w"), draft(1)).await.unwrap();
    writer.write(vec![1; 2000 * KIB].into()).await.unwrap();
    let staged = writer.staged();
    store.close().await.unwrap();
    let again = Disk::open(folder.store(), 64 * MIB).await.unwrap();
    for (name, object) in bodies {
        finds(&again, name, 1).await;
        assert_eq!(read(name, object).await.unwrap(), 1);
    }
    assert!(writer.commit().await.unwrap_err().is_closed());
    drop((staged, store));
    set_each_kind(&again, 2).await;
    for (name, _) in KINDS {
        finds(&again, name, 2).await;
    }
    finds(&again, "w", None).await;
}

/// Opens what a kill at this moment would leave.
async fn killed(root: &Path) -> (Scratch, Disk) {
    let copy = Scratch::in_memory();
    copy_folder(root, &copy.store()).unwrap();
    let store = Disk::open(copy.store(), 64 * MIB).await.unwrap();
    (copy, store)
}

#[tokio::test]
async fn s55_what_replaces_or_deletes_is_safe_from_a_kill_at_once() {
    let (folder, store) = with(64 * MIB, |builder| builder).await;
    for (name, len) in KINDS {
        set(&store, name, 1, len).await;
        set(&store, name, 2, len).await;
        let (_copy, left) = killed(&folder.store()).await;
        finds(&left, name, 2).await;
        let touched = store.as_touch().unwrap().touch(key(name), draft(3)).await;
        assert!(touched.unwrap().is_done());
        let (_copy, left) = killed(&folder.store()).await;
        let stat = left.stat(key(name)).await.unwrap().unwrap();
        assert_eq!((version_of(&stat), stat.len()), (3, len as u64));
        let bytes = left.read(name, 4 * MIB).await.unwrap().unwrap();
        assert!(
            bytes == crate::common::body(name, 2, len),
            "the body is kept"
        );
        delete(&store, name).await;
        let (_copy, left) = killed(&folder.store()).await;
        finds(&left, name, None).await;
        assert_eq!(left.usage().entries, 0);
    }
}

#[tokio::test]
async fn s55_what_is_new_is_safe_from_a_kill_soon() {
    let (folder, store) = with(64 * MIB, |builder| builder).await;
    for round in 0..5 {
        set_each_kind(&store, round).await;
        for id in 0..100 {
            set(&store, &format!("{round}/{id}"), id, 200).await;
        }
        // Five milliseconds are promised; a machine may be busy.
        tokio::time::sleep(Duration::from_millis(60)).await;
        let (_copy, left) = killed(&folder.store()).await;
        for id in 0..100 {
            finds(&left, &format!("{round}/{id}"), id).await;
        }
        for (name, _) in KINDS {
            finds(&left, name, round).await;
        }
        assert_eq!(left.usage().entries, store.usage().entries);
        assert_eq!(left.usage().live, store.usage().live);
    }
}

#[tokio::test]
async fn on_commit_what_is_new_is_safe_at_once() {
    let (folder, store) = with(64 * MIB, |builder| builder.durability(Durability::OnCommit)).await;
    for (name, len) in KINDS {
        set(&store, name, 7, len).await;
        let (_copy, left) = killed(&folder.store()).await;
        finds(&left, name, 7).await;
    }
    // Many at once share a sync.
    let sets = (0..200).map(|id| {
        let store = store.clone();
        tokio::spawn(async move { set(&store, &format!("{id}"), id, 3 * KIB).await })
    });
    for set in sets.collect::<Vec<_>>() {
        set.await.unwrap();
    }
    let (_copy, left) = killed(&folder.store()).await;
    for id in 0..200 {
        finds(&left, &format!("{id}"), id).await;
    }
}

/// On a real disk, where a sync takes its time.
#[tokio::test]
async fn on_commit_works_where_a_sync_is_one() {
    let folder = Scratch::new();
    let builder = || Disk::builder(folder.store(), 64 * MIB).durability(Durability::OnCommit);
    let store = builder().open().await.unwrap();
    for version in 1..4 {
        set_each_kind(&store, version).await;
        let touched = store
            .as_touch()
            .unwrap()
            .touch(key("small"), draft(version))
            .await;
        assert!(touched.unwrap().is_done());
        for (name, _) in KINDS {
            finds(&store, name, version).await;
        }
        delete(&store, "tabled").await;
        finds(&store, "tabled", None).await;
    }
    store.close().await.unwrap();
    let store = builder().open().await.unwrap();
    finds(&store, "small", 3).await;
    finds(&store, "tabled", None).await;
    finds(&store, "large", 3).await;
}

/// A delete, a replacement and an eviction are final, through many restarts and reclaimed
/// segments: an older record that is still on disk stays void.
#[tokio::test]
async fn nothing_that_went_comes_back_through_restarts_and_reclaims() {
    let (folder, mut store) = with(4 * MIB, |builder| builder).await;
    let mut random = Random::seeded();
    // The version that is allowed to be there, or none.
    let mut model = vec![None; 150];
    let mut version = 0;
    for round in 0..12 {
        for _ in 0..250 {
            let id = random.size_below(model.len());
            let name = format!("{id}");
            if random.below(3) == 0 {
                delete(&store, &name).await;
                model[id] = None;
            } else {
                version += 1;
                let most = [500, 20 * KIB, 200 * KIB][random.size_below(3)];
                set(&store, &name, version, random.size_below(most)).await;
                model[id] = Some(version);
            }
            let other = random.size_below(model.len());
            let there = found(&store, &format!("{other}")).await.unwrap();
            assert!(
                there.is_none() || there == model[other],
                "{other}: {there:?}"
            );
        }
        match round % 3 {
            0 => store.close().await.unwrap(),
            1 => {}
            // As after a kill.
            _ => {
                let (copy, left) = killed_with(&folder.store(), 4 * MIB).await;
                checks(&left, &model, version).await;
                drop((left, copy));
            }
        }
        drop(store);
        store = open_again(|| Disk::builder(folder.store(), 4 * MIB)).await;
        checks(&store, &model, version).await;
        // What is gone now may not come back later.
        for (id, allowed) in model.iter_mut().enumerate() {
            *allowed = found(&store, &format!("{id}")).await.unwrap();
        }
    }
}

async fn killed_with(root: &Path, capacity: u64) -> (Scratch, Disk) {
    let copy = Scratch::in_memory();
    copy_folder(root, &copy.store()).unwrap();
    let store = Disk::open(copy.store(), capacity).await.unwrap();
    (copy, store)
}

async fn checks(store: &Disk, model: &[Option<u64>], latest: u64) {
    for (id, allowed) in model.iter().enumerate() {
        let there = found(store, &format!("{id}")).await.unwrap();
        assert!(
            there.is_none() || there == *allowed,
            "{id} has version {there:?}, where {allowed:?} is the last of {latest}"
        );
    }
}

#[tokio::test]
async fn a_touch_after_a_restart_keeps_the_body() {
    let (folder, store) = with(64 * MIB, |builder| builder).await;
    set_each_kind(&store, 1).await;
    store.close().await.unwrap();
    for close in [true, false] {
        let store = open_again(|| Disk::builder(folder.store(), 64 * MIB)).await;
        for (name, len) in KINDS {
            let before = store.stat(key(name)).await.unwrap().unwrap();
            let tagged = draft(1).with(|header| header.content_type = Some("text/plain".into()));
            let touched = store
                .as_touch()
                .unwrap()
                .touch(key(name), tagged.len(len as u64));
            assert!(touched.await.unwrap().is_done());
            let after = store.stat(key(name)).await.unwrap().unwrap();
            assert_eq!(after.content_type.as_deref(), Some("text/plain"));
            assert_ne!(after.version(), before.version());
            assert_eq!(
                (after.len(), after.checksum()),
                (before.len(), before.checksum())
            );
            finds(&store, name, 1).await;
        }
        if close {
            store.close().await.unwrap();
        }
        drop(store);
        let store = open_again(|| Disk::builder(folder.store(), 64 * MIB)).await;
        for (name, _) in KINDS {
            finds(&store, name, 1).await;
            let stat = store.stat(key(name)).await.unwrap().unwrap();
            assert_eq!(stat.content_type.as_deref(), Some("text/plain"));
        }
        store.close().await.unwrap();
    }
}
