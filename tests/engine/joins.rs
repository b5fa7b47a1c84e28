//! Who shares a flight: ranges, conditions, reads without a fetcher, bounds on age.

use std::time::Duration;

use futures_util::future::join;
use larder::{ByteRange, Cache, Draft, EntityTag, Fetched, IfNoneMatch, Source, StoreExt};
use larder_conformance::{Fault, Faulty, Model, Op};
use tokio::time::sleep;

use crate::{
    source::{Feed, chunks, feed, memory_at, pattern, whole},
    support::{Origin, SECOND, clock, memory, settle, strict, text},
};

const LEN: u64 = 10_000;

fn range(range: std::ops::Range<u64>) -> ByteRange {
    ByteRange::try_from(range).unwrap()
}

/// A flight of `a` that is open and has brought half of its bytes; somebody reads it.
async fn half_way(len: Option<u64>) -> (Cache, Origin, Feed, larder::Response) {
    let cache = Cache::builder().tier(memory()).policy(strict()).build();
    let (cache, origin) = (cache.unwrap(), Origin::default());
    let (feed, fetched) = feed(len);
    let fetched = fetched.etag(EntityTag::strong("v1").unwrap());
    let fetch = origin.does(async move |_| Ok(fetched));
    let first = cache.get_or_fetch("a", fetch).await.unwrap();
    for chunk in chunks(&pattern(5_000), 1_000) {
        feed.gives(chunk);
    }
    (cache, origin, feed, first)
}

/// The second half, and the end.
fn rest(feed: Feed) {
    feed.gives(pattern(10_000).slice(5_000..));
    drop(feed);
}

#[tokio::test(start_paused = true)]
async fn s37_full_range_and_conditional_requests_share_a_flight() {
    let object = pattern(10_000);
    for len in [Some(LEN), None] {
        let (cache, origin, feed, first) = half_way(len).await;
        let asks = |range| cache.get_or_fetch("a", origin.gives("other")).range(range);
        let within = asks(range(100..2_500)).await.unwrap();
        assert_eq!(within.range(), Some(100..2_500));
        assert_eq!(whole(within).await, object.slice(100..2_500));
        let across = asks(range(4_000..6_000)).into_future();
        let from = asks(ByteRange::from(7_000..)).into_future();
        let suffix = asks(ByteRange::suffix(1_000).unwrap()).into_future();
        let later = tokio::time::sleep(SECOND);
        let feeding = async {
            later.await;
            rest(feed);
        };
        let (parts, ()) = join(futures_util::future::join3(across, from, suffix), feeding).await;
        let (across, from, suffix) = (parts.0.unwrap(), parts.1.unwrap(), parts.2.unwrap());
        assert_eq!(suffix.range(), Some(9_000..10_000));
        for response in [&across, &from, &suffix] {
            assert!(response.status().is_joined());
        }
        assert_eq!(whole(across).await, object.slice(4_000..6_000));
        assert_eq!(whole(from).await, object.slice(7_000..));
        assert_eq!(whole(suffix).await, object.slice(9_000..));
        assert_eq!(whole(first).await, object);
        assert_eq!(origin.fetches(), 1, "length: {len:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn s37_a_condition_is_answered_by_the_flight_before_its_bytes_have_come() {
    let (cache, origin, feed, first) = half_way(Some(LEN)).await;
    let asks = |tag: &str| {
        let request = cache.get_or_fetch("a", origin.gives("other"));
        request.if_none_match(EntityTag::strong(tag).unwrap())
    };
    let same = asks("v1").await.unwrap();
    assert!(same.is_not_modified() && same.status().is_joined());
    let other = asks("v0").await.unwrap();
    rest(feed);
    assert_eq!(whole(other).await, pattern(10_000));
    drop(first);
    assert_eq!(origin.fetches(), 1);
}

/// A flight begun by a range stores the whole object.
#[tokio::test(start_paused = true)]
async fn s37_a_flight_that_a_range_began_serves_full_requests() {
    let cache = Cache::builder().tier(memory()).build().unwrap();
    let (origin, (feed, fetched)) = (Origin::default(), feed(Some(LEN)));
    let fetch = origin.does(async move |_| Ok(fetched));
    let part = cache.get_or_fetch("a", fetch).range(range(10..20));
    let part = part.await.unwrap();
    let full = cache.get("a").await.unwrap();
    feed.gives(pattern(5_000));
    rest(feed);
    assert_eq!(whole(part).await, pattern(10_000).slice(10..20));
    assert_eq!(whole(full).await, pattern(10_000));
    settle(&cache).await;
    let hit = cache.get("a").range(range(10..20)).await.unwrap();
    assert!(hit.status().is_hit());
    assert_eq!(whole(hit).await, pattern(10_000).slice(10..20));
}

#[tokio::test(start_paused = true)]
async fn s37_a_range_past_the_end_of_a_flight_is_invalid_for_its_reader_only() {
    for len in [Some(LEN), None] {
        let (cache, origin, feed, first) = half_way(len).await;
        let asks = |range| {
            let request = cache.get_or_fetch("a", origin.gives("other"));
            request.range(range).into_future()
        };
        let past = asks(range(9_999..10_001));
        let beyond = asks(ByteRange::from(10_000..));
        let feeding = async {
            sleep(SECOND).await;
            rest(feed);
        };
        let (asked, ()) = join(join(past, beyond), feeding).await;
        assert!(asked.0.unwrap_err().is_invalid(), "length: {len:?}");
        assert!(asked.1.unwrap_err().is_invalid(), "length: {len:?}");
        assert_eq!(whole(first).await, pattern(10_000));
        assert_eq!(origin.fetches(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_get_joins_a_flight_that_has_its_object_and_waits_for_no_fetch() {
    let cache = Cache::builder().tier(memory()).build().unwrap();
    let (origin, (feed, fetched)) = (Origin::default(), feed(Some(LEN)));
    let (answer, asked) = tokio::sync::oneshot::channel::<()>();
    let fetch = origin.does(async move |_| {
        let _ = asked.await;
        Ok(fetched)
    });
    let fetching = {
        let cache = cache.clone();
        tokio::spawn(async move { cache.get_or_fetch("a", fetch).await.unwrap() })
    };
    while origin.fetches() == 0 {
        tokio::task::yield_now().await;
    }
    let early = cache.get("a").await.unwrap();
    assert!(early.is_absent());
    assert_eq!(*early.status().source(), Source::Nowhere);
    drop(answer);
    let first = fetching.await.unwrap();
    let joined = cache.get("a").await.unwrap();
    assert!(joined.status().is_joined());
    feed.gives(pattern(5_000));
    rest(feed);
    assert_eq!(whole(joined).await, pattern(10_000));
    assert_eq!(whole(first).await, pattern(10_000));
}

/// While the tiers are still being asked, a `get` does not know whether they have it.
#[tokio::test(start_paused = true)]
async fn a_flight_begun_by_a_get_takes_the_fetcher_of_the_first_reader_that_has_one() {
    let cold = Faulty::new(Model::new());
    let builder = Cache::builder().tier(memory()).tier(cold.clone());
    let cache = builder.policy(strict()).build().unwrap();
    cold.faults().on(Op::Get).inject(Fault::Stall);
    let (first, second) = (Origin::default(), Origin::default());
    let lent = first.does(async |_| {
        sleep(SECOND).await;
        Ok(Fetched::bytes("lent"))
    });
    let reads = async {
        let get = cache.get("a").into_future();
        let lends = cache.get_or_fetch("a", lent).into_future();
        let keeps = cache.get_or_fetch("a", second.gives("kept")).into_future();
        futures_util::future::join3(get, lends, keeps).await
    };
    let releasing = async {
        cold.faults().until_stalled(1).await;
        cold.faults().release();
    };
    let ((get, lends, keeps), ()) = join(reads, releasing).await;
    assert!(get.unwrap().is_absent());
    assert_eq!(text(lends.unwrap()).await, "lent");
    let keeps = keeps.unwrap();
    assert!(keeps.status().is_joined());
    assert_eq!(text(keeps).await, "lent");
    assert_eq!((first.fetches(), second.fetches()), (1, 0));
    assert_eq!(cold.faults().calls(Op::Get), 1, "all in one flight");
}

#[tokio::test(start_paused = true)]
async fn a_get_lends_nothing_and_a_flight_of_gets_alone_finds_nothing() {
    let cold = Faulty::new(Model::new());
    let cache = Cache::builder().tier(memory()).tier(cold.clone());
    let cache = cache.build().unwrap();
    cold.faults().on(Op::Get).inject(Fault::Stall);
    let gets = join(cache.get("a").into_future(), cache.get("a").into_future());
    let releasing = async {
        cold.faults().until_stalled(1).await;
        cold.faults().release();
    };
    let ((first, second), ()) = join(gets, releasing).await;
    for response in [first.unwrap(), second.unwrap()] {
        assert!(response.is_absent());
        assert_eq!(*response.status().source(), Source::Nowhere);
    }
    assert_eq!(cold.faults().calls(Op::Get), 1, "they shared the look-up");
    assert_eq!(cache.counters().fetches, 0);
}

/// A read that comes between the end of a flight that found nothing and the next look-up.
#[tokio::test(start_paused = true)]
async fn a_reader_with_a_fetcher_is_never_told_that_there_is_nothing() {
    for gets in 0..20 {
        let cache = Cache::builder().tier(Model::new().lazy()).build().unwrap();
        let origin = Origin::default();
        let get = tokio::spawn({
            let cache = cache.clone();
            async move { cache.get("a").await.unwrap().is_absent() }
        });
        for _ in 0..gets {
            tokio::task::yield_now().await;
        }
        let response = cache.get_or_fetch("a", origin.gives("x")).await.unwrap();
        assert_eq!(text(response).await, "x", "{gets} yields later");
        get.await.unwrap();
        assert_eq!(origin.fetches(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_joiner_takes_what_is_young_enough_for_it_and_else_fetches_anew() {
    let clock = clock();
    let builder = Cache::builder().tier(memory_at(&clock)).policy(strict());
    let cache = builder.clock(clock.clone()).build().unwrap();
    let origin = Origin::default();
    let ages = clock.clone();
    let slow = origin.does(async move |_| {
        sleep(SECOND).await;
        ages.advance(10 * SECOND);
        Ok(Fetched::bytes("first"))
    });
    let first = cache.get_or_fetch("a", slow).into_future();
    let asks = |seconds: u32, text: &'static str| {
        let request = cache.get_or_fetch("a", origin.gives(text));
        request.max_age(seconds * SECOND).into_future()
    };
    let both = join(asks(20, "lenient"), asks(5, "strict"));
    let (first, (lenient, strict)) = join(first, both).await;
    assert_eq!(text(first.unwrap()).await, "first");
    assert_eq!(text(lenient.unwrap()).await, "first");
    assert_eq!(text(strict.unwrap()).await, "strict");
    assert_eq!(origin.fetches(), 2);
    settle(&cache).await;
    let stored = cache.get("a").await.unwrap();
    assert_eq!(text(stored).await, "strict", "the younger one stays");
}

#[tokio::test(start_paused = true)]
async fn a_bound_on_age_passes_over_tiers_that_hold_older_objects() {
    let clock = clock();
    let (hot, cold) = (memory_at(&clock), memory_at(&clock));
    let builder = Cache::builder().tier(hot.clone()).tier(cold.clone());
    let builder = builder.policy(strict()).clock(clock.clone());
    let cache = builder.build().unwrap();
    let origin = Origin::default();
    cache.insert("a", "old", Draft::new()).await.unwrap();
    clock.advance(20 * SECOND);
    let asks = |seconds: u32| {
        let request = cache.get_or_fetch("a", origin.gives("new"));
        request.max_age(seconds * SECOND)
    };
    let old = asks(20).await.unwrap();
    assert_eq!(old.status().age(), 20 * SECOND);
    assert_eq!(text(old).await, "old");
    let new = asks(19).await.unwrap();
    assert_eq!(new.status().age(), Duration::ZERO);
    assert_eq!(text(new).await, "new");
    settle(&cache).await;
    for store in [hot, cold] {
        assert_eq!(store.read("a", 9).await.unwrap().unwrap(), "new");
    }
    let any = cache.get("a").if_none_match(IfNoneMatch::ANY);
    assert!(any.await.unwrap().is_not_modified());
}
