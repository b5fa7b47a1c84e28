//! The cache's runtime has ended: everything says so, nothing panics and nothing hangs.

use std::{thread, time::Duration};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream};
use larder::{Body, Cache, Disk, Draft, Error, Fetched, Memory, Result, Tier};
use larder_conformance::{Fault, Faulty, Model, Op};
use tokio::runtime::{Builder, Runtime};

use super::{KIB, assert_no_panic, block_on, count_panics, home};
use crate::{
    source::pattern,
    support::{Origin, SECOND, silent_after, strict},
};

fn both_flavours(test: impl Fn(Runtime)) {
    for runtime in [
        home(),
        Builder::new_current_thread().enable_time().build().unwrap(),
    ] {
        count_panics();
        test(runtime);
        assert_no_panic();
    }
}

fn assert_ended<T: std::fmt::Debug>(what: &str, result: Result<T>) {
    let error = result.expect_err(what);
    assert!(error.is_closed(), "{what}: {error:?}");
    assert!(error.to_string().contains("runtime"), "{what}: {error}");
}

/// Memory over a store in chunks over a disk.
async fn stack(folder: &std::path::Path) -> (Cache, Faulty<Model>) {
    let memory = Memory::builder(16 << 20).object_max(4 << 10).build();
    let store = Faulty::new(Model::new().chunked(10 * KIB));
    let disk = Disk::open(folder, 64 << 20).await.unwrap();
    let builder = Cache::builder().tier(memory.unwrap()).policy(strict());
    let builder = builder.tier(Tier::new(store.clone())).tier(disk);
    (builder.build().unwrap(), store)
}

async fn verbs(cache: &Cache) {
    let origin = Origin::default();
    let fetch = || origin.gives("x");
    for key in ["small", "large", "absent"] {
        assert_ended("get", cache.get(key).await);
        assert_ended("get_or_fetch", cache.get_or_fetch(key, fetch()).await);
        assert_ended("refresh", cache.refresh(key, fetch()).await);
        assert_ended("stat", cache.stat(key).await);
        assert_ended("insert", cache.insert(key, "x", Draft::new()).await);
        let opened = cache.set_with_writer(key, Draft::new()).await;
        assert_ended("set_with_writer", opened.map(drop));
        assert_ended("delete", cache.delete(key).await);
    }
    assert_ended("clear", cache.clear().await);
    assert_ended("close", cache.close().await);
    assert_ended("close, again", cache.close().await);
}

#[test]
fn s89_verbs_and_writers_say_that_the_runtime_has_ended() {
    both_flavours(|runtime| {
        let folder = tempfile::tempdir().unwrap();
        let (cache, mut writer, spare) = runtime.block_on(async {
            let (cache, _) = stack(folder.path()).await;
            cache.insert("small", "x", Draft::new()).await.unwrap();
            let large = pattern(300 * KIB);
            cache.insert("large", large, Draft::new()).await.unwrap();
            let mut writer = cache.set_with_writer("w", Draft::new()).await.unwrap();
            writer.write(pattern(300 * KIB)).await.unwrap();
            let mut spare = cache.set_with_writer("w", Draft::new()).await.unwrap();
            spare.write("x").await.unwrap();
            (cache, writer, spare)
        });
        drop(runtime);
        block_on(async {
            verbs(&cache).await;
            assert_ended("write", writer.write("x").await);
            assert_ended("commit", writer.commit().await);
            spare.abort();
        });
    });
}

/// Reads on after a first chunk.
async fn rest(mut body: Body) -> Result<u64> {
    let mut len = 0;
    while let Some(chunk) = body.chunk().await? {
        len += chunk.len() as u64;
    }
    Ok(len)
}

async fn first(body: &mut Body) -> Bytes {
    body.chunk().await.unwrap().unwrap()
}

#[test]
fn s89_bodies_that_are_half_read_come_to_an_end() {
    both_flavours(|runtime| {
        let folder = tempfile::tempdir().unwrap();
        let (cache, bodies) = runtime.block_on(async {
            let (cache, store) = stack(folder.path()).await;
            let large = pattern(1500 * KIB);
            cache
                .insert("b", large.clone(), Draft::new())
                .await
                .unwrap();
            let mut bodies = Vec::new();
            // From a tier that falls silent; from a flight whose origin does; from a flight that
            // has more than its reader has read.
            let body = cache.get("b").await.unwrap().into_body().unwrap();
            bodies.push(("stored", body));
            let fetch = Origin::default().does(async |_| Ok(silent_after("abc")));
            let fetched = cache.get_or_fetch("c", fetch).await.unwrap();
            bodies.push(("fetched", fetched.into_body().unwrap()));
            let chunks = stream::iter(crate::source::chunks(&large, 10 * KIB));
            let chunks = chunks.map(Ok::<_, Error>).chain(stream::pending());
            let fetched = Fetched::stream(None, chunks);
            let fetch = Origin::default().does(async move |_| Ok(fetched));
            let streamed = cache.get_or_fetch("d", fetch).await.unwrap();
            bodies.push(("streamed", streamed.into_body().unwrap()));
            for (_, body) in &mut bodies {
                assert!(!first(body).await.is_empty());
            }
            store.faults().on(Op::Body).always(Fault::Stall);
            (cache, bodies)
        });
        drop(runtime);
        for (what, body) in bodies {
            let end = block_on(rest(body));
            assert!(end.is_err(), "{what}: {end:?}");
        }
        drop(cache);
    });
}

#[test]
fn s89_what_waits_when_the_runtime_ends_is_told() {
    {
        let runtime = home();
        let store = Faulty::new(Model::new().chunked(10 * KIB));
        let cache = runtime.block_on(async {
            let builder = Cache::builder().tier(Tier::new(store.clone()).timeout(600 * SECOND));
            let builder = builder
                .idle_timeout(600 * SECOND)
                .fetch_timeout(600 * SECOND);
            let cache = builder.policy(strict()).build().unwrap();
            let large = pattern(300 * KIB);
            cache.insert("a", large, Draft::new()).await.unwrap();
            cache
        });
        for op in [Op::Body, Op::Stat, Op::Delete, Op::Write] {
            store.faults().on(op).always(Fault::Stall);
        }
        let waiting = |wait: fn(Cache) -> futures_util::future::BoxFuture<'static, bool>| {
            let cache = cache.clone();
            thread::spawn(move || {
                count_panics();
                let failed = block_on(wait(cache));
                assert_no_panic();
                failed
            })
        };
        let waiters = [
            waiting(|cache| async move { cache.stat("a").await.is_err() }.boxed()),
            waiting(|cache| async move { cache.delete("a").await.is_err() }.boxed()),
            waiting(|cache| {
                async move { cache.insert("b", "x", Draft::new()).await.is_err() }.boxed()
            }),
            waiting(|cache| {
                async move {
                    let body = cache.get("a").await.unwrap().into_body().unwrap();
                    rest(body).await.is_err()
                }
                .boxed()
            }),
            waiting(|cache| {
                async move {
                    let never = Origin::default().does(async |_| std::future::pending().await);
                    cache.get_or_fetch("c", never).await.is_err()
                }
                .boxed()
            }),
        ];
        while store.faults().stalled() < 4 || cache.in_flight().flights == 0 {
            thread::yield_now();
        }
        runtime.shutdown_timeout(Duration::from_secs(60));
        for (number, waiter) in waiters.into_iter().enumerate() {
            assert!(waiter.join().unwrap(), "waiter {number}");
        }
    }
}

#[test]
fn s89_a_closed_cache_leaves_no_task_and_its_bodies_come_to_an_end() {
    both_flavours(|runtime| {
        let alive = |runtime: &Runtime| {
            // A task that has ended may be counted for a moment.
            runtime.block_on(async {
                let wait = async {
                    while runtime.metrics().num_alive_tasks() > 0 {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                };
                let _ = tokio::time::timeout(30 * SECOND, wait).await;
            });
            runtime.metrics().num_alive_tasks()
        };
        let store = Faulty::new(Model::new().chunked(10 * KIB));
        let build = || Cache::builder().tier(store.clone()).policy(strict());
        let build = || build().runtime(runtime.handle().clone()).build().unwrap();
        let (closed, dropped) = (build(), build());
        assert!(runtime.metrics().num_alive_tasks() > 0, "the sentinels");
        let body = runtime.block_on(async {
            let large = pattern(300 * KIB);
            closed.insert("a", large, Draft::new()).await.unwrap();
            let mut body = closed.get("a").await.unwrap().into_body().unwrap();
            assert!(!first(&mut body).await.is_empty());
            closed.close().await.unwrap();
            body
        });
        drop(dropped);
        assert_eq!(alive(&runtime), 0);
        store.faults().on(Op::Body).always(Fault::Stall);
        drop(runtime);
        assert!(block_on(rest(body)).unwrap_err().is_closed());
        assert!(
            block_on(closed.get("a").into_future())
                .unwrap_err()
                .is_closed()
        );
    });
}
