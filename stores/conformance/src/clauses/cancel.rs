//! Clause 8: replies that are dropped after any number of polls.

use std::time::Duration;

use bytes::Bytes;
use larder_store::{ByteRange, Store};

use crate::{
    Setup, Subject,
    probe::{
        cancelled, draft, eventually, finds, found, hit, id_of, key, open, pattern, set, write,
    },
};

/// After so many polls a reply is dropped, if it has not answered before.
const POLLS: usize = 7;
const LEN: usize = 5000;

/// Clause 8: whatever is dropped is done or not done, and stays so.
pub async fn clause_08_cancelling_is_safe(subject: &impl Subject) {
    let store = subject.make(Setup::default()).await;
    for polls in 0..POLLS {
        for present in [true, false] {
            let name = format!("{polls}/{present}");
            looking(&store, &name, polls, present).await;
            commits(&store, &name, polls, present).await;
            deletes(&store, &name, polls, present).await;
            opening(&store, &name, polls, present).await;
        }
        let name = format!("{polls}");
        writes(&store, &name, polls).await;
        touches(&store, &name, polls).await;
        bodies(&store, &name, polls).await;
    }
    eventually("nothing is staged", || store.usage().staged == 0).await;
}

/// The key as it was before, holding object 1 or nothing.
async fn reset<S: Store>(store: &S, name: &str, present: bool) -> Option<u64> {
    if present {
        set(store, name, 1, LEN).await;
        Some(1)
    } else {
        crate::probe::delete(store, name).await;
        None
    }
}

/// The state after a dropped operation is the old or the new one. It is not another one later:
/// what looked at it was a later operation already.
async fn settled<S: Store>(store: &S, name: &str, may_be: [Option<u64>; 2], what: &str) {
    let first = found(store, name).await;
    assert!(
        may_be.contains(&first),
        "{what} left {first:?}, neither of {may_be:?}"
    );
    tokio::time::sleep(Duration::from_millis(8)).await;
    assert_eq!(
        found(store, name).await,
        first,
        "{what} took effect after another operation"
    );
}

async fn looking<S: Store>(store: &S, name: &str, polls: usize, present: bool) {
    let old = reset(store, name, present).await;
    drop(cancelled(store.get_stream(key(name), ByteRange::FULL), polls).await);
    drop(cancelled(store.stat(key(name)), polls).await);
    drop(cancelled(store.fence(key(name)), polls).await);
    settled(store, name, [old, old], "a dropped look").await;
}

async fn commits<S: Store>(store: &S, name: &str, polls: usize, present: bool) {
    let old = reset(store, name, present).await;
    let mut writer = open(store, name, draft(2)).await;
    write(&mut *writer, &pattern(2, LEN)).await;
    let answer = cancelled(writer.commit(), polls).await;
    let old = if answer.is_some() { Some(2) } else { old };
    settled(store, name, [old, Some(2)], "a dropped commit").await;
    // It does not land on what comes after either.
    let mut writer = open(store, name, draft(3)).await;
    write(&mut *writer, &pattern(3, LEN)).await;
    drop(cancelled(writer.commit(), polls).await);
    set(store, name, 4, LEN).await;
    settled(
        store,
        name,
        [Some(4), Some(4)],
        "a commit dropped before a set",
    )
    .await;

    let mut writer = open(store, name, draft(5)).await;
    write(&mut *writer, &pattern(5, LEN)).await;
    drop(cancelled(writer.abort(), polls).await);
    settled(store, name, [Some(4), Some(4)], "a dropped abort").await;
}

async fn deletes<S: Store>(store: &S, name: &str, polls: usize, present: bool) {
    let old = reset(store, name, present).await;
    let answer = cancelled(store.delete(key(name), None), polls).await;
    let old = if answer.is_some() { None } else { old };
    settled(store, name, [old, None], "a dropped delete").await;
    drop(cancelled(store.delete(key(name), None), polls).await);
    set(store, name, 2, LEN).await;
    settled(
        store,
        name,
        [Some(2), Some(2)],
        "a delete dropped before a set",
    )
    .await;
}

async fn opening<S: Store>(store: &S, name: &str, polls: usize, present: bool) {
    let old = reset(store, name, present).await;
    drop(cancelled(store.set_with_writer(key(name), draft(2)), polls).await);
    settled(
        store,
        name,
        [old, old],
        "a writer dropped while it was opened",
    )
    .await;
}

/// A chunk that may be lost must never be missing from an object.
async fn writes<S: Store>(store: &S, name: &str, polls: usize) {
    set(store, name, 1, LEN).await;
    let body = pattern(2, LEN);
    let mut writer = open(store, name, draft(2)).await;
    writer
        .write(body.slice(..2000))
        .await
        .expect("a chunk is taken");
    let done = {
        let reply = writer.write(body.slice(2000..3000));
        // An answer that is ready took effect when it was called.
        let ready = reply.is_ready();
        cancelled(reply, polls).await.is_some() || ready
    };
    // What follows may be refused, too.
    let _ = writer.write(body.slice(3000..)).await;
    let committed = writer.commit().await;
    if done {
        assert!(committed.expect("the write was done").is_done());
        finds(store, name, 2).await;
    } else {
        assert!(
            committed.is_err(),
            "committed after a write was dropped at poll {polls}"
        );
        finds(store, name, 1).await;
    }
}

async fn touches<S: Store>(store: &S, name: &str, polls: usize) {
    let Some(touch) = store.as_touch() else {
        return;
    };
    let before = set(store, name, 1, LEN).await;
    let touched = draft(1)
        .with(|header| header.absent = false)
        .with(|header| {
            header.tags.push("touched".into());
        });
    let answer = cancelled(touch.touch(key(name), touched), polls).await;
    let first = hit(store, name).await.metadata;
    let is_new = !first.tags.is_empty();
    assert!(
        is_new || (answer.is_none() && first == before),
        "half of a touch, or none"
    );
    settled(store, name, [Some(1), Some(1)], "a dropped touch").await;
    assert_eq!(
        hit(store, name).await.metadata,
        first,
        "a touch took effect later"
    );
}

/// A read that is dropped has taken nothing.
async fn bodies<S: Store>(store: &S, name: &str, polls: usize) {
    set(store, name, 6, LEN).await;
    let mut object = hit(store, name).await;
    let id = id_of(&object.metadata);
    let mut all = Vec::new();
    let mut add = |chunk: Option<Bytes>| {
        let chunk = chunk.unwrap_or_default();
        all.extend_from_slice(&chunk);
        !chunk.is_empty()
    };
    loop {
        if let Some(chunk) = cancelled(Box::pin(object.body.chunk()), polls).await {
            if !add(chunk.expect("a chunk can be read")) {
                break;
            }
        } else if !add(object.body.chunk().await.expect("a chunk can be read")) {
            break;
        }
    }
    assert!(all == pattern(id, LEN), "a dropped read took bytes away");
}
