//! Who goes when there is no room.

use std::time::Duration;

use larder_disk::Disk;
use larder_store::Store;

use crate::{
    KIB, MIB,
    common::{bytes_of_files, eventually, finds, found, set, within},
    new, with,
};

const HANGS: Duration = Duration::from_secs(10);

#[tokio::test]
async fn s53_the_only_entry_goes_though_it_was_hit() {
    // In a file of its own: two of them do not fit beside the log.
    let (_folder, store) = new(8 * MIB).await;
    // Half of the capacity, with its checksums.
    let len = usize::try_from(4 * MIB - 64).unwrap();
    for round in 0..10 {
        let name = format!("{round}");
        within(HANGS, "a set", set(&store, &name, round, len)).await;
        for _ in 0..20 {
            finds(&store, &name, round).await;
        }
        assert!(store.usage().live <= 8 * MIB);
    }
    assert!(store.usage().evictions >= 8, "{:?}", store.usage());
}

/// What is hit stays for another turn, but not for ever: also where all have been hit.
#[tokio::test]
async fn s53_a_store_in_which_everything_was_hit_takes_what_is_new() {
    for (capacity, len) in [(MIB, 20 * KIB), (8 * MIB, 600 * KIB), (MIB, 60)] {
        let (_folder, store) = with(capacity, |builder| builder).await;
        let rounds = 3 * capacity / len.max(600) as u64;
        for round in 0..rounds {
            let name = format!("{round}");
            within(HANGS, "a set", set(&store, &name, round, len)).await;
            for back in 0..3 {
                let earlier = round.saturating_sub(back * 3);
                found(&store, &format!("{earlier}")).await.unwrap();
                finds(&store, &name, round).await;
            }
        }
        let usage = store.usage();
        let fits = usage.entries + usage.evictions == rounds;
        assert!(fits && usage.live <= capacity, "{usage:?} of {rounds}");
    }
}

/// What is asked for again and again stays while a stream of what is asked for once passes.
#[tokio::test]
async fn what_is_hit_outlives_what_is_not() {
    let (_folder, store) = with(16 * MIB, |builder| builder).await;
    for id in 0..200 {
        set(&store, &format!("hot/{id}"), id, 8 * KIB).await;
    }
    for round in 0..12_000 {
        set(&store, &format!("once/{round}"), round, 4 * KIB).await;
        let hot = round % 200;
        found(&store, &format!("hot/{hot}")).await.unwrap();
    }
    let mut left = 0;
    for id in 0..200 {
        left += u64::from(found(&store, &format!("hot/{id}")).await.unwrap().is_some());
    }
    assert!(left >= 160, "{left} of 200 are left: {:?}", store.usage());
}

#[tokio::test]
async fn s61_a_smaller_capacity_keeps_the_hottest() {
    const HOT: u64 = 250;
    let (folder, store) = with(16 * MIB, |builder| builder).await;
    for id in 0..2_800 {
        set(&store, &format!("{id}"), id, 4 * KIB).await;
    }
    // Spread over all of the log, a megabyte in all.
    let hot = |index: u64| index * 11 + 5;
    for _ in 0..3 {
        for index in 0..HOT {
            let id = hot(index);
            finds(&store, &format!("{id}"), id).await;
        }
    }
    assert_eq!(store.usage().evictions, 0, "all were there to begin with");
    store.close().await.unwrap();

    let store = Disk::open(folder.store(), 4 * MIB).await.unwrap();
    assert_eq!(store.usage().capacity, Some(4 * MIB));
    eventually(Duration::from_secs(20), "it shrinks", || {
        store.usage().stored <= 4 * MIB && bytes_of_files(&folder.store()) <= 4 * MIB
    })
    .await;
    let mut left = 0;
    for index in 0..HOT {
        let id = hot(index);
        let found = found(&store, &format!("{id}")).await.unwrap();
        assert!(found.is_none_or(|version| version == id));
        left += u64::from(found.is_some());
    }
    let usage = store.usage();
    assert!(left * 10 >= HOT * 8, "{left} of {HOT} are left, {usage:?}");
    assert!(usage.live <= 4 * MIB, "{usage:?}");
    // It goes on as a store of that size.
    for id in 0..2_000 {
        set(&store, &format!("new/{id}"), id, 4 * KIB).await;
        assert!(store.usage().live <= 4 * MIB);
    }
    finds(&store, "new/1999", 1_999).await;
}

/// Blobs shrink as well, and what is open while it does stays whole.
#[tokio::test]
async fn s61_blobs_go_when_the_capacity_is_smaller() {
    let (folder, store) = with(64 * MIB, |builder| builder).await;
    for id in 0..20 {
        set(&store, &format!("{id}"), id, 2 << 20).await;
    }
    for _ in 0..3 {
        finds(&store, "7", 7).await;
    }
    store.close().await.unwrap();
    let store = Disk::open(folder.store(), 8 * MIB).await.unwrap();
    let open = store.get_stream(crate::common::key("0"), larder_store::ByteRange::FULL);
    let open = open.await.unwrap();
    eventually(Duration::from_secs(20), "it shrinks", || {
        store.usage().stored <= 8 * MIB && bytes_of_files(&folder.store()) <= 8 * MIB
    })
    .await;
    if let larder_store::Lookup::Hit(object) = open {
        assert_eq!(crate::common::read("0", object).await.unwrap(), 0);
    }
    finds(&store, "7", 7).await;
}
