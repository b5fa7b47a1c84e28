//! Ranges past the end: an error for who asks, and for nobody else.

use bytes::Bytes;
use futures_util::stream;
use larder::{ByteRange, Cache, Draft, Error, ErrorKind, Fetched, Tier};
use larder_conformance::Model;

use crate::support::{Origin, at_rest, faulty, impatient, put, text};

fn range(from: u64, to: u64) -> ByteRange {
    ByteRange::try_from(from..to).unwrap()
}

fn assert_past_the_end(error: &Error, from: u64, to: u64, len: u64) {
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    let message = format!("the range {from}..{to} reaches past the end of {len} bytes");
    assert_eq!(error.to_string(), message);
}

#[tokio::test(start_paused = true)]
async fn past_the_end_of_a_hit_is_invalid_and_asks_no_origin() {
    for store in [Model::new(), Model::new().whole(), Model::new().lazy()] {
        let cache = impatient().tier(store).build().unwrap();
        cache.insert("a", "hello", Draft::new()).await.unwrap();
        let origin = Origin::default();
        let read = cache.get_or_fetch("a", origin.gives("not wanted"));
        assert_past_the_end(&read.range(range(3, 9)).await.unwrap_err(), 3, 9, 5);
        let read = cache.get("a").range(5..);
        assert_past_the_end(&read.await.unwrap_err(), 5, 5, 5);
        at_rest(&cache).await;
        assert_eq!(origin.fetches(), 0);
        let counters = cache.tiers()[0].counters;
        assert_eq!(
            (counters.errors, counters.fills),
            (0, 1),
            "the tier has done nothing wrong"
        );
        let whole = cache.get("a").range(ByteRange::suffix(9).unwrap());
        assert_eq!(
            text(whole.await.unwrap()).await,
            "hello",
            "a suffix may be longer"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn past_the_end_of_a_lower_tiers_hit_is_invalid_and_the_object_moves_up_all_the_same() {
    let (upper, lower) = (faulty(), faulty());
    put(&lower, "hello").await;
    let cache = impatient()
        .tier(upper)
        .tier(Tier::new(lower))
        .build()
        .unwrap();
    let error = cache.get("a").range(range(3, 9)).await.unwrap_err();
    assert_past_the_end(&error, 3, 9, 5);
    at_rest(&cache).await;
    assert_eq!(cache.usage()[0].entries, 1);
}

/// What an origin gives whose object is `hello`, in two chunks or whole.
fn hello(len: Option<u64>, whole: bool) -> Fetched {
    if whole {
        return Fetched::bytes("hello");
    }
    let chunks = ["hel", "lo"].map(|chunk| Ok::<_, Error>(Bytes::from_static(chunk.as_bytes())));
    Fetched::stream(len, stream::iter(chunks))
}

#[tokio::test(start_paused = true)]
async fn past_the_end_of_a_miss_is_invalid_and_what_was_fetched_is_stored() {
    for (len, whole) in [(None, true), (Some(5), false), (None, false)] {
        for (asked, from, to) in [
            (range(3, 9), 3, 9),
            (range(7, 9), 7, 9),
            ((7..).into(), 7, 5),
        ] {
            let cache = impatient().tier(faulty()).tier(faulty()).build().unwrap();
            let origin = Origin::default();
            let fetch = origin.does(async move |_| Ok(hello(len, whole)));
            let error = cache.get_or_fetch("a", fetch).range(asked).await;
            assert_past_the_end(&error.unwrap_err(), from, to, 5);
            at_rest(&cache).await;
            assert!(cache.usage().iter().all(|usage| usage.entries == 1));
            assert_eq!(text(cache.get("a").await.unwrap()).await, "hello");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn past_the_end_of_a_flight_fails_who_asked_and_not_the_others() {
    for len in [Some(5), None] {
        let cache = impatient().tier(faulty()).build().unwrap();
        let origin = Origin::default();
        let fetch = || origin.does(async move |_| Ok(hello(len, false)));
        let (whole, past, part) = tokio::join!(
            cache.get_or_fetch("a", fetch()),
            cache.get_or_fetch("a", fetch()).range(range(3, 9)),
            cache.get_or_fetch("a", fetch()).range(range(3, 5)),
        );
        assert_past_the_end(&past.unwrap_err(), 3, 9, 5);
        assert_eq!(text(whole.unwrap()).await, "hello");
        assert_eq!(text(part.unwrap()).await, "lo");
        assert_eq!(origin.fetches(), 1);
        at_rest(&cache).await;
        assert_eq!(cache.usage()[0].entries, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn only_the_full_range_of_an_empty_object_is_valid() {
    let cache: Cache = impatient().tier(faulty()).build().unwrap();
    let miss = cache
        .get_or_fetch("a", Origin::default().gives(""))
        .range(range(0, 1));
    assert_past_the_end(&miss.await.unwrap_err(), 0, 1, 0);
    at_rest(&cache).await;
    let hit = cache.get("a").range(ByteRange::suffix(1).unwrap());
    assert_past_the_end(&hit.await.unwrap_err(), 0, 0, 0);
    assert_eq!(text(cache.get("a").range(0..).await.unwrap()).await, "");
}
