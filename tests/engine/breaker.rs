//! A tier that is away does not cost every read its time-out.

use std::time::Duration;

use larder::{Breaker, Cache, ErrorKind, Tier};
use larder_conformance::{Fault, Faulty, Model, Op};
use tokio::time::Instant;

use crate::{
    levers::{KEY, faulty},
    support::{Origin, SECOND, clock, memory, settle, strict, text},
};

const DOWN: Fault = Fault::Fail(ErrorKind::Unavailable);

fn cache(shared: &Faulty<Model>, breaker: Breaker) -> Cache {
    let shared = Tier::new(shared.clone())
        .shared()
        .timeout(SECOND)
        .breaker(breaker);
    let tiers = Cache::builder().tier(memory()).tier(shared).seed(7);
    tiers.policy(strict()).clock(clock()).build().unwrap()
}

/// Reads a key that no tier has; says how long that took.
async fn miss(cache: &Cache, origin: &Origin, key: &str) -> Duration {
    let began = Instant::now();
    let response = cache.get_or_fetch(key, origin.gives("v")).await.unwrap();
    assert_eq!(text(response).await, "v");
    settle(cache).await;
    began.elapsed()
}

#[tokio::test(start_paused = true)]
async fn s65_a_store_that_hangs_costs_a_few_reads_their_time_and_comes_back_by_itself() {
    let (shared, origin) = (faulty(), Origin::default());
    let cache = cache(&shared, Breaker::new());
    shared.faults().on(Op::Get).always(Fault::Stall);
    shared.faults().on(Op::Stat).always(Fault::Stall);
    for key in 0..5 {
        assert!(miss(&cache, &origin, &format!("slow {key}")).await >= SECOND);
    }
    let asked = shared.faults().calls(Op::Get);
    for key in 0..100 {
        let took = miss(&cache, &origin, &format!("spared {key}")).await;
        assert!(took < SECOND / 100, "{took:?}");
    }
    assert_eq!(shared.faults().calls(Op::Get), asked);
    assert!(cache.tiers()[1].counters.spared >= 100);

    shared.faults().clear();
    shared.faults().release();
    tokio::time::sleep(10 * SECOND).await;
    miss(&cache, &origin, "sends the probe").await;
    tokio::time::sleep(SECOND / 100).await;
    miss(&cache, &origin, "asks again").await;
    assert_eq!(shared.faults().calls(Op::Get), asked + 1);
}

#[tokio::test(start_paused = true)]
async fn while_a_store_is_away_one_probe_at_a_time_asks_and_ever_more_seldom() {
    let (shared, origin) = (faulty(), Origin::default());
    let pauses = Breaker::new().failures(1).pause(SECOND / 10, 2 * SECOND);
    let cache = cache(&shared, pauses);
    shared.faults().on(Op::Get).always(DOWN);
    shared.faults().on(Op::Stat).always(DOWN);
    miss(&cache, &origin, "first").await;
    let mut probes = Vec::new();
    let began = Instant::now();
    for key in 0..20_000 {
        miss(&cache, &origin, &format!("{key}")).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        if shared.faults().calls(Op::Stat) > probes.len() as u64 {
            probes.push(began.elapsed());
        }
    }
    let gap = |pair: &[Duration]| pair[1].saturating_sub(pair[0]);
    let gaps: Vec<_> = probes.windows(2).map(gap).collect();
    assert!((10..=25).contains(&probes.len()), "{probes:?}");
    assert!(
        gaps[0] >= SECOND / 10 && *gaps.last().unwrap() <= 21 * SECOND / 10,
        "{gaps:?}"
    );
    assert!(
        gaps.windows(4)
            .all(|gaps| gaps[3] > gaps[0] || gaps[3] >= SECOND),
        "{gaps:?}"
    );
    assert_eq!(shared.faults().calls(Op::Get), 1);
}

#[tokio::test(start_paused = true)]
async fn what_a_store_answers_shows_that_it_is_there() {
    let (shared, origin) = (faulty(), Origin::default());
    let cache = cache(&shared, Breaker::new().failures(2));
    for fault in [
        Fault::Fail(ErrorKind::Other),
        Fault::Fail(ErrorKind::Full),
        Fault::Fail(ErrorKind::Corrupt),
    ] {
        for key in 0..4 {
            shared.faults().on(Op::Get).inject(fault);
            miss(&cache, &origin, &format!("{fault:?} {key}")).await;
        }
    }
    assert_eq!(cache.tiers()[1].counters.spared, 0);
    assert_eq!(shared.faults().calls(Op::Get), 12);
}

#[tokio::test(start_paused = true)]
async fn a_delete_while_a_store_is_away_fails_at_once_and_its_key_is_not_read_there() {
    let (shared, origin) = (faulty(), Origin::default());
    let cache = cache(&shared, Breaker::new().failures(1));
    cache.insert(KEY, "v1", larder::Draft::new()).await.unwrap();
    shared.faults().on(Op::Get).always(Fault::Stall);
    miss(&cache, &origin, "opens it").await;
    shared.faults().clear();
    let began = Instant::now();
    cache.delete(KEY).await.unwrap_err();
    assert!(began.elapsed() < SECOND / 100);
    tokio::time::sleep(10 * SECOND).await;
    miss(&cache, &origin, "sends the probe").await;
    tokio::time::sleep(SECOND / 100).await;
    let read = cache.get_or_fetch(KEY, origin.gives("v2")).await.unwrap();
    assert_eq!(text(read).await, "v2", "not what could not be deleted");
}

#[tokio::test(start_paused = true)]
async fn a_private_tier_has_no_breaker_unless_it_is_given_one() {
    let (lower, origin) = (faulty(), Origin::default());
    let tiers = Cache::builder().tier(memory()).tier(lower.clone());
    let cache = tiers.policy(strict()).clock(clock()).build().unwrap();
    lower.faults().on(Op::Get).always(DOWN);
    for key in 0..20 {
        miss(&cache, &origin, &format!("{key}")).await;
    }
    assert_eq!(lower.faults().calls(Op::Get), 20);
}

#[tokio::test]
async fn senseless_pauses_are_refused() {
    for (first, longest) in [(Duration::ZERO, SECOND), (2 * SECOND, SECOND)] {
        let tier = Tier::new(memory()).breaker(Breaker::new().pause(first, longest));
        let error = Cache::builder().tier(tier).build().unwrap_err();
        assert!(error.is_invalid(), "{error}");
    }
}
