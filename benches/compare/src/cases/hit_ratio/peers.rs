//! The caches whose policies are compared. What is not said is at its default.

use anyhow::{Result, anyhow};
use foyer::{Cache, CacheBuilder, EvictionConfig, LfuConfig, LruConfig, S3FifoConfig, SieveConfig};
use larder_bench::Trace;
use moka::policy::EvictionPolicy;

use super::Outcome;
use crate::cases::Bench;

/// A cache and its policy.
pub(super) struct Peer {
    pub(super) name: &'static str,
    kind: Kind,
}

enum Kind {
    Memory(&'static str),
    Disk,
    QuickCache,
    Moka(fn() -> EvictionPolicy),
    Foyer(fn() -> EvictionConfig),
}

/// The size of objects that have none.
const LEN: u64 = 4 << 10;

macro_rules! peers {
    ($($name:literal => $kind:expr,)*) => {
        pub(super) const ALL: &[Peer] = &[$(Peer { name: $name, kind: $kind },)*];
    };
}

peers! {
    "larder" => Kind::Memory("s3-fifo"),
    "larder-tinylfu" => Kind::Memory("tiny-lfu"),
    "larder-lru" => Kind::Memory("lru"),
    "larder-disk" => Kind::Disk,
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
            Kind::QuickCache => quick_cache(trace, capacity),
            Kind::Moka(policy) => Ok(moka(trace, capacity, policy())),
            Kind::Foyer(policy) => foyer(trace, capacity, policy()),
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
fn each(trace: &Trace, mut get: impl FnMut(u32) -> bool, mut put: impl FnMut(u32, u64)) -> Outcome {
    let mut outcome = Outcome::default();
    for &key in trace.order() {
        let size = trace.sizes()[key as usize].unwrap_or(LEN);
        let hit = get(key);
        if !hit {
            put(key, size);
        }
        outcome.count(size, hit);
    }
    outcome
}

fn quick_cache(trace: &Trace, capacity: u64) -> Result<Outcome> {
    /// An object is as heavy as its size.
    #[derive(Clone)]
    struct Size;

    impl quick_cache::Weighter<u32, u64> for Size {
        fn weight(&self, _: &u32, size: &u64) -> u64 {
            *size
        }
    }

    let bytes: u64 = trace.sizes().iter().map(|size| size.unwrap_or(LEN)).sum();
    let mean = (bytes / trace.sizes().len() as u64).max(1);
    let items = usize::try_from(capacity / mean)?;
    let cache = quick_cache::sync::Cache::with_weighter(items, capacity, Size);
    let (get, put) = (
        |key| cache.get(&key).is_some(),
        |key, size| cache.insert(key, size),
    );
    Ok(each(trace, get, put))
}

/// Maintained after each put, so that it neither forgets what it was asked nor keeps too much.
fn moka(trace: &Trace, capacity: u64, policy: EvictionPolicy) -> Outcome {
    let cache = moka::sync::Cache::builder()
        .max_capacity(capacity)
        .weigher(|_: &u32, size: &u64| u32::try_from(*size).unwrap_or(u32::MAX))
        .eviction_policy(policy)
        .build();
    let put = |key, size| {
        cache.insert(key, size);
        cache.run_pending_tasks();
    };
    each(trace, |key| cache.get(&key).is_some(), put)
}

fn foyer(trace: &Trace, capacity: u64, policy: EvictionConfig) -> Result<Outcome> {
    let cache: Cache<u32, u64> = CacheBuilder::new(usize::try_from(capacity)?)
        .with_eviction_config(policy)
        .with_weighter(|_: &u32, size: &u64| usize::try_from(*size).unwrap_or(usize::MAX))
        .build();
    let (get, put) = (
        |key| cache.get(&key).is_some(),
        |key, size| drop(cache.insert(key, size)),
    );
    Ok(each(trace, get, put))
}
