//! Moments between two steps of a read, seen from outside.

use std::{
    sync::{Arc, Mutex, mpsc},
    task::{Context, Wake, Waker},
};

use bytes::Bytes;
use futures_util::{
    FutureExt, StreamExt,
    future::{self, BoxFuture},
    stream,
};
use larder::{
    Body, Cache, Draft, EntityTag, Error, Fetched, OnAbandon, Promote, Response, Result, StoreExt,
    Tier,
};
use larder_conformance::{Fault, Op};

use crate::{
    levers::{Gate, breathe, stalled},
    support::{Origin, SECOND, clock, faulty, memory, settle, strict, text},
};

type Read = BoxFuture<'static, Result<Response>>;

/// A read of "a" that fetches these bytes.
fn reading(cache: &Cache, bytes: &'static str) -> Read {
    let (cache, fetch) = (cache.clone(), Origin::default().gives(bytes));
    async move { cache.get_or_fetch("a", fetch).await }.boxed()
}

/// Begins a read when it is dropped.
struct ReadsOnDrop(Cache, mpsc::Sender<Read>);

impl Drop for ReadsOnDrop {
    fn drop(&mut self) {
        let mut read = reading(&self.0, "v2");
        let early = (&mut read).now_or_never();
        let read = early.map_or(read, |answer| future::ready(answer).boxed());
        self.1.send(read).expect("the test waits for it");
    }
}

fn aborting() -> Cache {
    let builder = Cache::builder().tier(memory()).policy(strict());
    builder.on_abandon(OnAbandon::Abort).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn s24_who_comes_while_a_fetch_is_given_up_is_not_given_up_with_it() {
    let cache = aborting();
    let (sender, reads) = mpsc::channel();
    let late = ReadsOnDrop(cache.clone(), sender);
    let fetch = Origin::default().does(async move |_| {
        let _late = late;
        std::future::pending().await
    });
    let left = tokio::time::timeout(SECOND, cache.get_or_fetch("a", fetch).into_future());
    assert!(left.await.is_err());
    settle(&cache).await;
    let read = reads.try_recv().expect("the fetch was given up");
    assert_eq!(text(read.await.expect("an answer")).await, "v2");
}

#[tokio::test(start_paused = true)]
async fn s24_who_comes_while_a_source_is_given_up_is_not_given_up_with_it() {
    let cache = aborting();
    let (sender, reads) = mpsc::channel();
    let late = ReadsOnDrop(cache.clone(), sender);
    let fetch = Origin::default().does(async move |_| {
        let rest = stream::poll_fn(move |_| {
            let _late = &late;
            std::task::Poll::Pending
        });
        let first = Ok::<_, Error>(Bytes::from_static(b"v"));
        Ok(Fetched::stream(None, stream::iter([first]).chain(rest)))
    });
    let response = cache.get_or_fetch("a", fetch).await.unwrap();
    let mut body = response.into_body().unwrap();
    assert_eq!(body.chunk().await.unwrap().unwrap(), "v");
    drop(body);
    settle(&cache).await;
    let read = reads.try_recv().expect("the source was given up");
    assert_eq!(text(read.await.expect("an answer")).await, "v2");
}

#[tokio::test(start_paused = true)]
async fn s43_a_bound_on_age_holds_for_who_joins_a_read_without_one() {
    let (hot, cold, clock) = (faulty(), faulty(), clock());
    for failing in [false, true] {
        let policy = strict();
        let policy = if failing {
            policy.stale_if_error(600 * SECOND)
        } else {
            policy.stale_while_revalidate(600 * SECOND)
        };
        let builder = Cache::builder().policy(policy).clock(clock.clone());
        let tiers = builder.tier(hot.clone()).tier(cold.clone());
        let cache = tiers.build().unwrap();
        cache.insert("a", "old", Draft::new()).await.unwrap();
        hot.remove("a").await.unwrap();
        clock.advance(61 * SECOND);
        cold.faults().on(Op::Get).inject(Fault::Stall);
        let mut first = cache.get("a").into_future();
        assert!((&mut first).now_or_never().is_none());
        stalled(&cold, 1).await;
        let fetch = Origin::default().does(async move |_| {
            if failing {
                Err(crate::support::broken())
            } else {
                Ok(Fetched::bytes("new"))
            }
        });
        let mut bounded = cache.get_or_fetch("a", fetch).max_age(SECOND).into_future();
        assert!((&mut bounded).now_or_never().is_none());
        cold.faults().release();
        let _ = first.await.unwrap();
        match bounded.await {
            Ok(response) => {
                assert!(!failing);
                assert_eq!(text(response).await, "new");
            }
            Err(error) => assert!(failing, "{error}"),
        }
        settle(&cache).await;
    }
}

/// A stale "v1" in the only tier, which the origin is asked about: who asked first, and who joined
/// and looks again only after `then` was done.
async fn joined_late(then: impl AsyncFnOnce(&Cache)) -> Response {
    let (store, clock, gate) = (faulty(), clock(), Gate::new());
    let builder = Cache::builder().tier(store).policy(strict());
    let cache = builder.clock(clock.clone()).build().unwrap();
    let draft = Draft::new().with(|header| header.etag = EntityTag::strong("v1").ok());
    cache.insert("a", "v1", draft).await.unwrap();
    clock.advance(61 * SECOND);
    let fetch = Origin::default().gives_after(&gate, Fetched::not_modified);
    let asking = {
        let cache = cache.clone();
        tokio::spawn(async move { text(cache.get_or_fetch("a", fetch).await.unwrap()).await })
    };
    gate.reached().await;
    let mut late = reading(&cache, "v3");
    assert!((&mut late).now_or_never().is_none());
    gate.open();
    assert_eq!(asking.await.unwrap(), "v1");
    settle(&cache).await;
    then(&cache).await;
    late.await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn s17_what_replaced_a_renewed_entry_is_not_given_under_its_metadata() {
    let response = joined_late(async |cache| {
        let draft = Draft::new().with(|header| header.etag = EntityTag::strong("v2").ok());
        cache.insert("a", "v2", draft).await.unwrap();
    });
    let response = response.await;
    let etag = response.metadata().and_then(|header| header.etag.clone());
    let tag = text(response).await;
    assert_eq!(etag, EntityTag::strong(&tag).ok());
}

#[tokio::test(start_paused = true)]
async fn s38_what_became_absent_has_no_body_for_who_joined_before() {
    let response = joined_late(async |cache| {
        let fetch =
            async |_| Ok::<_, Error>(Fetched::absent().policy(strict().negative_ttl(SECOND)));
        assert!(cache.refresh("a", fetch).await.unwrap().is_absent());
        settle(cache).await;
    });
    assert!(response.await.is_absent());
}

#[tokio::test(start_paused = true)]
async fn s75_what_waits_to_be_written_behind_is_not_back_after_an_absence() {
    let (upper, lower) = (faulty(), faulty());
    let cache = Cache::builder()
        .tier(upper.clone())
        .tier(Tier::new(lower.clone()).behind().negatives(false))
        .policy(strict().negative_ttl(SECOND))
        .build()
        .unwrap();
    lower.faults().on(Op::Write).inject(Fault::Stall);
    cache.insert("a", "v1", Draft::new()).await.unwrap();
    stalled(&lower, 1).await;
    upper.remove("a").await.unwrap();
    let fetch = async |_| Ok::<_, Error>(Fetched::absent());
    assert!(cache.get_or_fetch("a", fetch).await.unwrap().is_absent());
    breathe().await;
    lower.faults().release();
    settle(&cache).await;
    assert!(lower.read("a", 9).await.unwrap().is_none(), "it landed");
}

/// A task that owns a body, as an executor's wakers do.
struct Owner(#[allow(dead_code)] Mutex<Option<Body>>);

impl Wake for Owner {
    fn wake(self: Arc<Self>) {}
}

#[test]
fn s07_a_waker_that_owns_a_reader_is_dropped_outside_of_the_lock() {
    for leaves in [true, false] {
        let (sender, ended) = mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(async {
                let cache = Cache::builder().tier(memory()).build().unwrap();
                let source = stream::pending::<Result<Bytes>>();
                let fetch = async |_| Ok::<_, Error>(Fetched::stream(None, source));
                let first = cache.get_or_fetch("a", fetch).await.unwrap();
                let second = cache.get("a").await.unwrap();
                let mut body = first.into_body().unwrap();
                let owner = Owner(Mutex::new(second.into_body()));
                let waker = Waker::from(Arc::new(owner));
                let next = body.poll_next_unpin(&mut Context::from_waker(&waker));
                assert!(next.is_pending());
                drop(waker);
                if leaves {
                    drop(body);
                } else {
                    assert!(body.next().now_or_never().is_none());
                }
            });
            sender.send(()).unwrap();
        });
        let ended = ended.recv_timeout(10 * SECOND);
        assert!(ended.is_ok(), "a lock was held, leaves: {leaves}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_get_that_turns_a_flight_down_leaves_it_its_object() {
    let (clock, gate) = (clock(), Gate::new());
    let builder = Cache::builder().tier(faulty()).policy(strict());
    let cache = builder.clock(clock.clone()).build().unwrap();
    let fetched = crate::levers::halves(&gate, "one, ", "two");
    let fetch = Origin::default().does(async move |_| Ok(fetched));
    let response = cache.get_or_fetch("a", fetch).await.unwrap();
    gate.reached().await;
    clock.advance(2 * SECOND);
    assert!(cache.get("a").max_age(SECOND).await.unwrap().is_absent());
    gate.open();
    assert_eq!(text(response).await, "one, two");
    settle(&cache).await;
    assert!(cache.get("a").await.unwrap().status().is_hit());
}

#[tokio::test(start_paused = true)]
async fn s23_the_origin_goes_on_where_a_stale_object_broke_off() {
    let (hot, clock) = (memory(), clock());
    let cold = larder_conformance::Faulty::new(larder_conformance::Model::new().chunked(1_000));
    let policy = strict().stale_while_revalidate(60 * SECOND);
    let cache = Cache::builder()
        .tier(hot.clone())
        .tier(Tier::new(cold.clone()).promote(Promote::Always))
        .policy(policy)
        .clock(clock.clone())
        .build()
        .unwrap();
    let bytes = crate::source::pattern(10_000);
    let tag = EntityTag::strong("v1").unwrap();
    let draft = Draft::new().with(|header| header.etag = Some(tag.clone()));
    cache.insert("a", bytes.clone(), draft).await.unwrap();
    hot.remove("a").await.unwrap();
    clock.advance(61 * SECOND);
    cold.faults()
        .on(Op::Body)
        .nth(5)
        .inject(Fault::Fail(larder::ErrorKind::Corrupt));
    let whole = bytes.clone();
    let fetch = Origin::default().does(async move |_| Ok(Fetched::bytes(whole).etag(tag)));
    let response = cache.get_or_fetch("a", fetch).await.unwrap();
    let body = response.into_body().unwrap();
    assert_eq!(body.bytes(1 << 20).await.expect("every byte"), bytes);
}
