//! What the tests of the store are written in.

#![allow(dead_code, unused_imports)] // Each binary uses its part.
#![allow(clippy::unwrap_used)] // The helpers below are tests, too.

mod bodies;
mod child;
mod folders;
mod mount;
mod random;

use std::time::Duration;

use larder_disk::Disk;
use larder_store::{ByteRange, Commit, Draft, Key, Lookup, Object, Result, Store};

pub(crate) use bodies::{body, check_body, draft, version_of};
pub(crate) use child::{CHILD, child};
pub(crate) use folders::{Scratch, bytes_of_files, copy_folder, files};
pub(crate) use mount::{Mount, stranger};
pub(crate) use random::Random;

/// How long an operation may take that must not wait for anyone.
pub(crate) const PROMPT: Duration = Duration::from_millis(500);

pub(crate) fn key(text: &str) -> Key<'_> {
    Key::new(text).unwrap()
}

/// Puts the object of a version under a name, in two chunks.
pub(crate) async fn put(
    store: &impl Store,
    name: &str,
    draft: Draft,
    len: usize,
) -> Result<Commit> {
    let bytes = body(name, version_of(draft.header()), len);
    let mut writer = store.set_with_writer(key(name), draft).await?;
    for chunk in [0..len / 3, len / 3..len] {
        if !chunk.is_empty() {
            writer.write(bytes.slice(chunk)).await?;
        }
    }
    writer.commit().await
}

/// Puts the object of a version under a name, which must succeed.
pub(crate) async fn set(store: &impl Store, name: &str, version: u64, len: usize) {
    let done = put(store, name, draft(version), len).await.unwrap();
    assert!(
        done.is_done(),
        "a set without a fence was superseded: {name}"
    );
}

pub(crate) async fn delete(store: &impl Store, name: &str) {
    assert!(store.delete(key(name), None).await.unwrap().is_done());
}

pub(crate) async fn look(
    store: &impl Store,
    name: &str,
    range: ByteRange,
) -> Result<Option<Object>> {
    Ok(match store.get_stream(key(name), range).await? {
        Lookup::Hit(object) => Some(object),
        Lookup::Miss(_) => None,
    })
}

pub(crate) async fn open_body(store: &impl Store, name: &str) -> Object {
    let object = look(store, name, ByteRange::FULL).await.unwrap();
    object.unwrap_or_else(|| panic!("{name:?} is absent"))
}

/// The version of the object under a name, once all of its bytes are known to be right.
pub(crate) async fn found(store: &impl Store, name: &str) -> Result<Option<u64>> {
    match look(store, name, ByteRange::FULL).await? {
        Some(object) => read(name, object).await.map(Some),
        None => Ok(None),
    }
}

/// Reads an object to its end, and checks that it is the one that its metadata tells of.
pub(crate) async fn read(name: &str, object: Object) -> Result<u64> {
    let (version, len) = (version_of(&object.metadata), object.metadata.len());
    let range = object.range.clone();
    let bytes = object.body.bytes(len).await?;
    check_body(name, version, &range, &bytes);
    Ok(version)
}

/// As [`found`], where nothing may fail.
pub(crate) async fn finds(store: &impl Store, name: &str, version: impl Into<Option<u64>>) {
    let found = found(store, name).await.unwrap();
    assert_eq!(found, version.into(), "the object under {name:?}");
}

/// Waits in short turns, so that a machine that starves this process gives it as much more time.
pub(crate) async fn within<T>(time: Duration, what: &str, future: impl Future<Output = T>) -> T {
    const TURN: Duration = Duration::from_millis(5);
    let turns = async {
        for _ in 0..time.as_millis() / TURN.as_millis() {
            tokio::time::sleep(TURN).await;
        }
    };
    tokio::select! {
        output = future => output,
        () = turns => panic!("{what} is not done after {time:?}"),
    }
}

/// Waits for what is done in the background.
pub(crate) async fn eventually(time: Duration, what: &str, mut is_so: impl FnMut() -> bool) {
    let mut turns = time.as_millis() / 5;
    while !is_so() {
        turns = turns.checked_sub(1).unwrap_or_else(|| {
            panic!("even after {time:?}, not so: {what}");
        });
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Opens a store that another handle may still be letting go of.
pub(crate) async fn open_again(builder: impl Fn() -> larder_disk::Builder) -> Disk {
    for _ in 0..1_000 {
        match builder().open().await {
            Err(error) if error.is_unavailable() => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            opened => return opened.unwrap(),
        }
    }
    panic!("after five seconds the folder is still in use");
}
