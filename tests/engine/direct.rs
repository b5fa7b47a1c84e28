//! Bodies that come straight from a tier, with no flight in between: they go on from the origin
//! where the tier breaks off, and are cut where it gives nothing.

use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, future::join, stream};
use larder::{
    Body, ByteRange, Cache, Draft, EntityTag, Error, ErrorKind, Fetched, InFlight, Key, Metadata,
    Promote, Response, Result, Source, Store, StoreExt, Tier, Usage,
};
use larder_conformance::{Fault, Faulty, Model, Op};
use larder_store::{Commit, Fence, Lookup, Object, Reply, Touch, Writer};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, timeout},
};

use crate::{
    source::{feed, pattern, to_the_end, whole},
    support::{
        Origin, SECOND, assert_clean, at_rest, broken, clock, faulty, impatient, memory, settle,
        stale_is_served, strict, text,
    },
};

const LEN: usize = 100_000;
const CHUNK: usize = 1_000;
const BROKEN: Fault = Fault::Fail(ErrorKind::Corrupt);

/// How the body comes from the tier.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    /// As a hit in the first tier, which answers at once.
    First,
    /// As one that takes its time.
    Late,
    /// Through a flight that has nothing to fill.
    Below,
}

const WAYS: [Way; 3] = [Way::First, Way::Late, Way::Below];

/// A store whose look-ups need no wait, as those of a store in memory.
#[derive(Debug)]
struct Prompt {
    store: Faulty<Model>,
    /// After how many chunks its bodies end, as if that were all; their length is not known.
    ends_after: Option<usize>,
}

impl Prompt {
    fn new(store: &Faulty<Model>) -> Self {
        Self {
            store: store.clone(),
            ends_after: None,
        }
    }
}

impl Store for Prompt {
    fn get_stream<'a>(&'a self, key: Key<'a>, range: ByteRange) -> Reply<'a, Lookup> {
        let reply = self.store.get_stream(key, range).now_or_never();
        let found = reply.expect("no fault is for look-ups");
        Reply::ready(found.map(|found| match (found, self.ends_after) {
            (Lookup::Hit(object), Some(chunks)) => {
                let body = Body::stream(None, object.body.take(chunks));
                Lookup::Hit(Object { body, ..object })
            }
            (found, _) => found,
        }))
    }

    fn set_with_writer<'a>(&'a self, key: Key<'a>, draft: Draft) -> Reply<'a, Box<dyn Writer>> {
        self.store.set_with_writer(key, draft)
    }

    fn delete<'a>(&'a self, key: Key<'a>, fence: Option<Fence>) -> Reply<'a, Commit> {
        self.store.delete(key, fence)
    }

    fn stat<'a>(&'a self, key: Key<'a>) -> Reply<'a, Option<Arc<Metadata>>> {
        self.store.stat(key)
    }

    fn fence<'a>(&'a self, key: Key<'a>) -> Reply<'a, Fence> {
        self.store.fence(key)
    }

    fn kind(&self) -> &'static str {
        "prompt"
    }

    fn object_max(&self) -> Option<u64> {
        self.store.object_max()
    }

    fn usage(&self) -> Usage {
        self.store.usage()
    }

    fn close(&self) -> Reply<'_, ()> {
        self.store.close()
    }

    fn as_touch(&self) -> Option<&dyn Touch> {
        self.store.as_touch()
    }
}

fn tagged(draft: Draft, tag: Option<EntityTag>) -> Draft {
    draft.with(|header| header.etag = tag)
}

fn v1() -> EntityTag {
    EntityTag::strong("v1").unwrap()
}

/// A store that has the object under this tag.
async fn stored(tag: Option<EntityTag>) -> Faulty<Model> {
    let store = Faulty::new(Model::new().chunked(CHUNK));
    let write = store.write("a", pattern(LEN), tagged(Draft::new(), tag));
    assert!(write.await.unwrap().is_done());
    store
}

/// A cache over that store. What is silent has ten seconds.
fn over(way: Way, store: &Faulty<Model>) -> Cache {
    let builder = match way {
        Way::First => impatient().tier(Prompt::new(store)),
        Way::Late => impatient().tier(store.clone()),
        Way::Below => {
            let below = Tier::new(store.clone()).promote(Promote::Never);
            impatient().tier(memory()).tier(below)
        }
    };
    builder.build().unwrap()
}

async fn cache(way: Way) -> (Cache, Faulty<Model>) {
    let store = stored(Some(v1())).await;
    (over(way, &store), store)
}

/// What the origin has: the same object.
fn same() -> Fetched {
    Fetched::bytes(pattern(LEN)).etag(v1())
}

fn body(response: Response) -> Body {
    response.into_body().unwrap()
}

/// The bytes of a body that ends well.
async fn bytes(response: Response) -> Bytes {
    assert!(matches!(response.status().source(), Source::Tier { .. }));
    whole(response).await
}

#[tokio::test(start_paused = true)]
async fn s23_the_origin_goes_on_where_the_tier_breaks_off() {
    let ranges = [
        (ByteRange::FULL, 0..LEN),
        (ByteRange::try_from(10_500..70_500).unwrap(), 10_500..70_500),
        (ByteRange::suffix(40_000).unwrap(), LEN - 40_000..LEN),
    ];
    for (way, (range, part)) in WAYS
        .into_iter()
        .flat_map(|way| ranges.clone().map(|of| (way, of)))
    {
        let (cache, store) = cache(way).await;
        store.faults().on(Op::Body).nth(5).inject(BROKEN);
        let origin = Origin::default();
        let fetch = origin.does(async |context| {
            assert!(context.etag().is_none(), "\"not modified\" has no bytes");
            Ok(same())
        });
        let read = cache.get_or_fetch("a", fetch).range(range);
        let response = read.await.unwrap();
        let asked = part.start as u64..part.end as u64;
        assert_eq!(response.range(), Some(asked), "{way:?}");
        let given = body(response).bytes(1 << 20).await;
        assert_eq!(given.unwrap(), pattern(LEN).slice(part), "{way:?}");
        assert_eq!((origin.fetches(), cache.counters().fetches), (1, 1));
        at_rest(&cache).await;
        let tier = cache.tiers().pop().unwrap();
        assert_eq!(tier.counters.errors, 1, "{way:?}");
        assert_eq!(tier.counters.fills, 1, "the tier has a new copy");
        assert_clean(&store);
    }
}

#[tokio::test(start_paused = true)]
async fn s23_a_body_that_comes_as_a_stream_goes_on_as_well() {
    for (way, len) in WAYS
        .into_iter()
        .flat_map(|way| [(way, Some(LEN as u64)), (way, None)])
    {
        let (cache, store) = cache(way).await;
        store.faults().on(Op::Body).nth(5).inject(BROKEN);
        let (feed, fetched) = feed(len);
        let fetch = Origin::default().does(async move |_| Ok(fetched.etag(v1())));
        let response = cache.get_or_fetch("a", fetch).await.unwrap();
        let fed = async {
            for at in (0..LEN).step_by(700) {
                feed.gives(pattern(LEN).slice(at..LEN.min(at + 700)));
                tokio::task::yield_now().await;
            }
            drop(feed);
        };
        let (given, ()) = join(bytes(response), fed).await;
        assert_eq!(given, pattern(LEN), "{way:?}");
        at_rest(&cache).await;
        let stored = store.inner().read("a", 1 << 20).await.unwrap();
        assert_eq!(stored.unwrap(), pattern(LEN));
    }
}

#[tokio::test(start_paused = true)]
async fn s23_a_body_of_no_known_length_is_held_to_the_objects() {
    let store = stored(Some(v1())).await;
    let mut tier = Prompt::new(&store);
    tier.ends_after = Some(5);
    let cache = impatient().tier(tier).build().unwrap();
    let (given, end) = to_the_end(cache.get("a").await.unwrap()).await;
    assert_eq!(given, pattern(LEN).slice(..5 * CHUNK));
    assert!(end.unwrap_err().is_corrupt());
    let origin = Origin::default();
    let fetch = origin.does(async |_| Ok(same()));
    let response = cache.get_or_fetch("a", fetch).await.unwrap();
    assert_eq!(bytes(response).await, pattern(LEN));
    assert_eq!(origin.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn s34_a_body_that_panics_goes_on_as_well() {
    for way in WAYS {
        let (cache, store) = cache(way).await;
        store.faults().on(Op::Body).nth(5).inject(Fault::Panic);
        let fetch = Origin::default().does(async |_| Ok(same()));
        let response = cache.get_or_fetch("a", fetch).await.unwrap();
        assert_eq!(bytes(response).await, pattern(LEN), "{way:?}");
        let (cache, store) = self::cache(way).await;
        store.faults().on(Op::Body).inject(Fault::Panic);
        let response = cache.get("a").await.unwrap();
        let (_, end) = to_the_end(response).await;
        assert!(end.unwrap_err().to_string().contains("panicked"));
    }
}

#[tokio::test(start_paused = true)]
async fn s28_a_tier_that_gives_nothing_is_cut_by_the_idle_time_out() {
    for way in WAYS {
        let (cache, store) = cache(way).await;
        store.faults().on(Op::Body).nth(5).inject(Fault::Stall);
        let response = cache.get("a").await.unwrap();
        let began = Instant::now();
        let (given, end) = timeout(60 * SECOND, to_the_end(response)).await.unwrap();
        assert_eq!(given, pattern(LEN).slice(..4 * CHUNK));
        assert!(end.unwrap_err().is_timeout(), "{way:?}");
        let took = began.elapsed();
        assert!(took >= 10 * SECOND && took < 11 * SECOND, "{took:?}");
        assert_eq!(cache.tiers().pop().unwrap().counters.timeouts, 1);
        assert_eq!(cache.in_flight(), InFlight::default());
        assert_clean(&store);
    }
}

#[tokio::test(start_paused = true)]
async fn s28_a_body_behind_a_tier_that_failed_is_cut_too() {
    let (upper, lower) = (faulty(), faulty());
    let cache = impatient().tier(upper.clone()).tier(lower.clone());
    let cache = cache.build().unwrap();
    cache
        .insert("a", pattern(300_000), Draft::new())
        .await
        .unwrap();
    lower.faults().on(Op::Body).inject(Fault::Stall);
    upper.faults().on(Op::Get).inject(BROKEN);
    let response = cache.get("a").await.unwrap();
    let (_, end) = timeout(60 * SECOND, to_the_end(response)).await.unwrap();
    assert!(end.unwrap_err().is_timeout());
}

#[tokio::test(start_paused = true)]
async fn s28_the_origin_goes_on_where_the_tier_gives_nothing() {
    for way in WAYS {
        let (cache, store) = cache(way).await;
        store.faults().on(Op::Body).nth(5).inject(Fault::Stall);
        let origin = Origin::default();
        let faults = store.faults().clone();
        let fetch = origin.does(async move |_| {
            assert_eq!(faults.stalled(), 0, "the tier's body is held no more");
            Ok(same())
        });
        let response = cache.get_or_fetch("a", fetch).await.unwrap();
        let began = Instant::now();
        assert_eq!(bytes(response).await, pattern(LEN), "{way:?}");
        assert!(began.elapsed() >= 10 * SECOND);
        assert_eq!(origin.fetches(), 1);
        at_rest(&cache).await;
        assert_clean(&store);
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_may_take_longer_than_a_tier() {
    for way in WAYS {
        let (cache, store) = cache(way).await;
        let slow = Fault::Delay(9 * SECOND);
        store.faults().on(Op::Body).times(20).inject(slow);
        let mut body = body(cache.get("a").await.unwrap());
        let mut given = Vec::new();
        while let Some(chunk) = body.chunk().await.expect("it is not cut") {
            given.extend_from_slice(&chunk);
            sleep(100 * SECOND).await;
        }
        assert_eq!(given, pattern(LEN), "{way:?}");
    }
}

/// It began to wait for a chunk, did something else, and came back: only then it waits again.
#[tokio::test(start_paused = true)]
async fn a_reader_that_was_away_did_not_wait() {
    for way in WAYS {
        let (cache, store) = cache(way).await;
        store.faults().on(Op::Body).inject(Fault::Stall);
        let mut body = body(cache.get("a").await.unwrap());
        assert!(body.chunk().now_or_never().is_none());
        sleep(100 * SECOND).await;
        let released = async {
            sleep(9 * SECOND).await;
            store.faults().release();
        };
        let (chunk, ()) = join(body.chunk(), released).await;
        assert_eq!(chunk.expect("it is not cut").unwrap().len(), CHUNK);
        assert_eq!(body.bytes(1 << 20).await.unwrap().len(), LEN - CHUNK);
    }
}

/// What the origin gives is not what the reader has begun.
#[tokio::test(start_paused = true)]
async fn s21_another_object_is_no_continuation() {
    let strong = |tag: &str| EntityTag::strong(tag).ok();
    let weak = EntityTag::weak("v1").ok();
    let others = [
        (strong("v1"), strong("v2"), LEN, 1),
        (strong("v1"), weak.clone(), LEN, 1),
        (strong("v1"), None, LEN, 1),
        (strong("v1"), strong("v1"), LEN + 1, 1),
        (strong("v1"), strong("v1"), LEN - 1, 1),
        // Nothing could be told by such a tag.
        (weak.clone(), weak, LEN, 0),
        (None, None, LEN, 0),
    ];
    for (way, nth) in WAYS.into_iter().flat_map(|way| [(way, 1), (way, 5)]) {
        for (old, new, len, fetches) in others.clone() {
            let store = stored(old.clone()).await;
            let cache = over(way, &store);
            store.faults().on(Op::Body).nth(nth).inject(BROKEN);
            let (origin, tag) = (Origin::default(), new.clone());
            let fetch = origin.does(async move |_| {
                let fetched = Fetched::bytes(pattern(len));
                Ok(match tag {
                    Some(tag) => fetched.etag(tag),
                    None => fetched,
                })
            });
            let response = cache.get_or_fetch("a", fetch).await.unwrap();
            let (given, end) = to_the_end(response).await;
            let chunks = usize::try_from(nth).unwrap() - 1;
            assert_eq!(given, pattern(LEN).slice(..chunks * CHUNK));
            assert!(end.unwrap_err().is_corrupt(), "{way:?} {old:?} {new:?}");
            assert_eq!(origin.fetches(), fetches, "{way:?} {old:?} {new:?}");
            at_rest(&cache).await;
            assert_clean(&store);
        }
    }
}

/// Its length is known only at its end, but then it is told from a clean one.
#[tokio::test(start_paused = true)]
async fn s21_a_source_that_runs_past_the_length_is_no_continuation() {
    for (way, len) in WAYS
        .into_iter()
        .flat_map(|way| [(way, LEN - 1), (way, LEN + 1)])
    {
        let (cache, store) = cache(way).await;
        store.faults().on(Op::Body).nth(5).inject(BROKEN);
        let fetch = Origin::default().does(async move |_| {
            let chunks = stream::iter([Ok::<_, Error>(pattern(len))]);
            Ok(Fetched::stream(None, chunks).etag(v1()))
        });
        let response = cache.get_or_fetch("a", fetch).await.unwrap();
        let (_, end) = to_the_end(response).await;
        assert!(end.unwrap_err().is_corrupt(), "{way:?} {len}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_tiers_error_stands_where_the_origin_cannot_go_on() {
    type Answer = fn() -> Result<Fetched>;
    let answers: [Answer; 4] = [
        || Err(broken()),
        || Ok(Fetched::absent()),
        || Ok(Fetched::not_modified()),
        || panic!("on purpose"),
    ];
    for (way, answer) in WAYS
        .into_iter()
        .flat_map(|way| answers.map(|answer| (way, answer)))
    {
        let (cache, store) = cache(way).await;
        store.faults().on(Op::Body).nth(5).inject(BROKEN);
        let origin = Origin::default();
        let fetch = origin.does(async move |_| answer());
        let response = cache.get_or_fetch("a", fetch).await.unwrap();
        let (given, end) = to_the_end(response).await;
        assert_eq!(given, pattern(LEN).slice(..4 * CHUNK));
        assert!(end.unwrap_err().is_corrupt(), "{way:?}");
        assert_eq!(origin.fetches(), 1);
        at_rest(&cache).await;
        assert_clean(&store);
    }
}

#[tokio::test(start_paused = true)]
async fn an_origin_that_failed_a_moment_ago_is_left_alone() {
    let store = stored(Some(v1())).await;
    let policy = strict().error_ttl(60 * SECOND);
    let cache = impatient().tier(store.clone()).policy(policy).build();
    let (cache, origin) = (cache.unwrap(), Origin::default());
    for _ in 0..3 {
        store.faults().on(Op::Body).nth(5).inject(BROKEN);
        let response = cache.get_or_fetch("a", origin.fails()).await.unwrap();
        let (_, end) = to_the_end(response).await;
        assert!(end.unwrap_err().is_corrupt());
    }
    assert_eq!(origin.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_fetch_that_goes_on_is_within_its_time_out() {
    for way in WAYS {
        let (cache, store) = cache(way).await;
        store.faults().on(Op::Body).nth(5).inject(BROKEN);
        let (held, letting_go) = oneshot::channel::<()>();
        let fetch = Origin::default().does(async move |_| {
            let _held = held;
            std::future::pending().await
        });
        let response = cache.get_or_fetch("a", fetch).await.unwrap();
        let (_, end) = timeout(60 * SECOND, to_the_end(response)).await.unwrap();
        assert!(end.unwrap_err().is_corrupt(), "{way:?}");
        assert!(letting_go.await.is_err(), "its future was dropped");
        at_rest(&cache).await;
    }
}

#[tokio::test(start_paused = true)]
async fn s20_one_fetch_is_for_all_whose_tier_breaks_off() {
    for way in WAYS {
        let (cache, store) = cache(way).await;
        store.faults().on(Op::Body).times(10).inject(BROKEN);
        let origin = Origin::default();
        let readers = (0..10).map(|_| {
            let fetch = origin.does(async |_| {
                sleep(SECOND).await;
                Ok(same())
            });
            cache.get_or_fetch("a", fetch).into_future()
        });
        let responses = futures_util::future::join_all(readers).await;
        let reads = responses.into_iter().map(|read| bytes(read.unwrap()));
        for given in futures_util::future::join_all(reads).await {
            assert_eq!(given, pattern(LEN), "{way:?}");
        }
        assert_eq!(origin.fetches(), 1, "{way:?}");
        at_rest(&cache).await;
        assert_eq!(cache.counters().flights_retired, 0);
    }
}

/// What another read fetches meanwhile will do, if it is the same. If it is newer, asking again
/// would bring nothing else, and only end that flight.
#[tokio::test(start_paused = true)]
async fn a_flight_that_is_under_way_is_joined() {
    for (way, tag) in WAYS.into_iter().flat_map(|way| [(way, "v1"), (way, "v2")]) {
        let (cache, store) = cache(way).await;
        store.faults().on(Op::Body).nth(5).inject(BROKEN);
        let origin = Origin::default();
        let response = cache.get_or_fetch("a", origin.does(async |_| Ok(same())));
        let response = response.await.unwrap();
        let (feed, fetched) = feed(Some(LEN as u64));
        let tag = EntityTag::strong(tag).unwrap();
        let (refreshes, is_same) = (Origin::default(), tag == v1());
        let fetch = refreshes.does(async move |_| Ok(fetched.etag(tag)));
        let other = cache.refresh("a", fetch).await.unwrap();
        let fed = async move {
            sleep(SECOND).await;
            feed.gives(pattern(LEN));
        };
        let ((given, end), other, ()) = tokio::join!(to_the_end(response), whole(other), fed);
        assert_eq!(end.is_ok(), is_same, "{way:?}");
        assert!(!is_same || given == pattern(LEN));
        assert_eq!((other, origin.fetches()), (pattern(LEN), 0));
        at_rest(&cache).await;
        assert_eq!(cache.counters().flights_retired, 0);
    }
}

/// It found that the object is still right, which brings no bytes.
#[tokio::test(start_paused = true)]
async fn a_flight_that_has_no_bytes_is_not_waited_for_in_vain() {
    for way in WAYS {
        let (cache, store) = cache(way).await;
        store.faults().on(Op::Body).nth(5).inject(BROKEN);
        let origin = Origin::default();
        let fetch = origin.does(async |_| Ok(same()));
        let response = cache.get_or_fetch("a", fetch).await.unwrap();
        let checks = Origin::default().does(async |_| {
            sleep(SECOND).await;
            Ok(Fetched::not_modified())
        });
        let check = cache.refresh("a", checks).into_future();
        let (check, given) = join(check, bytes(response)).await;
        assert_eq!(given, pattern(LEN), "{way:?}");
        assert!(check.unwrap().status().is_revalidated());
        // The copy that is to go up from below has the bytes.
        let goes_up = way == Way::Below;
        assert_eq!(origin.fetches(), usize::from(!goes_up), "{way:?}");
        at_rest(&cache).await;
    }
}

/// It finds the object where it broke off, and has no use for a fetcher.
#[tokio::test(start_paused = true)]
async fn a_flight_that_is_looking_is_not_given_the_fetcher() {
    let (cache, store) = cache(Way::Below).await;
    store.faults().on(Op::Body).nth(5).inject(BROKEN);
    let origin = Origin::default();
    let fetch = origin.does(async |_| Ok(same()));
    let response = cache.get_or_fetch("a", fetch).await.unwrap();
    store.faults().on(Op::Get).inject(Fault::Delay(SECOND));
    let looks = cache.get("a").into_future();
    let (found, given) = join(looks, bytes(response)).await;
    assert_eq!(given, pattern(LEN));
    assert!(found.unwrap().status().is_hit());
    assert_eq!(origin.fetches(), 1);
    at_rest(&cache).await;
}

/// It is on its way up from a tier that has an older object.
#[tokio::test(start_paused = true)]
async fn a_flight_that_has_another_object_is_not_waited_for() {
    let (upper, lower) = (
        stored(Some(v1())).await,
        stored(EntityTag::strong("v0").ok()).await,
    );
    upper.faults().on(Op::Body).nth(5).inject(BROKEN);
    lower.faults().on(Op::Body).nth(5).inject(Fault::Stall);
    let cache = impatient().tier(upper.clone()).tier(memory()).tier(lower);
    let cache = cache.build().unwrap();
    let origin = Origin::default();
    let fetch = origin.does(async |_| Ok(same()));
    let response = cache.get_or_fetch("a", fetch).await.unwrap();
    upper.faults().on(Op::Get).inject(BROKEN);
    let older = cache.get("a").await.unwrap();
    assert_eq!(cache.in_flight().flights, 1);
    assert_eq!(bytes(response).await, pattern(LEN));
    assert_eq!(origin.fetches(), 1);
    let (_, end) = to_the_end(older).await;
    assert!(end.unwrap_err().is_timeout());
    at_rest(&cache).await;
}

/// The flight has its answer, and is still at the tier above when the one below goes away.
#[tokio::test(start_paused = true)]
async fn s21_a_flight_whose_tier_went_away_is_not_joined_again() {
    let (clock, upper, lower) = (clock(), faulty(), faulty());
    let old = lasting(EntityTag::strong("v0").unwrap(), 0);
    assert!(upper.write("a", "old", old).await.unwrap().is_done());
    upper.faults().on(Op::Delete).inject(Fault::Delay(SECOND));
    clock.advance(70 * SECOND);
    let fresh = Draft::new().with(|header| header.fetched_at = larder::Clock::now(&clock));
    assert!(lower.write("a", "new", fresh).await.unwrap().is_done());
    let below = Tier::new(lower.clone()).promote(Promote::Never);
    let cache = impatient().tier(upper).tier(below).clock(clock);
    let cache = cache.build().unwrap();
    let found = cache.get("a").await.unwrap();
    assert_eq!(cache.in_flight().flights, 1, "still landing");
    lower
        .faults()
        .on(Op::Get)
        .always(Fault::Fail(ErrorKind::Unavailable));
    let origin = Origin::default();
    let reads = (0..10).map(|_| cache.get_or_fetch("a", origin.gives("new")).into_future());
    for read in futures_util::future::join_all(reads).await {
        assert_eq!(text(read.unwrap()).await, "new");
    }
    assert_eq!(origin.fetches(), 1);
    assert_eq!(text(found).await, "new");
    at_rest(&cache).await;
}

#[tokio::test(start_paused = true)]
async fn s19_a_reader_that_leaves_takes_everything_with_it() {
    for (way, goes_on) in WAYS.into_iter().flat_map(|way| [(way, false), (way, true)]) {
        let (cache, store) = cache(way).await;
        let fault = if goes_on { BROKEN } else { Fault::Stall };
        store.faults().on(Op::Body).nth(2).inject(fault);
        let held = Arc::new(());
        let (fetch, wakes) = {
            let (held, (tell, wakes)) = (Arc::clone(&held), oneshot::channel::<()>());
            let fetch = async move |_| {
                let _ = tell.send(());
                sleep(SECOND).await;
                drop(held);
                Ok::<_, Error>(same())
            };
            (fetch, wakes)
        };
        let mut body = body(cache.get_or_fetch("a", fetch).await.unwrap());
        assert_eq!(body.chunk().await.unwrap().unwrap().len(), CHUNK);
        assert!(timeout(SECOND / 2, body.chunk()).await.is_err());
        drop(body);
        assert_eq!(wakes.await.is_ok(), goes_on, "{way:?}");
        at_rest(&cache).await;
        assert_eq!(Arc::strong_count(&held), 1, "the fetcher is gone");
        assert_clean(&store);
    }
}

/// A draft that is past its lifetime after a minute, and stale for so many seconds then.
fn lasting(tag: EntityTag, stale: u64) -> Draft {
    let now = larder::Clock::now(&clock());
    tagged(Draft::new(), Some(tag)).with(|header| {
        (header.fetched_at, header.ttl) = (now, Some(60 * SECOND));
        header.stale_while_revalidate = Duration::from_secs(stale);
    })
}

#[tokio::test(start_paused = true)]
async fn a_refresh_behind_keeps_its_fetcher() {
    for way in WAYS {
        let (clock, store) = (clock(), Faulty::new(Model::new().chunked(CHUNK)));
        let write = store.write("a", pattern(LEN), lasting(v1(), 60)).await;
        assert!(write.unwrap().is_done());
        store.faults().on(Op::Body).inject(BROKEN);
        let upper = Faulty::new(Model::new());
        let below = Tier::new(store.clone()).promote(Promote::Never);
        let builder = match way {
            Way::First => impatient().tier(Prompt::new(&store)),
            Way::Late => impatient().tier(below),
            // The flight is still at it when its readers have their answer.
            Way::Below => {
                let old = lasting(EntityTag::strong("v0").unwrap(), 0);
                assert!(upper.write("a", "old", old).await.unwrap().is_done());
                upper.faults().on(Op::Delete).inject(Fault::Delay(SECOND));
                impatient().tier(upper.clone()).tier(below)
            }
        };
        let builder = builder.policy(stale_is_served()).clock(clock.clone());
        let cache = builder.build().unwrap();
        clock.advance(70 * SECOND);
        let origin = Origin::default();
        let fetch = origin.does(async |_| Ok(same()));
        let response = cache.get_or_fetch("a", fetch).await.unwrap();
        assert!(response.status().is_stale(), "{way:?}");
        settle(&cache).await;
        assert_eq!(
            upper.faults().calls(Op::Delete),
            u64::from(way == Way::Below)
        );
        assert_eq!((origin.fetches(), cache.counters().refreshes), (1, 1));
        let (_, end) = to_the_end(response).await;
        assert!(end.unwrap_err().is_corrupt(), "it went to the refresh");
    }
}

#[tokio::test(start_paused = true)]
async fn a_closed_cache_does_not_go_on() {
    let (cache, store) = cache(Way::First).await;
    store.faults().on(Op::Body).inject(BROKEN);
    let origin = Origin::default();
    let fetch = origin.does(async |_| Ok(same()));
    let response = cache.get_or_fetch("a", fetch).await.unwrap();
    cache.close().await.unwrap();
    let (_, end) = to_the_end(response).await;
    assert!(end.unwrap_err().is_corrupt());
    assert_eq!(origin.fetches(), 0);
}

/// Its time-out needs the cache's.
#[test]
fn a_reader_needs_no_runtime() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (cache, store) = runtime.block_on(async {
        let store = stored(Some(v1())).await;
        let builder = Cache::builder().tier(Prompt::new(&store));
        let builder = builder.idle_timeout(Duration::from_millis(50));
        (builder.build().unwrap(), store)
    });
    store.faults().on(Op::Body).inject(Fault::Stall);
    let fetch = Origin::default().does(async |_| Ok(same()));
    let read = cache.get_or_fetch("a", fetch).into_future();
    let mut body = body(read.now_or_never().expect("at once").unwrap());
    let (sender, gone) = mpsc::channel();
    std::thread::spawn(move || {
        assert!(tokio::runtime::Handle::try_current().is_err());
        let mut given = Vec::new();
        loop {
            match body.next().now_or_never() {
                Some(Some(chunk)) => given.extend_from_slice(&chunk.unwrap()),
                Some(None) => break,
                None => std::thread::yield_now(),
            }
        }
        sender.send(given).unwrap();
    });
    let given = gone.recv_timeout(60 * SECOND).expect("it comes to its end");
    assert_eq!(given, pattern(LEN));
}
