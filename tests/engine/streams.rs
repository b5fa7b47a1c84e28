//! Bodies from the origin: errors, lengths, failing tiers, ends, metadata.

use std::{io, time::Duration};

use larder::{ByteRange, Cache, Draft, ErrorKind, Fetched, Promote, StoreExt, Tier};
use larder_conformance::{Fault, Faulty, Model, Op};

use tokio::time::timeout;

use crate::{
    source::{chunks, feed, memory_at, pattern, streamed, to_the_end, whole},
    support::{Origin, SECOND, clock, memory, settle, strict, text},
};

#[tokio::test(start_paused = true)]
async fn s21_a_source_that_breaks_off_gives_its_bytes_then_the_error_and_is_not_published() {
    let (hot, cold) = (memory(), Model::new());
    let tiers = Cache::builder().tier(hot.clone()).tier(cold.clone());
    let cache = tiers.policy(strict()).build().unwrap();
    let origin = Origin::default();
    for declared in [Some(2_000), None] {
        let (feed, fetched) = feed(declared);
        let fetch = origin.does(async move |_| Ok(fetched));
        let first = cache.get_or_fetch("a", fetch).await.unwrap();
        let second = cache.get("a").await.unwrap();
        assert!(second.status().is_joined());
        feed.gives(pattern(1_000));
        feed.fails(larder::Error::with_source(
            ErrorKind::Other,
            "half-way",
            io::Error::other("reset"),
        ));
        for reader in [first, second] {
            let (bytes, end) = to_the_end(reader).await;
            assert_eq!(bytes, pattern(1_000));
            assert!(end.unwrap_err().find_source::<io::Error>().is_some());
        }
        settle(&cache).await;
        for usage in cache.usage() {
            assert_eq!((usage.entries, usage.staged), (0, 0));
        }
        assert!(cache.get("a").await.unwrap().is_absent());
    }
    let again = cache.get_or_fetch("a", origin.gives("whole"));
    assert_eq!(text(again.await.unwrap()).await, "whole");
}

#[tokio::test(start_paused = true)]
async fn s22_a_source_of_another_length_than_declared_is_an_error_and_is_not_published() {
    for (declared, given) in [(2_000, 1_000), (500, 1_000), (1, 0)] {
        let tiers = Cache::builder().tier(memory()).tier(Model::new());
        let cache = tiers.policy(strict()).build().unwrap();
        let (feed, fetched) = feed(Some(declared));
        let fetch = Origin::default().does(async move |_| Ok(fetched));
        let response = cache.get_or_fetch("a", fetch).await.unwrap();
        for chunk in chunks(&pattern(given), 400) {
            feed.gives(chunk);
        }
        drop(feed);
        let (bytes, end) = to_the_end(response).await;
        assert!(end.unwrap_err().is_corrupt(), "{given} for {declared}");
        assert!(bytes.len() as u64 <= declared && pattern(given).starts_with(&bytes));
        settle(&cache).await;
        for usage in cache.usage() {
            assert_eq!((usage.entries, usage.staged), (0, 0));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn s22_a_writer_of_another_length_than_declared_cannot_be_committed() {
    let cache = Cache::builder().tier(memory()).build().unwrap();
    let draft = || Draft::new().len(10);
    let mut short = cache.set_with_writer("a", draft()).await.unwrap();
    short.write("123").await.unwrap();
    assert!(short.commit().await.unwrap_err().is_corrupt());
    let mut long = cache.set_with_writer("a", draft()).await.unwrap();
    long.write("123456789").await.unwrap();
    assert!(long.write("1234").await.unwrap_err().is_corrupt());
    assert!(long.commit().await.is_err());
    assert_eq!(cache.usage()[0].entries, 0);
}

/// Every way in which a tier can fail a fill.
fn failures() -> Vec<(Op, Fault)> {
    let faults = [
        Fault::Fail(ErrorKind::Unavailable),
        Fault::FailAfter(ErrorKind::Unavailable),
        Fault::Stall,
        Fault::StallAfter,
        Fault::Panic,
    ];
    let each = |op| faults.map(|fault| (op, fault));
    [Op::Set, Op::Write, Op::Commit].map(each).concat()
}

#[tokio::test(start_paused = true)]
async fn s23_a_tier_that_fails_while_it_is_filled_costs_the_readers_nothing() {
    let object = pattern(10_000);
    for (op, fault) in failures() {
        for faulty_first in [true, false] {
            let (faulty, healthy) = (Faulty::new(memory()), memory());
            let builder = Cache::builder().policy(strict());
            let builder = if faulty_first {
                builder.tier(faulty.clone()).tier(healthy.clone())
            } else {
                builder.tier(healthy.clone()).tier(faulty.clone())
            };
            let cache = builder.build().unwrap();
            let nth = if op == Op::Write { 2 } else { 1 };
            faulty.faults().on(op).nth(nth).inject(fault);
            let origin = Origin::default();
            let body = object.clone();
            let fetch = origin.does(async move |_| Ok(streamed(&body, 1_000)));
            let first = cache.get_or_fetch("a", fetch).await.unwrap();
            let second = cache.get("a").await.unwrap();
            for reader in [first, second] {
                assert_eq!(whole(reader).await, object, "{op:?} {fault:?}");
            }
            settle(&cache).await;
            let kept = healthy.read("a", 1 << 20).await.unwrap();
            assert_eq!(kept.unwrap(), object, "{op:?} {fault:?}");
            assert!(!faulty.inner().exists("a").await.unwrap());
            let report = &cache.tiers()[usize::from(!faulty_first)].counters;
            assert_eq!(report.errors + report.timeouts, 1, "{op:?} {fault:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn s23_a_promotion_that_fails_costs_the_reader_nothing() {
    let object = pattern(10_000);
    for (op, fault) in failures() {
        let (hot, cold) = (Faulty::new(memory()), Model::new());
        let _ = cold.write("a", object.clone(), Draft::new()).await.unwrap();
        hot.faults().on(op).inject(fault);
        let tiers = Cache::builder().tier(hot.clone()).tier(cold);
        let cache = tiers.policy(strict()).build().unwrap();
        let response = cache.get("a").await.unwrap();
        assert_eq!(whole(response).await, object, "{op:?} {fault:?}");
        settle(&cache).await;
        assert!(!hot.inner().exists("a").await.unwrap());
        assert_eq!(cache.usage()[0].staged, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn s25_after_the_end_comes_the_end_whatever_the_body_is_made_of() {
    let object = pattern(5_000);
    let cold = Tier::new(Model::new()).promote(Promote::Never);
    let hot = memory();
    let tiers = Cache::builder().tier(hot.clone()).tier(cold);
    let cache = tiers.policy(strict()).build().unwrap();
    let origin = Origin::default();
    let body = object.clone();
    let fetch = origin.does(async move |_| Ok(streamed(&body, 1_000)));
    let mut responses = vec![cache.get_or_fetch("streamed", fetch).await.unwrap()];
    let fetch = origin.gives(object.clone());
    responses.push(cache.get_or_fetch("whole", fetch).await.unwrap());
    settle(&cache).await;
    responses.push(cache.get("streamed").await.unwrap());
    hot.remove("streamed").await.unwrap();
    responses.push(cache.get("streamed").await.unwrap());
    let part = ByteRange::try_from(0..5_000).unwrap();
    responses.push(cache.get("streamed").range(part).await.unwrap());
    for response in responses {
        let status = response.status().to_string();
        let mut body = response.into_body().unwrap();
        let mut read = 0;
        while let Some(chunk) = body.chunk().await.unwrap() {
            read += chunk.len();
        }
        assert_eq!(read, object.len(), "{status}");
        for _ in 0..3 {
            assert!(body.chunk().await.unwrap().is_none(), "{status}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn s25_two_readers_that_take_turns_each_get_every_byte_once() {
    let object = pattern(10_000);
    let cache = Cache::builder().tier(memory()).build().unwrap();
    let body = object.clone();
    let fetch = Origin::default().does(async move |_| Ok(streamed(&body, 1_000)));
    let first = cache.get_or_fetch("a", fetch).await.unwrap();
    let second = cache.get("a").await.unwrap();
    assert!(second.status().is_joined());
    let mut readers = [first, second].map(|reader| (reader.into_body().unwrap(), Vec::new()));
    while readers[1].1.len() < object.len() {
        for (body, read) in &mut readers {
            let chunk = body.chunk().await.unwrap();
            read.extend_from_slice(&chunk.unwrap_or_default());
        }
    }
    for (_, read) in readers {
        assert_eq!(read, object);
    }
}

#[tokio::test(start_paused = true)]
async fn s30_what_a_reader_was_told_does_not_change_when_the_object_is_renewed() {
    let clock = clock();
    let tiers = Cache::builder().tier(memory_at(&clock)).policy(strict());
    let cache = tiers.clock(clock.clone()).build().unwrap();
    let origin = Origin::default();
    let fetch = origin.does(async |_| Ok(Fetched::bytes("x").attribute("n", "1")));
    let flown = cache.get_or_fetch("a", fetch).await.unwrap();
    settle(&cache).await;
    let hit = cache.get("a").await.unwrap();
    let told = hit.metadata().unwrap().clone();
    assert_eq!(*flown.metadata().unwrap(), told);
    clock.advance(90 * SECOND);
    let fetch = origin.does(async |_| Ok(Fetched::not_modified().attribute("n", "2")));
    let renewed = cache.get_or_fetch("a", fetch).await.unwrap();
    settle(&cache).await;
    assert_eq!(*flown.metadata().unwrap(), told);
    assert_eq!(*hit.metadata().unwrap(), told);
    let new = cache.get("a").await.unwrap();
    for response in [renewed, new] {
        let metadata = response.metadata().unwrap();
        assert_eq!(metadata.attribute("n").unwrap(), "2");
        assert!(metadata.fetched_at > told.fetched_at);
    }
}

#[tokio::test(start_paused = true)]
async fn s30_a_tier_that_caps_lifetimes_changes_its_own_copy_only() {
    let (hot, cold) = (memory(), memory());
    let tiers = Cache::builder().tier(hot.clone());
    let capped = Tier::new(cold.clone()).ttl_max(Duration::from_secs(7));
    let cache = tiers.tier(capped).policy(strict()).build().unwrap();
    let fetch = Origin::default().gives("x");
    let response = cache.get_or_fetch("a", fetch).await.unwrap();
    settle(&cache).await;
    let ttl = async |store: &larder::Memory| {
        let key = larder::Key::new("a").unwrap();
        let metadata = larder::Store::stat(store, key).await.unwrap();
        metadata.unwrap().ttl
    };
    assert_eq!(ttl(&cold).await, Some(7 * SECOND));
    assert_eq!(ttl(&hot).await, Some(60 * SECOND));
    assert_eq!(response.metadata().unwrap().ttl, Some(60 * SECOND));
}

/// The moment between the end of a flight and its commit, in either tier.
#[tokio::test(start_paused = true)]
async fn s81_between_the_end_of_a_flight_and_its_commit_nobody_misses_or_fetches_again() {
    let object = pattern(10_000);
    for (tier, fault) in [
        (0, Fault::Stall),
        (0, Fault::StallAfter),
        (1, Fault::Stall),
        (1, Fault::StallAfter),
    ] {
        for streams in [true, false] {
            let stores = [Faulty::new(memory()), Faulty::new(memory())];
            let tiers = Cache::builder()
                .tier(stores[0].clone())
                .tier(stores[1].clone());
            let cache = tiers.policy(strict()).build().unwrap();
            let faults = stores[tier].faults();
            faults.on(Op::Commit).inject(fault);
            let origin = Origin::default();
            let body = object.clone();
            let fetch = origin.does(async move |_| {
                Ok(if streams {
                    streamed(&body, 1_000)
                } else {
                    Fetched::bytes(body)
                })
            });
            let first = cache.get_or_fetch("a", fetch).await.unwrap();
            assert_eq!(whole(first).await, object);
            timeout(SECOND, faults.until_stalled(1)).await.unwrap();
            let joined = cache.get("a").await.unwrap();
            assert_eq!(whole(joined).await, object, "tier {tier} {fault:?}");
            let fetching = cache.get_or_fetch("a", origin.gives("again"));
            assert_eq!(whole(fetching.await.unwrap()).await, object);
            let held = cache.get_or_fetch("a", origin.gives("again"));
            let held = held.await.unwrap();
            faults.release();
            settle(&cache).await;
            assert_eq!(whole(held).await, object, "opened before, read after");
            assert_eq!(whole(cache.get("a").await.unwrap()).await, object);
            assert_eq!(origin.fetches(), 1);
        }
    }
}
