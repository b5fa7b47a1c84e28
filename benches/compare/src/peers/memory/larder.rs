//! Larder's engine over one memory tier, with every setting at its default but the lifetime: what
//! is read stays fresh for longer than a run.
//!
//! A hit is a `get_or_fetch` like any other: its fetcher is made and not called. Its bytes are looked
//! at where they are, as those of the peers: `Body::as_whole`.

use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use larder::{Body, Cache, Draft, Error, ErrorKind, Fetched, Memory, Policy};

use super::{MemoryCache, Room};

const TTL: Duration = Duration::from_hours(1);

/// Larder's engine.
pub struct Larder(Cache);

impl Larder {
    pub(super) fn open(room: Room) -> Result<Self> {
        let cache = Cache::builder()
            .tier(Memory::builder(room.bytes).build()?)
            .policy(Policy::new().ttl(TTL));
        Ok(Self(cache.build()?))
    }
}

impl MemoryCache for Larder {
    async fn put(&self, key: &str, value: Bytes) -> Result<()> {
        self.0.insert(key, value, Draft::new()).await?;
        Ok(())
    }

    async fn hit(&self, key: &str, look: impl FnOnce(&[u8]) + Send) -> Result<bool> {
        let fetch = async |_| Err::<Fetched, _>(Error::new(ErrorKind::Other, "it was absent"));
        let response = self.0.get_or_fetch(key, fetch).await?;
        let body = response.into_body();
        let Some(whole) = body.as_ref().and_then(Body::as_whole) else {
            return Ok(false);
        };
        look(whole);
        Ok(true)
    }

    async fn read_through(
        &self,
        key: &str,
        origin: impl Future<Output = Bytes> + Send + 'static,
    ) -> Result<usize> {
        let fetch = async move |_| Ok::<_, Error>(Fetched::bytes(origin.await));
        let response = self.0.get_or_fetch(key, fetch).await?;
        let mut body = response.into_body().context("absent, though fetched")?;
        let mut len = 0;
        while let Some(chunk) = body.chunk().await? {
            len += chunk.len();
        }
        Ok(len)
    }

    /// Until the last commit.
    async fn rest(&self) {
        while self.0.in_flight().flights > 0 {
            tokio::task::yield_now().await;
        }
    }

    async fn close(&self) -> Result<()> {
        Ok(self.0.close().await?)
    }
}
