//! One of the caches in memory.

use std::{path::Path, sync::Arc};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::{FoyerHybrid, FoyerMemory, Larder, MemoryCache as _, Moka, QuickCache, Room};

/// Which of the caches in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Name {
    /// Larder's engine over its memory store.
    Larder,
    /// The map under Larder's memory store, bare.
    QuickCache,
    /// moka.
    Moka,
    /// foyer's cache in memory.
    FoyerMemory,
    /// foyer's hybrid cache, whose memory part has it.
    FoyerHybrid,
}

impl Name {
    /// All of them, in the order of the report.
    pub const ALL: [Self; 5] = [
        Self::Larder,
        Self::QuickCache,
        Self::Moka,
        Self::FoyerMemory,
        Self::FoyerHybrid,
    ];

    /// As it stands in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Larder => "larder",
            Self::QuickCache => "quick_cache",
            Self::Moka => "moka",
            Self::FoyerMemory => "foyer-memory",
            Self::FoyerHybrid => "foyer-hybrid",
        }
    }
}

/// A cache in memory that is open.
#[derive(Clone)]
pub enum AnyMemory {
    /// Larder's engine.
    Larder(Arc<Larder>),
    /// The bare map.
    QuickCache(Arc<QuickCache>),
    /// moka.
    Moka(Arc<Moka>),
    /// foyer in memory.
    FoyerMemory(Arc<FoyerMemory>),
    /// foyer over a disk.
    FoyerHybrid(Arc<FoyerHybrid>),
}

/// Does something with whichever peer it is, compiled for each.
macro_rules! each_memory {
    ($any:expr, $peer:ident => $call:expr) => {
        match $any {
            $crate::peers::memory::AnyMemory::Larder($peer) => $call,
            $crate::peers::memory::AnyMemory::QuickCache($peer) => $call,
            $crate::peers::memory::AnyMemory::Moka($peer) => $call,
            $crate::peers::memory::AnyMemory::FoyerMemory($peer) => $call,
            $crate::peers::memory::AnyMemory::FoyerHybrid($peer) => $call,
        }
    };
}
pub(crate) use each_memory;

impl AnyMemory {
    /// Opens it; the folder is for what it keeps on disk.
    pub async fn open(name: Name, folder: &Path, room: Room) -> Result<Self> {
        Ok(match name {
            Name::Larder => Self::Larder(Arc::new(Larder::open(room)?)),
            Name::QuickCache => Self::QuickCache(Arc::new(QuickCache::open(room))),
            Name::Moka => Self::Moka(Arc::new(Moka::open(room))),
            Name::FoyerMemory => Self::FoyerMemory(Arc::new(FoyerMemory::open(room)?)),
            Name::FoyerHybrid => {
                Self::FoyerHybrid(Arc::new(FoyerHybrid::open(folder, room).await?))
            }
        })
    }

    /// Ends it.
    pub async fn close(&self) -> Result<()> {
        each_memory!(self, peer => peer.close().await)
    }
}
