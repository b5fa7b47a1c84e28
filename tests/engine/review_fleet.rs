//! Several processes where their parts meet: leases, the bus, clears, and the end of a process.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use larder::{
    Builder, ByteRange, Cache, Draft, ErrorKind, Fetched, Key, Metadata, Store, Tier, Usage,
};
use larder_conformance::{Fault, Faulty, Model, Op, Setup};
use larder_store::{
    Commit, Fence, Holder, Identity, Lease, Leased, Lookup, Reply, Terms, Touch, Writer,
};
use tokio::time::{Instant, sleep};

use crate::{
    levers::{Gate, KEY, breathe, halves, held, reading, seen, stalled},
    support::{Origin, SECOND, clock, faulty, settle, strict},
};

/// A process: its own tier, and the shared store.
fn process(shared: &(impl Store + Clone)) -> Builder {
    let shared_tier = Tier::new(shared.clone()).shared();
    let tiers = Cache::builder().tier(Model::new()).tier(shared_tier);
    tiers.policy(strict()).clock(clock())
}

fn leasing(shared: &(impl Store + Clone)) -> [Cache; 2] {
    [1, 2].map(|seed| {
        let builder = process(shared).seed(seed).leases(shared.clone());
        builder.build().unwrap()
    })
}

/// Both read at once, in a round each; says how long each round took.
async fn rounds(caches: &[Cache; 2], origin: &Origin, answer: fn() -> Fetched) -> Vec<Duration> {
    let mut took = Vec::new();
    for _ in 0..2 {
        let began = Instant::now();
        let slow = || {
            origin.does(async move |_| {
                sleep(SECOND).await;
                Ok(answer())
            })
        };
        let reads = caches.iter().map(|cache| reading(cache, slow()));
        for read in join_all(reads).await {
            read.unwrap();
        }
        took.push(began.elapsed());
        for cache in caches {
            settle(cache).await;
        }
    }
    took
}

#[tokio::test(start_paused = true)]
async fn what_is_fresh_for_nobody_is_not_queued_for_twice() {
    let (shared, origin) = (faulty(), Origin::default());
    let caches = leasing(&shared);
    let took = rounds(&caches, &origin, || {
        Fetched::bytes("own").ttl(Duration::ZERO)
    })
    .await;
    assert!(took[1] < 11 * SECOND / 10, "side by side: {took:?}");
}

#[tokio::test(start_paused = true)]
async fn what_the_shared_store_finds_too_large_is_not_queued_for_twice() {
    let shared = Faulty::new(Model::with(Setup::new(1 << 20, 1000)));
    let caches = [1, 2].map(|seed| {
        let shared_tier = Tier::new(shared.clone()).shared();
        let builder = Cache::builder().tier(shared_tier).leases(shared.clone());
        builder
            .policy(strict())
            .clock(clock())
            .seed(seed)
            .build()
            .unwrap()
    });
    let origin = Origin::default();
    let took = rounds(&caches, &origin, || Fetched::bytes(vec![b'.'; 2000])).await;
    assert!(took[1] < 11 * SECOND / 10, "side by side: {took:?}");
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_the_rest_of_what_is_not_shared() {
    let (shared, origin, gate) = (faulty(), Origin::default(), Gate::new());
    let [a, b] = leasing(&shared);
    let rest = gate.clone();
    let own = origin.does(async move |_| Ok(halves(&rest, "ow", "n").no_store()));
    let first = reading(&a, own);
    gate.reached().await;
    let began = Instant::now();
    assert_eq!(reading(&b, origin.gives("b's")).await.unwrap(), "b's");
    assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
    gate.open();
    assert_eq!(first.await.unwrap(), "own");
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_what_would_be_too_old() {
    let (shared, origin, gate) = (faulty(), Origin::default(), Gate::new());
    let [a, b] = leasing(&shared);
    let first = reading(&a, origin.gives_after(&gate, || Fetched::bytes("a's")));
    gate.reached().await;
    let began = Instant::now();
    let read = b.get_or_fetch(KEY, origin.gives("b's"));
    read.max_age(SECOND).await.unwrap();
    assert!(began.elapsed() < 11 * SECOND / 10, "{:?}", began.elapsed());
    gate.open();
    first.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_flight_does_not_wait_for_the_one_whose_place_it_took() {
    let (shared, origin, gate) = (faulty(), Origin::default(), Gate::new());
    let time = clock();
    let builder = process(&shared).clock(time.clone()).leases(shared.clone());
    let a = builder.build().unwrap();
    let rest = gate.clone();
    let slow = origin.does(async move |_| Ok(halves(&rest, "v", "1")));
    let first = reading(&a, slow);
    gate.reached().await;
    time.advance(30 * SECOND);
    let began = Instant::now();
    let read = a.get_or_fetch(KEY, origin.gives("v2"));
    read.max_age(10 * SECOND).await.unwrap();
    assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
    gate.open();
    assert_eq!(first.await.unwrap(), "v1");
    settle(&a).await;
    assert_eq!(held(shared.inner()).await.as_deref(), Some("v2"));
}

#[tokio::test]
async fn leases_of_a_tier_where_others_do_not_find_the_answer_are_invalid() {
    let shared = Model::new();
    let top = || Cache::builder().tier(Model::new());
    for tier in [
        Tier::new(shared.clone()),
        Tier::new(shared.clone()).shared().behind(),
    ] {
        let built = top().tier(tier).leases(shared.clone()).build();
        assert!(built.unwrap_err().is_invalid());
    }
}

#[tokio::test(start_paused = true)]
async fn waits_without_an_end_are_invalid() {
    let shared = Model::new();
    let builder = || process(&shared).leases(shared.clone());
    let waiting = builder().lease_wait(Duration::MAX).build();
    assert!(waiting.unwrap_err().is_invalid());
    let bound = builder().bus(shared.clone()).bus_bound(Duration::MAX);
    assert!(bound.build().unwrap_err().is_invalid());
}

/// A model whose leases are asked for with fences that never hold.
#[derive(Clone, Debug)]
struct Forgetful(Model, Arc<AtomicUsize>);

impl Lease for Forgetful {
    fn acquire<'a>(&'a self, _: Key<'a>, _: &'a Fence, _: &'a Terms) -> Reply<'a, Leased> {
        let asked = self.1.fetch_add(1, Ordering::SeqCst);
        // It ends by itself, since it may be asked without a pause.
        Reply::ready(Ok(if asked < 10_000 {
            Leased::Superseded
        } else {
            Leased::Taken(Holder {
                who: "".into(),
                why: "".into(),
                left: SECOND,
            })
        }))
    }

    fn renew<'a>(&'a self, _: Key<'a>, _: &'a Fence, _: Duration) -> Reply<'a, bool> {
        Reply::ready(Ok(false))
    }

    fn release<'a>(&'a self, _: Key<'a>, _: &'a Fence) -> Reply<'a, ()> {
        Reply::ready(Ok(()))
    }
}

impl Store for Forgetful {
    fn get_stream<'a>(&'a self, key: Key<'a>, range: ByteRange) -> Reply<'a, Lookup> {
        self.0.get_stream(key, range)
    }

    fn set_with_writer<'a>(&'a self, key: Key<'a>, draft: Draft) -> Reply<'a, Box<dyn Writer>> {
        self.0.set_with_writer(key, draft)
    }

    fn delete<'a>(&'a self, key: Key<'a>, fence: Option<Fence>) -> Reply<'a, Commit> {
        self.0.delete(key, fence)
    }

    fn stat<'a>(&'a self, key: Key<'a>) -> Reply<'a, Option<Arc<Metadata>>> {
        self.0.stat(key)
    }

    fn fence<'a>(&'a self, key: Key<'a>) -> Reply<'a, Fence> {
        self.0.fence(key)
    }

    fn kind(&self) -> &'static str {
        "forgetful"
    }

    fn object_max(&self) -> Option<u64> {
        self.0.object_max()
    }

    fn usage(&self) -> Usage {
        self.0.usage()
    }

    fn close(&self) -> Reply<'_, ()> {
        self.0.close()
    }

    fn identity(&self) -> Identity {
        self.0.identity()
    }

    fn as_touch(&self) -> Option<&dyn Touch> {
        self.0.as_touch()
    }

    fn as_lease(&self) -> Option<&dyn Lease> {
        Some(self)
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_forgets_its_fences_is_not_asked_without_a_pause() {
    let (shared, origin) = (Forgetful(Model::new(), Arc::default()), Origin::default());
    let [a, _] = leasing(&shared);
    let began = Instant::now();
    assert_eq!(reading(&a, origin.gives("v1")).await.unwrap(), "v1");
    let asked = shared.1.load(Ordering::SeqCst);
    assert!(asked < 200, "{asked} times in {:?}", began.elapsed());
    assert!(began.elapsed() < 51 * SECOND / 10);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_gives_leases_and_is_no_tier_is_closed_with_the_cache() {
    let (shared, leases) = (Model::new(), Model::new());
    let cache = process(&shared).leases(leases.clone()).build().unwrap();
    cache.close().await.unwrap();
    assert!(leases.fence(Key::new(KEY).unwrap()).await.is_err());
}

/// The bound of the processes below.
const BOUND: Duration = Duration::from_millis(500);

/// A process over a private tier and the shared one, which is the bus; it has heard itself.
async fn following(private: impl Store, shared: &Faulty<Model>) -> Cache {
    // Others go on with it when one is closed.
    let refused = Fault::Fail(ErrorKind::Other);
    shared.faults().on(Op::Close).always(refused);
    let builder = Cache::builder().policy(strict()).clock(clock());
    let builder = builder
        .tier(private)
        .tier(Tier::new(shared.clone()).shared());
    let builder = builder.bus(shared.clone()).bus_bound(BOUND);
    let cache = builder.close_timeout(SECOND).build().unwrap();
    sleep(BOUND / 2).await;
    cache
}

#[tokio::test(start_paused = true)]
async fn a_delete_that_outlasts_the_close_is_not_acknowledged_unheard() {
    let (shared, private) = (faulty(), faulty());
    let a = following(private.clone(), &shared).await;
    let b = following(Model::new(), &shared).await;
    b.insert(KEY, "v1", Draft::new()).await.unwrap();
    sleep(BOUND / 10).await;
    assert_eq!(seen(&b).await.as_deref(), Some("v1"));
    private.faults().on(Op::Delete).always(Fault::StallAfter);
    let delete = crate::levers::deleting(&a);
    stalled(&private, 1).await;
    a.close().await.unwrap_err();
    private.faults().release();
    let deleted = delete.await.unwrap();
    sleep(2 * BOUND).await;
    let still = seen(&b).await;
    assert!(
        deleted.is_err() || still.is_none(),
        "{deleted:?}, {still:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn closing_leaves_no_key_that_was_told() {
    let (shared, private) = (faulty(), faulty());
    let a = following(Model::new(), &shared).await;
    let b = following(private.clone(), &shared).await;
    private.faults().on(Op::Delete).always(Fault::Stall);
    for number in 0..100 {
        a.delete(&format!("key {number}")).await.unwrap();
    }
    assert!(b.in_flight().inbox >= 100);
    assert!(b.close().await.unwrap_err().is_timeout());
    breathe().await;
    assert_eq!(b.in_flight().inbox, 0);
}

#[tokio::test(start_paused = true)]
async fn s67_a_bus_that_answers_late_is_not_taken_to_have_heard_late() {
    let model = Model::new();
    let (slow, shared) = (Faulty::new(model.clone()), Faulty::new(model));
    let a = following(Model::new(), &slow).await;
    let b = following(Model::new(), &shared).await;
    b.insert(KEY, "v1", Draft::new()).await.unwrap();
    sleep(BOUND / 10).await;
    // A beat is heard at once, and its answer comes 0.9 s later.
    slow.faults().on(Op::Publish).always(Fault::StallAfter);
    stalled(&slow, 1).await;
    sleep(9 * SECOND / 10).await;
    slow.faults().clear();
    let down = Fault::Fail(ErrorKind::Unavailable);
    slow.faults().on(Op::Publish).always(down);
    slow.faults().release();
    assert_eq!(seen(&b).await.as_deref(), Some("v1"));
    settle(&b).await;
    let deleted = a.delete(KEY).await;
    sleep(2 * BOUND).await;
    let still = seen(&b).await;
    assert!(
        deleted.is_err() || still.is_none(),
        "{deleted:?}, {still:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_was_fetched_before_another_process_cleared_is_not_shared_after() {
    let (shared, origin, gate) = (faulty(), Origin::default(), Gate::new());
    let a = following(Model::new(), &shared).await;
    let b = following(Model::new(), &shared).await;
    let first = reading(&b, origin.gives_after(&gate, || Fetched::bytes("old")));
    gate.reached().await;
    a.clear().await.unwrap();
    sleep(BOUND).await;
    gate.open();
    assert_eq!(first.await.unwrap(), "old");
    settle(&b).await;
    assert_eq!(seen(&a).await, None);
}
