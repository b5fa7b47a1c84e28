//! Writers on a file system that fails on command, and under limits.

use std::{path::Path, time::Duration};

use bytes::Bytes;
use larder_store::{Commit, Draft, Error, Key, Result, Staged, Store, StoreExt, Writer};

use super::*;
use crate::{
    Admission, Builder, Disk, Durability,
    faults::{Failure, Faults, Rule},
    medium::{Medium, Op},
};

const KIB: usize = 1 << 10;

struct Fixture {
    folder: tempfile::TempDir,
    faults: Faults,
    store: Disk,
}

impl Fixture {
    async fn new(settings: impl FnOnce(Builder) -> Builder) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let faults = Faults::default();
        let builder = Disk::builder(folder.path(), 256 << 20).segment_size(4 << 20);
        let builder = settings(builder);
        let medium = Medium::with_faults(folder.path(), faults.clone());
        let store = Disk::start_on(medium, builder.settings().unwrap());
        Self {
            store: store.await.unwrap(),
            folder,
            faults,
        }
    }

    async fn writer(&self, key: &'static str) -> Box<dyn Writer> {
        let opened = self
            .store
            .set_with_writer(Key::new(key).unwrap(), Draft::new());
        opened.await.unwrap()
    }

    /// The files of large objects, whoever they belong to.
    fn files(&self) -> usize {
        count(&self.folder.path().join("blob"))
    }

    /// Waits until nothing of any writer is left.
    async fn is_clean(&self) {
        for _ in 0..400 {
            if self.files() == 0 && self.store.usage().staged == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{} files, {:?}", self.files(), self.store.usage());
    }
}

fn count(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let count = |path: &Path| if path.is_dir() { count(path) } else { 1 };
    entries.map(|entry| count(&entry.path())).sum()
}

fn pattern(len: usize) -> Bytes {
    (0..len)
        .map(|at| u8::try_from(at * 31 % 251).unwrap())
        .collect()
}

async fn read_back(staged: &Arc<dyn Staged>, len: usize) -> Bytes {
    let mut all = Vec::new();
    while all.len() < len {
        let read = Arc::clone(staged).read(all.len() as u64, len - all.len());
        all.extend_from_slice(&read.await.unwrap());
    }
    all.into()
}

/// Polls once.
async fn poll<T>(reply: &mut Reply<'_, T>) -> Option<Result<T>> {
    std::future::poll_fn(|cx| {
        std::task::Poll::Ready(match std::pin::Pin::new(&mut *reply).poll(cx) {
            std::task::Poll::Ready(result) => Some(result),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

#[tokio::test]
async fn a_writer_that_is_dropped_at_any_moment_leaves_no_file() {
    let fixture = Fixture::new(|builder| builder).await;
    let body = pattern(5 << 20);
    for polls in 0..6 {
        for commits in [false, true] {
            let mut writer = fixture.writer("a").await;
            let mut reply = writer.write(body.clone());
            let mut written = None;
            for _ in 0..polls {
                written = poll(&mut reply).await;
                if written.is_some() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            if written.is_none() && polls == 5 {
                reply.await.unwrap();
                written = Some(Ok(()));
            } else {
                drop(reply);
            }
            if !commits {
                drop(writer);
            } else if written.is_some() {
                let mut commit = writer.commit();
                drop(poll(&mut commit).await);
                drop(commit);
                // Done or not done.
                fixture.store.remove("a").await.unwrap();
            } else {
                assert!(writer.commit().await.unwrap_err().is_invalid());
            }
            fixture.is_clean().await;
        }
    }
    assert_eq!(fixture.store.usage().entries, 0);
}

#[tokio::test]
async fn an_abort_waits_until_the_file_is_gone() {
    let fixture = Fixture::new(|builder| builder).await;
    for len in [1, 900 * KIB, 3 << 20] {
        let mut writer = fixture.writer("a").await;
        writer.write(pattern(len)).await.unwrap();
        writer.abort().await.unwrap();
        assert_eq!((fixture.files(), fixture.store.usage().staged), (0, 0));
    }
}

/// There is no memory for it, but it is not large: it goes where small objects are.
#[tokio::test]
async fn a_small_object_that_went_to_a_file_comes_back() {
    let fixture = Fixture::new(|builder| builder.staging_max(10)).await;
    for len in [1, 11, 300 * KIB, 1024 * KIB] {
        let mut writer = fixture.writer("a").await;
        let body = pattern(len);
        for chunk in body.chunks(100 * KIB) {
            writer.write(body.slice_ref(chunk)).await.unwrap();
        }
        let staged = writer.staged().unwrap();
        assert_eq!(read_back(&staged, len).await, body);
        assert!(writer.commit().await.unwrap().is_done());
        let stored = fixture.store.read("a", 4 << 20).await.unwrap();
        assert_eq!(stored.unwrap(), body);
        assert_eq!(read_back(&staged, len).await, body);
        drop(staged);
        fixture.is_clean().await;
    }
    let mut writer = fixture.writer("a").await;
    let body = pattern(1024 * KIB + 1);
    writer.write(body.clone()).await.unwrap();
    assert!(writer.commit().await.unwrap().is_done());
    assert_eq!(fixture.files(), 1, "this one is large");
}

#[tokio::test]
async fn open_writers_hold_no_more_than_they_may() {
    const MAX: u64 = 4 << 20;
    let fixture = Fixture::new(|builder| builder.staging_max(MAX)).await;
    let mut writers = Vec::new();
    for index in 0..40 {
        let mut writer = fixture.writer("a").await;
        let len = if index % 2 == 0 { 3 << 20 } else { 700 * KIB };
        let body = pattern(len);
        for chunk in body.chunks(250 * KIB) {
            writer.write(body.slice_ref(chunk)).await.unwrap();
        }
        let staged = writer.staged().unwrap();
        writers.push((writer, staged, body));
        assert!(fixture.store.volume().intake.memory.taken() <= MAX);
    }
    for (writer, staged, body) in writers {
        assert_eq!(read_back(&staged, body.len()).await, body);
        assert!(writer.commit().await.unwrap().is_done());
    }
    let usage = fixture.store.usage();
    assert_eq!((usage.entries, usage.staged), (1, 0));
    assert_eq!(fixture.store.volume().intake.memory.taken(), 0);
}

/// More of them than may write at once, and none waits for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_streams_at_once_come_to_their_end() {
    let fixture = Fixture::new(|builder| builder.staging_max(8 << 20)).await;
    let body = pattern(200 * KIB);
    let streams = (0..80).map(|index| {
        let (store, body) = (fixture.store.clone(), body.clone());
        tokio::spawn(async move {
            let key = format!("{index}");
            let opened = store.set_with_writer(Key::new(&key)?, Draft::new());
            let mut writer = opened.await?;
            for _ in 0..10 {
                writer.write(body.clone()).await?;
            }
            writer.commit().await
        })
    });
    for stream in streams.collect::<Vec<_>>() {
        assert!(stream.await.unwrap().unwrap().is_done());
    }
}

#[tokio::test]
async fn what_was_acknowledged_can_be_read_back_after_a_failure() {
    for (failure, op) in [
        (Failure::Full, Op::Create),
        (Failure::Full, Op::Write),
        (Failure::Short, Op::Write),
        (Failure::Broken, Op::Write),
    ] {
        let fixture = Fixture::new(|builder| builder).await;
        let mut writer = fixture.writer("a").await;
        let staged = writer.staged().unwrap();
        fixture
            .faults
            .add(Rule::new(failure).on(&[op]).under("blob/"));
        let chunk = pattern(200 * KIB);
        let mut taken = Vec::new();
        let error = loop {
            match writer.write(chunk.clone()).await {
                Ok(()) => taken.extend_from_slice(&chunk),
                Err(error) => break error,
            }
        };
        let is_full = failure != Failure::Broken;
        assert_eq!(error.is_full(), is_full, "{error:?}");
        assert!(is_full || error.is_unavailable());
        assert!(taken.len() >= 1000 * KIB);
        assert_eq!(read_back(&staged, taken.len()).await, taken);
        // It says the same again, and counts once.
        let again = writer.write(chunk.clone()).await.unwrap_err();
        assert_eq!(again.kind(), error.kind());
        assert_eq!(writer.commit().await.unwrap_err().kind(), error.kind());
        let figures = fixture.store.figures();
        assert_eq!(figures.refused, 1);
        assert!(figures.io_errors > 0);
        assert_eq!(read_back(&staged, taken.len()).await, taken);
        drop(staged);
        fixture.is_clean().await;
    }
}

#[tokio::test]
async fn a_commit_that_fails_late_leaves_nothing() {
    let fixture = Fixture::new(|builder| builder.durability(Durability::OnCommit)).await;
    let commit = async || -> Result<Commit, Error> {
        let mut writer = fixture.writer("a").await;
        writer.write(pattern(2 << 20)).await?;
        writer.commit().await
    };
    fixture
        .faults
        .add(Rule::new(Failure::Broken).on(&[Op::Sync]).under("blob"));
    assert!(commit().await.unwrap_err().is_unavailable());
    fixture.is_clean().await;
    assert_eq!(fixture.store.usage().entries, 0);
}

#[tokio::test]
async fn superseded_leaves_nothing() {
    let fixture = Fixture::new(|builder| builder).await;
    let key = Key::new("a").unwrap();
    for len in [10, 2 << 20] {
        let fence = fixture.store.fence(key).await.unwrap();
        let draft = Draft::new().fence(fence);
        let mut writer = fixture.store.set_with_writer(key, draft).await.unwrap();
        writer.write(pattern(len)).await.unwrap();
        assert!(
            fixture
                .store
                .write("a", "b", Draft::new())
                .await
                .unwrap()
                .is_done()
        );
        assert_eq!(writer.commit().await.unwrap(), Commit::Superseded);
        fixture.is_clean().await;
        let stored = fixture.store.read("a", 10).await.unwrap();
        assert_eq!(stored.unwrap(), "b");
    }
}

/// A runtime that ends in the midst of it takes the answer with it, and not the peace.
#[test]
fn a_runtime_that_has_ended_fails_the_writer() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).enable_all().build().unwrap()
    };
    let first = runtime();
    let (fixture, mut begun, fresh) = first.block_on(async {
        let fixture = Fixture::new(|builder| builder).await;
        let mut begun = fixture.writer("a").await;
        begun.write(pattern(3 << 20)).await.unwrap();
        let fresh = fixture.writer("a").await;
        (fixture, begun, fresh)
    });
    first.shutdown_timeout(Duration::from_secs(5));
    runtime().block_on(async {
        let error = async {
            begun.write(pattern(9 << 20)).await?;
            begun.commit().await
        };
        assert!(error.await.unwrap_err().is_unavailable());
        let mut writer = fresh;
        let _ = writer.write(pattern(2 << 20)).await;
        writer.abort().await.unwrap();
        fixture.is_clean().await;
    });
}

#[tokio::test]
async fn a_small_object_is_never_offered_twice() {
    let settings = |builder: Builder| builder.admission(Admission::SecondHit).staging_max(0);
    let fixture = Fixture::new(settings).await;
    let write = async |len: usize| fixture.store.write("a", pattern(len), Draft::new()).await;
    assert!(write(1024 * KIB).await.unwrap().is_done());
    // It is there already.
    assert!(write(1024 * KIB + 1).await.unwrap().is_done());
    let refused = fixture
        .store
        .write("b", pattern(1024 * KIB + 1), Draft::new());
    assert!(refused.await.unwrap_err().is_full());
    assert_eq!(fixture.store.figures().refused, 1);
}
