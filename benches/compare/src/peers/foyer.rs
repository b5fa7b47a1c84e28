//! foyer's hybrid cache with its block engine, set up so that it does its best at what is measured.
//!
//! - *Memory of one entry*, first in first out: a hit is a hit on disk, as it is for the others,
//!   and the memory part costs as little as it can.
//! - *Writes go to disk at once* (`storage_writer`), not when the memory part evicts them, so that
//!   a burst is written and not kept back.
//! - *Nothing is dropped.* The engine refuses silently what does not fit into its write buffer, so
//!   [`Foyer::put`] paces itself: it lets at most three quarters of the buffer wait, in two halves,
//!   so that one is written while the other fills. This also keeps the sequence numbers in order,
//!   without which recovery finds only a part. No `Throttle` is set: it would reject, not wait.
//! - *Buffered I/O*, as all the others: hits are in the page cache. `psync` is the default engine.
//! - *Blocks* of the default 16 MiB (which also limits an object); where the capacity is small,
//!   a 64th of it, so that eviction has some choice.
//! - *Everything else* is at its default: 16 MiB of buffer, one flusher, one reclaimer, no
//!   compression, no tombstone log, quiet recovery by 8 tasks.

use std::path::Path;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use foyer::{
    BlockEngineConfig, DeviceBuilder, FifoConfig, FsDeviceBuilder, HybridCache, HybridCacheBuilder,
    HybridCachePolicy, PsyncIoEngineConfig, RecoverMode,
};
use tokio::{sync::Mutex, task::JoinHandle};

use super::{Peer, Plan};
use crate::data::Probe;

const BUFFER: usize = 16 << 20;
/// Half of what may wait to be written.
const HALF: usize = BUFFER * 3 / 8;
const BLOCK: u64 = 16 << 20;
/// A value of 1 MiB must fit.
const BLOCK_MIN: u64 = 2 << 20;
/// Entries lie at multiples of this.
const PAGE: usize = 4_096;
/// The header of an entry, rounded up.
const HEADER: usize = 64;

/// foyer's hybrid cache.
pub struct Foyer {
    cache: HybridCache<String, Bytes>,
    pace: Mutex<Pace>,
}

/// What has been put and may not be written yet.
#[derive(Default)]
struct Pace {
    filling: usize,
    /// Done once the half before is written.
    writing: Option<JoinHandle<()>>,
}

impl Peer for Foyer {
    async fn open(folder: &Path, plan: Plan) -> Result<Self> {
        let capacity = usize::try_from(plan.capacity)?;
        let block = usize::try_from((plan.capacity / 64).clamp(BLOCK_MIN, BLOCK))?;
        let device = FsDeviceBuilder::new(folder)
            .with_capacity(capacity)
            .build()?;
        let engine = BlockEngineConfig::new(device)
            .with_block_size(block)
            .with_buffer_pool_size(BUFFER)
            .with_submit_queue_size_threshold(2 * BUFFER);
        let cache = HybridCacheBuilder::new()
            .with_policy(HybridCachePolicy::WriteOnInsertion)
            .memory(1)
            .with_shards(1)
            .with_eviction_config(FifoConfig::default())
            .storage()
            .with_io_engine_config(PsyncIoEngineConfig::new())
            .with_engine_config(engine)
            .with_recover_mode(RecoverMode::Quiet)
            .build()
            .await?;
        Ok(Self {
            cache,
            pace: Mutex::default(),
        })
    }

    async fn put(&self, key: &str, value: Bytes) -> Result<()> {
        let padded = (HEADER + key.len() + value.len() + 16).next_multiple_of(PAGE);
        let mut pace = self.pace.lock().await;
        let written = self.cache.storage_writer(key.to_owned()).insert(value);
        written.context("foyer's admission refused an entry")?;
        pace.filling += padded;
        if pace.filling >= HALF {
            if let Some(writing) = pace.writing.take() {
                writing.await?;
            }
            let cache = self.cache.clone();
            pace.writing = Some(tokio::spawn(async move { cache.storage().wait().await }));
            pace.filling = 0;
        }
        Ok(())
    }

    async fn get(&self, key: &str, probe: &mut Probe<'_>) -> Result<bool> {
        let entry = self.cache.get(key).await?;
        if let Some(entry) = &entry {
            probe.feed(entry.value());
        }
        Ok(entry.is_some())
    }

    async fn flush(&self) -> Result<()> {
        self.cache.storage().wait().await;
        Ok(())
    }

    async fn close(&self) -> Result<()> {
        Ok(self.cache.close().await?)
    }
}
