//! S104: settings at both ends of their range, alone and merged with others.

use std::time::Duration;

use larder::{
    Breaker, Builder, ByteRange, Cache, Draft, Error, Fetched, Memory, Policy, Request, Result,
    Tier,
};
use larder_conformance::{Fault, Op};
use tokio::time::{Instant, timeout};

use crate::{
    source::{feed, pattern, streamed, to_the_end, whole},
    support::{Origin, SECOND, clock, faulty, memory, put, settle, strict, text},
};

const NEVER: Duration = Duration::MAX;
const MINUTE: Duration = Duration::from_secs(60);

fn builder() -> Builder {
    Cache::builder().tier(memory()).clock(clock())
}

fn refused(builder: Builder) -> Error {
    let error = builder.build().expect_err("a setting that cannot work");
    assert!(error.is_invalid(), "{error:?}");
    error
}

fn lasting(ttl: Duration) -> Draft {
    Draft::new().with(|header| header.ttl = Some(ttl))
}

/// Every limit as large as its type.
fn unlimited() -> Builder {
    let breaker = Breaker::new().pause(NEVER, NEVER).failures(u32::MAX);
    let tier = |store| {
        let tier = Tier::new(store).timeout(NEVER).write_stall(NEVER);
        let tier = tier.object_max(u64::MAX).promote_max(u64::MAX);
        tier.ttl_max(NEVER).breaker(breaker)
    };
    Cache::builder()
        .tier(tier(memory()))
        .tier(tier(memory()).behind())
        .clock(clock())
        .spool_memory(u64::MAX)
        .spool_memory_total(u64::MAX)
        .spool_disk_max(u64::MAX)
        .spool_disk_total(u64::MAX)
        .flights_max(usize::MAX)
        .fetches_max(usize::MAX)
        .fetch_timeout(NEVER)
        .idle_timeout(NEVER)
        .close_timeout(NEVER)
        .refreshes(usize::MAX, usize::MAX)
        .behind_queue(usize::MAX, u64::MAX)
        .behind_max(usize::MAX)
        .failures_max(usize::MAX)
        .suspects_max(usize::MAX)
        .lease_wait(NEVER)
        .policy(
            strict()
                .ttl(NEVER)
                .negative_ttl(NEVER)
                .error_ttl(NEVER)
                .keep(NEVER),
        )
}

#[tokio::test(start_paused = true)]
async fn s104_a_cache_without_limits_works() {
    let cache = unlimited().build().unwrap();
    let origin = Origin::default();
    let object = pattern(300_000);
    for (key, len) in [("told", Some(300_000)), ("untold", None)] {
        let (feed, fetched) = feed(len);
        let fetch = origin.does(async move |_| Ok(fetched));
        let answer = cache.get_or_fetch(key, fetch).max_age(NEVER).await.unwrap();
        feed.gives(object.clone());
        drop(feed);
        assert_eq!(whole(answer).await, object);
        settle(&cache).await;
        let hit = cache.get(key).max_age(NEVER).await.unwrap();
        assert!(hit.status().is_hit());
        assert_eq!(whole(hit).await, object);
    }
    for _ in 0..2 {
        let failed = cache.get_or_fetch("failing", origin.fails()).await;
        assert!(failed.is_err());
    }
    assert_eq!(
        origin.fetches(),
        3,
        "the failure is remembered without an end"
    );
    let fetch = origin.gives("fresh");
    let refreshed = cache.refresh("told", fetch).await.unwrap();
    assert_eq!(text(refreshed).await, "fresh");
    cache.insert("b", "inserted", lasting(NEVER)).await.unwrap();
    cache.delete("b").await.unwrap();
    settle(&cache).await;
    timeout(MINUTE, cache.close()).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn s104_each_limit_alone_may_be_the_largest_number() {
    let one = |change: fn(Builder) -> Builder| change(builder());
    for (index, builder) in [
        one(|builder| builder.refreshes(usize::MAX, usize::MAX)),
        one(|builder| builder.behind_max(usize::MAX)),
        one(|builder| builder.fetches_max(usize::MAX)),
        one(|builder| builder.fetch_timeout(NEVER)),
        one(|builder| builder.idle_timeout(NEVER)),
        one(|builder| builder.close_timeout(NEVER)),
        one(|builder| builder.spool_memory_total(u64::MAX)),
        one(|builder| builder.spool_disk_max(u64::MAX).spool_disk_total(u64::MAX)),
    ]
    .into_iter()
    .enumerate()
    {
        let cache = builder
            .build()
            .unwrap_or_else(|error| panic!("{index}: {error}"));
        let fetch = Origin::default().does(async |_| Ok(streamed(&pattern(40_000), 1_000)));
        let answer = cache.get_or_fetch("a", fetch).await.unwrap();
        assert_eq!(whole(answer).await, pattern(40_000), "{index}");
        cache.close().await.unwrap();
    }
}

/// A breaker that waits for any time fails no read.
#[tokio::test(start_paused = true)]
async fn s104_a_breaker_with_an_endless_pause_opens() {
    for (first, longest) in [(NEVER, NEVER), (SECOND, NEVER)] {
        let store = faulty();
        put(store.inner(), "old").await;
        let fails = Fault::Fail(larder::ErrorKind::Unavailable);
        for op in [Op::Get, Op::Stat, Op::Set, Op::Fence, Op::Delete] {
            store.faults().on(op).always(fails);
        }
        let breaker = Breaker::new().failures(1).pause(first, longest);
        let tier = Tier::new(store.clone()).breaker(breaker);
        let cache = Cache::builder().tier(memory()).tier(tier).clock(clock());
        let cache = cache.build().unwrap();
        for key in ["a", "b", "c"] {
            let answer = cache.get_or_fetch(key, Origin::default().gives("new"));
            assert_eq!(text(answer.await.unwrap()).await, "new");
            settle(&cache).await;
            // Each probe fails, and the next pause is twice as long.
            tokio::time::sleep(100 * SECOND).await;
        }
    }
}

/// A fetch that takes an hour, and a source that is silent as long, are not cut.
#[tokio::test(start_paused = true)]
async fn s104_an_endless_time_out_is_no_time_out_of_zero() {
    let cache = builder()
        .fetch_timeout(NEVER)
        .idle_timeout(NEVER)
        .build()
        .unwrap();
    let (feed, fetched) = feed(None);
    let fetch = Origin::default().does(async move |_| {
        tokio::time::sleep(3_600 * SECOND).await;
        Ok(fetched)
    });
    let began = Instant::now();
    let answer = cache.get_or_fetch("a", fetch).await.unwrap();
    assert!(began.elapsed() >= 3_600 * SECOND);
    feed.gives(pattern(10));
    drop(feed);
    assert_eq!(whole(answer).await, pattern(10));
}

#[tokio::test]
async fn s104_a_limit_of_zero_is_refused() {
    let zero = Duration::ZERO;
    for builder in [
        builder().fetches_max(0),
        builder().flights_max(0),
        builder().refreshes(0, 1),
        builder().refreshes(1, 0),
        builder().fetch_timeout(zero),
        builder().idle_timeout(zero),
        builder().tier(Tier::new(memory()).behind()).behind_max(0),
        builder().tier(Tier::new(memory()).timeout(zero)),
        builder().tier(Tier::new(memory()).write_stall(zero)),
        builder().tier(Tier::new(memory()).ttl_max(zero)),
        builder().tier(Tier::new(memory()).breaker(Breaker::new().pause(zero, SECOND))),
        builder().tier(Tier::new(memory()).breaker(Breaker::new().pause(NEVER, SECOND))),
    ] {
        refused(builder);
    }
    let least = builder().fetches_max(1).flights_max(1).refreshes(1, 1);
    let least = least.failures_max(0).suspects_max(0).close_timeout(zero);
    let cache = least.build().unwrap();
    let answer = cache.get_or_fetch("a", Origin::default().gives("x"));
    assert_eq!(text(answer.await.unwrap()).await, "x");
}

/// Layers of lifetimes: the cache's and the nearer one's, and whether they go together.
fn layers() -> Vec<(Policy, Policy, bool)> {
    let (none, zero) = (Policy::new(), Duration::ZERO);
    let minutes = |minutes: u32| minutes * MINUTE;
    vec![
        // Windows that nobody set follow the ttl.
        (none.ttl(NEVER), none, true),
        (none, none.ttl(NEVER), true),
        (none.ttl(zero), none.error_ttl(minutes(20)), true),
        (none.error_ttl(minutes(5)), none.ttl(zero), true),
        // Windows that were set, in any layer, contradict an endless ttl.
        (none.stale_if_error(MINUTE), none.ttl(NEVER), false),
        (none.stale_while_revalidate(MINUTE), none.ttl(NEVER), false),
        (none.ttl(NEVER), none.stale_if_error(MINUTE), false),
        (none.ttl(NEVER), none.stale_while_revalidate(MINUTE), false),
        (
            none.stale_if_error(MINUTE),
            none.ttl(NEVER).stale_if_error(zero),
            true,
        ),
        (
            none.ttl(NEVER),
            none.stale_if_error(MINUTE).ttl(MINUTE),
            true,
        ),
        // An `error_ttl` above the effective `stale_if_error`, of 10 minutes where unset.
        (none, none.error_ttl(minutes(10)), true),
        (none, none.error_ttl(minutes(11)), false),
        (
            none.error_ttl(minutes(10)),
            none.stale_if_error(minutes(9)),
            false,
        ),
        (
            none.stale_if_error(minutes(30)),
            none.error_ttl(minutes(20)),
            true,
        ),
        (none.stale_if_error(zero), none.error_ttl(NEVER), true),
        (
            none.ttl(NEVER).error_ttl(minutes(20)),
            none.ttl(MINUTE),
            false,
        ),
        (none, none.ttl(NEVER).error_ttl(minutes(20)), true),
        (none, none.jitter(1.5), false),
    ]
}

#[tokio::test]
async fn s104_merged_lifetimes_are_checked_where_they_merge() {
    for (outer, nearer, fits) in layers() {
        let what = format!("{nearer:?} over {outer:?}");
        // As one policy.
        let built = builder().policy(nearer.or(outer)).build();
        assert_eq!(built.is_ok(), fits, "{what}");
        // As the cache's and the request's.
        let cache = builder().policy(outer).build().unwrap();
        let (origin, insert) = (Origin::default(), cache.insert("a", "x", Draft::new()));
        insert.await.unwrap();
        for key in ["a", "b"] {
            let read = cache.get_or_fetch(key, origin.gives("x")).policy(nearer);
            check(read, fits, &what).await;
            check(
                cache.refresh(key, origin.gives("x")).policy(nearer),
                fits,
                &what,
            )
            .await;
            if let Policy { ttl: Some(ttl), .. } = nearer
                && nearer == Policy::new().ttl(ttl)
            {
                check(
                    cache.get_or_fetch(key, origin.gives("x")).ttl(ttl),
                    fits,
                    &what,
                )
                .await;
            }
        }
        if !fits {
            assert_eq!(origin.fetches(), 0, "nobody is asked in vain: {what}");
        }
    }
}

async fn check<F: larder::Fetch>(read: Request<'_, F>, fits: bool, what: &str) {
    match read.await {
        Ok(_) => assert!(fits, "{what}"),
        Err(error) => assert!(!fits && error.is_invalid(), "{what}: {error:?}"),
    }
}

#[tokio::test]
async fn s104_a_draft_is_checked_under_the_caches_lifetimes() {
    let windows = Policy::new().stale_if_error(MINUTE);
    let cache = builder().policy(windows).build().unwrap();
    let insert = async |draft: Draft| cache.insert("a", "x", draft).await.map(drop);
    assert!(insert(lasting(NEVER)).await.unwrap_err().is_invalid());
    insert(lasting(MINUTE)).await.unwrap();
    let cache = builder().policy(Policy::new().ttl(NEVER)).build().unwrap();
    let written = cache.insert("a", "x", lasting(NEVER)).await;
    assert_eq!(written.unwrap().tiers, 1);
}

#[tokio::test]
async fn s104_what_a_fetch_result_sets_never_fails_a_read() {
    for (outer, nearer, _) in layers() {
        let cache = builder().policy(outer).build().unwrap();
        let fetch = Origin::default().does(async move |_| Ok(Fetched::bytes("x").policy(nearer)));
        let answer = cache.get_or_fetch("a", fetch).await.unwrap();
        assert_eq!(text(answer).await, "x");
    }
}

#[tokio::test]
async fn s104_a_spool_dir_that_cannot_work_is_noticed_at_build() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    for max in [0, 1 << 20] {
        let error = refused(builder().spool_dir(&missing).spool_disk_max(max));
        assert!(
            error.to_string().contains(missing.to_str().unwrap()),
            "{error}"
        );
    }
    let file = folder.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let error = refused(builder().spool_dir(&file));
    assert!(
        error.to_string().contains(file.to_str().unwrap()),
        "{error}"
    );
    builder().spool_dir(folder.path()).build().unwrap();
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        1,
        "nothing is left"
    );
}

/// A folder that nobody can write, whoever runs the test.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn s104_a_spool_dir_that_is_read_only_is_for_caches_that_spill_nothing() {
    let read_only = "/proc/self";
    let error = refused(builder().spool_dir(read_only));
    assert!(error.to_string().contains(read_only), "{error}");
    for none in [
        builder().spool_disk_max(0).spool_dir(read_only),
        builder().spool_disk_total(0).spool_dir(read_only),
    ] {
        none.build().unwrap();
    }
}

#[tokio::test]
async fn s104_an_absent_answer_has_no_age() {
    let cache = builder().build().unwrap();
    let answer = cache.get("a").await.unwrap();
    assert_eq!(answer.status().to_string(), "nowhere");
    assert_eq!((answer.total_len(), answer.range()), (None, None));
    let absent = cache.get_or_fetch("a", Origin::default().does(async |_| Ok(Fetched::absent())));
    let absent = absent.await.unwrap();
    assert_eq!(absent.total_len(), None);
    assert!(absent.status().to_string().starts_with("origin fresh"));
    settle(&cache).await;
    let stored = cache.get("a").await.unwrap();
    assert!(stored.status().is_hit() && stored.is_absent());
    assert_eq!(stored.total_len(), None);
}

fn within(start: u64, end: u64) -> ByteRange {
    ByteRange::within(start, end).unwrap()
}

/// A clamped range, and the bytes that it must give of an object of 50,000 bytes.
type Clamped = (u64, u64, Option<(usize, usize)>);

const PARTS: [Clamped; 6] = [
    (0, 10, Some((0, 10))),
    (49_000, 60_000, Some((49_000, 50_000))),
    (49_999, u64::MAX, Some((49_999, 50_000))),
    (0, u64::MAX, Some((0, 50_000))),
    (50_000, 50_001, None),
    (60_000, 70_000, None),
];

async fn check_part(answer: Result<larder::Response>, part: Option<(usize, usize)>, told: bool) {
    let (Some((start, end)), object) = (part, pattern(50_000)) else {
        assert!(answer.unwrap_err().is_invalid());
        return;
    };
    let answer = answer.unwrap();
    if told {
        assert_eq!(answer.total_len(), Some(50_000));
        assert_eq!(answer.range(), Some(start as u64..end as u64));
    }
    assert_eq!(whole(answer).await, object.slice(start..end));
}

#[tokio::test(start_paused = true)]
async fn s104_a_clamped_range_ends_where_the_object_does() {
    for (start, end, part) in PARTS {
        let range = within(start, end);
        for len in [Some(50_000), None] {
            // The object passes through a flight, then lies in memory, then in a store below.
            let lower = faulty();
            let tier = Tier::new(lower).promote(larder::Promote::Never);
            let small = Tier::new(Memory::new(16 << 20)).object_max(1_000);
            for cache in [
                builder(),
                Cache::builder().tier(small).tier(tier).clock(clock()),
            ] {
                let cache = cache.build().unwrap();
                let fetch = Origin::default().does(async move |_| {
                    let chunks = crate::source::chunks(&pattern(50_000), 999);
                    let chunks = chunks.into_iter().map(Ok::<_, Error>);
                    Ok(Fetched::stream(len, futures_util::stream::iter(chunks)))
                });
                let first = cache.get_or_fetch("a", fetch).range(range).await;
                check_part(first, part, len.is_some()).await;
                settle(&cache).await;
                let hit = cache.get("a").range(range).await;
                check_part(hit, part, true).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn s104_a_clamped_range_of_unknown_length_streams_before_the_end_is_known() {
    let builder = builder().spool_memory(128 << 10);
    let cache = builder.build().unwrap();
    let object = pattern(300_000);
    let (feed, fetched) = feed(None);
    let fetch = Origin::default().does(async move |_| Ok(fetched));
    let whole_object = cache.get_or_fetch("a", fetch).await.unwrap();
    let (early, sure) = (within(10, 900_000), within(10, 20));
    feed.gives(object.slice(..100_000));
    let early = cache
        .get_or_fetch("a", Origin::default().fails())
        .range(early)
        .await
        .unwrap();
    assert_eq!((early.range(), early.total_len()), (None, None));
    let sure = cache
        .get_or_fetch("a", Origin::default().fails())
        .range(sure)
        .await
        .unwrap();
    assert_eq!((sure.range(), sure.total_len()), (Some(10..20), None));
    assert_eq!(whole(sure).await, object.slice(10..20));
    let rest = object.slice(100_000..);
    let feeding = async {
        for chunk in crate::source::chunks(&rest, 10_000) {
            feed.gives(chunk);
            tokio::task::yield_now().await;
        }
        drop(feed);
    };
    let ((), (bytes, end), all) = tokio::join!(feeding, to_the_end(early), whole(whole_object));
    end.unwrap();
    assert_eq!(bytes, object.slice(10..));
    assert_eq!(all, object);
}

/// A flight whose source breaks off within the range gives the error, not a shorter part.
#[tokio::test(start_paused = true)]
async fn s104_a_source_that_breaks_off_does_not_clamp_a_range() {
    let cache = builder().build().unwrap();
    let (feed, fetched) = feed(None);
    let fetch = Origin::default().does(async move |_| Ok(fetched));
    feed.gives(pattern(600_000));
    let read = cache.get_or_fetch("a", fetch).range(within(10, 900_000));
    let answer = read.await.unwrap();
    assert_eq!(answer.range(), None);
    feed.fails(Error::corrupt("half-way"));
    let (bytes, end) = to_the_end(answer).await;
    assert_eq!(bytes, pattern(600_000).slice(10..));
    assert!(end.unwrap_err().is_corrupt());
}

#[tokio::test(start_paused = true)]
async fn s104_the_whole_length_is_told_wherever_it_is_known() {
    let cache = builder().policy(strict()).build().unwrap();
    let tag = larder::EntityTag::strong("v1").unwrap();
    let fetch = |len: Option<u64>| {
        let tag = tag.clone();
        Origin::default().does(async move |_| {
            let chunks = crate::source::chunks(&pattern(50_000), 999);
            let chunks = futures_util::stream::iter(chunks.into_iter().map(Ok::<_, Error>));
            Ok(Fetched::stream(len, chunks).etag(tag))
        })
    };
    let told = cache
        .get_or_fetch("told", fetch(Some(50_000)))
        .await
        .unwrap();
    assert_eq!(told.total_len(), Some(50_000));
    whole(told).await;
    settle(&cache).await;
    let tail = cache
        .get("told")
        .range(ByteRange::suffix(5).unwrap())
        .await
        .unwrap();
    assert_eq!(
        (tail.range(), tail.total_len()),
        (Some(49_995..50_000), Some(50_000))
    );
    let same = cache.get("told").if_none_match(tag.clone()).await.unwrap();
    assert!(same.is_not_modified());
    assert_eq!((same.range(), same.total_len()), (None, Some(50_000)));
    let renewed = cache.refresh(
        "told",
        Origin::default().does(async |_| Ok(Fetched::not_modified())),
    );
    assert_eq!(renewed.await.unwrap().total_len(), Some(50_000));
    // A range of the end waits for it, so the length is known then.
    let tail = cache
        .get_or_fetch("untold", fetch(None))
        .range(ByteRange::suffix(5).unwrap());
    assert_eq!(tail.await.unwrap().total_len(), Some(50_000));
}
