//! One of the peers.

use std::path::Path;

use anyhow::Result;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use larder_disk::Disk;
use larder_memory::Memory;

use super::{
    Peer, Plan, cacache::Cacache, file::FilePerKey, foyer::Foyer, larder::Larder, objects::Objects,
    opendal::Opendal,
};
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
    /// `object_store` over a folder.
    ObjectStoreFs,
    /// opendal over a folder.
    Opendal,
    /// Larder's memory store.
    LarderMemory,
    /// `object_store` in memory.
    ObjectStoreMemory,
}

impl Name {
    /// Caches on disk, in the order of the report.
    pub const ALL: [Self; 4] = [Self::Larder, Self::Foyer, Self::Cacache, Self::File];

    /// Those that keep an index in memory and hold to a capacity.
    pub const INDEXED: [Self; 2] = [Self::Larder, Self::Foyer];

    /// Stores on disk that stand behind a trait for any medium.
    pub const ON_DISK: [Self; 3] = [Self::Larder, Self::ObjectStoreFs, Self::Opendal];

    /// The same in memory.
    pub const IN_MEMORY: [Self; 2] = [Self::LarderMemory, Self::ObjectStoreMemory];

    /// As it stands in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Larder | Self::LarderMemory => "larder",
            Self::Foyer => "foyer-hybrid",
            Self::Cacache => "cacache",
            Self::File => "file-per-key",
            Self::ObjectStoreFs | Self::ObjectStoreMemory => "object_store",
            Self::Opendal => "opendal-fs",
        }
    }
}

/// A peer that is open.
pub enum AnyPeer {
    /// Larder's disk store.
    Larder(Larder<Disk>),
    /// foyer's hybrid cache.
    Foyer(Foyer),
    /// cacache.
    Cacache(Cacache),
    /// One file for each key.
    File(FilePerKey),
    /// `object_store` over a folder.
    ObjectStoreFs(Objects),
    /// opendal.
    Opendal(Opendal),
    /// Larder's memory store.
    LarderMemory(Larder<Memory>),
    /// `object_store` in memory.
    ObjectStoreMemory(Objects),
}

macro_rules! each {
    ($self:expr, $peer:ident => $call:expr) => {
        match $self {
            AnyPeer::Larder($peer) => $call,
            AnyPeer::Foyer($peer) => $call,
            AnyPeer::Cacache($peer) => $call,
            AnyPeer::File($peer) => $call,
            AnyPeer::ObjectStoreFs($peer) | AnyPeer::ObjectStoreMemory($peer) => $call,
            AnyPeer::Opendal($peer) => $call,
            AnyPeer::LarderMemory($peer) => $call,
        }
    };
}

impl AnyPeer {
    /// See [`Peer::open`].
    pub async fn open(name: Name, folder: &Path, plan: Plan) -> Result<Self> {
        Ok(match name {
            Name::Larder => Self::Larder(Larder::<Disk>::open(folder, plan).await?),
            Name::Foyer => Self::Foyer(Foyer::open(folder, plan).await?),
            Name::Cacache => Self::Cacache(Cacache::open(folder, plan).await?),
            Name::File => Self::File(FilePerKey::open(folder, plan).await?),
            Name::ObjectStoreFs => Self::ObjectStoreFs(Objects::open(folder, plan).await?),
            Name::Opendal => Self::Opendal(Opendal::open(folder, plan).await?),
            Name::LarderMemory => Self::LarderMemory(Larder::<Memory>::open(folder, plan).await?),
            Name::ObjectStoreMemory => Self::ObjectStoreMemory(Objects::in_memory()),
        })
    }

    /// Which it is.
    pub fn name(&self) -> Name {
        match self {
            Self::Larder(_) => Name::Larder,
            Self::Foyer(_) => Name::Foyer,
            Self::Cacache(_) => Name::Cacache,
            Self::File(_) => Name::File,
            Self::ObjectStoreFs(_) => Name::ObjectStoreFs,
            Self::Opendal(_) => Name::Opendal,
            Self::LarderMemory(_) => Name::LarderMemory,
            Self::ObjectStoreMemory(_) => Name::ObjectStoreMemory,
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
