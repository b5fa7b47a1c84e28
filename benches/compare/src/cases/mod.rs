//! What is done, one family a folder.
//!
//! A case has a name of parts with slashes, which the report and the command line use, and which
//! does not change. Within a round the peers take turns, and each round begins with another one,
//! so that what the machine does meanwhile falls on all alike.

pub mod counting;
pub mod disk;
pub mod hit_ratio;
pub mod memory;
pub mod redis;
mod store;

use std::{path::PathBuf, sync::Arc};

use anyhow::{Context as _, Result};

use crate::{
    data::Values,
    folder::Folder,
    measure::Spent,
    options::Options,
    peers::{AnyPeer, Name, Plan, streams::Streamer},
    report::Report,
};

/// What every case is given.
#[derive(Debug)]
pub struct Bench {
    /// What the command line says.
    pub options: Options,
    /// Where the data goes.
    pub folder: Folder,
    /// What is stored.
    pub values: Values,
}

/// A peer with its folder.
pub struct Open {
    /// The peer.
    pub peer: Arc<AnyPeer>,
    /// Its folder, which nobody else uses.
    pub folder: PathBuf,
}

/// Runs every case that is wanted, and prints each as it is complete.
pub async fn run(bench: &Bench, report: &mut Report) {
    memory::run(bench, report).await;
    disk::run(bench, report).await;
    redis::run(bench, report).await;
    hit_ratio::run(bench, report).await;
}

/// Runs the cases of a family that are wanted, each a module of its name. One that fails does not
/// keep the next from it.
macro_rules! each_case {
    ($family:literal, $bench:expr, $report:expr, $($case:ident),*) => {$(
        let name = concat!($family, "/", stringify!($case));
        if $bench.options.wants(name) {
            let done = $case::run($bench, $report).await;
            $report.print();
            if let Err(error) = done {
                $report.fail(name, &error);
            }
        }
    )*};
}
use each_case;

impl Bench {
    /// Those of the peers that take part.
    pub fn peers(&self, of: &[Name]) -> Vec<Name> {
        let invited = |name: &Name| self.options.invites(name.as_str());
        of.iter().copied().filter(invited).collect()
    }

    /// Those that stream and take part.
    pub fn streamers(&self) -> Vec<Streamer> {
        let invited = |name: &Streamer| self.options.invites(name.as_str());
        Streamer::ALL.into_iter().filter(invited).collect()
    }

    /// Opens a peer on a folder of its own.
    pub async fn open(&self, name: Name, capacity: u64) -> Result<Open> {
        let folder = self.folder.fresh(name.as_str())?;
        let opened = AnyPeer::open(name, &folder, Plan { capacity }).await;
        let peer = opened.with_context(|| format!("opening {}", name.as_str()))?;
        Ok(Open {
            peer: Arc::new(peer),
            folder,
        })
    }
}

impl Open {
    /// Closes the peer and removes what it kept.
    pub async fn discard(self) -> Result<()> {
        self.peer.close().await?;
        drop(self.peer);
        crate::folder::remove(&self.folder)
    }
}

/// The peers in the order of a round.
pub fn in_turn<T>(peers: &[T], round: usize) -> impl Iterator<Item = &T> {
    let first = round % peers.len().max(1);
    peers[first..].iter().chain(&peers[..first])
}

/// Records wall and CPU time for each of `count` operations.
pub fn record_times(report: &mut Report, case: &str, peer: &str, spent: Spent, count: u64) {
    report.record(&format!("{case}/cpu"), peer, spent.cpu_each(count), "ns");
    report.record(&format!("{case}/wall"), peer, spent.wall_each(count), "ns");
}
