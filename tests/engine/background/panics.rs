//! S45: whatever panics, the worker lives, and every lease, marker and count is given back.

use bytes::Bytes;
use futures_util::stream;
use larder::{Cache, Counters, Draft, Error, Fetched, Store, Tier};
use larder_conformance::{Fault, Faulty, Model, Op};

use super::{make_stale, patient_with_stale};
use crate::support::{Origin, assert_clean, at_rest, faulty, impatient, put, text};

/// A source that panics after its first bytes.
fn panicking() -> Fetched {
    let chunks = stream::unfold(0, async |count| {
        assert_eq!(count, 0, "injected into the source");
        Some((Ok::<_, Error>(Bytes::from_static(b"one")), 1))
    });
    Fetched::stream(None, Box::pin(chunks))
}

/// Refreshes with a fetcher that panics, here or in its source, where there is one slot for a
/// refresh and one for a fetch; the next refresh must find them free.
async fn a_refresh_survives(in_source: bool) -> Counters {
    let store = faulty();
    let (cache, clock) = patient_with_stale();
    let cache = cache.refreshes(1, 1).fetches_max(1).tier(store.clone());
    let cache = cache.build().unwrap();
    make_stale(&cache, &clock, &["a"]).await;
    let origin = Origin::default();
    let panics = origin.does(async move |_| {
        assert!(in_source, "injected into the fetcher");
        Ok(panicking())
    });
    assert!(
        cache
            .get_or_fetch("a", panics)
            .await
            .unwrap()
            .status()
            .is_stale()
    );
    at_rest(&cache).await;
    assert_clean(&store);
    let stale = cache.get_or_fetch("a", origin.gives("new")).await.unwrap();
    assert_eq!(text(stale).await, "old", "the panic has changed nothing");
    at_rest(&cache).await;
    assert_eq!(text(cache.get("a").await.unwrap()).await, "new");
    assert_eq!(origin.fetches(), 2);
    cache.counters()
}

#[tokio::test(start_paused = true)]
async fn s45_a_refresh_whose_fetcher_panics_gives_everything_back() {
    let counters = a_refresh_survives(false).await;
    assert_eq!((counters.fetch_errors, counters.background_panics), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn s45_a_refresh_whose_source_panics_gives_everything_back() {
    let counters = a_refresh_survives(true).await;
    assert_eq!((counters.fetch_errors, counters.background_panics), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn s45_a_source_that_panics_costs_its_readers_an_error_and_the_key_nothing() {
    let store = faulty();
    let cache = impatient()
        .fetches_max(1)
        .tier(store.clone())
        .build()
        .unwrap();
    let fetch = Origin::default().does(async |_| Ok(panicking()));
    let mut body = cache
        .get_or_fetch("a", fetch)
        .await
        .unwrap()
        .into_body()
        .unwrap();
    assert_eq!(body.chunk().await.unwrap().unwrap(), "one");
    let error = body.chunk().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the flight was lost: its source panicked, or its runtime ended"
    );
    at_rest(&cache).await;
    assert_clean(&store);
    let again = cache
        .get_or_fetch("a", Origin::default().gives("new"))
        .await;
    assert_eq!(text(again.unwrap()).await, "new");
}

/// A tier over one that panics in this operation, at its next call.
fn over_panicking(op: Op, behind: bool) -> (Cache, Faulty<Model>) {
    let store = faulty();
    store.faults().on(op).inject(Fault::Panic);
    let lower = Tier::new(store.clone());
    let lower = if behind { lower.behind() } else { lower };
    // The queue has room for one write of three bytes, so that a count that leaks is noticed.
    let cache = impatient().behind_queue(1, 3).tier(faulty()).tier(lower);
    (cache.build().unwrap(), store)
}

#[tokio::test(start_paused = true)]
async fn s45_a_set_during_which_a_tier_panics_gives_everything_back() {
    for op in [Op::Set, Op::Write, Op::Commit] {
        let (cache, store) = over_panicking(op, false);
        let written = cache.insert("a", "one", Draft::new()).await.unwrap();
        assert_eq!((written.tiers, store.usage().entries), (1, 0), "{op:?}");
        at_rest(&cache).await;
        assert_clean(&store);
        let written = cache.insert("a", "two", Draft::new()).await.unwrap();
        assert_eq!((written.tiers, store.usage().entries), (2, 1), "{op:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn s45_a_fill_during_which_a_tier_panics_gives_everything_back() {
    for op in [Op::Get, Op::Set, Op::Write, Op::Commit] {
        let (cache, store) = over_panicking(op, false);
        let fetched = cache
            .get_or_fetch("a", Origin::default().gives("one"))
            .await;
        assert_eq!(text(fetched.unwrap()).await, "one", "{op:?}");
        at_rest(&cache).await;
        assert_clean(&store);
        let fetched = cache.refresh("a", Origin::default().gives("two")).await;
        assert_eq!(text(fetched.unwrap()).await, "two");
        at_rest(&cache).await;
        assert_eq!(store.usage().entries, 1, "{op:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn s45_a_write_behind_that_panics_gives_its_place_and_its_bytes_back() {
    for op in [Op::Set, Op::Write, Op::Commit] {
        let (cache, store) = over_panicking(op, true);
        let written = cache.insert("a", "one", Draft::new()).await.unwrap();
        assert_eq!(written.tiers, 2, "one of them behind");
        at_rest(&cache).await;
        assert_clean(&store);
        assert_eq!(store.usage().entries, 0, "{op:?}");
        cache.insert("b", "two", Draft::new()).await.unwrap();
        at_rest(&cache).await;
        assert_eq!(store.usage().entries, 1, "{op:?}");
        assert_eq!(cache.counters().behind_dropped, 0, "{op:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn s45_a_copy_upward_that_panics_gives_everything_back() {
    for op in [Op::Get, Op::Set, Op::Write, Op::Commit] {
        let (upper, lower) = (faulty(), Model::new());
        upper.faults().on(op).inject(Fault::Panic);
        put(&lower, "one").await;
        let cache = impatient().tier(upper.clone()).tier(lower).build().unwrap();
        assert_eq!(text(cache.get("a").await.unwrap()).await, "one", "{op:?}");
        at_rest(&cache).await;
        assert_clean(&upper);
        assert_eq!(text(cache.get("a").await.unwrap()).await, "one");
        at_rest(&cache).await;
        assert_eq!(upper.usage().entries, 1, "the second hit copies it: {op:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn s45_a_delete_that_panics_gives_its_turn_back_and_can_be_done_again() {
    let (cache, store) = over_panicking(Op::Delete, false);
    cache.insert("a", "one", Draft::new()).await.unwrap();
    let error = cache.delete("a").await.unwrap_err();
    assert_eq!(error.to_string(), "deleting panicked in the tier model");
    assert_eq!(
        (cache.in_flight().turns, cache.in_flight().suspects),
        (0, 1)
    );
    assert!(cache.get("a").await.unwrap().is_absent());
    cache.delete("a").await.unwrap();
    at_rest(&cache).await;
    assert_eq!(store.usage().entries, 0);
}

#[tokio::test(start_paused = true)]
async fn s45_an_abort_that_would_panic_hurts_nobody() {
    let store = faulty();
    store.faults().on(Op::Abort).always(Fault::Panic);
    let (cache, clock) = patient_with_stale();
    let cache = cache.refreshes(1, 1).tier(store.clone()).build().unwrap();
    make_stale(&cache, &clock, &["a"]).await;
    let broken = Origin::default().does(async |_| {
        let first = Ok(Bytes::from_static(b"half"));
        let chunks = [first, Err(crate::support::broken())];
        Ok(Fetched::stream(None, stream::iter(chunks)))
    });
    assert!(
        cache
            .get_or_fetch("a", broken)
            .await
            .unwrap()
            .status()
            .is_stale()
    );
    at_rest(&cache).await;
    let mut writer = cache.set_with_writer("a", Draft::new()).await.unwrap();
    writer.write("half").await.unwrap();
    writer.abort();
    at_rest(&cache).await;
    assert_clean(&store);
    assert_eq!(
        text(cache.get("a").allow_stale().await.unwrap()).await,
        "old"
    );
    assert_eq!(cache.counters().background_panics, 0);
}
