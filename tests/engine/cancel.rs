//! Whatever is dropped, wherever it waits: nothing leaks, nothing hangs, no file stays.

use std::{
    future::{Ready as Answered, poll_fn, ready},
    pin::pin,
    task::Poll::{Pending, Ready},
};

use bytes::Bytes;
use larder::{
    ByteRange, Cache, Draft, EntityTag, FetchContext, Fetched, InFlight, OnAbandon, StoreExt, Tier,
};
use larder_conformance::Model;
use tokio::task::yield_now;

use crate::{
    source::{pattern, streamed, whole},
    support::{SECOND, clock, settle, strict},
};

const CHUNK: usize = 64 << 10;

type Streams = Answered<larder::Result<Fetched>>;

/// Polls a future so many times, then drops it. Its output, if it was ready by then.
async fn poll_times<F: Future>(future: F, mut times: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        if times == 0 {
            return Ready(None);
        }
        times -= 1;
        match future.as_mut().poll(cx) {
            Ready(output) => Ready(Some(output)),
            Pending if times == 0 => Ready(None),
            Pending => Pending,
        }
    })
    .await
}

/// Two lazy tiers, which wait at every step, beneath limits of which one leak would show: one
/// fetch at a time, one window in all.
struct Rig {
    cache: Cache,
    stores: [Model; 2],
    spills: tempfile::TempDir,
    object: Bytes,
}

impl Rig {
    /// With `admits`, the tiers take the object; else it goes through a spill file.
    fn new(on_abandon: OnAbandon, admits: bool) -> Self {
        let stores = [(); 2].map(|()| Model::new().lazy().chunked(CHUNK));
        let spills = tempfile::tempdir().unwrap();
        let max = if admits { u64::MAX } else { 1_000 };
        let tier = |store: &Model| Tier::new(store.clone()).object_max(max);
        let builder = Cache::builder()
            .tier(tier(&stores[0]))
            .tier(tier(&stores[1]));
        let builder = builder.policy(strict()).clock(clock()).fetches_max(1);
        let builder = builder
            .spool_memory(128 << 10)
            .spool_memory_total(128 << 10);
        let builder = builder.spool_dir(spills.path()).on_abandon(on_abandon);
        Self {
            cache: builder.build().unwrap(),
            stores,
            spills,
            object: pattern(5 * CHUNK),
        }
    }

    /// A fetcher that streams the object.
    fn streams(&self) -> impl FnOnce(FetchContext) -> Streams + Send + use<> {
        let object = self.object.clone();
        move |_| ready(Ok(streamed(&object, CHUNK)))
    }

    /// Reads to the end, slowly enough that the source runs ahead.
    async fn read(&self) {
        let response = self.cache.get_or_fetch("a", self.streams()).await.unwrap();
        let mut body = response.into_body().unwrap();
        let mut read = 0;
        while let Some(chunk) = body.chunk().await.unwrap() {
            assert_eq!(chunk, self.object.slice(read..read + chunk.len()));
            read += chunk.len();
            for _ in 0..5 {
                yield_now().await;
            }
        }
        assert_eq!(read, self.object.len());
    }

    /// Nothing is left of whatever was dropped, and the key can be read.
    async fn is_clean(&self, what: &str) {
        // A task that was spawned just now has not said yet that it is under way.
        for _ in 0..100 {
            yield_now().await;
        }
        settle(&self.cache).await;
        assert_eq!(self.cache.in_flight(), InFlight::default(), "{what}");
        for (store, usage) in self.stores.iter().zip(self.cache.usage()) {
            assert_eq!((usage.staged, store.fences()), (0, 0), "{what}");
        }
        let files = std::fs::read_dir(self.spills.path()).unwrap();
        assert_eq!(files.count(), 0, "{what}");
        self.read().await;
        settle(&self.cache).await;
    }
}

#[tokio::test(start_paused = true)]
async fn s29_a_read_that_is_dropped_at_any_moment_leaves_nothing_behind() {
    for on_abandon in [OnAbandon::Finish, OnAbandon::Abort] {
        for admits in [true, false] {
            let rig = Rig::new(on_abandon, admits);
            let mut ended = false;
            for ticks in 0.. {
                rig.cache.delete("a").await.unwrap();
                {
                    let mut reading = pin!(rig.read());
                    // The read and the flight take turns: a tick is one step of each.
                    for _ in 0..ticks {
                        ended = poll_times(&mut reading, 1).await.is_some();
                        if ended {
                            break;
                        }
                        yield_now().await;
                    }
                }
                let what = format!("{on_abandon:?}, admitted: {admits}, {ticks} ticks");
                rig.is_clean(&what).await;
                if ended {
                    assert!(ticks > 20, "{what}: it waited too seldom to tell");
                    break;
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn s29_a_reader_behind_the_window_leaves_no_spill_file() {
    let rig = Rig::new(OnAbandon::Finish, false);
    for reads in 0..5 {
        let slow = rig.cache.get_or_fetch("a", rig.streams()).await.unwrap();
        let quick = rig.cache.get("a").await.unwrap();
        assert_eq!(whole(quick).await, rig.object);
        assert!(rig.cache.counters().spilled_bytes > 0);
        let mut slow = slow.into_body().unwrap();
        for _ in 0..reads {
            assert!(slow.chunk().await.unwrap().is_some());
        }
        drop(poll_times(slow.chunk(), 1).await);
        drop(slow);
        rig.is_clean(&format!("after {reads} reads")).await;
    }
}

/// Every request that goes beyond the first tier, dropped at each of its polls.
#[tokio::test(start_paused = true)]
async fn s29_a_request_that_is_dropped_at_any_poll_leaves_nothing_behind() {
    for kind in [
        "get",
        "lower hit",
        "refresh",
        "range",
        "stale",
        "delete",
        "insert",
    ] {
        let rig = Rig::new(OnAbandon::Finish, true);
        let part = ByteRange::try_from(1_000..2_000).unwrap();
        for polls in 0.. {
            rig.cache.delete("a").await.unwrap();
            if matches!(kind, "lower hit" | "stale") {
                let draft = Draft::new().with(|header| {
                    header.etag = EntityTag::strong("v1").ok();
                    let stale = Some(SECOND).filter(|_| kind == "stale");
                    header.ttl = stale;
                });
                let written = rig.stores[1].write("a", rig.object.clone(), draft);
                assert!(written.await.unwrap().is_done());
            }
            let (cache, fetch) = (&rig.cache, rig.streams());
            let revalidate = async |_| Ok::<_, larder::Error>(Fetched::not_modified());
            let ended = match kind {
                "get" | "lower hit" => poll_times(cache.get("a").into_future(), polls)
                    .await
                    .map(drop),
                "refresh" => {
                    let refresh = cache.refresh("a", fetch).into_future();
                    poll_times(refresh, polls).await.map(drop)
                }
                "range" => {
                    let range = cache.get_or_fetch("a", fetch).range(part).into_future();
                    poll_times(range, polls).await.map(drop)
                }
                "stale" => {
                    let stale = cache.get_or_fetch("a", revalidate).into_future();
                    poll_times(stale, polls).await.map(drop)
                }
                "delete" => poll_times(cache.delete("a"), polls).await.map(drop),
                _ => {
                    let insert = cache.insert("a", rig.object.clone(), Draft::new());
                    poll_times(insert, polls).await.map(drop)
                }
            };
            rig.is_clean(&format!("{kind}, {polls} polls")).await;
            if ended.is_some() {
                assert!(polls > 1, "{kind}: it never waited");
                break;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn s29_a_writer_that_is_dropped_at_any_poll_leaves_nothing_or_the_whole_object() {
    let rig = Rig::new(OnAbandon::Finish, true);
    let write = async |body: Bytes| {
        let mut writer = rig.cache.set_with_writer("w", Draft::new()).await?;
        for chunk in crate::source::chunks(&body, CHUNK) {
            writer.write(chunk).await?;
        }
        writer.commit().await
    };
    let mut published = 0;
    for polls in 0.. {
        let ended = poll_times(write(rig.object.clone()), polls).await;
        rig.is_clean(&format!("{polls} polls")).await;
        let found = rig.cache.get("w").await.unwrap();
        if found.is_absent() {
            assert!(ended.is_none());
        } else {
            published += 1;
            assert_eq!(whole(found).await, rig.object);
        }
        rig.cache.delete("w").await.unwrap();
        if let Some(ended) = ended {
            assert_eq!(ended.unwrap().tiers, 2);
            assert!(polls > 10, "it waited too seldom to tell");
            break;
        }
    }
    assert!(published > 1, "a commit that was polled goes on");
}

#[tokio::test(start_paused = true)]
async fn s29_a_commit_and_a_delete_that_are_dropped_keep_their_places_in_the_order() {
    let rig = Rig::new(OnAbandon::Finish, true);
    for deletes_last in [true, false] {
        let mut writer = rig.cache.set_with_writer("w", Draft::new()).await.unwrap();
        writer.write("written").await.unwrap();
        let mut operations = [Some(writer.commit()), None];
        if !deletes_last {
            operations.reverse();
        }
        for operation in operations {
            let dropped = match operation {
                Some(commit) => poll_times(commit, 1).await.is_none(),
                None => poll_times(rig.cache.delete("w"), 1).await.is_none(),
            };
            assert!(dropped);
            assert_eq!(rig.cache.in_flight().turns, 1, "its place is taken already");
        }
        settle(&rig.cache).await;
        let found = rig.cache.get("w").await.unwrap();
        assert_eq!(found.is_absent(), deletes_last);
    }
}
