//! Clauses 11 and 12: how much there is, and how much may be.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use larder_store::{Draft, Error, METADATA_LEN_MAX, Store, Usage, Writer};

use crate::{
    Setup, Subject,
    probe::{
        counts, delete, draft, eventually, expect_err, finds, found, key, open, pattern, put, set,
        stat, write,
    },
};

/// Clause 11: what is counted is what is there, after whatever happened. Where objects are counted
/// elsewhere, it is about staged bytes alone.
pub async fn clause_11_accounting_is_exact(subject: &impl Subject) {
    let store = subject.make(Setup::default()).await;
    let empty = store.usage();
    assert_eq!(
        (empty.entries, empty.staged, empty.evictions),
        (0, 0, 0),
        "a new store is empty"
    );
    staged_bytes_count(&store).await;
    if empty.elsewhere {
        return;
    }
    let live = against_a_live_set(&store).await;
    let full = store.usage();
    let store = match subject.reopen(store).await {
        Some(reopened) => {
            let after = reopened.usage();
            assert_eq!(
                (after.entries, after.live),
                (full.entries, full.live),
                "reopened"
            );
            reopened
        }
        // Nothing was kept: the rest is about an empty store.
        None => subject.make(Setup::default()).await,
    };
    for name in live {
        delete(&store, &name).await;
    }
    let after = store.usage();
    assert_eq!(
        (after.entries, after.live),
        (0, empty.live),
        "all that was there is deleted"
    );
    odd_entries_count(&store).await;
    flooded(subject, 30_000, 150).await;
    flooded(subject, 0, 9_000).await;
}

async fn staged_bytes_count<S: Store>(store: &S) {
    let empty = store.usage();
    for way in ["commit", "abort", "drop", "failed write", "failed commit"] {
        let declared = 9000 + u64::from(way == "failed commit");
        let draft = if way == "failed write" {
            draft(1)
        } else {
            draft(1).len(declared)
        };
        let mut writer = open(store, way, draft).await;
        let mut second = open(store, way, Draft::new()).await;
        second
            .write(pattern(2, 5000))
            .await
            .expect("a chunk is taken");
        assert!(
            store.usage().staged >= 5000,
            "staged bytes count while they are staged"
        );
        writer
            .write(pattern(1, 9000))
            .await
            .expect("a chunk is taken");
        let staged = store.usage().staged;
        assert!(staged >= 14_000, "staged bytes count while they are staged");
        assert_eq!(store.usage().live, empty.live, "what is staged is not live");
        match way {
            "commit" => assert!(writer.commit().await.expect("a commit succeeds").is_done()),
            "abort" => writer.abort().await.expect("an abort succeeds"),
            "drop" => drop(writer),
            "failed write" => {
                let error = overfill(&mut *writer, 3 << 20).await;
                assert!(error.is_some(), "it is above the limit");
                drop(writer);
            }
            _ => drop(expect_err(
                writer.commit().await,
                "a commit of another length",
            )),
        }
        second.abort().await.expect("an abort succeeds");
        eventually("nothing is staged", || store.usage().staged == 0).await;
        counts(
            store,
            &format!("one entry after a commit, {way}"),
            |usage| usage.entries - empty.entries == u64::from(way == "commit"),
        );
        delete(store, way).await;
        let after = store.usage();
        assert_eq!(
            (after.entries, after.live),
            (empty.entries, empty.live),
            "{way}"
        );
    }
}

/// Writes chunks until one is refused, or until so many bytes were taken.
async fn overfill(writer: &mut dyn Writer, len: usize) -> Option<Error> {
    let chunk = Bytes::from(vec![7; 64 << 10]);
    for _ in 0..len / chunk.len() {
        if let Err(error) = writer.write(chunk.clone()).await {
            return Some(error);
        }
    }
    None
}

/// Sets, overwrites and deletes without order, and compares after each. Gives the keys that are
/// left.
async fn against_a_live_set<S: Store>(store: &S) -> Vec<String> {
    let mut model: BTreeMap<String, (usize, u64)> = BTreeMap::new();
    let mut random = 1_u64;
    for id in 0..400 {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let name = format!("key/{}", (random >> 33) % 24);
        let before = store.usage();
        if (random >> 40).is_multiple_of(3) {
            delete(store, &name).await;
            let freed = model.remove(&name).map_or(0, |(_, size)| size);
            assert_eq!(
                before.live - store.usage().live,
                freed,
                "what a delete frees"
            );
        } else {
            let len = usize::try_from((random >> 45) % 6000).expect("it is small");
            set(store, &name, id, len).await;
            let replaced = model.get(&name).map_or(0, |(_, size)| *size);
            let size = store.usage().live + replaced - before.live;
            assert!(size >= (name.len() + len) as u64, "key and body count");
            // The same object again is the same size again.
            set(store, &name, id, len).await;
            assert_eq!(
                store.usage().live,
                before.live + size - replaced,
                "an overwrite leaks"
            );
            model.insert(name, (len, size));
        }
        let usage = store.usage();
        assert_eq!(usage.entries, model.len() as u64, "the number of entries");
        let live: u64 = model.values().map(|(_, size)| *size).sum();
        assert_eq!(usage.live, live, "the live bytes are those of the live set");
        assert!(usage.evictions == 0, "there was room for all");
    }
    model.into_keys().collect()
}

/// Metadata, negative entries and expired ones count for as long as they are there.
async fn odd_entries_count<S: Store>(store: &S) {
    let empty = store.usage();
    let negative = draft(1).with(|header| header.absent = true);
    assert!(
        put(store, "negative", negative, &Bytes::new())
            .await
            .is_done()
    );
    let one = store.usage();
    assert_eq!(
        one.entries,
        empty.entries + 1,
        "a negative entry is an entry"
    );
    assert!(
        one.live >= empty.live + 8,
        "the key of a negative entry counts"
    );
    let heavy = draft(2).with(|header| {
        header
            .attributes
            .push(("heavy".into(), Bytes::from(vec![1; 20_000])));
    });
    assert!(put(store, "heavy", heavy, &Bytes::new()).await.is_done());
    assert!(store.usage().live >= one.live + 20_000, "metadata counts");
    let expired = draft(3).with(|header| {
        header.expires_at = Some(larder_store::Timestamp::EPOCH);
    });
    assert!(
        put(store, "expired", expired, &pattern(3, 100))
            .await
            .is_done()
    );
    for name in ["negative", "heavy", "expired"] {
        delete(store, name).await;
    }
    let after = store.usage();
    assert_eq!(
        (after.entries, after.live),
        (empty.entries, empty.live),
        "all are deleted"
    );
}

/// S51: with more written than there is room for, what is live stays within the capacity, and is
/// what can be found.
async fn flooded(subject: &impl Subject, len: usize, count: u64) {
    let store = subject.make(Setup::new(1 << 20, 64 << 10)).await;
    let name = |id: u64| format!("flood/{id:040}");
    for id in 0..count {
        let draft = draft(id).with(|header| header.absent = len == 0);
        assert!(
            put(&store, &name(id), draft, &pattern(id, len))
                .await
                .is_done()
        );
        let usage: Usage = store.usage();
        let capacity = usage.capacity.expect("the store was made with a capacity");
        assert!(
            usage.live <= capacity,
            "{} live bytes, capacity {capacity}",
            usage.live
        );
    }
    let usage = at_rest(&store).await;
    assert!(usage.evictions > 0, "there was no room for all");
    let mut present = 0;
    for id in 0..count {
        present += u64::from(stat(&store, &name(id)).await.is_some());
    }
    assert_eq!(usage.entries, present, "what is counted can be found");
    assert!(present > 0, "the room is used");
    assert_eq!(
        usage.entries + usage.evictions,
        count,
        "each is there or was evicted"
    );
    for id in 0..count {
        delete(&store, &name(id)).await;
    }
    assert_eq!(
        (store.usage().entries, store.usage().live),
        (0, 0),
        "an eviction leaks"
    );
}

/// The usage when the store evicts nothing more: it may make room in the background, ahead of need.
async fn at_rest<S: Store>(store: &S) -> Usage {
    loop {
        let before = store.usage();
        tokio::time::sleep(Duration::from_millis(50)).await;
        let after = store.usage();
        if (after.entries, after.evictions) == (before.entries, before.evictions) {
            return after;
        }
    }
}

/// The limit of the stores that clause 12 makes.
const MAX: u64 = 1 << 20;

/// Clause 12: what is above the limit is refused by name as soon as it is known, and nothing makes
/// room for it. What is just at the limit is taken. A store that reports its limit reports that one.
pub async fn clause_12_too_large_is_said(subject: &impl Subject) {
    let store = subject.make(Setup::new(8 << 20, MAX)).await;
    for id in 0..40 {
        set(&store, &format!("small/{id}"), id, 10_000).await;
    }
    let before = store.usage();
    if let Some(max) = store.object_max() {
        assert_eq!(max, MAX, "`object_max` is the longest body that is taken");
    }
    above_the_limit(&store).await;
    heavy_metadata(&store).await;

    eventually("nothing is staged", || store.usage().staged == 0).await;
    let after = store.usage();
    assert_eq!(
        (after.entries, after.live),
        (before.entries, before.live),
        "entries, live bytes"
    );
    assert_eq!(
        after.evictions, before.evictions,
        "what is too large evicts nothing"
    );
    for id in 0..40 {
        finds(&store, &format!("small/{id}"), id).await;
    }
    finds(&store, "large", None).await;

    let max = usize::try_from(MAX).expect("it is small");
    for declare in [true, false] {
        let draft = if declare {
            draft(91).len(MAX)
        } else {
            draft(91)
        };
        let mut writer = open(&store, "largest", draft).await;
        write(&mut *writer, &pattern(91, max)).await;
        assert!(writer.commit().await.expect("just at the limit").is_done());
        assert_eq!(
            found(&store, "largest").await,
            Some(91),
            "just at the limit"
        );
        delete(&store, "largest").await;
    }
}

async fn above_the_limit<S: Store>(store: &S) {
    for declared in [MAX + 1, 2 * MAX, 8 << 20, 1 << 40, u64::MAX] {
        match store
            .set_with_writer(key("large"), draft(90).len(declared))
            .await
        {
            Err(error) => assert!(
                error.is_too_large(),
                "{declared} bytes are declared: {error:?}"
            ),
            Ok(mut writer) => {
                let error = expect_err(writer.write("x".into()).await, "it is known at the start");
                assert!(
                    error.is_too_large(),
                    "{declared} bytes are declared: {error:?}"
                );
            }
        }
    }
    let mut writer = open(store, "large", draft(90)).await;
    let chunk = Bytes::from(vec![7; 128 << 10]);
    for _ in 0..8 {
        writer
            .write(chunk.clone())
            .await
            .expect("up to the limit it may be");
    }
    let error = expect_err(writer.write("x".into()).await, "one byte above the limit");
    assert!(error.is_too_large(), "one byte above the limit: {error:?}");
    let _ = writer.write("y".into()).await;
    expect_err(
        writer.commit().await,
        "a commit after a write that was refused",
    );
    let mut writer = open(store, "large", draft(90)).await;
    let error = expect_err(
        writer.write(vec![7; 3 << 20].into()).await,
        "three times the limit",
    );
    assert!(error.is_too_large(), "one chunk above the limit: {error:?}");
    drop(writer);
}

/// Metadata has a limit of its own.
async fn heavy_metadata<S: Store>(store: &S) {
    let heavy = Draft::new().with(|header| {
        header
            .attributes
            .push(("a".into(), Bytes::from(vec![1; METADATA_LEN_MAX])));
    });
    let error = expect_err(
        store.set_with_writer(key("heavy"), heavy).await,
        "more metadata than is allowed",
    );
    assert!(
        error.is_too_large(),
        "more metadata than is allowed: {error:?}"
    );
}
