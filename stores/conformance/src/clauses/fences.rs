//! Clauses 5 and 7: deletes, and what they and others do to fences.

use std::sync::Arc;

use futures_util::future::join_all;
use larder_store::{ByteRange, Draft, Fence, Fencing, Lookup, Store};

use crate::{
    Setup, Subject,
    probe::{delete, draft, expect_err, fence, finds, key, open, pattern, set, set_fenced, write},
};

/// Clause 5: a delete can be repeated, removes everything, and ends every earlier fence.
pub async fn clause_05_delete_is_idempotent(subject: &impl Subject) {
    let store = subject.make(Setup::default()).await;
    let empty = store.usage();
    delete(&store, "a").await;
    delete(&store, "a").await;
    finds(&store, "a", None).await;
    set(&store, "a", 1, 700).await;
    set(&store, "b", 2, 700).await;
    join_all((0..8).map(|_| delete(&store, "a"))).await;
    finds(&store, "a", None).await;
    finds(&store, "b", 2).await;
    delete(&store, "a").await;
    delete(&store, "b").await;
    let after = store.usage();
    assert_eq!(
        (after.entries, after.live),
        (empty.entries, empty.live),
        "metadata and body go"
    );

    set(&store, "a", 3, 70).await;
    let present = fence(&store, "a").await;
    delete(&store, "a").await;
    assert!(
        !set_fenced(&store, "a", 4, &present).await,
        "the object was deleted since"
    );
    finds(&store, "a", None).await;
    if store.fencing() == Fencing::Exact {
        for absent in [miss(&store, "a").await, fence(&store, "a").await] {
            delete(&store, "a").await;
            assert!(
                !set_fenced(&store, "a", 5, &absent).await,
                "a delete of nothing counts"
            );
            finds(&store, "a", None).await;
        }
    }
}

/// Clause 7: a fence holds exactly as long as nothing happens to its key.
pub async fn clause_07_fences_hold(subject: &impl Subject) {
    let store = Arc::new(subject.make(Setup::default()).await);
    quiet_keys(&*store).await;
    for absent in [true, false] {
        for event in ["set", "fenced set", "delete", "touch", "set and delete"] {
            // That a delete of nothing counts is for clause 5 to say.
            if !(absent && event == "delete") {
                superseded(&*store, event, absent).await;
            }
        }
    }
    strangers(&*store, subject).await;
    failures_do_not_count(&*store).await;
    if store.fencing() == Fencing::Exact {
        for round in 0..20 {
            one_of_many_wins(&store, &format!("race/{round}")).await;
        }
    }
}

async fn miss<S: Store>(store: &S, name: &str) -> Fence {
    match store.get_stream(key(name), ByteRange::FULL).await {
        Ok(Lookup::Miss(fence)) => fence,
        other => panic!("{name:?} must be absent, not {other:?}"),
    }
}

/// Where nothing happens a fence always holds; reading, and what happens to others, is nothing.
async fn quiet_keys<S: Store>(store: &S) {
    for count in 0..70 {
        let name = format!("quiet/{count}");
        let absent = miss(store, &name).await;
        set(store, "busy", count, 10).await;
        delete(store, "busy").await;
        delete(store, &format!("{name}/below")).await;
        finds(store, &name, None).await;
        assert!(
            set_fenced(store, &name, 1, &absent).await,
            "nothing happened to {name}"
        );
        let present = fence(store, &name).await;
        finds(store, &name, 1).await;
        assert!(
            set_fenced(store, &name, 2, &present).await,
            "nothing happened to {name}"
        );
        let present = fence(store, &name).await;
        let deleted = store.delete(key(&name), Some(present)).await;
        assert!(
            deleted.expect("a delete succeeds").is_done(),
            "nothing happened to {name}"
        );
        finds(store, &name, None).await;
    }
    // Not even when other fences of the key are dropped.
    let (first, second) = (fence(store, "two").await, fence(store, "two").await);
    drop(first);
    assert!(
        set_fenced(store, "two", 3, &second).await,
        "another fence was dropped"
    );
}

/// After the event a fence that was taken before it holds no more, and what carries it changes
/// nothing.
async fn superseded<S: Store>(store: &S, event: &str, absent: bool) {
    let name = format!("{event}/{absent}");
    if store.fencing() == Fencing::Advisory && event == "set and delete" {
        return;
    }
    let (old, early) = if absent {
        (miss(store, &name).await, fence(store, &name).await)
    } else {
        set(store, &name, 1, 40).await;
        (fence(store, &name).await, fence(store, &name).await)
    };
    // Staged before the event, as a slow fill is.
    let mut slow = open(store, &name, draft(90).fence(early)).await;
    write(&mut *slow, &pattern(90, 300)).await;
    let Some(left) = happens(store, &name, event, absent).await else {
        return;
    };
    let usage = store.usage();
    let slow = slow.commit().await.expect("superseded is not an error");
    assert!(
        !slow.is_done(),
        "a writer opened before a {event}, absent: {absent}"
    );
    finds(store, &name, left).await;
    assert!(
        !set_fenced(store, &name, 3, &old).await,
        "a set after a {event}, absent: {absent}"
    );
    finds(store, &name, left).await;
    let deleted = store.delete(key(&name), Some(old.clone())).await;
    let deleted = deleted.expect("superseded is not an error");
    assert!(
        !deleted.is_done(),
        "a delete after a {event}, absent: {absent}"
    );
    finds(store, &name, left).await;
    if let Some(touch) = store.as_touch() {
        let touched = touch.touch(key(&name), draft(4).fence(old)).await;
        let touched = touched.expect("superseded is not an error");
        assert!(
            !touched.is_done(),
            "a touch after a {event}, absent: {absent}"
        );
        finds(store, &name, left).await;
    }
    let after = store.usage();
    assert_eq!(
        (after.entries, after.live),
        (usage.entries, usage.live),
        "nothing was changed"
    );
    // What was superseded has not ended the fences that were taken after the event.
    let newer = fence(store, &name).await;
    assert!(!set_fenced(store, &name, 5, &Fence::new("strange")).await);
    assert!(
        set_fenced(store, &name, 6, &newer).await,
        "a refused write ended a fence"
    );
}

/// What it leaves under the key; nothing can be said where the event cannot happen.
async fn happens<S: Store>(
    store: &S,
    name: &str,
    event: &str,
    absent: bool,
) -> Option<Option<u64>> {
    let left = match event {
        "set" => {
            set(store, name, 2, 40).await;
            Some(2)
        }
        "fenced set" => {
            let fence = fence(store, name).await;
            assert!(set_fenced(store, name, 2, &fence).await);
            Some(2)
        }
        "delete" => {
            delete(store, name).await;
            None
        }
        "touch" => {
            let (Some(touch), false) = (store.as_touch(), absent) else {
                return None;
            };
            let touched = touch.touch(key(name), draft(1)).await;
            assert!(touched.expect("a touch succeeds").is_done());
            Some(1)
        }
        _ => {
            set(store, name, 2, 40).await;
            delete(store, name).await;
            None
        }
    };
    Some(left)
}

/// A fence of another key, of another store or of nobody never holds.
async fn strangers<S: Store>(store: &S, subject: &impl Subject) {
    let other = subject.make(Setup::default()).await;
    let fences = [
        ("another key", fence(store, "mine").await),
        ("another store", fence(&other, "yours").await),
        ("nobody", Fence::new(7_u64)),
    ];
    for (whose, fence) in fences {
        if store.fencing() == Fencing::Advisory && whose != "nobody" {
            continue;
        }
        assert!(
            !set_fenced(store, "yours", 1, &fence).await,
            "a fence of {whose} holds"
        );
        finds(store, "yours", None).await;
    }
}

/// S16: a write that was given up, refused or failed has not happened.
async fn failures_do_not_count<S: Store>(store: &S) {
    let early = miss(store, "failed").await;
    let mut dropped = open(store, "failed", draft(1)).await;
    write(&mut *dropped, &pattern(1, 100)).await;
    drop(dropped);
    let mut aborted = open(store, "failed", draft(1)).await;
    write(&mut *aborted, &pattern(1, 100)).await;
    aborted.abort().await.expect("an abort succeeds");
    let short = open(store, "failed", Draft::new().len(9)).await;
    expect_err(
        short.commit().await,
        "a commit of no bytes where nine were declared",
    );
    assert!(
        set_fenced(store, "failed", 2, &early).await,
        "failed writes ended a fence"
    );
    finds(store, "failed", 2).await;
}

/// Of all who write with fences of one moment, one succeeds, and that is what is there.
async fn one_of_many_wins<S: Store>(store: &Arc<S>, name: &str) {
    let mut writers = Vec::new();
    for id in 0..8 {
        let fence = fence(&**store, name).await;
        let (store, name) = (Arc::clone(store), name.to_owned());
        writers.push(async move { set_fenced(&*store, &name, id, &fence).await.then_some(id) });
    }
    let tasks = writers.into_iter().map(tokio::spawn);
    let won: Vec<u64> = join_all(tasks)
        .await
        .into_iter()
        .filter_map(|joined| joined.expect("a fenced set does not fail"))
        .collect();
    assert_eq!(won.len(), 1, "of one moment's fences one holds: {won:?}");
    finds(&**store, name, won[0]).await;
}
