//! S19, S39, S49: what the tiers hold beside each other.

use std::{path::PathBuf, time::SystemTime};

use larder::{Clock, Draft, Fetched, Key, Store};

use super::{CAPACITY, KEPT, Place, evict, is_from_disk};
use crate::{
    eviction::{LARGE, Way},
    levers::{KEY, held, seen, tag, tagged},
    source::{pattern, whole},
    support::{Origin, SECOND, at_rest, settle, strict, text},
};

#[tokio::test]
async fn s19_what_memory_evicts_comes_from_disk_as_it_was_written_last() {
    for large_object in KEPT {
        let place = Place::new(large_object);
        let stack = place.open_strict().await;
        let cache = &stack.cache;
        cache.insert(KEY, "v1", Draft::new()).await.unwrap();
        for round in 0..3 {
            let last = format!("v2 of {round}");
            match round {
                0 => drop(cache.insert(KEY, last.clone(), Draft::new()).await.unwrap()),
                1 => drop(
                    cache
                        .refresh(KEY, Origin::default().gives(last.clone()))
                        .await,
                ),
                _ => {
                    let mut writer = cache.set_with_writer(KEY, Draft::new()).await.unwrap();
                    writer.write(last.clone()).await.unwrap();
                    writer.commit().await.unwrap();
                }
            }
            settle(cache).await;
            evict(&stack.memory, KEY).await;
            let response = cache.get(KEY).await.unwrap();
            let (status, tiers) = (response.status(), cache.tiers());
            assert!(is_from_disk(&response), "{last}: {status}, {tiers:?}");
            assert_eq!(text(response).await, last);
            settle(cache).await;
            assert_eq!(held(&stack.memory).await, Some(last.clone()), "carried up");
            assert_eq!(held(&stack.disk).await, Some(last));
        }
        stack.close().await;
    }
}

#[tokio::test]
async fn s49_an_object_above_the_disks_limit_evicts_nothing_there_and_goes_to_memory() {
    for way in Way::ALL {
        let place = Place::new(256 << 10);
        let disk = place
            .builder(CAPACITY)
            .object_max(100 << 10)
            .open()
            .await
            .unwrap();
        let stack = place.stack(disk, strict());
        let cache = &stack.cache;
        for key in ["a", "b", "c"] {
            let body = vec![b'x'; 100 << 10];
            cache.insert(key, body, Draft::new()).await.unwrap();
        }
        cache
            .insert("large", "small yet", Draft::new())
            .await
            .unwrap();
        let written = way.bring(cache).await;
        assert!(written.is_none_or(|tiers| tiers == 1), "{way:?}");
        at_rest(cache).await;
        let usage = stack.disk.usage();
        assert_eq!(
            (usage.entries, usage.evictions, usage.staged),
            (3, 0, 0),
            "{way:?}"
        );
        assert_eq!(cache.tiers()[1].counters.refused, 1, "{way:?}");
        let response = cache.get("large").await.unwrap();
        assert!(response.status().is_hit() && !is_from_disk(&response));
        assert_eq!(text(response).await.len(), LARGE, "{way:?}");
        stack.close().await;
    }
}

/// The files of large objects, and when each was last written.
fn blobs(place: &Place) -> Vec<(PathBuf, SystemTime)> {
    let files = place.files().into_iter();
    let blobs = files.filter(|file| file.starts_with(place.path().join("blob")));
    blobs
        .map(|file| {
            let written = file.metadata().unwrap().modified().unwrap();
            (file, written)
        })
        .collect()
}

#[tokio::test]
async fn s39_not_modified_renews_a_large_object_on_disk_and_leaves_its_file_alone() {
    let place = Place::new(0);
    let stack = place.open_strict().await;
    let object = pattern(2 << 20);
    stack
        .cache
        .insert(KEY, object.clone(), tagged("v1"))
        .await
        .unwrap();
    let (before, written) = (blobs(&place), stack.disk.figures().written);
    assert_eq!(before.len(), 1, "{before:?}");
    evict(&stack.memory, KEY).await;
    place.clock.advance(61 * SECOND);
    let origin = Origin::default();
    let fetch = origin.does(async |context| {
        assert_eq!(context.etag(), Some(&tag("v1")));
        Ok(Fetched::not_modified())
    });
    let response = stack.cache.get_or_fetch(KEY, fetch).await.unwrap();
    assert!(response.status().is_revalidated());
    assert_eq!(whole(response).await, object);
    settle(&stack.cache).await;

    let name = Key::new(KEY).unwrap();
    let metadata = stack.disk.stat(name).await.unwrap().unwrap();
    assert_eq!(metadata.fetched_at, place.clock.now());
    assert_eq!(blobs(&place), before, "no file is new, none was written to");
    let written = stack.disk.figures().written - written;
    assert!(written < 4096, "{written} bytes for a new stamp");
    stack.close().await;

    // The stamp is as lasting as the object.
    let stack = place.open_strict().await;
    let hit = stack.cache.get_or_fetch(KEY, origin.fails()).await.unwrap();
    assert!(is_from_disk(&hit) && !hit.status().is_stale());
    assert_eq!(whole(hit).await, object);
    assert_eq!(origin.fetches(), 1);
    stack.close().await;
}

#[tokio::test]
async fn a_clear_empties_the_disk_for_good() {
    let place = Place::new(10_000);
    let stack = place.open_strict().await;
    for key in 0..40 {
        let body = vec![b'x'; 500 * key];
        let key = key.to_string();
        stack.cache.insert(&key, body, Draft::new()).await.unwrap();
    }
    stack.cache.insert(KEY, "k", Draft::new()).await.unwrap();
    stack.cache.clear().await.unwrap();
    let usage = stack.disk.usage();
    assert_eq!((usage.entries, usage.live, usage.staged), (0, 0, 0));
    assert_eq!(seen(&stack.cache).await, None);
    stack.close().await;
    let stack = place.open_strict().await;
    let usage = stack.disk.usage();
    assert_eq!((usage.entries, usage.live, usage.staged), (0, 0, 0));
    assert_eq!(seen(&stack.cache).await, None);
    assert!(blobs(&place).is_empty(), "{:?}", blobs(&place));
    stack.close().await;
}
