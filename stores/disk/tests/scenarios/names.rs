//! Keys are never names of files.

use std::{collections::BTreeSet, path::Path};

use futures_util::TryStreamExt;
use larder_disk::Disk;
use larder_store::{Key, Store};

use crate::{
    MIB,
    common::{Scratch, delete, files, finds, open_again, set},
};

/// What has a meaning to some file system, or to some shell, or differs by very little.
const ODD: &str = "a A a/ /a a/b a//b a/./b a/../b .. . / ../../etc/passwd /etc/passwd a\\b a\0b a\nb \
                   é e\u{301} É 日本語 🦀 %2e%2e con nul.txt seg/000001.seg blob LOCK FORMAT \
                   index.snap.a \u{feff}a \u{202e}a -rf ~ $HOME *";

fn names() -> Vec<String> {
    let long = "x".repeat(Key::LEN_MAX - 1);
    let mut names: Vec<_> = ODD.split(' ').map(str::to_owned).collect();
    names.extend([" ", "a ", " a"].map(str::to_owned));
    names.extend(["a", "A", "b", ""].map(|end| format!("{long}{end}")));
    names
}

#[tokio::test]
async fn s59_odd_keys_are_distinct_and_stay_inside() {
    let folder = Scratch::new();
    let root = folder.path().join("parent/store");
    // Some in the log, and some in files of their own.
    let builder = || Disk::builder(&root, 64 * MIB).large_object(100);
    let store = builder().open().await.unwrap();
    let names = names();
    for pass in 0..2 {
        let version = |id: usize| (id + pass * 1_000) as u64;
        for (id, name) in names.iter().enumerate() {
            set(&store, name, version(id), 50 + id % 2 * 100).await;
        }
        for (id, name) in names.iter().enumerate() {
            finds(&store, name, version(id)).await;
        }
    }
    assert_eq!(store.usage().entries, names.len() as u64);
    for name in names.iter().step_by(3) {
        delete(&store, name).await;
    }
    for close in [true, false] {
        if close {
            store.close().await.unwrap();
        }
        let store = open_again(builder).await;
        let mut left = BTreeSet::new();
        for (id, name) in names.iter().enumerate() {
            let there = (id % 3 != 0).then_some(id as u64 + 1_000);
            finds(&store, name, there).await;
            left.extend(there.map(|_| name.clone()));
        }
        let list = store.as_list().unwrap().list("");
        let listed: Vec<_> = list.try_collect().await.unwrap();
        let listed: BTreeSet<_> = listed.iter().map(ToString::to_string).collect();
        assert_eq!(listed, left);
    }
    nothing_is_named_by_a_user(folder.path(), Path::new("parent/store"));
}

/// Nor came anything to be beside the store.
fn nothing_is_named_by_a_user(outside: &Path, store: &Path) {
    for file in files(outside) {
        let file = file.strip_prefix(store).unwrap();
        let (first, rest) = file.to_str().unwrap().split_once('/').unzip();
        let known = match (first, rest) {
            (Some("seg"), Some(name)) => {
                Path::new(name).extension().is_some_and(|ext| ext == "seg")
            }
            (Some("blob"), Some(name)) => name.chars().all(|c| c == '/' || c.is_ascii_hexdigit()),
            _ => ["LOCK", "FORMAT", "OPEN", "index.snap.a", "index.snap.b"]
                .contains(&file.to_str().unwrap()),
        };
        assert!(known, "{}", file.display());
    }
}
