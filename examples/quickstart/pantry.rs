//! The cache, and one checked read through it.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use larder::{
    BoxError, Cache, Clock, Disk, Draft, Key, ManualClock, Memory, Policy, Source, Store,
    SystemClock, Tier,
};
use tokio::time::Instant;

use crate::{
    catalog::{Digest, Item},
    client::Client,
};

/// A cache before an origin: memory over disk.
#[derive(Clone)]
pub(crate) struct Pantry {
    cache: Cache,
    client: Client,
    clock: ManualClock,
    place: Place,
    found: u64,
}

/// Whom the cache asks, and where its disk tier is.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) origin: SocketAddr,
    pub(crate) folder: PathBuf,
    /// The most that the disk tier may take, in bytes.
    pub(crate) capacity: u64,
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
const MEMORY: u64 = 64 << 20;
const TTL: Duration = Duration::from_secs(600);
/// The disk that makes a pass slow must not make it find less.
const PATIENCE: Duration = Duration::from_secs(30);
/// Stands in the cache for when it was closed; no path of the origin's.
const CLOSED: &str = "closed";

impl Pantry {
    pub(crate) async fn open(place: Place) -> Result<Self, BoxError> {
        let disk = Disk::open(&place.folder, place.capacity).await?;
        // Time stands still until a pass moves it, so that nothing expires by chance; and it goes
        // on from where the last run had moved it to.
        let closed = disk.stat(Key::new(CLOSED)?).await?;
        let found = disk.usage().entries - u64::from(closed.is_some());
        let closed = closed.map_or_else(Default::default, |closed| closed.fetched_at);
        let clock = ManualClock::new(SystemClock.now().max(closed));

        let policy = Policy::new()
            .ttl(TTL)
            .stale_while_revalidate(Duration::ZERO);
        let disk = Tier::new(disk).write_stall(PATIENCE).timeout(PATIENCE);
        let cache = Cache::builder()
            .tier(Memory::new(MEMORY))
            .tier(disk)
            .policy(policy)
            .clock(clock.clone())
            .build()?;
        Ok(Self {
            cache,
            client: Client::new(place.origin),
            clock,
            place,
            found,
        })
    }

    /// How many objects the disk tier held when it was opened.
    pub(crate) fn found(&self) -> u64 {
        self.found
    }

    /// Whether the disk tier surely keeps so many bytes, beside what it holds.
    pub(crate) fn fits(&self, bytes: u64) -> bool {
        let capacity = self.place.capacity;
        let stored = self.cache.usage().iter().map(|usage| usage.stored).sum();
        bytes <= capacity / 4 && capacity / 2 >= stored
    }

    /// Whether the memory tier takes an object of this length.
    pub(crate) fn is_for_memory(item: &Item) -> bool {
        let max = Memory::new(MEMORY).object_max();
        max.is_none_or(|max| item.digest.len <= max)
    }

    /// Waits until every flight has landed. Each ends within the time-outs of the cache.
    pub(crate) async fn at_rest(&self) {
        while self.cache.in_flight().flights > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// How many bytes went through spill files so far.
    pub(crate) fn spilled(&self) -> u64 {
        self.cache.counters().spilled_bytes
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

    /// Closes everything and opens it again: the memory is empty then, the disk is not.
    pub(crate) async fn restart(&mut self) -> Result<(), BoxError> {
        self.close().await?;
        *self = Self::open(self.place.clone()).await?;
        Ok(())
    }

    pub(crate) async fn close(&self) -> Result<(), BoxError> {
        let noted = self.cache.insert(CLOSED, "", Draft::new()).await;
        self.cache.close().await?;
        noted?;
        Ok(())
    }
}
