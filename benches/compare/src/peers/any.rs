//! One of the peers.

use std::path::Path;

use anyhow::Result;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Peer, Plan, cacache::Cacache, file::FilePerKey, foyer::Foyer, larder::Larder};
use crate::data::Probe;

/// Which of the peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Name {
    /// Larder's disk store.
    Larder,
    /// foyer's hybrid cache.
    Foyer,
    /// cacache, npm's content-addressable cache.
    Cacache,
    /// One file for each key.
    File,
}

impl Name {
    /// All of them, in the order of the report.
    pub const ALL: [Self; 4] = [Self::Larder, Self::Foyer, Self::Cacache, Self::File];

    /// Those that keep an index in memory and hold to a capacity.
    pub const INDEXED: [Self; 2] = [Self::Larder, Self::Foyer];

    /// As it stands in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Larder => "larder",
            Self::Foyer => "foyer-hybrid",
            Self::Cacache => "cacache",
            Self::File => "file-per-key",
        }
    }
}

/// A peer that is open.
pub enum AnyPeer {
    /// Larder's disk store.
    Larder(Larder),
    /// foyer's hybrid cache.
    Foyer(Foyer),
    /// cacache.
    Cacache(Cacache),
    /// One file for each key.
    File(FilePerKey),
}

macro_rules! each {
    ($self:expr, $peer:ident => $call:expr) => {
        match $self {
            AnyPeer::Larder($peer) => $call,
            AnyPeer::Foyer($peer) => $call,
            AnyPeer::Cacache($peer) => $call,
            AnyPeer::File($peer) => $call,
        }
    };
}

impl AnyPeer {
    /// See [`Peer::open`].
    pub async fn open(name: Name, folder: &Path, plan: Plan) -> Result<Self> {
        Ok(match name {
            Name::Larder => Self::Larder(Larder::open(folder, plan).await?),
            Name::Foyer => Self::Foyer(Foyer::open(folder, plan).await?),
            Name::Cacache => Self::Cacache(Cacache::open(folder, plan).await?),
            Name::File => Self::File(FilePerKey::open(folder, plan).await?),
        })
    }

    /// Which it is.
    pub fn name(&self) -> Name {
        match self {
            Self::Larder(_) => Name::Larder,
            Self::Foyer(_) => Name::Foyer,
            Self::Cacache(_) => Name::Cacache,
            Self::File(_) => Name::File,
        }
    }

    /// See [`Peer::put`].
    pub async fn put(&self, key: &str, value: Bytes) -> Result<()> {
        each!(self, peer => peer.put(key, value).await)
    }

    /// See [`Peer::get`].
    pub async fn get(&self, key: &str, probe: &mut Probe<'_>) -> Result<bool> {
        each!(self, peer => peer.get(key, probe).await)
    }

    /// See [`Peer::flush`].
    pub async fn flush(&self) -> Result<()> {
        each!(self, peer => peer.flush().await)
    }

    /// See [`Peer::close`].
    pub async fn close(&self) -> Result<()> {
        each!(self, peer => peer.close().await)
    }
}
