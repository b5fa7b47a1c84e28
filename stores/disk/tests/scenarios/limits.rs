//! How large a thing may be.

use bytes::Bytes;
use larder_store::{Draft, METADATA_LEN_MAX, Store, StoreExt};

use crate::{
    KIB, MIB,
    common::{body, draft, eventually, finds, key, put, set},
    new, with,
};

#[tokio::test]
async fn s49_an_oversized_object_is_refused_and_evicts_nothing() {
    let (_folder, store) = with(8 * MIB, |builder| builder.object_max(MIB)).await;
    for id in 0..100 {
        set(&store, &format!("{id}"), id, 30 * KIB).await;
    }
    let before = store.usage();
    for declared in [MIB + 1, 8 * MIB, u64::MAX] {
        let opened = store.set_with_writer(key("x"), Draft::new().len(declared));
        assert!(opened.await.unwrap_err().is_too_large(), "{declared}");
    }
    // Its length unknown, it is refused as soon as it is known to be too long, and has left
    // nothing though it had gone to a file by then.
    let mut writer = store.set_with_writer(key("x"), Draft::new()).await.unwrap();
    for _ in 0..8 {
        writer.write(vec![7; 128 * KIB].into()).await.unwrap();
    }
    let over = writer.write("x".into()).await.unwrap_err();
    assert!(over.is_too_large());
    assert!(writer.commit().await.is_err());
    eventually(PATIENCE, "nothing is staged", || store.usage().staged == 0).await;
    let after = store.usage();
    assert_eq!((after.entries, after.live), (before.entries, before.live));
    assert_eq!(after.evictions, 0);
    for id in 0..100 {
        finds(&store, &format!("{id}"), id).await;
    }
    // Exactly the limit is taken.
    set(&store, "x", 1, usize::try_from(MIB).unwrap()).await;
    finds(&store, "x", 1).await;
}

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

#[tokio::test]
async fn s49_an_object_of_exactly_the_greatest_size_always_fits() {
    let half = MIB / 2 - 8;
    for object_max in [1, 5_000, 32 * 1024, 32 * 1024 + 1, 200_000, half] {
        let (_folder, store) = with(MIB, |builder| builder.object_max(object_max)).await;
        let len = usize::try_from(object_max).unwrap();
        for round in 0..40 {
            let name = format!("{:02}", round * 7 % 10);
            set(&store, &name, round, len).await;
            for _ in 0..3 {
                finds(&store, &name, round).await;
            }
            assert!(store.usage().live <= MIB);
        }
    }
}

#[tokio::test]
async fn s51_absent_entries_stay_within_the_capacity() {
    let (folder, store) = new(MIB).await;
    for index in 0..50_000 {
        let absent = Draft::new().with(|header| header.absent = true);
        let done = store.write(&format!("{index}"), "", absent).await.unwrap();
        assert!(done.is_done());
    }
    let usage = store.usage();
    assert_eq!(usage.capacity, Some(MIB));
    assert!(usage.live <= MIB && usage.live >= MIB / 4, "{usage:?}");
    assert_eq!(usage.entries + usage.evictions, 50_000);
    eventually(PATIENCE, "the files stay within the capacity", || {
        crate::common::bytes_of_files(&folder.store()) <= MIB && store.usage().stored <= MIB
    })
    .await;
    let mut present = 0;
    for index in 0..50_000 {
        let found = store.stat(key(&format!("{index}"))).await.unwrap();
        assert!(found.as_ref().is_none_or(|metadata| metadata.absent));
        present += u64::from(found.is_some());
    }
    assert_eq!(store.usage().entries, present);
}

/// All that a record may have, in the smallest segments that there are.
#[tokio::test]
async fn the_greatest_record_fits() {
    for capacity in [MIB, 64 * MIB] {
        let (folder, store) = new(capacity).await;
        let large = usize::try_from((capacity / 64).clamp(32 << 10, MIB)).unwrap();
        let long = "k".repeat(larder_store::Key::LEN_MAX);
        for len in [0, 1, large - 1, large, large + 1] {
            let heavy = draft(1).with(|header| {
                let room = METADATA_LEN_MAX - header.size() - 32 - 1;
                header
                    .attributes
                    .push(("a".into(), Bytes::from(vec![1; room])));
            });
            assert_eq!(heavy.header().size(), METADATA_LEN_MAX);
            for draft in [heavy.clone(), heavy.len(len as u64)] {
                let header = draft.header().clone();
                assert!(put(&store, &long, draft, len).await.unwrap().is_done());
                finds(&store, &long, 1).await;
                let stat = store.stat(key(&long)).await.unwrap().unwrap();
                assert_eq!(*stat.header(), header, "{len} bytes in {capacity}");
            }
        }
        store.close().await.unwrap();
        let store = larder_disk::Disk::open(folder.store(), capacity).await;
        finds(&store.unwrap(), &long, 1).await;
    }
}

#[tokio::test]
async fn settings_that_make_no_sense_are_refused() {
    let folder = crate::Scratch::new();
    let builder = |capacity| larder_disk::Disk::builder(folder.store(), capacity);
    for builder in [
        builder(MIB - 1),
        builder(u64::MAX),
        builder(MIB).segment_size(1),
        builder(MIB).segment_size(MIB),
        builder(MIB).large_object(MIB),
        builder(MIB).object_max(0),
        builder(MIB).object_max(MIB / 2),
        builder(MIB).cold_reads_max(0),
        builder(MIB).write_rate_max(0),
    ] {
        let what = format!("{builder:?}");
        assert!(builder.open().await.unwrap_err().is_invalid(), "{what}");
    }
    assert!(!folder.store().exists(), "nothing was made");
}

/// The same object comes back the same, whichever chunks it came in.
#[tokio::test]
async fn chunks_of_any_length_make_one_object() {
    let (_folder, store) = new(64 * MIB).await;
    for len in [
        0,
        1,
        65_535,
        65_536,
        65_537,
        1 << 20,
        (1 << 20) + 1,
        2_500_000,
    ] {
        for chunk in [1_000, 65_536, 1 << 20, 3 << 20] {
            let whole = body("a", 1, len);
            let mut writer = store.set_with_writer(key("a"), draft(1)).await.unwrap();
            for start in (0..len).step_by(chunk) {
                let end = len.min(start + chunk);
                writer.write(whole.slice(start..end)).await.unwrap();
            }
            assert!(writer.commit().await.unwrap().is_done());
            finds(&store, "a", 1).await;
        }
    }
}
