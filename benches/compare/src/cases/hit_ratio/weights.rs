//! What an object counts for.

use anyhow::{Result, anyhow, ensure};
use larder_bench::Trace;
use larder_store::{Draft, Store, StoreExt as _};

use super::peers::LEN;

/// The weight of each key of a trace.
pub(super) struct Weights(Vec<u64>);

impl Weights {
    /// As a cache of values has them: the bodies alone.
    pub(super) fn of_bodies(trace: &Trace) -> Self {
        let sizes = trace.sizes().iter();
        Self(sizes.map(|size| size.unwrap_or(LEN)).collect())
    }

    /// As Larder's default has them, told by the store itself: key and metadata, the body, and what
    /// an entry takes of the tables.
    pub(super) async fn of_larder(trace: &Trace) -> Result<Self> {
        let beside = weigh("k", 1).await? - 2;
        let sizes = Self::of_bodies(trace).0.into_iter();
        let keys = trace.keys().iter().map(|key| key.len() as u64);
        Ok(Self(
            keys.zip(sizes)
                .map(|(key, size)| key + size + beside)
                .collect(),
        ))
    }

    pub(super) fn of(&self, key: u32) -> u64 {
        self.0[key as usize]
    }

    pub(super) fn mean(&self) -> u64 {
        let sum: u64 = self.0.iter().sum();
        (sum / self.0.len().max(1) as u64).max(1)
    }
}

/// What an object is counted for by a store that has no other.
async fn weigh(key: &str, size: usize) -> Result<u64> {
    let store = larder_bench::open("memory:?policy=s3-fifo").await;
    let store = store.map_err(|error| anyhow!(error))?;
    let done = store.write(key, vec![0; size], Draft::new()).await?;
    ensure!(done.is_done(), "what nobody else writes was superseded");
    Ok(store.usage().live)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is computed for each key is what the store counts.
    #[tokio::test]
    async fn an_object_weighs_what_larder_counts_it_for() -> Result<()> {
        let trace = Trace::read("k,1\nlonger,1\nlongest,5000\nwithout\n".as_bytes())?;
        let weights = Weights::of_larder(&trace).await?;
        for (number, key) in (0..).zip(trace.keys()) {
            let size = trace.sizes()[number as usize].unwrap_or(LEN);
            let counted = weigh(key, usize::try_from(size)?).await?;
            assert_eq!(weights.of(number), counted, "{key}");
            assert!(counted > Weights::of_bodies(&trace).of(number) + key.len() as u64);
        }
        Ok(())
    }
}
