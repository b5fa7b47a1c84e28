//! A disk that fails, is altered, or goes: reads get every byte all the same.

use std::{fs, io, path::Path};

use bytes::Bytes;
use larder::{Cache, Disk, Draft, ErrorKind, Fetched, StoreExt};
use larder_conformance::{Fault, Faulty, Op};
use tokio::time::timeout;

use super::{CAPACITY, KEPT, Place, evict, patient};
use crate::{
    levers::{KEY, tag, tagged},
    source::{memory_at, pattern, to_the_end, whole},
    support::{Origin, SECOND, settle, strict},
};

fn body(key: usize) -> Bytes {
    pattern(10_000 + key)
}

/// Removes the folder, though the store may be putting files into it.
fn remove(folder: &Path) {
    for _ in 0..100 {
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            removed => return removed.unwrap(),
        }
    }
    panic!("the folder does not go");
}

#[tokio::test]
async fn a_folder_that_vanishes_fails_no_read() {
    for large_object in KEPT {
        let place = Place::new(large_object);
        let stack = place.open_strict().await;
        let cache = &stack.cache;
        for key in 0..20 {
            let name = key.to_string();
            cache.insert(&name, body(key), Draft::new()).await.unwrap();
            stack.memory.remove(&name).await.unwrap();
        }
        remove(place.path());
        let origin = Origin::default();
        for round in 0..2 {
            for key in 0..40 {
                let (name, fetch) = (key.to_string(), origin.gives(body(key)));
                let response = cache.get_or_fetch(&name, fetch).await.unwrap();
                assert_eq!(whole(response).await, body(key), "{key} in round {round}");
            }
        }
        settle(cache).await;
        assert!(
            origin.fetches() <= 40,
            "memory has them in the second round"
        );
        cache.insert("new", "new", Draft::new()).await.unwrap();
        // It may say that a tier failed; what it deletes is gone in any case.
        let _ = cache.delete("1").await;
        assert!(cache.get("1").await.unwrap().is_absent());
        assert_eq!(whole(cache.get("new").await.unwrap()).await, "new");
        let closed = timeout(30 * SECOND, cache.close()).await;
        let _ = closed.expect("it closes, well or not");
    }
}

#[tokio::test]
async fn s23_a_disk_that_fails_at_any_step_fails_no_read() {
    let steps = [
        Op::Get,
        Op::Body,
        Op::Set,
        Op::Write,
        Op::Commit,
        Op::Fence,
        Op::Touch,
    ];
    for (step, large_object) in steps.iter().flat_map(|step| KEPT.map(|kept| (*step, kept))) {
        let place = Place::new(large_object);
        let disk = Faulty::<Disk>::new(place.builder(CAPACITY).open().await.unwrap());
        let memory = memory_at(&place.clock);
        let cache = Cache::builder()
            .tier(memory.clone())
            .tier(patient(disk.clone()));
        let cache = cache.policy(strict()).clock(place.clock.clone());
        let cache = cache.build().unwrap();
        let object = pattern(100_000);
        cache
            .insert(KEY, object.clone(), tagged("v1"))
            .await
            .unwrap();
        disk.faults().on(step).always(Fault::Fail(ErrorKind::Other));
        let origin = Origin::default();
        // A hit on disk, a miss, and what is past its time.
        for (key, age) in [(KEY, 0), ("other", 0), (KEY, 61)] {
            evict(&memory, KEY).await;
            place.clock.advance(age * SECOND);
            let given = object.clone();
            let fetch = origin.does(async move |context| {
                if context.etag().is_some() {
                    return Ok(Fetched::not_modified());
                }
                Ok(Fetched::bytes(given).etag(tag("v1")))
            });
            let response = cache.get_or_fetch(key, fetch).await.unwrap();
            let (bytes, end) = to_the_end(response).await;
            // The fetcher that has said "not modified" is spent; nobody is left to go on.
            if step == Op::Body && age > 0 {
                assert!(end.is_err() && object.starts_with(&bytes));
            } else {
                end.unwrap();
                assert_eq!(bytes, object, "{step:?}, {key}, {age}");
            }
            settle(&cache).await;
        }
        disk.faults().clear();
        let response = cache.get_or_fetch(KEY, origin.gives(object.clone()));
        assert_eq!(whole(response.await.unwrap()).await, object);
        cache.close().await.unwrap();
    }
}

/// Alters one byte in the middle of an object, wherever it lies below the folder.
fn alter(place: &Place, object: &[u8]) {
    let middle = object.len() / 2;
    let needle = &object[middle..middle + 64];
    let mut altered = 0;
    for file in place.files() {
        let mut bytes = fs::read(&file).unwrap();
        let found = bytes.windows(needle.len()).position(|at| at == needle);
        if let Some(at) = found {
            bytes[at] ^= 1;
            fs::write(&file, bytes).unwrap();
            altered += 1;
        }
    }
    assert_eq!(altered, 1, "the object lies in one file");
}

#[tokio::test]
async fn s57_where_the_disk_has_altered_a_byte_the_origin_goes_on() {
    for large_object in KEPT {
        let object = pattern(200_000);
        for fetching in [true, false] {
            let place = Place::new(large_object);
            let stack = place.open_strict().await;
            stack
                .cache
                .insert(KEY, object.clone(), tagged("v1"))
                .await
                .unwrap();
            stack.close().await;
            alter(&place, &object);

            let stack = place.open_strict().await;
            let origin = Origin::default();
            let given = object.clone();
            let fetch = origin.does(async move |_| Ok(Fetched::bytes(given).etag(tag("v1"))));
            if fetching {
                let response = stack.cache.get_or_fetch(KEY, fetch).await.unwrap();
                assert_eq!(whole(response).await, object);
                assert_eq!(origin.fetches(), 1);
            } else {
                let response = stack.cache.get(KEY).await.unwrap();
                if !response.is_absent() {
                    let (bytes, end) = to_the_end(response).await;
                    assert!(end.unwrap_err().is_corrupt() && object.starts_with(&bytes));
                }
            }
            settle(&stack.cache).await;
            // The altered object is gone from the disk, or was replaced by what the origin gave.
            let held = stack.disk.read(KEY, 1 << 20).await.unwrap();
            assert!(held.is_none_or(|held| held == object), "{fetching}");
            let response = stack.cache.get_or_fetch(KEY, origin.gives(object.clone()));
            assert_eq!(whole(response.await.unwrap()).await, object);
            stack.close().await;
        }
    }
}
