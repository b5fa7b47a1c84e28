//! `object_store`, over a folder and in memory: with an object-safe trait of its own, as near to
//! Larder's contract as there is.
//!
//! At their defaults: files are written beside and renamed, and not synced, as Larder's. A read
//! takes the whole object at once, which is its quickest way: one call opens the file, another
//! reads it.

use std::{path::Path, sync::Arc};

use anyhow::Result;
use bytes::Bytes;
use object_store::{
    Error, ObjectStore, ObjectStoreExt as _, local::LocalFileSystem, memory::InMemory,
};

use super::{Peer, Plan};
use crate::data::Probe;

/// Any of its stores, used as it mostly is.
pub struct Objects(Arc<dyn ObjectStore>);

impl Objects {
    /// In memory.
    pub(super) fn in_memory() -> Self {
        Self(Arc::new(InMemory::new()))
    }
}

impl Peer for Objects {
    /// In the folder. It has no capacity.
    async fn open(folder: &Path, _: Plan) -> Result<Self> {
        Ok(Self(Arc::new(LocalFileSystem::new_with_prefix(folder)?)))
    }

    async fn put(&self, key: &str, value: Bytes) -> Result<()> {
        self.0.put(&key.into(), value.into()).await?;
        Ok(())
    }

    async fn get(&self, key: &str, probe: &mut Probe<'_>) -> Result<bool> {
        match self.0.get(&key.into()).await {
            Ok(found) => probe.feed(&found.bytes().await?),
            Err(Error::NotFound { .. }) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        Ok(true)
    }

    /// A write is with the kernel when it returns.
    async fn flush(&self) -> Result<()> {
        Ok(())
    }

    async fn close(&self) -> Result<()> {
        Ok(())
    }
}
