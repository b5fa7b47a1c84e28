//! What files take of the disk: whole blocks, and folders.

use std::{fs, os::unix::fs::MetadataExt, path::Path, time::Duration};

use larder_disk::{Builder, Disk};
use larder_store::Store;

use crate::{
    KIB, MIB, Scratch,
    common::{bytes_of_files, delete, draft, eventually, files, finds, found, put},
};

const CAPACITY: u64 = 16 * MIB;

/// Each object is a file.
fn builder(root: &Path) -> Builder {
    let builder = Disk::builder(root, CAPACITY);
    builder.segment_size(MIB).large_object(0)
}

fn folders(root: &Path) -> usize {
    fs::read_dir(root.join("blob")).unwrap().count()
}

/// On a disk, where files take whole blocks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s101_small_files_count_for_their_blocks() {
    {
        let folder = Scratch::new();
        let root = folder.store();
        let store = builder(&root).open().await.unwrap();
        for id in 0..5_500 {
            let put = put(&store, &format!("{id}"), draft(1), 300).await;
            assert!(put.unwrap().is_done());
            if id % 1_000 == 0 {
                let (taken, stored) = (bytes_of_files(&root), store.usage().stored);
                // What is being written counts from its commit on; what is to be removed still does.
                assert!(taken <= CAPACITY + MIB, "{taken} after {id}");
                assert!(stored <= CAPACITY + MIB, "{stored} after {id}");
            }
        }
        assert!(store.usage().evictions > 0);
        let is_settled = || {
            let (taken, stored) = (bytes_of_files(&root), store.usage().stored);
            taken <= stored && stored <= CAPACITY
        };
        eventually(Duration::from_secs(30), "it stays within", is_settled).await;
        let there = store.usage().entries;
        assert!(there > 2_000, "{there}");
        store.close().await.unwrap();
        drop(store);
        let stored = bytes_of_files(&root);
        let store = builder(&root).open().await.unwrap();
        assert!(store.usage().stored >= stored);
        store.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s101_folders_that_are_empty_go() {
    let folder = Scratch::new();
    let root = folder.store();
    let store = builder(&root).open().await.unwrap();
    for id in 0..600 {
        drop(put(&store, &format!("{id}"), draft(1), 300).await.unwrap());
    }
    assert!(folders(&root) > 200);
    for id in 0..600 {
        if id != 300 {
            delete(&store, &format!("{id}")).await;
        }
    }
    let is_empty = || folders(&root) == 1;
    eventually(Duration::from_secs(30), "one folder is left", is_empty).await;
    finds(&store, "300", 1).await;
    // By one who has given up, too.
    for id in 0..20 {
        let name = format!("given up {id}");
        let mut writer = (store
            .set_with_writer(crate::common::key(&name), draft(1))
            .await)
            .unwrap();
        writer.write(vec![1; 2_000 * KIB].into()).await.unwrap();
        writer.abort().await.unwrap();
    }
    eventually(Duration::from_secs(30), "one folder is left", is_empty).await;
    store.close().await.unwrap();
    drop(store);

    // Those that were left before go at the next start.
    for name in ["00", "7f", "ff"] {
        fs::create_dir_all(root.join("blob").join(name)).unwrap();
    }
    let store = builder(&root).open().await.unwrap();
    assert_eq!(folders(&root), 1);
    finds(&store, "300", 1).await;
    store.close().await.unwrap();
}

/// Files come and go in folders that come and go, by many at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s101_a_folder_that_goes_meets_files_that_come() {
    let folder = Scratch::in_memory();
    let root = folder.store();
    let store = builder(&root).open().await.unwrap();
    let work = |task: u64| {
        let store = store.clone();
        tokio::spawn(async move {
            for round in 0..200 {
                let name = format!("{task}");
                drop(put(&store, &name, draft(round), 300).await.unwrap());
                finds(&store, &name, round).await;
                delete(&store, &name).await;
                assert_eq!(found(&store, &name).await.unwrap(), None);
            }
        })
    };
    for task in (0..8).map(work).collect::<Vec<_>>() {
        task.await.unwrap();
    }
    eventually(Duration::from_secs(30), "no folder is left", || {
        folders(&root) == 0
    })
    .await;
    assert_eq!(store.figures().io_errors, 0);
    store.close().await.unwrap();
    let left = files(&root);
    let blocks = |file: &std::path::PathBuf| fs::metadata(root.join(file)).unwrap().blocks();
    assert!(
        left.iter().map(blocks).sum::<u64>() * 512 < 4 * MIB,
        "{left:?}"
    );
}
