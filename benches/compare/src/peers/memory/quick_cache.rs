//! `quick_cache`, bare: the map that Larder's memory store is built on, weighed in bytes.

use std::convert::Infallible;

use anyhow::Result;
use bytes::Bytes;
use quick_cache::{Weighter, sync::Cache};

use super::{MemoryCache, Room};

/// Weighs an entry by the bytes of its value.
#[derive(Clone)]
struct Len;

impl Weighter<String, Bytes> for Len {
    fn weight(&self, _: &String, value: &Bytes) -> u64 {
        value.len() as u64
    }
}

/// `quick_cache`.
pub struct QuickCache(Cache<String, Bytes, Len>);

impl QuickCache {
    pub(super) fn open(room: Room) -> Self {
        Self(Cache::with_weighter(room.objects, room.bytes, Len))
    }
}

impl MemoryCache for QuickCache {
    async fn put(&self, key: &str, value: Bytes) -> Result<()> {
        self.0.insert(key.to_owned(), value);
        Ok(())
    }

    async fn hit(&self, key: &str, look: impl FnOnce(&[u8]) + Send) -> Result<bool> {
        let found = self.0.get(key);
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
        let origin = async move { Ok::<_, Infallible>(origin.await) };
        Ok(self.0.get_or_insert_async(key, origin).await?.len())
    }

    /// It does nothing in the background.
    async fn rest(&self) {}

    async fn close(&self) -> Result<()> {
        Ok(())
    }
}
