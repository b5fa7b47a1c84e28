//! Settings that make no cache.

use std::{sync::Arc, time::Duration};

use larder::{Builder, Cache, ErrorKind, Memory, OnAbandon, Policy, Tier};
use larder_conformance::Model;

use crate::support::{SECOND, memory};

/// Builds it; gives the message, which must be of kind `Invalid`.
fn refused(builder: Builder) -> String {
    let error = builder.build().expect_err("no cache can be built of this");
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    error.to_string()
}

fn one_tier() -> Builder {
    Cache::builder().tier(memory())
}

#[tokio::test]
async fn a_cache_has_between_one_and_sixteen_tiers() {
    assert_eq!(refused(Cache::builder()), "a cache needs at least one tier");
    let tiers = |count| (0..count).fold(Cache::builder(), |cache, _| cache.tier(Model::new()));
    assert_eq!(refused(tiers(17)), "a cache has at most 16 tiers");
    assert!(tiers(16).build().is_ok());
}

#[tokio::test]
async fn a_store_cannot_be_two_tiers() {
    let (memory, model) = (memory(), Arc::new(Model::new()));
    let clones = Cache::builder()
        .tier(memory.clone())
        .tier(Model::new())
        .tier(memory);
    let message = "the same memory store was given twice, as tier 0 and as tier 2";
    assert_eq!(refused(clones), message);
    let shared = Cache::builder()
        .tier(Arc::clone(&model))
        .tier(Tier::new(model).name("other"));
    let message = "the same model store was given twice, as tier 0 and as tier 1";
    assert_eq!(refused(shared), message);
    let alike = Cache::builder()
        .tier(Memory::new(1 << 20))
        .tier(Memory::new(1 << 20));
    assert!(alike.build().is_ok(), "two stores that are merely alike");
}

#[tokio::test]
async fn a_memory_without_room_is_refused_where_it_is_made() {
    let error = Memory::builder(0).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(
        error
            .to_string()
            .starts_with("a capacity of 0 bytes is not between"),
        "{error}"
    );
}

#[tokio::test]
async fn a_tier_needs_room_time_and_a_place() {
    let behind = Cache::builder().tier(Tier::new(memory()).behind());
    assert_eq!(refused(behind), "the first tier cannot be written behind");
    let below = || one_tier().tier(Tier::new(memory()).behind());
    for (keys_max, bytes_max) in [(0, 1 << 20), (10, 0)] {
        let message = refused(below().behind_queue(keys_max, bytes_max));
        assert_eq!(
            message,
            "a tier is written behind, but its queue has no room"
        );
    }
    assert!(
        one_tier().behind_queue(0, 0).build().is_ok(),
        "no tier needs it"
    );
    let message = "a tier needs time: its time-outs cannot be zero";
    let timeout = Tier::new(memory()).timeout(Duration::ZERO);
    assert_eq!(refused(Cache::builder().tier(timeout)), message);
    let stall = Tier::new(memory()).write_stall(Duration::ZERO);
    assert_eq!(refused(Cache::builder().tier(stall)), message);
    let capped = Tier::new(memory()).ttl_max(Duration::ZERO);
    let message = "a tier that caps lifetimes at zero holds nothing";
    assert_eq!(refused(Cache::builder().tier(capped)), message);
}

#[tokio::test]
async fn limits_of_zero_are_refused() {
    let message = "a limit of zero flights, fetches or refreshes lets nothing through";
    assert_eq!(refused(one_tier().flights_max(0)), message);
    assert_eq!(refused(one_tier().fetches_max(0)), message);
    assert_eq!(refused(one_tier().refreshes(0, 10)), message);
    assert_eq!(refused(one_tier().refreshes(10, 0)), message);
    let message = "a time-out of zero lets nothing through";
    assert_eq!(refused(one_tier().fetch_timeout(Duration::ZERO)), message);
    assert_eq!(refused(one_tier().idle_timeout(Duration::ZERO)), message);
    let message = "spool_memory is at least 128 KiB, spool_memory_total at least that";
    assert_eq!(refused(one_tier().spool_memory(1000)), message);
    assert_eq!(refused(one_tier().spool_memory_total(1000)), message);
}

#[tokio::test]
async fn lifetimes_that_contradict_are_refused() {
    let jitter = Policy::new().jitter(-0.1);
    let message = "jitter is a share of the ttl, from 0.0 to 1.0";
    assert_eq!(refused(one_tier().policy(jitter)), message);
    let endless = Policy::new().ttl(Duration::MAX).stale_if_error(SECOND);
    let message = "a ttl that never ends leaves nothing to be stale after it";
    assert_eq!(refused(one_tier().policy(endless)), message);
    let bridge = Policy::new().error_ttl(2 * SECOND).stale_if_error(SECOND);
    let message = "error_ttl is longer than stale_if_error, which is to bridge it";
    assert_eq!(refused(one_tier().policy(bridge)), message);
    for share in [-0.1, 1.1, f64::NAN] {
        let message = refused(one_tier().on_abandon(OnAbandon::FinishIf(share)));
        assert_eq!(
            message,
            "the share of an abandoned flight is from 0.0 to 1.0"
        );
    }
}

#[test]
fn a_cache_is_built_within_a_runtime_or_is_given_one() {
    let message = "a cache is built within a tokio runtime, or given one";
    assert_eq!(refused(one_tier()), message);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let cache = one_tier()
        .runtime(runtime.handle().clone())
        .build()
        .unwrap();
    let inserted = runtime.block_on(cache.insert("a", "x", larder::Draft::new()));
    assert_eq!(inserted.unwrap().tiers, 1);
}
