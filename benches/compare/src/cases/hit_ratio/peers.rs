//! The caches whose policies are compared. What is not said is at its default.

use anyhow::{Result, anyhow};
use foyer::{Cache, CacheBuilder, EvictionConfig, LfuConfig, LruConfig, S3FifoConfig, SieveConfig};
use larder_bench::Trace;
use moka::policy::EvictionPolicy;

use super::{Outcome, weights::Weights};
use crate::cases::Bench;

/// A cache, its policy, and what it counts an object for.
pub(super) struct Peer {
    pub(super) name: &'static str,
    pub(super) side: Side,
    kind: Kind,
}

/// Whom a budget holds to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// What Larder does unless it is told otherwise.
    Default,
    /// What Larder can do in memory.
    Policy,
    /// A peer for which an object weighs what it weighs for Larder.
    SameWeight,
    /// Told, and held to nothing.
    Beside,
}

enum Kind {
    Memory(&'static str),
    Disk,
    QuickCache,
    Moka(fn() -> EvictionPolicy),
    Foyer(fn() -> EvictionConfig),
}

/// The size of objects that have none.
pub(super) const LEN: u64 = 4 << 10;

macro_rules! peers {
    ($($side:ident: $($name:literal => $kind:expr,)*)*) => {
        pub(super) const ALL: &[Peer] = &[
            $($(Peer { name: $name, side: Side::$side, kind: $kind },)*)*
        ];
    };
}

peers! {
    Default:
    "larder" => Kind::Memory("s3-fifo"),
    Policy:
    "larder-tinylfu" => Kind::Memory("tiny-lfu"),
    "larder-lru" => Kind::Memory("lru"),
    Beside:
    "larder-disk" => Kind::Disk,
    SameWeight:
    "quick_cache-same-weight" => Kind::QuickCache,
    "moka-tinylfu-same-weight" => Kind::Moka(EvictionPolicy::tiny_lfu),
    "moka-lru-same-weight" => Kind::Moka(EvictionPolicy::lru),
    "foyer-s3fifo-same-weight" => Kind::Foyer(|| S3FifoConfig::default().into()),
    "foyer-lfu-same-weight" => Kind::Foyer(|| LfuConfig::default().into()),
    "foyer-lru-same-weight" => Kind::Foyer(|| LruConfig::default().into()),
    "foyer-sieve-same-weight" => Kind::Foyer(|| SieveConfig.into()),
    Beside:
    "quick_cache" => Kind::QuickCache,
    "moka-tinylfu" => Kind::Moka(EvictionPolicy::tiny_lfu),
    "moka-lru" => Kind::Moka(EvictionPolicy::lru),
    "foyer-s3fifo" => Kind::Foyer(|| S3FifoConfig::default().into()),
    "foyer-lfu" => Kind::Foyer(|| LfuConfig::default().into()),
    "foyer-lru" => Kind::Foyer(|| LruConfig::default().into()),
    "foyer-sieve" => Kind::Foyer(|| SieveConfig.into()),
}

impl Peer {
    /// Asks an empty cache of this capacity for every key in turn.
    pub(super) async fn replay(
        &self,
        bench: &Bench,
        trace: &Trace,
        capacity: u64,
    ) -> Result<Outcome> {
        match &self.kind {
            Kind::Memory(policy) => {
                let url = format!("memory:?capacity={capacity}&policy={policy}");
                larder(&url, trace).await
            }
            Kind::Disk => {
                let folder = bench.folder.fresh(self.name)?;
                let url = format!("disk:{}?capacity={capacity}", folder.display());
                let outcome = larder(&url, trace).await;
                crate::folder::remove(&folder)?;
                outcome
            }
            Kind::QuickCache => quick_cache(trace, &self.weights(trace).await?, capacity),
            Kind::Moka(policy) => Ok(moka(trace, &self.weights(trace).await?, capacity, policy())),
            Kind::Foyer(policy) => foyer(trace, &self.weights(trace).await?, capacity, policy()),
        }
    }

    async fn weights(&self, trace: &Trace) -> Result<Weights> {
        match self.side {
            Side::SameWeight => Weights::of_larder(trace).await,
            _ => Ok(Weights::of_bodies(trace)),
        }
    }
}

async fn larder(url: &str, trace: &Trace) -> Result<Outcome> {
    let store = larder_bench::open(url)
        .await
        .map_err(|error| anyhow!(error))?;
    let outcome = larder_bench::hit_ratio(&*store, trace, LEN).await?;
    store.close().await?;
    Ok(outcome.into())
}

/// Puts what `get` does not find.
fn each(
    trace: &Trace,
    weights: &Weights,
    mut get: impl FnMut(u32) -> bool,
    mut put: impl FnMut(u32, u64),
) -> Outcome {
    let mut outcome = Outcome::default();
    for &key in trace.order() {
        let size = trace.sizes()[key as usize].unwrap_or(LEN);
        let hit = get(key);
        if !hit {
            put(key, weights.of(key));
        }
        outcome.count(size, hit);
    }
    outcome
}

fn quick_cache(trace: &Trace, weights: &Weights, capacity: u64) -> Result<Outcome> {
    /// What is kept of an object is its weight.
    #[derive(Clone)]
    struct Kept;

    impl quick_cache::Weighter<u32, u64> for Kept {
        fn weight(&self, _: &u32, weight: &u64) -> u64 {
            *weight
        }
    }

    let items = usize::try_from(capacity / weights.mean())?;
    let cache = quick_cache::sync::Cache::with_weighter(items, capacity, Kept);
    let (get, put) = (
        |key| cache.get(&key).is_some(),
        |key, weight| cache.insert(key, weight),
    );
    Ok(each(trace, weights, get, put))
}

/// Maintained after each put, so that it neither forgets what it was asked nor keeps too much.
fn moka(trace: &Trace, weights: &Weights, capacity: u64, policy: EvictionPolicy) -> Outcome {
    let cache = moka::sync::Cache::builder()
        .max_capacity(capacity)
        .weigher(|_: &u32, weight: &u64| u32::try_from(*weight).unwrap_or(u32::MAX))
        .eviction_policy(policy)
        .build();
    let put = |key, weight| {
        cache.insert(key, weight);
        cache.run_pending_tasks();
    };
    each(trace, weights, |key| cache.get(&key).is_some(), put)
}

fn foyer(
    trace: &Trace,
    weights: &Weights,
    capacity: u64,
    policy: EvictionConfig,
) -> Result<Outcome> {
    let cache: Cache<u32, u64> = CacheBuilder::new(usize::try_from(capacity)?)
        .with_eviction_config(policy)
        .with_weighter(|_: &u32, weight: &u64| usize::try_from(*weight).unwrap_or(usize::MAX))
        .build();
    let (get, put) = (
        |key| cache.get(&key).is_some(),
        |key, weight| drop(cache.insert(key, weight)),
    );
    Ok(each(trace, weights, get, put))
}
