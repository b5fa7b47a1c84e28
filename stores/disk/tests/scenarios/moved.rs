//! The path and the folder change while a store runs.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use futures_util::{StreamExt, TryStreamExt};
use larder_disk::Disk;
use larder_store::{List, Store};

use crate::{
    KIB, MIB, Scratch,
    common::{CHILD, child, delete, draft, eventually, files, finds, found, key, put, set, within},
    set_each_kind,
};

const LARGE: usize = 1500 * KIB;

/// In a process of its own, since the working directory is the process's.
#[test]
fn s83_the_working_directory_changes() {
    let folder = Scratch::new();
    let root = folder.path().to_str().unwrap();
    let status = child("moved::with_a_relative_path", root).status().unwrap();
    assert!(status.success(), "{status}");
}

#[tokio::test]
#[ignore = "the other process of the test above"]
async fn with_a_relative_path() {
    let Ok(root) = std::env::var(CHILD) else {
        return;
    };
    let root = PathBuf::from(root);
    for name in ["one", "two"] {
        fs::create_dir(root.join(name)).unwrap();
    }
    std::env::set_current_dir(root.join("one")).unwrap();
    let store = Disk::open("parent/cache", 64 * MIB).await.unwrap();
    for name in ["kept", "replaced", "deleted"] {
        set(&store, name, 1, LARGE).await;
    }
    std::env::set_current_dir(root.join("two")).unwrap();
    finds(&store, "kept", 1).await;
    set(&store, "replaced", 2, LARGE).await;
    delete(&store, "deleted").await;
    for id in 0..4_000 {
        set(&store, &format!("small/{id}"), 1, 5 * KIB).await;
    }
    set(&store, "new", 1, LARGE).await;
    finds(&store, "new", 1).await;
    store.close().await.unwrap();
    assert!(files(&root.join("two")).is_empty());

    std::env::set_current_dir(root.join("one")).unwrap();
    let store = Disk::open("parent/cache", 64 * MIB).await.unwrap();
    for (name, version) in [
        ("kept", Some(1)),
        ("replaced", Some(2)),
        ("deleted", None),
        ("new", Some(1)),
    ] {
        finds(&store, name, version).await;
    }
    store.close().await.unwrap();
}

#[tokio::test]
async fn s83_a_link_on_the_path_is_switched() {
    let folder = Scratch::new();
    let (link, one, two) = (
        folder.path().join("link"),
        folder.path().join("one"),
        folder.path().join("two"),
    );
    for folder in [&one, &two] {
        fs::create_dir(folder).unwrap();
    }
    let point = |to: &Path| {
        drop(fs::remove_file(&link));
        std::os::unix::fs::symlink(to, &link).unwrap();
    };
    point(&one);
    let store = Disk::open(link.join("store"), 64 * MIB).await.unwrap();
    set(&store, "deleted", 1, LARGE).await;
    set_each_kind(&store, 1).await;
    point(&two);
    // Longer than the store takes to look at its folder again.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    set_each_kind(&store, 2).await;
    delete(&store, "deleted").await;
    assert!(!store.figures().out_of_service);
    for (name, _) in crate::KINDS {
        finds(&store, name, 2).await;
    }
    store.close().await.unwrap();
    assert!(files(&two).is_empty());
    let store = Disk::open(one.join("store"), 64 * MIB).await.unwrap();
    for (name, _) in crate::KINDS {
        finds(&store, name, 2).await;
    }
    finds(&store, "deleted", None).await;
    store.close().await.unwrap();
}

/// What somebody does to the folder of a store, by name.
type Change = (&'static str, fn(&Path));

const CHANGES: [Change; 10] = [
    ("the folder is removed", |root| {
        fs::remove_dir_all(root).unwrap();
    }),
    ("the folder is moved", |root| {
        fs::rename(root, root.with_extension("moved")).unwrap();
    }),
    ("the parent is moved", |root| {
        let parent = root.parent().unwrap();
        fs::rename(parent, parent.with_extension("moved")).unwrap();
    }),
    ("another folder is in its place", |root| {
        fs::rename(root, root.with_extension("moved")).unwrap();
        fs::create_dir(root).unwrap();
    }),
    ("a file is in its place", |root| {
        fs::rename(root, root.with_extension("moved")).unwrap();
        fs::write(root, "a file").unwrap();
    }),
    ("FORMAT is removed", |root| {
        fs::remove_file(root.join("FORMAT")).unwrap();
    }),
    ("LOCK is removed", |root| {
        fs::remove_file(root.join("LOCK")).unwrap();
    }),
    ("FORMAT and LOCK are removed", |root| {
        fs::remove_file(root.join("FORMAT")).unwrap();
        fs::remove_file(root.join("LOCK")).unwrap();
    }),
    ("LOCK is another file", |root| {
        fs::rename(root.join("LOCK"), root.with_extension("lock")).unwrap();
        fs::write(root.join("LOCK"), "").unwrap();
    }),
    ("the folders within are removed", |root| {
        fs::remove_dir_all(root.join("seg")).unwrap();
        fs::remove_dir_all(root.join("blob")).unwrap();
    }),
];

fn root_in(folder: &Scratch) -> PathBuf {
    folder.path().join("parent/store")
}

async fn filled(root: &Path) -> Disk {
    let store = Disk::open(root, 64 * MIB).await.unwrap();
    set_each_kind(&store, 1).await;
    set(&store, "deleted", 1, 100).await;
    store
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s98_a_store_whose_folder_goes_uses_the_disk_no_more() {
    let all = CHANGES.map(goes);
    futures_util::stream::iter(all)
        .buffer_unordered(CHANGES.len())
        .collect::<Vec<_>>()
        .await;
}

async fn goes((what, change): Change) {
    let folder = Scratch::new();
    let root = root_in(&folder);
    let store = filled(&root).await;
    let reader = crate::common::open_body(&store, "large").await;
    let mut writer = store.set_with_writer(key("late"), draft(1)).await.unwrap();
    writer.write(vec![1; LARGE].into()).await.unwrap();
    change(&root);
    let begun = tokio::time::Instant::now();
    let is_out = || store.figures().out_of_service;
    eventually(Duration::from_secs(30), what, is_out).await;
    println!("{what}: noticed after {:?}", begun.elapsed());
    let left = files(folder.path());

    for name in ["small", "large", "deleted", "never"] {
        assert_eq!(found(&store, name).await.unwrap(), None, "{what}");
        let deleted = store.delete(key(name), None).await;
        assert!(deleted.unwrap_err().is_unavailable(), "{what}");
        let touched = store.as_touch().unwrap().touch(key(name), draft(2)).await;
        assert!(touched.unwrap_err().is_unavailable(), "{what}");
        for len in [100, LARGE] {
            let refused = put(&store, name, draft(2), len).await.unwrap_err();
            assert!(refused.is_unavailable(), "{what}: {refused:?}");
        }
    }
    assert!(writer.commit().await.unwrap_err().is_unavailable());
    assert_eq!(crate::common::read("large", reader).await.unwrap(), 1);
    let listed: Vec<_> = store.list("").try_collect().await.unwrap();
    assert!(listed.is_empty(), "{what}");
    let (usage, figures) = (store.usage(), store.figures());
    assert_eq!((usage.entries, usage.live, usage.stored), (0, 0, 0));
    assert!(figures.passing_through && figures.refused >= 8, "{what}");
    for _ in 0..2 {
        let closed = within(Duration::from_secs(30), what, store.close()).await;
        let error = closed.unwrap_err();
        assert!(error.is_unavailable(), "{what}: {error:?}");
        assert!(error.to_string().contains(root.to_str().unwrap()));
    }
    drop(store);
    let now = files(folder.path());
    let made: Vec<_> = now.iter().filter(|file| !left.contains(file)).collect();
    assert!(made.is_empty(), "{what}: {made:?} came to be");
}

/// Though nobody has noticed yet.
#[tokio::test]
async fn s98_a_close_says_that_the_folder_is_gone() {
    for (what, change) in CHANGES {
        let folder = Scratch::new();
        let root = root_in(&folder);
        let store = filled(&root).await;
        change(&root);
        let error = store.close().await.unwrap_err();
        assert!(error.is_unavailable(), "{what}: {error:?}");
    }
}

#[tokio::test]
async fn s98_the_next_open_starts_cold_unless_a_stranger_has_files_there() {
    for (what, change) in &CHANGES[5..8] {
        let is_locked = what.starts_with("LOCK");
        for strange in ["", "notes.txt", "seg/notes.txt", "blob/a/b"] {
            let folder = Scratch::new();
            let root = root_in(&folder);
            let store = filled(&root).await;
            change(&root);
            drop(store.close().await.unwrap_err());
            fs::create_dir_all(root.join("lost+found/within")).unwrap();
            if !strange.is_empty() {
                fs::create_dir_all(root.join(strange).parent().unwrap()).unwrap();
                fs::write(root.join(strange), "precious").unwrap();
            }
            let opened = Disk::open(&root, 64 * MIB).await;
            if !strange.is_empty() && !is_locked {
                assert!(opened.unwrap_err().is_invalid(), "{what}, {strange}");
                assert_eq!(fs::read(root.join(strange)).unwrap(), b"precious");
                continue;
            }
            let store = opened.unwrap();
            // With its FORMAT it is still the store that was not closed.
            assert_eq!(store.usage().entries > 0, is_locked, "{what}");
            set_each_kind(&store, 2).await;
            store.close().await.unwrap();
            let store = Disk::open(&root, 64 * MIB).await.unwrap();
            finds(&store, "large", 2).await;
            store.close().await.unwrap();
        }
    }
}

/// A `LOCK` that was removed lets nobody in while the store still writes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s98_two_stores_never_use_one_folder() {
    for (what, change) in &CHANGES[5..9] {
        let folder = Scratch::new();
        let root = root_in(&folder);
        let first = filled(&root).await;
        change(&root);
        let second = Disk::open(&root, 64 * MIB).await;
        match second {
            Ok(second) => {
                assert!(first.figures().out_of_service, "{what}");
                set_each_kind(&second, 2).await;
                second.close().await.unwrap();
            }
            Err(error) => assert!(error.is_unavailable(), "{what}: {error:?}"),
        }
        assert!(first.close().await.unwrap_err().is_unavailable(), "{what}");
    }
}
