//! foyer: its cache in memory, and its hybrid cache as far as its memory part has the object.
//!
//! The hybrid one has a block engine on a disk below, at its defaults, and room in memory for all
//! that a case reads, so that nothing is evicted to the disk while the clock runs.

use std::{convert::Infallible, path::Path};

use anyhow::Result;
use bytes::Bytes;
use foyer::{
    BlockEngineConfig, Cache, CacheBuilder, DeviceBuilder, FsDeviceBuilder, HybridCache,
    HybridCacheBuilder, PsyncIoEngineConfig, S3FifoConfig,
};

use super::{MemoryCache, Room};

/// Of the disk below; nothing is written there.
const DEVICE: usize = 256 << 20;

/// foyer's cache in memory.
pub struct FoyerMemory(Cache<String, Bytes>);

/// foyer's hybrid cache.
pub struct FoyerHybrid(HybridCache<String, Bytes>);

#[allow(clippy::ptr_arg)] // The shape that foyer asks for.
fn weigh(_: &String, value: &Bytes) -> usize {
    value.len()
}

impl FoyerMemory {
    pub(super) fn open(room: Room) -> Result<Self> {
        let cache = CacheBuilder::new(usize::try_from(room.bytes)?)
            .with_eviction_config(S3FifoConfig::default())
            .with_weighter(weigh)
            .build();
        Ok(Self(cache))
    }
}

impl FoyerHybrid {
    pub(super) async fn open(folder: &Path, room: Room) -> Result<Self> {
        let device = FsDeviceBuilder::new(folder).with_capacity(DEVICE).build()?;
        let cache = HybridCacheBuilder::new()
            .with_flush_on_close(false)
            .memory(usize::try_from(room.bytes)?)
            .with_eviction_config(S3FifoConfig::default())
            .with_weighter(weigh)
            .storage()
            .with_io_engine_config(PsyncIoEngineConfig::new())
            .with_engine_config(BlockEngineConfig::new(device));
        Ok(Self(cache.build().await?))
    }
}

impl MemoryCache for FoyerMemory {
    async fn put(&self, key: &str, value: Bytes) -> Result<()> {
        self.0.insert(key.to_owned(), value);
        Ok(())
    }

    async fn hit(&self, key: &str, look: impl FnOnce(&[u8]) + Send) -> Result<bool> {
        let found = self.0.get(key);
        if let Some(entry) = &found {
            look(entry.value());
        }
        Ok(found.is_some())
    }

    async fn read_through(
        &self,
        key: &str,
        origin: impl Future<Output = Bytes> + Send + 'static,
    ) -> Result<usize> {
        let origin = async move { Ok::<_, Infallible>(origin.await) };
        Ok(self.0.get_or_fetch(key, || origin).await?.value().len())
    }

    async fn rest(&self) {}

    async fn close(&self) -> Result<()> {
        Ok(())
    }
}

impl MemoryCache for FoyerHybrid {
    async fn put(&self, key: &str, value: Bytes) -> Result<()> {
        self.0.insert(key.to_owned(), value);
        Ok(())
    }

    async fn hit(&self, key: &str, look: impl FnOnce(&[u8]) + Send) -> Result<bool> {
        let found = self.0.get(key).await?;
        if let Some(entry) = &found {
            look(entry.value());
        }
        Ok(found.is_some())
    }

    async fn read_through(
        &self,
        key: &str,
        origin: impl Future<Output = Bytes> + Send + 'static,
    ) -> Result<usize> {
        let origin = async move { Ok::<_, Infallible>(origin.await) };
        Ok(self.0.get_or_fetch(key, || origin).await?.value().len())
    }

    async fn rest(&self) {
        self.0.storage().wait().await;
    }

    async fn close(&self) -> Result<()> {
        Ok(self.0.close().await?)
    }
}
