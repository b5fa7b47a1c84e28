//! S92: sources that never wait. What they give may be nothing, or more than anyone waits for:
//! others have their turn all the same, and an idle time-out counts nothing as nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use larder::{
    Body, ByteRange, Cache, Draft, Error, Fetched, Key, Memory, Metadata, Result, Store, StoreExt,
    Tier, Usage,
};
use larder_conformance::Model;
use larder_store::{Commit, Fence, Identity, Lookup, Reply, Writer};
use tokio::{task::yield_now, time::timeout};

use crate::{
    source::{chunks, pattern, whole},
    support::{Origin, SECOND, settle, stale_is_served, strict},
};

/// Long enough that nothing but a thread that is kept runs into it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Empty chunks without an end, each of them ready.
fn nothing() -> impl Stream<Item = Result<Bytes>> + Send + 'static {
    stream::repeat_with(|| Ok(Bytes::new()))
}

/// Some bytes, and then nothing without an end.
fn nothing_after(first: &'static str) -> impl Stream<Item = Result<Bytes>> + Send + 'static {
    stream::iter([Ok(Bytes::from_static(first.as_bytes()))]).chain(nothing())
}

/// The turns that other tasks of this runtime had. With one thread they are had between those of
/// the cache's tasks.
#[derive(Clone, Default)]
struct Turns(Arc<AtomicUsize>);

impl Turns {
    fn count(&self) {
        let turns = Arc::clone(&self.0);
        tokio::spawn(async move {
            loop {
                turns.fetch_add(1, Ordering::Relaxed);
                yield_now().await;
            }
        });
    }

    fn had(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// A cache that waits for a silent source no longer than a moment.
fn impatient(tier: impl Into<Tier>) -> Cache {
    let builder = Cache::builder().tier(tier).policy(strict());
    builder.idle_timeout(SECOND / 10).build().unwrap()
}

#[tokio::test]
async fn s92_an_origin_of_endless_empty_chunks_runs_into_the_idle_time_out() {
    for len in [None, Some(1_000)] {
        let cache = impatient(Memory::new(1 << 20));
        for source in [nothing_after(""), nothing_after("abc")] {
            let fetch = Origin::default().does(async move |_| Ok(Fetched::stream(len, source)));
            let reading = async {
                let body = cache.get_or_fetch("a", fetch).await?.into_body().unwrap();
                body.bytes(1 << 20).await
            };
            let read = timeout(PATIENCE, reading).await.expect("others run");
            assert!(read.unwrap_err().is_timeout());
        }
        settle(&cache).await;
        assert_eq!(cache.usage()[0].entries, 0);
        cache.close().await.unwrap();
    }
}

#[tokio::test]
async fn s92_a_tier_of_endless_empty_chunks_runs_into_the_idle_time_out() {
    let store = Hollow(Model::new());
    let written = store.write("a", pattern(1_000), Draft::new()).await;
    assert!(written.unwrap().is_done());
    let cache = impatient(store.clone());
    let reading = async {
        let body = cache.get("a").await?.into_body().unwrap();
        body.bytes(1 << 20).await
    };
    let read = timeout(PATIENCE, reading).await.expect("others run");
    assert!(read.unwrap_err().is_timeout());
    // And on its way to a tier above.
    let builder = Cache::builder().tier(Memory::new(1 << 20)).tier(store);
    let cache = builder.policy(strict()).idle_timeout(SECOND / 10);
    let cache = cache.build().unwrap();
    let reading = async {
        let body = cache.get("a").await?.into_body().unwrap();
        body.bytes(1 << 20).await
    };
    let read = timeout(PATIENCE, reading).await.expect("others run");
    assert!(read.unwrap_err().is_timeout());
}

#[tokio::test]
async fn s92_a_reader_or_an_abandoned_flight_of_nothing_can_be_dropped() {
    let cache = impatient(Memory::new(1 << 20));
    let fetch = Origin::default().does(async |_| Ok(Fetched::stream(None, nothing())));
    let mut body = cache
        .get_or_fetch("a", fetch)
        .await
        .unwrap()
        .into_body()
        .unwrap();
    assert!(timeout(SECOND / 100, body.chunk()).await.is_err());
    drop(body);
    timeout(PATIENCE, settle(&cache)).await.expect("others run");
}

#[tokio::test]
async fn s92_a_source_that_always_has_more_lets_others_run() {
    let cache = Cache::builder().tier(Memory::new(64 << 20));
    let cache = cache.policy(stale_is_served()).build().unwrap();
    let object = pattern(1 << 20);
    let small = chunks(&object, 64);
    let ready = || stream::iter(small.clone()).map(Ok::<_, Error>);
    // For its reader, and behind, where nobody reads.
    let source = ready();
    let (origin, turns) = (Origin::default(), Turns::default());
    turns.count();
    let fetch = origin.does(async move |_| Ok(Fetched::stream(None, source)));
    let read = cache.get_or_fetch("a", fetch).await.unwrap();
    assert_eq!(whole(read).await, object);
    settle(&cache).await;
    let before = turns.had();
    let source = ready();
    let fetch = origin.does(async move |_| Ok(Fetched::stream(None, source)));
    drop(cache.get_or_fetch("b", fetch).await.unwrap());
    settle(&cache).await;
    assert!(cache.stat("b").await.unwrap().is_some());
    assert!(turns.had() - before >= 50, "{} turns", turns.had() - before);
}

#[tokio::test]
async fn s92_writers_and_bodies_that_never_wait_let_others_run() {
    let turns = Turns::default();
    let store = Model::new().chunked(64);
    let cache = Cache::builder().tier(store).policy(strict());
    let cache = cache.build().unwrap();
    let object = pattern(1 << 20);
    turns.count();
    let mut writer = cache.set_with_writer("a", Draft::new()).await.unwrap();
    for chunk in chunks(&object, 64) {
        writer.write(chunk).await.unwrap();
    }
    assert!(turns.had() >= 50, "{} turns while it wrote", turns.had());
    writer.commit().await.unwrap();
    let before = turns.had();
    let mut body = cache.get("a").await.unwrap().into_body().unwrap();
    while body.chunk().await.unwrap().is_some() {}
    let had = turns.had() - before;
    assert!(had >= 50, "{had} turns while it was read");
}

#[tokio::test]
async fn s92_clearing_a_tier_that_never_waits_lets_others_run() {
    let memory = Memory::new(64 << 20);
    for key in 0..20_000 {
        let written = memory.write(&format!("{key}"), "x", Draft::new()).await;
        assert!(written.unwrap().is_done());
    }
    let cache = Cache::builder().tier(memory).build().unwrap();
    let turns = Turns::default();
    turns.count();
    cache.clear().await.unwrap();
    assert!(turns.had() >= 50, "{} turns", turns.had());
    assert_eq!(cache.usage()[0].entries, 0);
}

/// A store whose bodies give nothing, without an end, and are always ready.
#[derive(Clone, Debug)]
struct Hollow(Model);

impl Store for Hollow {
    fn get_stream<'a>(&'a self, key: Key<'a>, range: ByteRange) -> Reply<'a, Lookup> {
        Reply::later(async move {
            let mut found = self.0.get_stream(key, range).await?;
            if let Lookup::Hit(object) = &mut found {
                object.body = Body::stream(object.body.len(), nothing());
            }
            Ok(found)
        })
    }

    fn set_with_writer<'a>(&'a self, key: Key<'a>, draft: Draft) -> Reply<'a, Box<dyn Writer>> {
        self.0.set_with_writer(key, draft)
    }

    fn delete<'a>(&'a self, key: Key<'a>, fence: Option<Fence>) -> Reply<'a, Commit> {
        self.0.delete(key, fence)
    }

    fn stat<'a>(&'a self, key: Key<'a>) -> Reply<'a, Option<Arc<Metadata>>> {
        self.0.stat(key)
    }

    fn fence<'a>(&'a self, key: Key<'a>) -> Reply<'a, Fence> {
        self.0.fence(key)
    }

    fn kind(&self) -> &'static str {
        "hollow"
    }

    fn usage(&self) -> Usage {
        self.0.usage()
    }

    fn close(&self) -> Reply<'_, ()> {
        self.0.close()
    }

    fn identity(&self) -> Identity {
        self.0.identity()
    }
}
