//! Folders that cannot be a store's.

use std::{fs, path::Path};

use larder_disk::Disk;
use larder_store::ErrorKind;

use crate::{
    KINDS, MIB, Scratch,
    common::{CHILD, Mount, child, files, finds},
    set_each_kind,
};

async fn refusal(root: &Path) -> ErrorKind {
    let error = Disk::open(root, 64 * MIB).await.unwrap_err();
    assert!(!error.to_string().is_empty());
    error.kind()
}

#[tokio::test]
async fn s60_a_folder_that_is_missing_or_empty_becomes_a_store() {
    let folder = Scratch::new();
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    for root in [
        folder.path().join("missing"),
        folder.path().join("a/b/c"),
        empty,
    ] {
        let store = Disk::open(&root, 64 * MIB).await.unwrap();
        set_each_kind(&store, 1).await;
        larder_store::Store::close(&store).await.unwrap();
        let store = Disk::open(&root, 64 * MIB).await.unwrap();
        for (name, _) in KINDS {
            finds(&store, name, 1).await;
        }
        larder_store::Store::close(&store).await.unwrap();
    }
}

/// What a file system has at its root is nobody's.
#[tokio::test]
async fn s103_a_folder_with_lost_and_found_alone_becomes_a_store() {
    let folder = Scratch::new();
    let root = folder.store();
    let lost = root.join("lost+found");
    fs::create_dir_all(&lost).unwrap();
    fs::write(lost.join("#12345"), "precious").unwrap();
    for version in 1..=2 {
        let store = Disk::open(&root, 64 * MIB).await.unwrap();
        set_each_kind(&store, version).await;
        larder_store::Store::close(&store).await.unwrap();
        larder_disk::inspect(&root).unwrap();
    }
    assert_eq!(fs::read(lost.join("#12345")).unwrap(), b"precious");
    fs::write(root.join("letter.txt"), "precious").unwrap();
    fs::remove_file(root.join("FORMAT")).unwrap();
    assert_eq!(refusal(&root).await, ErrorKind::Invalid);
}

#[tokio::test]
async fn s60_what_is_no_folder_is_refused() {
    let folder = Scratch::new();
    let file = folder.path().join("file");
    fs::write(&file, "precious").unwrap();
    assert_eq!(refusal(&file).await, ErrorKind::Invalid);
    drop(
        Disk::open(file.join("beneath"), 64 * MIB)
            .await
            .unwrap_err(),
    );
    assert_eq!(fs::read(&file).unwrap(), b"precious");
    assert_eq!(files(folder.path()).len(), 1);
}

#[tokio::test]
async fn s60_a_folder_with_something_else_in_it_is_left_alone() {
    for (name, bytes) in [
        ("letter.txt", "precious"),
        ("seg/a.seg", ""),
        ("FORMATS", "1"),
        ("x/y/z", ""),
    ] {
        let folder = Scratch::new();
        let root = folder.store();
        let file = root.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, bytes).unwrap();
        assert_eq!(refusal(&root).await, ErrorKind::Invalid, "{name}");
        assert_eq!(fs::read(&file).unwrap(), bytes.as_bytes());
        let left: Vec<_> = files(&root)
            .into_iter()
            .filter(|file| !file.ends_with("LOCK"))
            .collect();
        assert_eq!(left, [Path::new(name)], "nothing was added");
    }
}

#[tokio::test]
async fn s60_an_unknown_format_is_refused_and_left_alone() {
    let folder = Scratch::new();
    let root = folder.store();
    let store = Disk::open(&root, 64 * MIB).await.unwrap();
    set_each_kind(&store, 1).await;
    larder_store::Store::close(&store).await.unwrap();
    drop(store);
    let format = root.join("FORMAT");
    let right = fs::read(&format).unwrap();
    let contents = |root: &Path| -> Vec<_> {
        let files = files(root).into_iter();
        files
            .map(|file| (fs::read(root.join(&file)).unwrap(), file))
            .collect()
    };
    let text = String::from_utf8_lossy(&right).into_owned();
    let later = text.replacen(|c: char| c.is_ascii_digit(), "9", 1);
    for wrong in [
        later.as_bytes(),
        b"",
        b"\n",
        b"larder 1000000\n",
        &[0xff; 100],
        &vec![b'1'; 100_000],
    ] {
        if wrong == right {
            continue;
        }
        fs::write(&format, wrong).unwrap();
        let before = contents(&root);
        let error = Disk::open(&root, 64 * MIB).await.unwrap_err();
        assert!(error.is_invalid() || error.is_corrupt(), "{error:?}");
        assert!(
            contents(&root) == before,
            "something was changed: {error:?}"
        );
    }
    fs::write(&format, right).unwrap();
    let store = Disk::open(&root, 64 * MIB).await.unwrap();
    for (name, _) in KINDS {
        finds(&store, name, 1).await;
    }
}

#[tokio::test]
async fn s60_a_store_is_open_once() {
    let folder = Scratch::new();
    let root = folder.store();
    let store = Disk::open(&root, 64 * MIB).await.unwrap();
    set_each_kind(&store, 1).await;
    assert_eq!(refusal(&root).await, ErrorKind::Unavailable);
    assert_eq!(elsewhere(&root), "Unavailable");
    // By another name, too.
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&root, &link).unwrap();
    assert_eq!(refusal(&link).await, ErrorKind::Unavailable);
    for (name, _) in KINDS {
        finds(&store, name, 1).await;
    }
    larder_store::Store::close(&store).await.unwrap();
    assert_eq!(elsewhere(&root), "open");
    let store = Disk::open(&root, 64 * MIB).await.unwrap();
    for (name, _) in KINDS {
        finds(&store, name, 1).await;
    }
}

/// What another process says that opens the store.
fn elsewhere(root: &Path) -> String {
    let mut other = child("refused::opened_elsewhere", root.to_str().unwrap());
    let output = other.output().unwrap();
    let output = String::from_utf8(output.stdout).unwrap();
    let mut said = output.lines().filter_map(|line| line.split_once("said: "));
    let (_, said) = said.next().expect("it has said something");
    said.to_owned()
}

#[tokio::test]
#[ignore = "the other process of the test above"]
async fn opened_elsewhere() {
    let Ok(root) = std::env::var(CHILD) else {
        return;
    };
    match Disk::open(root, 64 * MIB).await {
        Ok(store) => {
            larder_store::Store::close(&store).await.unwrap();
            println!("said: open");
        }
        Err(error) => println!("said: {:?}", error.kind()),
    }
}

#[tokio::test]
async fn s60_a_folder_that_is_read_only_is_refused() {
    let Some(mount) = Mount::new(64) else {
        return;
    };
    let root = mount.store();
    let store = Disk::open(&root, 32 * MIB).await.unwrap();
    crate::common::set(&store, "a", 1, 1_000).await;
    larder_store::Store::close(&store).await.unwrap();
    drop(store);
    fs::create_dir(mount.path().join("empty")).unwrap();
    mount.read_only();
    for root in [
        root,
        mount.path().join("empty"),
        mount.path().join("missing"),
    ] {
        assert_eq!(refusal(&root).await, ErrorKind::Unavailable, "{root:?}");
    }
}
