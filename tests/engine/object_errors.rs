//! One object that always fails: the tier keeps working, and the entry heals at the next fetch.

use bytes::Bytes;
use larder::{
    Breaker, ByteRange, Cache, Draft, Error, ErrorKind, Fetched, Promote, StoreExt, Tier,
};
use larder_conformance::{Fault, Faulty, Model, Op};

use crate::{
    source::pattern,
    support::{Origin, SECOND, clock, faulty, impatient, memory, put, settle, strict, text},
};

/// The kinds that speak of one object.
const OF_OBJECT: [ErrorKind; 4] = [
    ErrorKind::Corrupt,
    ErrorKind::Other,
    ErrorKind::Invalid,
    ErrorKind::TooLarge,
];

/// The kinds that speak of a whole tier.
const OF_TIER: [ErrorKind; 2] = [ErrorKind::Unavailable, ErrorKind::Unsupported];

/// A tier whose breaker opens at the second failure in a row.
fn wary(store: &Faulty<Model>) -> Tier {
    let breaker = Breaker::new().failures(2).pause(60 * SECOND, 60 * SECOND);
    Tier::new(store.clone()).breaker(breaker)
}

fn alone(store: &Faulty<Model>) -> Cache {
    impatient().tier(wary(store)).build().unwrap()
}

fn below(store: &Faulty<Model>) -> Cache {
    let tier = wary(store).promote(Promote::Never);
    impatient().tier(memory()).tier(tier).build().unwrap()
}

/// Fetches through the cache; gives what a caller reads.
async fn read(cache: &Cache, origin: &Origin, bytes: &'static str) -> String {
    let response = cache.get_or_fetch("a", origin.gives(bytes)).await.unwrap();
    text(response).await
}

#[tokio::test]
async fn s90_an_entry_that_cannot_be_opened_is_replaced_by_the_next_fetch() {
    for kind in OF_OBJECT {
        let store = faulty();
        put(&store, "old").await;
        let (cache, origin) = (alone(&store), Origin::default());
        let unreadable = || store.faults().on(Op::Get).key("a");
        unreadable().always(Fault::Fail(kind));
        assert_eq!(read(&cache, &origin, "new").await, "new");
        settle(&cache).await;
        store.faults().clear();
        for _ in 0..10 {
            assert_eq!(read(&cache, &origin, "newer").await, "new", "{kind:?}");
        }
        assert_eq!(origin.fetches(), 1, "{kind:?}");
        assert_eq!(cache.tiers()[0].counters.spared, 0, "the breaker is closed");
    }
}

#[tokio::test]
async fn s90_ten_failing_reads_do_not_open_the_breaker() {
    for kind in OF_OBJECT {
        let store = faulty();
        put(&store, "old").await;
        let (cache, origin) = (alone(&store), Origin::default());
        let always = Fault::Fail(kind);
        store.faults().on(Op::Get).key("a").always(always);
        for _ in 0..10 {
            assert_eq!(read(&cache, &origin, "new").await, "new");
            settle(&cache).await;
        }
        let other = cache.get_or_fetch("b", origin.gives("b")).await.unwrap();
        assert_eq!(text(other).await, "b");
        settle(&cache).await;
        let other = cache.get("b").await.unwrap();
        assert!(other.status().is_hit(), "{kind:?}");
        assert_eq!(cache.tiers()[0].counters.spared, 0, "{kind:?}");
    }
}

#[tokio::test]
async fn s90_a_tier_that_fails_as_a_whole_is_not_filled() {
    for kind in OF_TIER {
        let store = faulty();
        put(&store, "old").await;
        let tier = Tier::new(store.clone());
        let cache = impatient().tier(tier).build().unwrap();
        let origin = Origin::default();
        store
            .faults()
            .on(Op::Get)
            .key("a")
            .always(Fault::Fail(kind));
        assert_eq!(read(&cache, &origin, "new").await, "new");
        settle(&cache).await;
        assert_eq!(
            store.faults().calls(Op::Set),
            1,
            "only the test's: {kind:?}"
        );
    }
}

#[tokio::test]
async fn s90_below_another_tier_it_is_replaced_as_well() {
    for kind in OF_OBJECT {
        let store = faulty();
        put(&store, "old").await;
        let (cache, origin) = (below(&store), Origin::default());
        store
            .faults()
            .on(Op::Get)
            .key("a")
            .inject(Fault::Fail(kind));
        assert_eq!(read(&cache, &origin, "new").await, "new");
        settle(&cache).await;
        let kept = store.inner().read("a", 64).await.unwrap().unwrap();
        assert_eq!(kept, "new", "{kind:?}");
    }
}

#[tokio::test]
async fn s90_where_the_new_object_is_not_admitted_the_broken_one_goes() {
    let store = faulty();
    put(&store, "old").await;
    let tier = wary(&store).object_max(4);
    let cache = impatient().tier(tier).build().unwrap();
    let origin = Origin::default();
    let fault = Fault::Fail(ErrorKind::Corrupt);
    store.faults().on(Op::Get).key("a").always(fault);
    assert_eq!(read(&cache, &origin, "a long one").await, "a long one");
    settle(&cache).await;
    assert_eq!(store.inner().read("a", 64).await.unwrap(), None);
}

#[tokio::test]
async fn s90_a_hit_below_replaces_what_cannot_be_read_above() {
    let (upper, lower) = (faulty(), faulty());
    put(&upper, "broken").await;
    put(&lower, "sound").await;
    let cache = impatient()
        .tier(wary(&upper))
        .tier(lower.clone())
        .build()
        .unwrap();
    let fault = Fault::Fail(ErrorKind::Corrupt);
    upper.faults().on(Op::Get).key("a").times(2).inject(fault);
    assert_eq!(text(cache.get("a").await.unwrap()).await, "sound");
    settle(&cache).await;
    let kept = upper.inner().read("a", 64).await.unwrap().unwrap();
    assert_eq!(kept, "sound");
}

#[tokio::test]
async fn s90_a_range_that_does_not_fit_is_no_error_of_a_tier() {
    let past: ByteRange = (100..200).try_into().unwrap();
    for over in [alone, below] {
        let store = faulty();
        put(&store, "short").await;
        let cache = over(&store);
        for _ in 0..5 {
            let error = cache.get("a").range(past).await.unwrap_err();
            assert!(error.is_invalid(), "{error}");
            settle(&cache).await;
        }
        for tier in cache.tiers() {
            assert_eq!((tier.counters.errors, tier.counters.spared), (0, 0));
        }
        assert_eq!(text(cache.get("a").await.unwrap()).await, "short");
    }
}

/// The object is replaced by a shorter one between the look and the read of a range.
#[tokio::test]
async fn s90_a_range_that_fits_no_more_is_no_error_of_a_tier() {
    let store = Faulty::new(Model::new().chunked(1_000));
    let written = store.write("a", pattern(10_000), Draft::new()).await;
    assert!(written.unwrap().is_done());
    let cache = below(&store);
    // The look of the flight is the first call, the reader's own the second.
    let delay = Fault::Delay(SECOND);
    store.faults().on(Op::Get).nth(2).inject(delay);
    let range: ByteRange = (5_000..6_000).try_into().unwrap();
    let read = tokio::spawn({
        let cache = cache.clone();
        async move { cache.get("a").range(range).await }
    });
    while store.faults().calls(Op::Get) < 2 {
        tokio::time::sleep(SECOND / 1_000).await;
    }
    put(store.inner(), "short").await;
    // The flight still has the older one open.
    let body = read.await.unwrap().unwrap().into_body().unwrap();
    let bytes = body.bytes(1_000).await.unwrap();
    assert!(bytes == pattern(10_000).slice(5_000..6_000));
    assert_eq!(cache.tiers()[1].counters.errors, 0);
}

/// A stale copy that cannot be read is no copy: the fetch is not asked about it.
#[tokio::test]
async fn s90_the_origin_is_not_asked_about_what_cannot_be_read() {
    let (store, time) = (faulty(), clock());
    let cache = Cache::builder()
        .policy(strict())
        .clock(time.clone())
        .tier(store.clone())
        .build()
        .unwrap();
    cache.insert("a", "old", Draft::new()).await.unwrap();
    time.advance(120 * SECOND);
    let fault = Fault::Fail(ErrorKind::Corrupt);
    store.faults().on(Op::Get).always(fault);
    let fetch = async |context: larder::FetchContext| {
        assert!(context.stale().is_none());
        Ok::<_, Error>(Fetched::bytes(Bytes::from_static(b"new")))
    };
    assert_eq!(
        text(cache.get_or_fetch("a", fetch).await.unwrap()).await,
        "new"
    );
}
