//! A 304 renews an object in every tier that has it, and rewrites no body, whether the object has an
//! entity tag or not.

use bytes::Bytes;
use larder::{
    Cache, Clock, Disk, Draft, EntityTag, Fetched, ManualClock, Memory, Store, StoreExt, Tier,
};
use larder_conformance::{Model, Setup};

use crate::{
    source::pattern,
    support::{Origin, SECOND, clock, settle, strict},
};

const LEN: usize = 4 << 20;

/// A cache whose objects are fresh for a minute.
fn over(upper: impl Into<Tier>, lower: impl Into<Tier>, time: &ManualClock) -> Cache {
    let builder = Cache::builder().policy(strict()).clock(time.clone());
    builder.tier(upper).tier(lower).build().unwrap()
}

fn memory(time: &ManualClock) -> Memory {
    let time = time.clone();
    let builder = Memory::builder(64 << 20).clock(move || time.now());
    builder.build().unwrap()
}

fn large_model() -> Model {
    Model::with(Setup::new(64 << 20, 8 << 20))
}

async fn disk(folder: &tempfile::TempDir, time: &ManualClock) -> Disk {
    let time = time.clone();
    let builder = Disk::builder(folder.path().join("cache"), 256 << 20);
    builder.clock(move || time.now()).open().await.unwrap()
}

/// What the origin has.
fn object(tag: Option<&EntityTag>) -> Fetched {
    let fetched = Fetched::bytes(pattern(LEN));
    match tag {
        Some(tag) => fetched.etag(tag.clone()),
        None => fetched,
    }
}

async fn fetched(cache: &Cache, origin: &Origin, answer: Fetched) {
    let fetch = origin.does(async move |_| Ok(answer));
    let response = cache.get_or_fetch("a", fetch).await.unwrap();
    let body = response.into_body().unwrap().bytes(LEN as u64).await;
    assert!(body.unwrap() == pattern(LEN));
    settle(cache).await;
}

/// Fills and touches, tier by tier.
fn done(cache: &Cache) -> [(u64, u64); 2] {
    let tiers = cache.tiers();
    [0, 1].map(|tier| {
        let counters = tiers[tier].counters;
        (counters.fills, counters.touched)
    })
}

/// Has the object said to be right four times, each when it has expired.
async fn renew(cache: &Cache, origin: &Origin, time: &ManualClock) {
    for _ in 0..4 {
        time.advance(120 * SECOND);
        fetched(cache, origin, Fetched::not_modified()).await;
    }
    assert_eq!(cache.counters().revalidated, 4);
}

#[tokio::test]
async fn s95_memory_over_disk_renews_without_writing() {
    let strong = EntityTag::strong("v1").unwrap();
    let weak = EntityTag::weak("v1").unwrap();
    for tag in [None, Some(&strong), Some(&weak)] {
        let (folder, time) = (tempfile::tempdir().unwrap(), clock());
        let cache = over(memory(&time), disk(&folder, &time).await, &time);
        let origin = Origin::default();
        fetched(&cache, &origin, object(tag)).await;
        renew(&cache, &origin, &time).await;
        assert_eq!(done(&cache), [(1, 4), (1, 4)], "{tag:?}");
        cache.close().await.unwrap();
    }
}

#[tokio::test]
async fn s95_two_disks_and_two_memories_renew_without_writing() {
    let time = clock();
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let disks = (
        disk(&folders[0], &time).await,
        disk(&folders[1], &time).await,
    );
    let caches = [
        over(disks.0, disks.1, &time),
        over(memory(&time), memory(&time), &time),
        // No checksums, and both bodies in memory.
        over(memory(&time), large_model().whole(), &time),
    ];
    for cache in caches {
        let origin = Origin::default();
        fetched(&cache, &origin, object(None)).await;
        renew(&cache, &origin, &time).await;
        assert_eq!(done(&cache), [(1, 4), (1, 4)]);
        cache.close().await.unwrap();
    }
}

#[tokio::test]
async fn s95_a_cap_on_lifetimes_makes_no_other_object() {
    for (upper, lower) in [(None, Some(50)), (Some(50), None), (Some(20), Some(30))] {
        let capped = |tier: Tier, seconds: Option<u32>| match seconds {
            Some(seconds) => tier.ttl_max(seconds * SECOND),
            None => tier,
        };
        let (folder, time) = (tempfile::tempdir().unwrap(), clock());
        let upper = capped(memory(&time).into(), upper);
        let lower = capped(disk(&folder, &time).await.into(), lower);
        let (cache, origin) = (over(upper, lower, &time), Origin::default());
        fetched(&cache, &origin, object(None)).await;
        renew(&cache, &origin, &time).await;
        assert_eq!(done(&cache), [(1, 4), (1, 4)]);
        cache.close().await.unwrap();
    }
}

/// As long, and fetched at the same moment, but not the same: it is written again.
#[tokio::test]
async fn s95_other_bytes_are_not_taken_for_the_same() {
    let (folder, time) = (tempfile::tempdir().unwrap(), clock());
    let (upper, lower) = (memory(&time), disk(&folder, &time).await);
    let cache = over(upper.clone(), lower.clone(), &time);
    let origin = Origin::default();
    fetched(&cache, &origin, object(None)).await;
    let metadata = cache.stat("a").await.unwrap().unwrap();
    let other = Draft::new().with(|header| header.clone_from(metadata.header()));
    let written = lower.write("a", Bytes::from(vec![0; LEN]), other).await;
    assert!(written.unwrap().is_done());
    time.advance(120 * SECOND);
    fetched(&cache, &origin, Fetched::not_modified()).await;
    assert_eq!(done(&cache), [(1, 1), (2, 0)]);
    let kept = lower.read("a", LEN as u64).await.unwrap().unwrap();
    assert!(kept == pattern(LEN));
    lower.close().await.unwrap();
}
