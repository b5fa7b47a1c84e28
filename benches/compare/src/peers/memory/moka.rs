//! moka: its cache for threads where nothing is waited for, its cache for futures where something
//! is. Both are W-TinyLFU, weighed in bytes, and otherwise at their defaults.

use anyhow::Result;
use bytes::Bytes;
use moka::{future, sync};

use super::{MemoryCache, Room};

/// moka.
pub struct Moka {
    hits: sync::Cache<String, Bytes>,
    reads: future::Cache<String, Bytes>,
}

impl Moka {
    pub(super) fn open(room: Room) -> Self {
        let weigh = |_: &String, value: &Bytes| u32::try_from(value.len()).unwrap_or(u32::MAX);
        Self {
            hits: sync::Cache::builder()
                .max_capacity(room.bytes)
                .weigher(weigh)
                .build(),
            reads: future::Cache::builder()
                .max_capacity(room.bytes)
                .weigher(weigh)
                .build(),
        }
    }
}

impl MemoryCache for Moka {
    async fn put(&self, key: &str, value: Bytes) -> Result<()> {
        self.hits.insert(key.to_owned(), value);
        Ok(())
    }

    async fn hit(&self, key: &str, look: impl FnOnce(&[u8]) + Send) -> Result<bool> {
        let found = self.hits.get(key);
        if let Some(value) = &found {
            look(value);
        }
        Ok(found.is_some())
    }

    async fn read_through(
        &self,
        key: &str,
        origin: impl Future<Output = Bytes> + Send + 'static,
    ) -> Result<usize> {
        Ok(self.reads.get_with_by_ref(key, origin).await.len())
    }

    /// What it had put off.
    async fn rest(&self) {
        self.hits.run_pending_tasks();
        self.reads.run_pending_tasks().await;
    }

    async fn close(&self) -> Result<()> {
        Ok(())
    }
}
