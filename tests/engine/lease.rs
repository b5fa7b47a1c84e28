//! A miss in several processes is one fetch. Each cache here stands for a process: a tier of
//! its own over one shared store, which gives the leases.

use std::time::Duration;

use futures_util::future::join_all;
use larder::{Builder, Cache, Draft, ErrorKind, Fetched, OnAbandon, Source, Store, Tier};
use larder_conformance::{Fault, Faulty, Model, Op};
use larder_store::{Fence, Key, Leased, Terms};
use tokio::time::{Instant, sleep};

use crate::{
    levers::{Gate, KEY, breathe, faulty, held, reading, refreshing, seen},
    support::{Origin, SECOND, clock, settle, stale_is_served, strict, text},
};

/// A process: its own tier, and the shared store.
fn process(shared: &Faulty<Model>) -> Builder {
    let shared_tier = Tier::new(shared.clone()).shared().timeout(SECOND);
    let tiers = Cache::builder().tier(Model::new()).tier(shared_tier);
    tiers.leases(shared.clone()).policy(strict()).clock(clock())
}

fn two(shared: &Faulty<Model>) -> [Cache; 2] {
    [1, 2].map(|seed| process(shared).seed(seed).build().unwrap())
}

fn large() -> Faulty<Model> {
    Faulty::new(Model::new())
}

/// A stranger becomes the holder, for so long.
async fn taken(shared: &Faulty<Model>, ttl: Duration) -> Fence {
    let key = Key::new(KEY).unwrap();
    let fence = shared.inner().fence(key).await.unwrap();
    let terms = Terms {
        who: "a stranger".into(),
        why: "fill".into(),
        ttl,
    };
    let lease = shared.inner().as_lease().unwrap();
    match lease.acquire(key, &fence, &terms).await.unwrap() {
        Leased::Granted(fence) => fence,
        other => panic!("{other:?}"),
    }
}

/// Whether anyone could have the lease now.
async fn is_free(shared: &Faulty<Model>) -> bool {
    let key = Key::new(KEY).unwrap();
    let fence = shared.inner().fence(key).await.unwrap();
    let terms = Terms {
        who: "a test".into(),
        why: "to see".into(),
        ttl: SECOND,
    };
    let lease = shared.inner().as_lease().unwrap();
    match lease.acquire(key, &fence, &terms).await.unwrap() {
        Leased::Granted(fence) => {
            lease.release(key, &fence).await.unwrap();
            true
        }
        _ => false,
    }
}

#[tokio::test(start_paused = true)]
async fn many_callers_in_several_processes_make_one_fetch_a_key() {
    let (shared, origin) = (large(), Origin::default());
    let caches: Vec<Cache> = (1..=4)
        .map(|seed| process(&shared).seed(seed).build().unwrap())
        .collect();
    let names: Vec<String> = (0..100).map(|key| format!("key {key}")).collect();
    let read = async |cache: &Cache, key: &str| {
        let fetch = origin.does(async |context| {
            sleep(SECOND / 20).await;
            Ok(Fetched::bytes(context.key().to_string()))
        });
        let read = cache.get_or_fetch(key, fetch).await.unwrap();
        assert_eq!(text(read).await, key);
    };
    let read = &read;
    let reads = caches.iter().flat_map(|cache| {
        let keys = names.iter();
        keys.flat_map(move |key| (0..10).map(move |_| read(cache, key)))
    });
    join_all(reads).await;
    assert_eq!(origin.fetches(), 100);
    let followed = caches
        .iter()
        .map(|cache| cache.counters().leases_followed)
        .sum::<u64>();
    assert_eq!(followed, 300);
    for cache in &caches {
        settle(cache).await;
        let report = cache.tiers();
        assert_eq!(report[0].usage.entries, 100, "each has them all by now");
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_follows_the_object_as_soon_as_it_is_there() {
    let (shared, origin, gate) = (faulty(), Origin::default(), Gate::new());
    let [a, b] = two(&shared);
    let first = reading(&a, origin.gives_after(&gate, || Fetched::bytes("v1")));
    gate.reached().await;
    let second = reading(&b, origin.gives("a second fetch"));
    sleep(SECOND).await;
    assert!(!second.is_finished());
    let began = Instant::now();
    gate.open();
    assert_eq!(second.await.unwrap(), "v1");
    assert!(began.elapsed() <= SECOND / 8, "{:?}", began.elapsed());
    assert_eq!(first.await.unwrap(), "v1");
    let read = b.get(KEY).await.unwrap();
    assert!(matches!(
        read.status().source(),
        Source::Tier { index: 0, .. }
    ));
    assert_eq!(origin.fetches(), 1);
    settle(&a).await;
    sleep(SECOND).await;
    assert!(is_free(&shared).await);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_longer_than_was_told() {
    let (shared, origin, gate) = (faulty(), Origin::default(), Gate::new());
    let [a, b] = two(&shared);
    let first = reading(&a, origin.gives_after(&gate, || Fetched::bytes("late")));
    gate.reached().await;
    let began = Instant::now();
    let second = reading(&b, origin.gives("own"));
    assert_eq!(second.await.unwrap(), "own");
    let took = began.elapsed();
    assert!(took >= 5 * SECOND && took < 51 * SECOND / 10, "{took:?}");
    assert_eq!(b.counters().leases_timed_out, 1);
    settle(&b).await;
    gate.open();
    assert_eq!(first.await.unwrap(), "late");
    settle(&a).await;
    // The first to commit is the one; the holder's lease ended with it.
    assert_eq!(held(shared.inner()).await.as_deref(), Some("own"));
    assert_eq!(seen(&a).await.as_deref(), Some("own"));
    assert_eq!(a.tiers()[1].counters.superseded, 1);
}

#[tokio::test(start_paused = true)]
async fn who_has_something_stale_serves_it_meanwhile() {
    let (shared, origin, gate) = (faulty(), Origin::default(), Gate::new());
    let time = clock();
    let build = |seed| {
        let builder = process(&shared).seed(seed).clock(time.clone());
        builder.policy(stale_is_served()).build().unwrap()
    };
    let (a, b) = (build(1), build(2));
    a.insert(KEY, "v1", Draft::new()).await.unwrap();
    assert_eq!(seen(&b).await.as_deref(), Some("v1"));
    settle(&b).await;
    time.advance(70 * SECOND);
    // Both serve v1, and refresh behind; a holds the lease.
    assert_eq!(
        reading(&a, origin.gives_after(&gate, || Fetched::bytes("v2")))
            .await
            .unwrap(),
        "v1"
    );
    gate.reached().await;
    let began = Instant::now();
    for _ in 0..10 {
        assert_eq!(reading(&b, origin.gives("unasked")).await.unwrap(), "v1");
    }
    assert!(began.elapsed() < SECOND / 100);
    gate.open();
    settle(&a).await;
    settle(&b).await;
    assert_eq!(
        seen(&b).await.as_deref(),
        Some("v2"),
        "of the other's refresh"
    );
    assert_eq!(origin.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_renewed_while_its_fetch_runs_and_given_up_when_it_fails() {
    let (shared, origin, gate) = (faulty(), Origin::default(), Gate::new());
    let a = process(&shared).lease_ttl(SECOND).build().unwrap();
    let fails = {
        let gate = gate.clone();
        origin.does(async move |_| {
            gate.pass().await;
            Err(larder::Error::new(ErrorKind::Other, "the origin broke"))
        })
    };
    let read = {
        let a = a.clone();
        tokio::spawn(async move { a.get_or_fetch(KEY, fails).await.map(drop) })
    };
    gate.reached().await;
    for _ in 0..20 {
        sleep(SECOND / 2).await;
        assert!(!is_free(&shared).await);
    }
    gate.open();
    read.await.unwrap().unwrap_err();
    breathe().await;
    assert!(is_free(&shared).await, "at once, not when it expires");
    settle(&a).await;
}

#[tokio::test(start_paused = true)]
async fn s45_a_panic_of_the_holders_fetcher_gives_the_lease_up() {
    let (shared, origin) = (faulty(), Origin::default());
    let [a, b] = two(&shared);
    let panics = origin.does(async |_| panic!("the fetcher panics, as it is meant to"));
    a.get_or_fetch(KEY, panics).await.unwrap_err();
    let began = Instant::now();
    assert_eq!(reading(&b, origin.gives("v1")).await.unwrap(), "v1");
    assert!(began.elapsed() < SECOND / 10, "{:?}", began.elapsed());
    settle(&a).await;
    settle(&b).await;
    assert!(is_free(&shared).await);
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_died_keeps_the_others_waiting_for_its_lease_only() {
    let (shared, origin) = (faulty(), Origin::default());
    let [_, b] = two(&shared);
    let _fence = taken(&shared, 2 * SECOND).await;
    let began = Instant::now();
    assert_eq!(reading(&b, origin.gives("v1")).await.unwrap(), "v1");
    let took = began.elapsed();
    assert!(took >= 2 * SECOND && took < 22 * SECOND / 10, "{took:?}");
    settle(&b).await;
    assert_eq!(held(shared.inner()).await.as_deref(), Some("v1"));
    assert_eq!(b.counters().leases_granted, 1);
}

#[tokio::test(start_paused = true)]
async fn s68_a_holder_that_lost_its_lease_publishes_nothing() {
    let (shared, origin, gate) = (faulty(), Origin::default(), Gate::new());
    let [a, b] = two(&shared);
    // Its renewals do not come through: as if it were paused.
    shared
        .faults()
        .on(Op::Renew)
        .always(Fault::Fail(ErrorKind::Unavailable));
    let first = reading(&a, origin.gives_after(&gate, || Fetched::bytes("old")));
    gate.reached().await;
    sleep(5 * SECOND).await;
    // Whether or not somebody else has it by now.
    gate.open();
    assert_eq!(
        first.await.unwrap(),
        "old",
        "its reader gets it all the same"
    );
    settle(&a).await;
    assert_eq!(held(shared.inner()).await, None);
    assert_eq!(seen(&a).await, None, "nor in its own memory");
    assert_eq!(a.tiers()[1].counters.superseded, 1);

    let first = reading(&a, origin.gives_after(&gate, || Fetched::bytes("old")));
    gate.reached().await;
    let second = reading(&b, origin.gives("new"));
    assert_eq!(second.await.unwrap(), "new");
    settle(&b).await;
    gate.open();
    first.await.unwrap();
    settle(&a).await;
    assert_eq!(held(shared.inner()).await.as_deref(), Some("new"));
    assert_eq!(seen(&a).await.as_deref(), Some("new"));
}

#[tokio::test(start_paused = true)]
async fn s20_a_fill_begun_before_another_process_deletes_is_not_published() {
    let (shared, origin, gate) = (faulty(), Origin::default(), Gate::new());
    let [a, b] = two(&shared);
    let first = reading(&a, origin.gives_after(&gate, || Fetched::bytes("old")));
    gate.reached().await;
    b.delete(KEY).await.unwrap();
    // The delete has ended the lease: who comes now need not wait.
    let began = Instant::now();
    assert_eq!(reading(&b, origin.gives("new")).await.unwrap(), "new");
    assert!(began.elapsed() < SECOND / 100);
    settle(&b).await;
    gate.open();
    assert_eq!(first.await.unwrap(), "old");
    settle(&a).await;
    assert_eq!(held(shared.inner()).await.as_deref(), Some("new"));
    assert_eq!(seen(&a).await.as_deref(), Some("new"));
    assert_eq!(a.counters().leases_granted, 1);
}

#[tokio::test(start_paused = true)]
async fn what_no_shared_tier_keeps_is_not_queued_for_twice() {
    let (shared, origin) = (faulty(), Origin::default());
    let [a, b] = two(&shared);
    for round in 0..2 {
        let slow = || {
            origin.does(async |_| {
                sleep(SECOND).await;
                Ok(Fetched::bytes("own").no_store())
            })
        };
        let began = Instant::now();
        let reads = [reading(&a, slow()), reading(&b, slow())];
        for read in join_all(reads).await {
            assert_eq!(read.unwrap(), "own");
        }
        let took = began.elapsed();
        match round {
            0 => assert!(took >= 2 * SECOND, "one after the other: {took:?}"),
            _ => assert!(took < 11 * SECOND / 10, "side by side: {took:?}"),
        }
        settle(&a).await;
        settle(&b).await;
    }
    assert_eq!(origin.fetches(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_gives_no_leases_now_holds_nobody_up() {
    for (op, fault, most) in [
        (
            Op::Acquire,
            Fault::Fail(ErrorKind::Unavailable),
            SECOND / 100,
        ),
        (Op::Acquire, Fault::Panic, SECOND / 100),
        (Op::Acquire, Fault::Stall, 11 * SECOND / 10),
        (Op::Get, Fault::Fail(ErrorKind::Unavailable), SECOND / 100),
        (Op::Release, Fault::Stall, SECOND / 100),
        (Op::Renew, Fault::Stall, SECOND / 100),
    ] {
        let (shared, origin) = (faulty(), Origin::default());
        let [a, _] = two(&shared);
        shared.faults().on(op).always(fault);
        let began = Instant::now();
        assert_eq!(reading(&a, origin.gives("v1")).await.unwrap(), "v1");
        assert!(
            began.elapsed() <= most,
            "{op:?} {fault:?}: {:?}",
            began.elapsed()
        );
        settle(&a).await;
        assert_eq!(seen(&a).await.as_deref(), Some("v1"));
        a.close().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn an_explicit_refresh_asks_for_itself() {
    let (shared, origin, gate) = (faulty(), Origin::default(), Gate::new());
    let [a, b] = two(&shared);
    let first = reading(&a, origin.gives_after(&gate, || Fetched::bytes("old")));
    gate.reached().await;
    let began = Instant::now();
    assert_eq!(refreshing(&b, origin.gives("new")).await.unwrap(), "new");
    assert!(began.elapsed() < SECOND / 100);
    settle(&b).await;
    gate.open();
    first.await.unwrap();
    settle(&a).await;
    assert_eq!(seen(&a).await.as_deref(), Some("new"));
}

#[tokio::test(start_paused = true)]
async fn leases_may_come_from_a_store_that_is_no_tier() {
    let (shared, leases, origin) = (faulty(), large(), Origin::default());
    let build = |seed| {
        let builder = process(&shared).seed(seed);
        builder.leases(leases.clone()).build().unwrap()
    };
    let (a, b, gate) = (build(1), build(2), Gate::new());
    let first = reading(&a, origin.gives_after(&gate, || Fetched::bytes("v1")));
    gate.reached().await;
    let second = reading(&b, origin.gives("a second fetch"));
    sleep(SECOND).await;
    assert!(!second.is_finished());
    gate.open();
    assert_eq!(second.await.unwrap(), "v1");
    assert_eq!(first.await.unwrap(), "v1");
    assert_eq!(origin.fetches(), 1);
    assert_eq!(shared.faults().calls(Op::Acquire), 0);
}

#[tokio::test(start_paused = true)]
async fn who_has_left_does_not_go_on_waiting() {
    let (shared, origin) = (faulty(), Origin::default());
    let b = process(&shared)
        .on_abandon(OnAbandon::Abort)
        .build()
        .unwrap();
    let _fence = taken(&shared, 4 * SECOND).await;
    let read = reading(&b, origin.gives("unwanted"));
    sleep(SECOND).await;
    read.abort();
    sleep(SECOND).await;
    assert_eq!(b.in_flight().flights, 0);
    assert_eq!((origin.fetches(), b.counters().flights_abandoned), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn closing_gives_leases_up() {
    let (shared, origin, gate) = (faulty(), Origin::default(), Gate::new());
    let [a, _] = two(&shared);
    let _read = reading(&a, origin.gives_after(&gate, || Fetched::bytes("never")));
    gate.reached().await;
    assert!(!is_free(&shared).await);
    // The store itself must stay open for the look at it: another handle of it is closed.
    shared
        .faults()
        .on(Op::Close)
        .always(Fault::Fail(ErrorKind::Other));
    a.close().await.unwrap_err();
    breathe().await;
    assert!(is_free(&shared).await);
}

#[tokio::test]
async fn senseless_settings_are_refused() {
    let shared = faulty();
    let disk = tempfile::tempdir().unwrap();
    let disk = larder::Disk::open(disk.path(), 64 << 20).await.unwrap();
    let error = process(&shared).leases(disk).build().unwrap_err();
    assert!(
        error.is_invalid() && error.to_string().contains("disk"),
        "{error}"
    );
    for builder in [
        process(&shared).lease_ttl(Duration::from_millis(9)),
        process(&shared).lease_ttl(3601 * SECOND),
        process(&shared).process("x".repeat(257)),
    ] {
        let error = builder.build().unwrap_err();
        assert!(error.is_invalid(), "{error}");
    }
}
