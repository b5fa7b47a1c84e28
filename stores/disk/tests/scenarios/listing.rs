//! Listing, whatever else goes on.

use std::collections::BTreeSet;

use futures_util::{StreamExt, TryStreamExt};
use larder_disk::Disk;
use larder_store::Store;

use crate::{
    KIB, MIB,
    common::{delete, finds, open_again, set},
    with,
};

async fn list(store: &Disk, prefix: &str) -> BTreeSet<String> {
    let keys: Vec<_> = store
        .as_list()
        .unwrap()
        .list(prefix)
        .try_collect()
        .await
        .unwrap();
    let distinct: BTreeSet<_> = keys.iter().map(ToString::to_string).collect();
    assert_eq!(distinct.len(), keys.len(), "each key once");
    distinct
}

#[tokio::test]
async fn a_listing_is_the_same_after_a_restart() {
    let (folder, mut store) = with(64 * MIB, |builder| builder).await;
    let mut names = BTreeSet::new();
    for id in 0..3_000_u64 {
        let name = format!(
            "{}/{id}",
            ["a", "b", "ab"][usize::try_from(id % 3).unwrap()]
        );
        let len = if id % 500 == 0 { 1200 * KIB } else { 700 };
        set(&store, &name, id, len).await;
        if id % 7 == 0 {
            delete(&store, &name).await;
        } else {
            names.insert(name);
        }
    }
    for round in 0..3 {
        assert_eq!(list(&store, "").await, names);
        for prefix in ["a", "a/", "ab/", "b/2", "c", "b/2999"] {
            let wanted = names.iter().filter(|name| name.starts_with(prefix));
            assert_eq!(
                list(&store, prefix).await,
                wanted.cloned().collect(),
                "{prefix}"
            );
        }
        if round == 0 {
            store.close().await.unwrap();
        }
        drop(store);
        store = open_again(|| Disk::builder(folder.store(), 64 * MIB)).await;
        // What is touched and replaced is listed once.
        for name in names.iter().step_by(10) {
            set(&store, name, 1, 300).await;
            let touch = store.as_touch().unwrap();
            let touched = touch.touch(crate::common::key(name), crate::common::draft(1));
            assert!(touched.await.unwrap().is_done());
        }
    }
}

/// What is hit all the time is moved from segment to segment, and is in every listing, once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listing_has_all_that_stays_while_the_rest_comes_and_goes() {
    let (_folder, store) = with(8 * MIB, |builder| builder).await;
    let names: BTreeSet<_> = (0..40).map(|id| format!("stays/{id}")).collect();
    for name in &names {
        set(&store, name, 1, 2 * KIB).await;
    }
    let passing = {
        let store = store.clone();
        let names = names.clone();
        tokio::spawn(async move {
            for id in 0..4_000 {
                set(&store, &format!("passes/{}", id % 3_000), id, 10 * KIB).await;
                if id % 3 == 0 {
                    delete(&store, &format!("passes/{}", id / 2)).await;
                }
                if id % 40 == 0 {
                    for name in &names {
                        finds(&store, name, 1).await;
                    }
                }
            }
        })
    };
    let mut listings = 0;
    while !passing.is_finished() {
        assert_eq!(list(&store, "stays/").await, names);
        drop(list(&store, "").await);
        listings += 1;
    }
    passing.await.unwrap();
    let (usage, figures) = (store.usage(), store.figures());
    assert!(
        usage.evictions > 1_000 && figures.moved > 0,
        "{usage:?}, {figures:?}"
    );
    assert!(listings > 3, "{listings} listings");
    assert_eq!(list(&store, "stays/").await, names);
}

#[tokio::test]
async fn a_listing_that_is_left_or_outlives_the_store_does_no_harm() {
    let (_folder, store) = with(8 * MIB, |builder| builder).await;
    for id in 0..5_000 {
        set(&store, &format!("{id}"), id, 100).await;
    }
    let mut left = store.as_list().unwrap().list("");
    assert!(left.next().await.unwrap().is_ok());
    drop(left);
    let mut late = store.as_list().unwrap().list("");
    assert!(late.next().await.unwrap().is_ok());
    store.close().await.unwrap();
    drop(store);
    // It ends, with what it has, or with an error.
    while let Some(Ok(_)) = late.next().await {}
}
