//! Who can move an object of any size, piece by piece.

use std::{future::Future, path::Path};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use larder_disk::Disk;

use super::{Peer, Plan, cacache::Cacache, larder::Larder, plain::Plain};
use crate::data::{StreamProbe, Values};

/// Writes a large object from pieces, and reads it back piece by piece.
pub trait Streams {
    /// Stores [`Values::pieces`] under a key.
    fn write(&self, key: &str, values: &Values, len: u64) -> impl Future<Output = Result<()>>;

    /// Reads them all into the probe.
    fn read(&self, key: &str, probe: StreamProbe) -> impl Future<Output = Result<StreamProbe>>;
}

/// Which of those.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Streamer {
    /// Larder's disk store.
    Larder,
    /// A loop of `pread` and `pwrite` with a buffer of 256 KiB.
    Plain256,
    /// The same with 1 MiB.
    Plain1024,
    /// cacache, which computes a SHA-256 on the way.
    Cacache,
}

impl Streamer {
    /// All of them, in the order of the report.
    pub const ALL: [Self; 4] = [Self::Larder, Self::Plain256, Self::Plain1024, Self::Cacache];

    /// As it stands in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Larder => "larder",
            Self::Plain256 => "plain-256KiB",
            Self::Plain1024 => "plain-1MiB",
            Self::Cacache => "cacache",
        }
    }

    /// Opens it on a folder.
    pub async fn open(self, folder: &Path, plan: Plan) -> Result<OpenStreamer> {
        Ok(match self {
            Self::Larder => OpenStreamer::Larder(Larder::<Disk>::open(folder, plan).await?),
            Self::Plain256 => OpenStreamer::Plain(Plain::new(folder, 256 << 10)),
            Self::Plain1024 => OpenStreamer::Plain(Plain::new(folder, 1 << 20)),
            Self::Cacache => OpenStreamer::Cacache(Cacache::open(folder, plan).await?),
        })
    }
}

/// One of those, open.
pub enum OpenStreamer {
    /// Larder's disk store.
    Larder(Larder<Disk>),
    /// The loop.
    Plain(Plain),
    /// cacache.
    Cacache(Cacache),
}

impl OpenStreamer {
    /// See [`Streams::write`].
    pub async fn write(&self, key: &str, values: &Values, len: u64) -> Result<()> {
        match self {
            Self::Larder(larder) => larder.write(key, values, len).await,
            Self::Plain(plain) => plain.write(key, values, len).await,
            Self::Cacache(cacache) => cacache.write(key, values, len).await,
        }
    }

    /// See [`Streams::read`].
    pub async fn read(&self, key: &str, probe: StreamProbe) -> Result<StreamProbe> {
        match self {
            Self::Larder(larder) => larder.read(key, probe).await,
            Self::Plain(plain) => plain.read(key, probe).await,
            Self::Cacache(cacache) => cacache.read(key, probe).await,
        }
    }

    /// Closes it.
    pub async fn close(&self) -> Result<()> {
        match self {
            Self::Larder(larder) => larder.close().await,
            Self::Plain(_) => Ok(()),
            Self::Cacache(cacache) => cacache.close().await,
        }
    }
}
