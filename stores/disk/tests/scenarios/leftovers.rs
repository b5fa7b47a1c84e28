//! What lies about in the folder.

use std::{fs, time::Duration};

use larder_disk::Disk;
use larder_store::Store;

use crate::{
    KIB, KINDS, MIB,
    common::{Scratch, copy_folder, draft, eventually, files, finds, key, set},
    set_each_kind, with,
};

#[tokio::test]
async fn s58_leftovers_are_swept_at_the_start() {
    let (folder, store) = with(64 * MIB, |builder| builder).await;
    set_each_kind(&store, 1).await;
    store.close().await.unwrap();
    drop(store);
    let root = folder.store();
    // Blobs that no record names, and segments that hold nothing.
    let mut left = Vec::new();
    for (id, len) in [(0x0123_4567_u64, 300_000), (1 << 61, 0), (0x7fff_ffff, 1)] {
        left.push((format!("blob/{:02x}/{id:016x}", id & 0xff), len));
    }
    for (id, len) in [
        (4_000_000_000_u64, 0),
        (1 << 60, 4096),
        (4_000_000_002, 1 << 20),
    ] {
        left.push((format!("seg/{id:010}.seg"), len));
    }
    // And what is no file of a store.
    let foreign = [
        format!("blob/{:016x}", 1),
        "seg/notes.txt".into(),
        "seg/1.seg".into(),
    ];
    for (name, len) in left.iter().chain(&foreign.clone().map(|name| (name, 10))) {
        let file = root.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, vec![1; *len]).unwrap();
    }

    let store = Disk::open(&root, 64 * MIB).await.unwrap();
    eventually(Duration::from_secs(5), "the leftovers are gone", || {
        left.iter().all(|(file, _)| !root.join(file).exists())
    })
    .await;
    assert!(foreign.iter().all(|file| root.join(file).exists()));
    for (name, _) in KINDS {
        finds(&store, name, 1).await;
    }
    assert_eq!(store.usage().entries, 3);
    // Numbers that were in use are not given again, and what is new is kept.
    let len = |id: u64| {
        if id.is_multiple_of(5) {
            1200 * KIB
        } else {
            30 * KIB
        }
    };
    for id in 0..50 {
        set(&store, &format!("{id}"), id, len(id)).await;
    }
    store.close().await.unwrap();
    let store = Disk::open(&root, 64 * MIB).await.unwrap();
    for (name, _) in KINDS {
        finds(&store, name, 1).await;
    }
    for id in 0..50 {
        finds(&store, &format!("{id}"), id).await;
    }
}

/// What writers had staged when the process was killed is gone, and takes no room.
#[tokio::test]
async fn s58_what_was_staged_at_a_kill_is_swept() {
    let (folder, store) = with(64 * MIB, |builder| builder.staging_max(0)).await;
    set_each_kind(&store, 1).await;
    let mut writers = Vec::new();
    for len in [10, 100 * KIB, 3000 * KIB] {
        let mut writer = store
            .set_with_writer(key("staged"), draft(1))
            .await
            .unwrap();
        writer.write(vec![1; len].into()).await.unwrap();
        writers.push(writer);
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    let copy = Scratch::in_memory();
    copy_folder(&folder.store(), &copy.store()).unwrap();
    let staged = |root: &std::path::Path| -> u64 {
        let files = files(root)
            .into_iter()
            .filter(|file| !file.starts_with("seg"));
        files
            .map(|file| fs::metadata(root.join(file)).map_or(0, |file| file.len()))
            .sum()
    };
    assert!(staged(&copy.store()) > 3_500_000, "no leftovers, no test");
    let killed = Disk::open(copy.store(), 64 * MIB).await.unwrap();
    for (name, _) in KINDS {
        finds(&killed, name, 1).await;
    }
    finds(&killed, "staged", None).await;
    assert_eq!(killed.usage().entries, 3);
    eventually(Duration::from_secs(5), "the staged files are gone", || {
        staged(&copy.store()) < 2_000_000
    })
    .await;
    drop(writers);
}
