//! The cache, and one checked read through it.

use std::{net::SocketAddr, time::Duration};

use larder::{BoxError, Cache, Clock, ManualClock, Memory, Policy, Source, SystemClock};
use tokio::time::Instant;

use crate::{
    catalog::{Digest, Item},
    client::Client,
};

/// A cache before an origin.
#[derive(Clone)]
pub(crate) struct Pantry {
    cache: Cache,
    client: Client,
    clock: ManualClock,
}

/// How one read went.
#[derive(Clone, Copy)]
pub(crate) struct Read {
    /// The tier that had the object, if one had.
    pub(crate) tier: Option<&'static str>,
    /// Whether it shared another's fetch.
    pub(crate) joined: bool,
    pub(crate) bytes: u64,
    /// From the request to the last byte.
    pub(crate) time: Duration,
}

/// What the cache may keep in memory, in bytes.
pub(crate) const MEMORY: u64 = 64 << 20;
const TTL: Duration = Duration::from_secs(60);

impl Pantry {
    pub(crate) fn open(origin: SocketAddr) -> Result<Self, BoxError> {
        // Time stands still until a pass moves it, so that nothing expires by chance.
        let clock = ManualClock::new(SystemClock.now());
        let policy = Policy::new()
            .ttl(TTL)
            .stale_while_revalidate(Duration::ZERO);
        let cache = Cache::builder()
            .tier(Memory::new(MEMORY))
            .policy(policy)
            .clock(clock.clone())
            .build()?;
        Ok(Self {
            cache,
            client: Client::new(origin),
            clock,
        })
    }

    /// Reads an object to its end and checks every byte; `progress` is told of each chunk's length.
    pub(crate) async fn read(
        &self,
        item: &Item,
        mut progress: impl FnMut(u64),
    ) -> Result<Read, BoxError> {
        let start = Instant::now();
        let client = self.client.clone();
        let response = self
            .cache
            .get_or_fetch(&item.path, async move |cx| client.fetch(cx).await)
            .await?;
        let status = response.status();
        let tier = match status.source() {
            Source::Tier { name, .. } => Some(*name),
            _ => None,
        };
        let joined = status.is_joined();

        let mut body = response
            .into_body()
            .ok_or_else(|| format!("{}: the origin has no such object", item.path))?;
        let mut got = Digest::default();
        while let Some(chunk) = body.chunk().await? {
            got.add(&chunk);
            progress(chunk.len() as u64);
        }
        let time = start.elapsed();
        if got != item.digest {
            return Err(format!(
                "{}: got {got:?} instead of {:?} (did it change meanwhile?)",
                item.path, item.digest
            )
            .into());
        }
        Ok(Read {
            tier,
            joined,
            bytes: got.len,
            time,
        })
    }

    /// Lets all that is cached outlive its time.
    pub(crate) fn expire(&self) {
        self.clock.advance(TTL + Duration::from_secs(1));
    }

    pub(crate) async fn close(self) -> Result<(), BoxError> {
        Ok(self.cache.close().await?)
    }
}
