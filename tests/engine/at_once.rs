//! What need not wait is done where it is asked; what has to wait disturbs nobody.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt, stream};
use larder::{Cache, Draft, ErrorKind, Fetched, StoreExt};
use larder_conformance::{Fault, Op};
use tokio::runtime::{Handle, Runtime};

use crate::{
    levers::{Gate, KEY, body, breathe, faulty, reading, stalled},
    support::{Origin, clock, memory, settle, strict, text},
};

/// A runtime that nobody drives: what becomes a task there never runs.
fn idle() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap()
}

fn two_tiers(runtime: &Handle) -> (Cache, [larder::Memory; 2]) {
    let _entered = runtime.enter();
    let tiers = [memory(), memory()];
    let builder = Cache::builder().policy(strict()).clock(clock());
    let cache = builder.tier(tiers[0].clone()).tier(tiers[1].clone());
    (cache.build().unwrap(), tiers)
}

#[test]
fn what_need_not_wait_is_done_by_the_first_poll() {
    let runtime = idle();
    let (cache, tiers) = two_tiers(runtime.handle());
    let at_once = |what, future: futures_util::future::BoxFuture<'_, ()>| {
        future.now_or_never().expect(what);
        assert_eq!(cache.in_flight(), larder::InFlight::default(), "{what}");
    };
    let has = |tier: &larder::Memory| {
        let read = tier.read(KEY, 1 << 20).now_or_never().unwrap();
        read.unwrap().is_some()
    };
    at_once(
        "a miss",
        Box::pin(async {
            let fetch = Origin::default().gives("fetched");
            let response = cache.get_or_fetch(KEY, fetch).await.unwrap();
            assert_eq!(text(response).await, "fetched");
        }),
    );
    assert!(tiers.iter().all(has), "its commit too");
    tiers[0].remove(KEY).now_or_never().unwrap().unwrap();
    at_once(
        "a hit lower down",
        Box::pin(async {
            let response = cache.get(KEY).await.unwrap();
            assert_eq!(body(response).await.as_deref(), Some("fetched"));
        }),
    );
    assert!(has(&tiers[0]), "and its promotion");
    at_once(
        "an insert",
        Box::pin(async {
            cache.insert(KEY, "inserted", Draft::new()).await.unwrap();
        }),
    );
    at_once(
        "a delete",
        Box::pin(async { cache.delete(KEY).await.unwrap() }),
    );
    assert!(!tiers.iter().any(has));
}

#[test]
fn a_reader_has_its_answer_before_much_is_written() {
    let runtime = idle();
    let (cache, tiers) = two_tiers(runtime.handle());
    let long = Bytes::from(vec![7; 100_000]);
    let chunks = stream::iter([Ok::<_, larder::Error>(long.clone()), Ok(long.clone())]);
    let answers = [
        ("whole", Fetched::bytes(long)),
        ("streamed", Fetched::stream(None, chunks)),
    ];
    for (key, answer) in answers {
        let fetch = Origin::default().does(async move |_| Ok(answer));
        let read = cache.get_or_fetch(key, fetch).into_future();
        let response = read.now_or_never().expect("at once").unwrap();
        let stat = tiers[0].read(key, 1 << 20).now_or_never().unwrap();
        assert!(stat.unwrap().is_none(), "{key}: nothing is written yet");
        runtime.block_on(async {
            let body = response.into_body().unwrap();
            let bytes = body.bytes(1 << 20).await.unwrap();
            settle(&cache).await;
            let stored = tiers[0].read(key, 1 << 20).await.unwrap().unwrap();
            assert_eq!(stored, bytes, "{key}");
        });
    }
}

#[test]
fn a_caller_of_no_runtime_can_wait_as_well() {
    let runtime = Runtime::new().unwrap();
    let (cache, _tiers) = two_tiers(runtime.handle());
    let fetch = Origin::default().does(async |_| {
        // Polled first on a thread that knows no runtime: these need one.
        tokio::time::sleep(Duration::from_millis(5)).await;
        let inner = tokio::spawn(async { "spawned" });
        Ok(Fetched::bytes(inner.await.expect("it runs")))
    });
    let read = cache.get_or_fetch(KEY, fetch).into_future();
    assert!(Handle::try_current().is_err());
    let response = block_on(read).unwrap();
    assert_eq!(block_on(text(response)), "spawned");
}

/// Runs a future on this thread, without a runtime.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

#[test]
fn s34_what_panics_at_once_costs_its_caller_an_error_and_nobody_else_anything() {
    let runtime = idle();
    let (cache, _tiers) = two_tiers(runtime.handle());
    let panics = Origin::default().does(async |_| panic!("on purpose"));
    let read = cache.get_or_fetch(KEY, panics).into_future();
    let error = read.now_or_never().expect("at once").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Other);
    assert_eq!(cache.in_flight(), larder::InFlight::default());
    let fetch = Origin::default().gives("fetched");
    let again = cache.get_or_fetch(KEY, fetch).into_future().now_or_never();
    assert!(again.expect("at once").is_ok());
}

/// Reads a key whose fetcher reads the next one.
fn chain(cache: Cache, number: usize) -> futures_util::future::BoxFuture<'static, usize> {
    Box::pin(async move {
        if number == 0 {
            return 0;
        }
        let next = cache.clone();
        let fetch = async move |_| {
            let below = chain(next, number - 1).await;
            Ok::<_, larder::Error>(Fetched::bytes(below.to_string()))
        };
        let key = number.to_string();
        let response = cache.get_or_fetch(&key, fetch).await.unwrap();
        text(response).await.parse::<usize>().unwrap() + 1
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn fetchers_that_read_through_the_cache_do_not_grow_the_stack() {
    let cache = Cache::builder().fetches_max(10_000).tier(memory());
    let cache = cache.build().unwrap();
    assert_eq!(tokio::spawn(chain(cache, 5_000)).await.unwrap(), 5_000);
}

#[tokio::test]
async fn who_only_does_what_is_done_at_once_gives_way_to_others() {
    let (cache, _tiers) = two_tiers(&Handle::current());
    let others = Arc::new(AtomicUsize::new(0));
    let other = Arc::clone(&others);
    let ticking = tokio::spawn(async move {
        loop {
            other.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
        }
    });
    for number in 0..1_000 {
        let key = number.to_string();
        cache.insert(&key, "a", Draft::new()).await.unwrap();
    }
    ticking.abort();
    assert!(others.load(Ordering::SeqCst) > 5, "it had its turns");
}

/// Counts how often it is woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn s31_who_joins_is_woken_once_and_does_not_wake_the_fetch() {
    let (cache, _tiers) = two_tiers(&Handle::current());
    let (polls, gate) = (Arc::new(AtomicUsize::new(0)), Gate::new());
    let fetch = {
        let (polls, gate) = (Arc::clone(&polls), gate.clone());
        Origin::default().does(async move |_| {
            let mut passed = std::pin::pin!(gate.pass());
            poll_fn(|cx| {
                polls.fetch_add(1, Ordering::SeqCst);
                passed.as_mut().poll(cx)
            })
            .await;
            Ok(Fetched::bytes("fetched"))
        })
    };
    let first = {
        let cache = cache.clone();
        tokio::spawn(async move { text(cache.get_or_fetch(KEY, fetch).await.unwrap()).await })
    };
    gate.reached().await;
    breathe().await;
    let before = polls.load(Ordering::SeqCst);

    let origin = Origin::default();
    let mut joiners = Vec::new();
    for _ in 0..100 {
        let woken = Arc::new(Woken::default());
        let mut read = cache
            .get_or_fetch(KEY, origin.gives("not asked"))
            .into_future();
        let waker = Waker::from(Arc::clone(&woken));
        assert!(
            read.poll_unpin(&mut Context::from_waker(&waker))
                .is_pending()
        );
        joiners.push((woken, read));
        breathe().await;
    }
    // Half of them leave, and the fetch is not disturbed by that either.
    joiners.truncate(50);
    breathe().await;
    assert_eq!(polls.load(Ordering::SeqCst), before, "polls of the fetch");

    gate.open();
    assert_eq!(first.await.unwrap(), "fetched");
    for (woken, mut read) in joiners {
        assert_eq!(woken.0.load(Ordering::SeqCst), 1, "for the answer alone");
        let Poll::Ready(response) = read.poll_unpin(&mut Context::from_waker(Waker::noop())) else {
            panic!("the answer is there");
        };
        let response = response.unwrap();
        assert!(response.status().is_joined());
        assert_eq!(text(response).await, "fetched");
    }
    settle(&cache).await;
    assert_eq!((origin.fetches(), cache.counters().joined), (0, 50));
}

#[tokio::test(start_paused = true)]
async fn s31_who_joins_before_the_fetch_begins_hears_of_its_answer_alone() {
    let tier = faulty();
    let builder = Cache::builder().policy(strict()).clock(clock());
    let cache = builder.tier(memory()).tier(tier.clone()).build().unwrap();
    let (origin, gate) = (Origin::default(), Gate::new());
    tier.faults().on(Op::Get).inject(Fault::Stall);
    let first = reading(&cache, origin.gives_after(&gate, || Fetched::bytes("a")));
    stalled(&tier, 1).await;
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let fetch = origin.gives("not asked");
    let mut read = cache.get_or_fetch(KEY, fetch).into_future();
    let mut cx = Context::from_waker(&waker);
    assert!(read.poll_unpin(&mut cx).is_pending());
    tier.faults().release();
    gate.reached().await;
    breathe().await;
    assert_eq!(woken.0.load(Ordering::SeqCst), 0, "there is nothing to see");
    gate.open();
    assert_eq!(first.await.unwrap(), "a");
    assert_eq!(woken.0.load(Ordering::SeqCst), 1);
    assert!(read.poll_unpin(&mut cx).is_ready());
    assert_eq!(origin.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_get_that_came_while_the_tiers_were_asked_hears_that_they_have_nothing() {
    let tier = faulty();
    let builder = Cache::builder().policy(strict()).clock(clock());
    let cache = builder.tier(memory()).tier(tier.clone()).build().unwrap();
    let (origin, gate) = (Origin::default(), Gate::new());
    tier.faults().on(Op::Get).inject(Fault::Stall);
    let first = reading(&cache, origin.gives_after(&gate, || Fetched::bytes("a")));
    stalled(&tier, 1).await;
    let glance = tokio::spawn({
        let cache = cache.clone();
        async move { body(cache.get(KEY).await.unwrap()).await }
    });
    breathe().await;
    tier.faults().release();
    gate.reached().await;
    let glance = tokio::time::timeout(Duration::from_secs(60), glance).await;
    assert_eq!(
        glance.expect("it does not wait for the fetch").unwrap(),
        None
    );
    gate.open();
    assert_eq!(first.await.unwrap(), "a");
}

#[tokio::test]
async fn s33_joiners_that_leave_let_the_flight_be_given_up() {
    let builder = Cache::builder().on_abandon(larder::OnAbandon::Abort);
    let cache = builder.tier(memory()).build().unwrap();
    let (origin, gate) = (Origin::default(), Gate::new());
    let fetch = origin.gives_after(&gate, || Fetched::bytes("never"));
    let mut reads = [
        cache.get_or_fetch(KEY, fetch).into_future().boxed(),
        cache
            .get_or_fetch(KEY, origin.gives("not asked"))
            .into_future()
            .boxed(),
        cache
            .get_or_fetch(KEY, origin.gives("not asked"))
            .into_future()
            .boxed(),
    ];
    for read in &mut reads {
        assert!(read.now_or_never().is_none());
    }
    gate.reached().await;
    let [first, second, last] = reads;
    drop((first, second));
    breathe().await;
    assert_eq!(cache.in_flight().flights, 1, "one is left");
    drop(last);
    settle(&cache).await;
    assert_eq!(cache.counters().flights_abandoned, 1);
}
