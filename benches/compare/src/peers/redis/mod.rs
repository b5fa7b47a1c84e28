//! Clients of a Redis server: Larder's store, and redis-rs by itself.

mod bare;
mod larder;

use anyhow::Result;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    data::{Probe, StreamProbe, Values},
    keys::KeyBuffer,
};
use bare::Bare;
use larder::Larder;

/// As many as Larder's store has by default.
const CONNECTIONS: usize = 2;

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Name {
    /// Larder's store.
    Larder,
    /// redis-rs with as many connections; a large stream has two chunks under way.
    Redis,
    /// redis-rs with one connection; a large stream has one chunk under way.
    RedisOne,
    /// redis-rs, whose writes are a script that checks a fence: what it costs the server that they
    /// are one step.
    RedisFenced,
}

/// One of them, connected.
pub enum Client {
    /// Larder's store.
    Larder(Larder),
    /// redis-rs.
    Bare(Bare),
}

impl Name {
    /// Those that get.
    pub const GETTING: [Self; 3] = [Self::Larder, Self::Redis, Self::RedisOne];
    /// Those that set.
    pub const SETTING: [Self; 4] = [Self::Larder, Self::Redis, Self::RedisOne, Self::RedisFenced];
    /// Those that stream.
    pub const STREAMING: [Self; 3] = [Self::Larder, Self::Redis, Self::RedisOne];

    /// As it stands in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Larder => "larder",
            Self::Redis => "redis",
            Self::RedisOne => "redis-one",
            Self::RedisFenced => "redis-fenced",
        }
    }

    /// Connects to a server.
    pub async fn connect(self, url: &str) -> Result<Client> {
        Ok(match self {
            Self::Larder => Client::Larder(Larder::connect(url).await?),
            Self::Redis => Client::Bare(Bare::connect(url, CONNECTIONS).await?),
            Self::RedisOne => Client::Bare(Bare::connect(url, 1).await?),
            Self::RedisFenced => {
                Client::Bare(Bare::connect(url, CONNECTIONS).await?.fenced().await?)
            }
        })
    }
}

impl Client {
    /// Makes ready for gets and sets of this key.
    pub async fn prepare(&self, key: &mut KeyBuffer, number: u64, value: Bytes) -> Result<()> {
        if let Self::Bare(bare) = self {
            bare.raise_fence(key.key(number)).await?;
        }
        self.set(key, number, value).await
    }

    /// Stores a value.
    pub async fn set(&self, key: &mut KeyBuffer, number: u64, value: Bytes) -> Result<()> {
        match self {
            Self::Larder(larder) => larder.set(key.key(number), value).await,
            Self::Bare(bare) => bare.set(key.key(number), number, &value).await,
        }
    }

    /// Reads all of a value into the probe; `false` when it is absent.
    pub async fn get(
        &self,
        key: &mut KeyBuffer,
        number: u64,
        probe: &mut Probe<'_>,
    ) -> Result<bool> {
        match self {
            Self::Larder(larder) => larder.get(key.key(number), probe).await,
            Self::Bare(bare) => bare.get(key.key(number), number, probe).await,
        }
    }

    /// Stores [`Values::pieces`].
    pub async fn write_stream(&self, values: &Values, len: u64) -> Result<()> {
        match self {
            Self::Larder(larder) => larder.write_stream(values, len).await,
            Self::Bare(bare) => bare.write_stream(values, len).await,
        }
    }

    /// Reads them all into the probe.
    pub async fn read_stream(&self, probe: StreamProbe, len: u64) -> Result<StreamProbe> {
        match self {
            Self::Larder(larder) => larder.read_stream(probe).await,
            Self::Bare(bare) => bare.read_stream(probe, len).await,
        }
    }
}
