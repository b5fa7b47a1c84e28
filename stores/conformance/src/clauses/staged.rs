//! Clause 17: what a writer has acknowledged can be read back.

use std::sync::Arc;

use bytes::Bytes;
use larder_store::{Staged, Store};

use crate::{
    Setup, Subject,
    probe::{delete, draft, expect_err, finds, flood, open, pattern, set},
};

const LEN: usize = 150_000;

/// Clause 17: staged bytes stay for as long as their handle, whatever becomes of writer and entry.
/// Passes where the store has none to offer. (S79)
pub async fn clause_17_staged_bytes_stay(subject: &impl Subject) {
    let store = subject.make(Setup::new(2 << 20, 256 << 10)).await;
    if open(&store, "a", draft(0)).await.staged().is_none() {
        return;
    }
    while_it_is_written(&store).await;
    for (id, end) in (1..).zip(["commit", "superseded", "abort", "drop", "failed commit"]) {
        for after in ["nothing", "overwrite", "delete", "eviction"] {
            let declared = if end == "failed commit" {
                LEN as u64 + 1
            } else {
                LEN as u64
            };
            let fence = crate::probe::fence(&store, "a").await;
            let mut writer = open(&store, "a", draft(id).len(declared).fence(fence)).await;
            let staged = writer.staged().expect("it was there for another writer");
            for chunk in 0..3 {
                let chunk = pattern(id, LEN).slice(chunk * LEN / 3..(chunk + 1) * LEN / 3);
                writer.write(chunk).await.expect("a chunk is taken");
            }
            match end {
                "commit" => assert!(writer.commit().await.expect("a commit succeeds").is_done()),
                "superseded" => {
                    set(&store, "a", 90, 10).await;
                    assert!(!writer.commit().await.expect("it is not an error").is_done());
                }
                "abort" => writer.abort().await.expect("an abort succeeds"),
                "drop" => drop(writer),
                _ => drop(expect_err(
                    writer.commit().await,
                    "a commit of another length",
                )),
            }
            holds(&staged, id, LEN).await;
            match after {
                "overwrite" => drop(set(&store, "a", 91, LEN).await),
                "delete" => delete(&store, "a").await,
                "eviction" => flood(&store, 256 << 10).await,
                _ => {}
            }
            holds(&staged, id, LEN).await;
            past_the_end(&staged, LEN).await;
        }
    }
}

async fn while_it_is_written<S: Store>(store: &S) {
    let body = pattern(1, LEN);
    let mut writer = open(store, "a", draft(1)).await;
    let early = writer.staged().expect("there is one");
    past_the_end(&early, 0).await;
    let mut written = 0;
    for len in [1, 10, 1000, 40_000, 65_536] {
        writer
            .write(body.slice(written..written + len))
            .await
            .expect("a chunk is taken");
        written += len;
        holds(&early, 1, written).await;
        let late = writer.staged().expect("there is one");
        holds(&late, 1, written).await;
        past_the_end(&early, written).await;
        finds(store, "a", None).await;
    }
    // Reading back takes nothing from what is committed.
    assert!(writer.commit().await.expect("a commit succeeds").is_done());
    finds(store, "a", 1).await;
}

/// Reads all of it, from different places and in different lengths.
async fn holds(staged: &Arc<dyn Staged>, id: u64, len: usize) {
    let body = pattern(id, len);
    for max in [len, 10_007] {
        let mut place = 0;
        while place < len {
            place += read(staged, &body, place, max).await.len();
        }
    }
    for place in [0, len / 3, len / 2, len - 1] {
        for max in [1, 100] {
            read(staged, &body, place, max).await;
        }
    }
}

async fn read(staged: &Arc<dyn Staged>, body: &Bytes, place: usize, max: usize) -> Bytes {
    let bytes = Arc::clone(staged).read(place as u64, max).await;
    let bytes = bytes.expect("what was acknowledged can be read");
    assert!(
        !bytes.is_empty() && bytes.len() <= max,
        "at least one byte, at most {max}"
    );
    assert!(body[place..].starts_with(&bytes), "other bytes at {place}");
    bytes
}

async fn past_the_end(staged: &Arc<dyn Staged>, len: usize) {
    for place in [len as u64, len as u64 + 1, u64::MAX] {
        let read = Arc::clone(staged).read(place, 10).await;
        let error = expect_err(read, "reading past what was acknowledged");
        assert!(error.is_invalid(), "past what was acknowledged: {error:?}");
    }
}
