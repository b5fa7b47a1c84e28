//! Bad input: each a clear error, and nothing lost by it.

mod closed;
mod lengths;
mod ranges;
mod settings;

use larder::{Cache, Draft, Error, ErrorKind, Fetched, Policy, Store};

use crate::support::{Origin, SECOND, assert_clean, at_rest, faulty, impatient, text};

/// The error of each verb that takes a key.
async fn errors(cache: &Cache, key: &str) -> Vec<Error> {
    let origin = Origin::default();
    let errors = vec![
        cache.get(key).await.unwrap_err(),
        cache
            .get_or_fetch(key, origin.gives("x"))
            .await
            .unwrap_err(),
        cache.refresh(key, origin.gives("x")).await.unwrap_err(),
        cache.insert(key, "x", Draft::new()).await.unwrap_err(),
        cache.set_with_writer(key, Draft::new()).await.unwrap_err(),
        cache.delete(key).await.unwrap_err(),
        cache.stat(key).await.unwrap_err(),
    ];
    assert_eq!(origin.fetches(), 0, "nothing is fetched for it");
    errors
}

#[tokio::test(start_paused = true)]
async fn keys_that_are_empty_or_too_long_are_refused_by_every_verb() {
    let cache = impatient().tier(faulty()).build().unwrap();
    let long = "k".repeat(5000);
    let messages = [
        ("", "the key is empty"),
        (&long, "the key has 5000 bytes, at most 4096 are allowed"),
    ];
    for (key, message) in messages {
        for error in errors(&cache, key).await {
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert_eq!(error.to_string(), message);
        }
    }
    at_rest(&cache).await;
    assert_eq!(cache.usage()[0].entries, 0);
}

#[tokio::test(start_paused = true)]
async fn the_longest_key_and_the_oddest_ones_work_with_every_verb() {
    let cache = impatient().tier(faulty()).tier(faulty()).build().unwrap();
    let longest = "é".repeat(2048);
    for key in [&longest, "/", "..", "a/../b", "\0", "\n", "A", "a", " "] {
        let fetched = cache
            .get_or_fetch(key, Origin::default().gives(key.to_owned()))
            .await;
        assert_eq!(text(fetched.unwrap()).await, key);
        at_rest(&cache).await;
    }
    for key in [&longest, "/", "..", "a/../b", "\0", "\n", "A", "a", " "] {
        assert_eq!(text(cache.get(key).await.unwrap()).await, key);
        assert!(cache.stat(key).await.unwrap().is_some());
        cache.delete(key).await.unwrap();
    }
    assert!(cache.usage().iter().all(|usage| usage.entries == 0));
}

#[tokio::test(start_paused = true)]
async fn not_modified_without_a_stale_copy_is_an_error_and_stores_nothing() {
    let store = faulty();
    let cache = impatient().tier(store.clone()).build().unwrap();
    let not_modified = Origin::default().does(async |context| {
        assert!(context.etag().is_none() && context.stale().is_none());
        Ok(Fetched::not_modified())
    });
    let error = cache.get_or_fetch("a", not_modified).await.unwrap_err();
    assert!(error.is_invalid());
    assert_eq!(
        error.to_string(),
        "the fetcher said \"not modified\" though it was not asked about a stale copy"
    );
    at_rest(&cache).await;
    assert_clean(&store);
    assert_eq!(store.usage().entries, 0);
    let again = cache.get_or_fetch("a", Origin::default().gives("x")).await;
    assert_eq!(text(again.unwrap()).await, "x");
}

#[tokio::test(start_paused = true)]
async fn lifetimes_of_a_request_that_contradict_are_refused_before_anything_is_done() {
    let cache = impatient().tier(faulty()).build().unwrap();
    cache.insert("a", "there", Draft::new()).await.unwrap();
    let error_ttl = Policy::new().error_ttl(2 * SECOND).stale_if_error(SECOND);
    let endless = Policy::new()
        .ttl(std::time::Duration::MAX)
        .stale_while_revalidate(SECOND);
    let refused = [
        (
            Policy::new().jitter(1.5),
            "jitter is a share of the ttl, from 0.0 to 1.0",
        ),
        (
            error_ttl,
            "error_ttl is longer than stale_if_error, which is to bridge it",
        ),
        (
            endless,
            "a ttl that never ends leaves nothing to be stale after it",
        ),
    ];
    for (policy, message) in refused {
        let origin = Origin::default();
        for key in ["a", "b"] {
            let read = cache.get_or_fetch(key, origin.gives("x")).policy(policy);
            let error = read.await.unwrap_err();
            assert_eq!(
                (error.kind(), error.to_string().as_str()),
                (ErrorKind::Invalid, message)
            );
        }
        assert_eq!(origin.fetches(), 0);
    }
    assert_eq!(text(cache.get("a").await.unwrap()).await, "there");
}

#[tokio::test(start_paused = true)]
async fn odd_lifetimes_of_an_origin_fail_no_read_and_lengthen_nothing() {
    let cache = impatient().tier(faulty()).build().unwrap();
    for jitter in [-5.0, 5.0, f64::NAN, f64::INFINITY] {
        let odd = Policy::new().ttl(10 * SECOND).jitter(jitter);
        let fetch = Origin::default().does(async move |_| Ok(Fetched::bytes("x").policy(odd)));
        assert_eq!(text(cache.refresh("a", fetch).await.unwrap()).await, "x");
        at_rest(&cache).await;
        let metadata = cache.stat("a").await.unwrap().expect("it is stored");
        assert!(
            metadata.ttl.unwrap() <= 10 * SECOND,
            "{jitter}: {:?}",
            metadata.ttl
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_too_many_is_refused_and_those_that_need_no_flight_are_not() {
    let cache = impatient().flights_max(2).tier(faulty()).build().unwrap();
    cache.insert("hit", "there", Draft::new()).await.unwrap();
    let (answer, answered) = tokio::sync::watch::channel(());
    let slow = || {
        let mut answered = answered.clone();
        Origin::default().does(async move |_| {
            answered.changed().await.unwrap();
            Ok(Fetched::bytes("slow"))
        })
    };
    let read = |key: &'static str| {
        let (cache, slow) = (cache.clone(), slow());
        tokio::spawn(async move { text(cache.get_or_fetch(key, slow).await.unwrap()).await })
    };
    let (first, second) = (read("a"), read("b"));
    while cache.counters().fetches < 2 {
        tokio::task::yield_now().await;
    }
    let third = cache.get_or_fetch("c", Origin::default().gives("x")).await;
    let error = third.unwrap_err();
    assert!(error.is_full());
    assert_eq!(error.to_string(), "too many flights are under way");
    assert_eq!(cache.counters().flights_refused, 1);
    assert_eq!(text(cache.get("hit").await.unwrap()).await, "there");
    let joiner = read("a");
    tokio::task::yield_now().await;
    answer.send(()).unwrap();
    for read in [first, second, joiner] {
        assert_eq!(read.await.unwrap(), "slow");
    }
    at_rest(&cache).await;
    let again = cache.get_or_fetch("c", Origin::default().gives("x")).await;
    assert_eq!(text(again.unwrap()).await, "x");
}
