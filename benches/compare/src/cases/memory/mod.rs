//! The engine over memory, and caches in memory that fetch what they miss.

pub mod allocs;
pub mod followers;
mod hit;
mod miss;
mod stampede;
mod store;

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::{Bench, each_case};
use crate::{
    folder,
    peers::memory::{AnyMemory, Name, Room},
    report::Report,
};

/// Runs every case of this family that is wanted.
pub async fn run(bench: &Bench, report: &mut Report) {
    each_case!(
        "memory", bench, report, hit, miss, stampede, followers, store, allocs
    );
}

/// A cache with its folder.
struct Open {
    name: Name,
    peer: AnyMemory,
    folder: PathBuf,
}

/// Those of the caches that take part.
fn peers(bench: &Bench) -> Vec<Name> {
    let invited = |name: &Name| bench.options.invites(name.as_str());
    Name::ALL.into_iter().filter(invited).collect()
}

/// Opens a cache with a folder of its own.
async fn open(bench: &Bench, name: Name, room: Room) -> Result<Open> {
    let folder = bench.folder.fresh(name.as_str())?;
    let opened = AnyMemory::open(name, &folder, room).await;
    let peer = opened.with_context(|| format!("opening {}", name.as_str()))?;
    Ok(Open { name, peer, folder })
}

impl Open {
    async fn discard(self) -> Result<()> {
        self.peer.close().await?;
        drop(self.peer);
        folder::remove(&self.folder)
    }
}
