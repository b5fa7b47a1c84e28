//! Disks that are smaller than the capacity, or have no inode left.

use std::{fs, time::Duration};

use larder_disk::Disk;
use larder_store::Store;

use crate::{
    KIB, MIB,
    common::{Mount, bytes_of_files, draft, finds, found, put, set, stranger},
};

/// The share of these objects that the store takes, and then still has.
async fn taken(store: &Disk, prefix: &str, count: u64, len: usize) -> (u64, u64) {
    let (mut taken, mut there) = (0, 0);
    for id in 0..count {
        match put(store, &format!("{prefix}/{id}"), draft(1), len).await {
            Ok(_) => taken += 1,
            Err(error) => assert!(error.is_full(), "{error:?}"),
        }
    }
    for id in 0..count {
        there += u64::from(
            found(store, &format!("{prefix}/{id}"))
                .await
                .unwrap()
                .is_some(),
        );
    }
    (taken, there)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s100_a_disk_smaller_than_its_segments_is_used() {
    for (mebibytes, capacity) in [(32, 256 * MIB), (8, 256 * MIB), (3, 10 << 30)] {
        let Some(mount) = Mount::new(mebibytes) else {
            return;
        };
        let root = mount.store();
        let store = Disk::open(&root, capacity).await.unwrap();
        let count = u64::from(mebibytes) * 512;
        let (taken, there) = taken(&store, "small", count, KIB).await;
        println!(
            "{mebibytes} MiB: {taken} and {there} of {count}, {:?}",
            store.usage()
        );
        // Half as many bytes as the disk has.
        assert_eq!(taken, count);
        assert!(there > count * 9 / 10, "{there} of {count}");
        set(
            &store,
            "large",
            1,
            usize::try_from(mebibytes).unwrap() * 64 * KIB,
        )
        .await;
        finds(&store, "large", 1).await;
        assert!(!store.figures().passing_through);
        store.close().await.unwrap();
        let store = Disk::open(&root, capacity).await.unwrap();
        finds(&store, "large", 1).await;
        store.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s100_a_disk_that_others_had_filled_is_used_once_there_is_room() {
    let Some(mount) = Mount::new(32) else {
        return;
    };
    let root = mount.store();
    // The folder needs a few blocks of its own.
    let store = Disk::open(&root, 256 * MIB).await.unwrap();
    store.close().await.unwrap();
    drop(store);
    let file = mount.path().join("stranger");
    stranger(&file);
    let len = fs::metadata(&file).unwrap().len();
    let shorter = fs::File::options().write(true).open(&file).unwrap();
    shorter.set_len(len - 64 * KIB as u64).unwrap();
    // Else it would keep its room.
    drop(shorter);
    let store = Disk::open(&root, 256 * MIB).await.unwrap();
    let refused = put(&store, "early", draft(1), 60 * KIB).await;
    assert!(refused.is_err_and(|error| error.is_full()));
    fs::remove_file(&file).unwrap();
    let mut tries = 0;
    while put(&store, "late", draft(1), KIB).await.is_err() {
        tries += 1;
        assert!(tries < 3_000, "{:?}, {:?}", store.usage(), store.figures());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut tries = 0;
    while taken(&store, &format!("{tries}"), 1_000, KIB).await.1 < 900 {
        tries += 1;
        assert!(tries < 100, "{:?}, {:?}", store.usage(), store.figures());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(bytes_of_files(&root) <= 32 * MIB);
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s100_a_disk_smaller_than_the_least_store_is_refused() {
    let Some(mount) = Mount::with("size=512k") else {
        return;
    };
    let error = Disk::open(mount.store(), 256 * MIB).await.unwrap_err();
    assert!(error.is_invalid(), "{error:?}");
}

/// What is large is a file; what is small is in the log, which needs few.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s100_without_inodes_the_log_goes_on() {
    let Some(mount) = Mount::with("size=64m,nr_inodes=200") else {
        return;
    };
    let builder = || {
        let builder = Disk::builder(mount.store(), 16 * MIB);
        builder
            .segment_size(512 * KIB as u64)
            .large_object(2 * KIB as u64)
    };
    let store = builder().open().await.unwrap();
    // By itself: the newest stay.
    let (files, there) = taken(&store, "file", 1_000, 3 * KIB).await;
    println!("{files} files taken, {there} there");
    assert!(files > 800 && there > 50, "{files} and {there}");
    let (small, there) = taken(&store, "small", 10_000, 900).await;
    println!("{small} small taken, {there} there, {:?}", store.figures());
    assert_eq!((small, there), (10_000, 10_000));
    assert!(!store.figures().passing_through);
    assert_eq!(store.usage().capacity, Some(16 * MIB));

    // And by a stranger, for good.
    let mut strangers = 0;
    while fs::File::create(mount.path().join(format!("{strangers}"))).is_ok() {
        strangers += 1;
    }
    for round in 0..5 {
        let (small, there) = taken(&store, &format!("{round}"), 4_000, 900).await;
        assert!(
            small == 4_000 && there > 1_000,
            "round {round}: {small} and {there}"
        );
    }
    assert_eq!(store.usage().capacity, Some(16 * MIB));
    for stranger in 0..strangers {
        fs::remove_file(mount.path().join(format!("{stranger}"))).unwrap();
    }
    let (files, there) = taken(&store, "late", 50, 3 * KIB).await;
    assert_eq!((files, there), (50, 50));
    store.close().await.unwrap();
    drop(store);
    let store = builder().open().await.unwrap();
    for id in 0..50 {
        finds(&store, &format!("late/{id}"), 1).await;
    }
    store.close().await.unwrap();
}
