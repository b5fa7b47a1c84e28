//! Clauses 1 to 4: what a reader sees of a write, and when.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use larder_store::{ByteRange, Draft, Lookup, Store, Timestamp, Writer};

use crate::{
    Setup, Subject,
    probe::{
        delete, draft, eventually, fence, finds, flood, found, hit, id_of, key, look, open,
        pattern, put, read_whole, set, stat, within, write,
    },
};

/// Clause 1: a key that is absent is a miss, however it came to be absent and whatever was asked.
pub async fn clause_01_a_miss_is_not_an_error(subject: &impl Subject) {
    let store = subject.make(Setup::default()).await;
    let ranges = [
        ByteRange::FULL,
        ByteRange::from(5..),
        ByteRange::try_from(3..9).expect("a range"),
        ByteRange::suffix(4).expect("a range"),
    ];
    let misses = async || {
        for range in ranges {
            let found = store.get_stream(key("a"), range).await;
            let found = found.expect("a miss is not an error");
            assert!(
                matches!(found, Lookup::Miss(_)),
                "{range:?} of an absent key"
            );
        }
        assert!(stat(&store, "a").await.is_none());
    };
    misses().await;
    // Asking for a fence makes nothing.
    let _fence = fence(&store, "a").await;
    misses().await;
    set(&store, "a", 1, 10).await;
    finds(&store, "a", 1).await;
    delete(&store, "a").await;
    misses().await;
    // Every clock says that this has passed.
    let expired = draft(2).with(|header| header.expires_at = Some(Timestamp::EPOCH));
    assert!(put(&store, "a", expired, &pattern(2, 10)).await.is_done());
    misses().await;
    set(&store, "a", 3, 10).await;
    finds(&store, "a", 3).await;
}

/// Clause 2: nothing is seen before the commit, and then all of it at once, beside any readers.
pub async fn clause_02_commit_publishes_whole(subject: &impl Subject) {
    let store = Arc::new(subject.make(Setup::default()).await);
    let mut writer = open(&store, "a", draft(1)).await;
    for chunk in 0..3 {
        finds(&store, "a", None).await;
        let written = writer.write(pattern(1, 900).slice(chunk * 300..(chunk + 1) * 300));
        written.await.expect("a chunk is taken");
    }
    finds(&store, "a", None).await;
    let commit = writer.commit().await.expect("a commit succeeds");
    assert!(commit.is_done());
    finds(&store, "a", 1).await;
    overwrites_beside_readers(&store).await;
}

async fn overwrites_beside_readers<S: Store>(store: &Arc<S>) {
    const VERSIONS: u64 = 80;
    let len = |id: u64| usize::try_from(1 + (id % 5) * 9973).expect("it is small");
    set(&**store, "b", 0, len(0)).await;
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (store, done) = (Arc::clone(store), Arc::clone(&done));
            tokio::spawn(async move {
                let mut newest = 0;
                while !done.load(Ordering::SeqCst) {
                    let object = hit(&*store, "b").await;
                    let metadata = Arc::clone(&object.metadata);
                    let id = read_whole(object).await;
                    assert_eq!(metadata.len(), len(id) as u64, "metadata of another commit");
                    assert!(id >= newest, "{id} was seen after {newest}");
                    let stat = stat(&*store, "b").await.expect("it is there all the time");
                    assert_eq!(stat.len(), len(id_of(&stat)) as u64, "stat of a mixture");
                    newest = id.max(id_of(&stat));
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for id in 1..=VERSIONS {
        set(&**store, "b", id, len(id)).await;
        finds(&**store, "b", id).await;
    }
    done.store(true, Ordering::SeqCst);
    for reader in readers {
        reader.await.expect("a reader sees whole objects only");
    }
}

/// Clause 3: a writer that was not committed leaves no trace, neither now nor after a restart.
pub async fn clause_03_drop_aborts(subject: &impl Subject) {
    let store = subject.make(Setup::default()).await;
    set(&store, "old", 1, 500).await;
    let before = store.usage();
    for name in ["old", "new"] {
        let as_before = (name == "old").then_some(1);
        for chunks in 0..3 {
            for way in ["drop", "drop elsewhere", "abort"] {
                let mut writer = open(&store, name, draft(2)).await;
                for _ in 0..chunks {
                    write(&mut *writer, &pattern(2, 7000)).await;
                }
                match way {
                    "drop" => drop(writer),
                    "drop elsewhere" => drop_elsewhere(writer).await,
                    _ => writer.abort().await.expect("an abort succeeds"),
                }
                finds(&store, name, as_before).await;
            }
        }
    }
    eventually("nothing is staged", || store.usage().staged == 0).await;
    let after = store.usage();
    assert_eq!(
        (after.entries, after.live),
        (before.entries, before.live),
        "entries, live bytes"
    );

    let mut writer = open(&store, "new", draft(2)).await;
    write(&mut *writer, &pattern(2, 7000)).await;
    drop(writer);
    if let Some(store) = subject.reopen(store).await {
        finds(&store, "old", 1).await;
        finds(&store, "new", None).await;
        let after = store.usage();
        assert_eq!(
            (after.entries, after.live, after.staged),
            (before.entries, before.live, 0)
        );
    }
}

/// Drops where there is neither a runtime nor a lock of this thread.
async fn drop_elsewhere(writer: Box<dyn Writer>) {
    let thread = std::thread::spawn(|| drop(writer));
    let joined = tokio::task::spawn_blocking(|| thread.join());
    let joined = within(Duration::from_secs(5), "a drop", joined).await;
    let joined = joined.expect("the thread can be waited for");
    joined.expect("a drop outside of the runtime does not panic");
}

/// Clause 4: what is being replaced can be read until the commit, and what is open to its end.
pub async fn clause_04_the_old_object_stays_readable(subject: &impl Subject) {
    const LEN: usize = 300_000;
    let store = subject.make(Setup::new(4 << 20, 512 << 10)).await;
    set(&store, "a", 1, LEN).await;
    let unread = hit(&store, "a").await;
    let begun = begin(&store, "a").await;
    let mut writer = open(&store, "a", draft(2)).await;
    finds(&store, "a", 1).await;
    write(&mut *writer, &pattern(2, LEN)).await;
    finds(&store, "a", 1).await;
    assert!(writer.commit().await.expect("a commit succeeds").is_done());
    finds(&store, "a", 2).await;
    assert_eq!(read_whole(unread).await, 1, "open while it was replaced");
    begun.finish("read in part when it was replaced").await;

    let (unread, begun) = (hit(&store, "a").await, begin(&store, "a").await);
    delete(&store, "a").await;
    finds(&store, "a", None).await;
    assert_eq!(read_whole(unread).await, 2, "open while it was deleted");
    begun.finish("read in part when it was deleted").await;

    set(&store, "a", 3, LEN).await;
    let (unread, begun) = (hit(&store, "a").await, begin(&store, "a").await);
    flood(&store, 128 << 10).await;
    assert_eq!(read_whole(unread).await, 3, "open while it was evicted");
    begun.finish("read in part when it was evicted").await;

    // An object that failed to replace it leaves it as it was.
    set(&store, "b", 4, 1000).await;
    let short = open(&store, "b", Draft::new().len(10)).await;
    assert!(short.commit().await.is_err(), "ten bytes are missing");
    assert_eq!(found(&store, "b").await, Some(4));
    assert!(look(&store, "c").await.is_none());
}

/// A body of which one chunk was read.
struct Begun {
    id: u64,
    read: Vec<u8>,
    body: larder_store::Body,
}

async fn begin<S: Store>(store: &S, name: &str) -> Begun {
    let mut object = hit(store, name).await;
    let first = object.body.chunk().await.expect("a chunk can be read");
    Begun {
        id: id_of(&object.metadata),
        read: first.expect("the body is not empty").to_vec(),
        body: object.body,
    }
}

impl Begun {
    async fn finish(mut self, what: &str) {
        while let Some(chunk) = self.body.chunk().await.expect("an open body can be read") {
            self.read.extend_from_slice(&chunk);
        }
        assert!(
            self.read == pattern(self.id, self.read.len()),
            "other bytes: {what}"
        );
        assert_eq!(
            self.read.len(),
            300_000,
            "a clean end, but too early: {what}"
        );
    }
}
