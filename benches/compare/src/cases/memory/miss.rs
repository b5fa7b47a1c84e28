//! `memory/miss/{1,16}tasks/{cpu,wall}`: reads of keys that nobody asked for before, whose origin
//! has 1 KiB ready: what is left is what the cache does for a miss. Time for each, until the last
//! object is in the cache.
//!
//! Each round begins with an empty cache, which has room for all; the first tenth of the reads,
//! while its tables grow, is not counted. The origin gives static bytes, which cost nobody an
//! allocation. Larder copies them, as it must not pin what a fetcher's buffer is a part of.

use std::sync::Arc;

use anyhow::{Result, ensure};
use bytes::Bytes;
use tokio::task::JoinSet;

use super::hit::{LEN, key};
use crate::{
    cases::{Bench, in_turn, record_times},
    measure::{Spent, Stopwatch},
    peers::memory::{MemoryCache, Room, each_memory},
    report::Report,
};

const KEYS: u64 = 50_000;
static VALUE: [u8; LEN] = [7; LEN];

pub(super) async fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    let count = usize::try_from(bench.options.scaled(KEYS))?;
    let keys: Arc<[String]> = (0..count).map(key).collect();
    let peers = super::peers(bench);
    for tasks in [1, 16] {
        let case = format!("memory/miss/{tasks}tasks");
        if !bench.options.wants(&case) {
            continue;
        }
        for round in 0..bench.options.rounds {
            for &name in in_turn(&peers, round) {
                let open = super::open(bench, name, room(count)).await?;
                let (count, spent) =
                    each_memory!(&open.peer, peer => read(peer, &keys, tasks).await?);
                record_times(report, &case, name.as_str(), spent, count);
                open.discard().await?;
            }
        }
        report.print();
    }
    Ok(())
}

/// Room for all, however a peer splits it.
pub(super) fn room(count: usize) -> Room {
    Room {
        bytes: (4 * count * LEN).max(64 << 20) as u64,
        objects: 2 * count,
    }
}

/// Reads an absent key.
pub(super) async fn miss(peer: &impl MemoryCache, key: &str) -> Result<()> {
    let origin = async { Bytes::from_static(&VALUE) };
    let len = peer.read_through(key, origin).await?;
    ensure!(len == LEN, "{len} bytes for {key}");
    Ok(())
}

async fn read<P: MemoryCache>(
    peer: &Arc<P>,
    keys: &Arc<[String]>,
    tasks: usize,
) -> Result<(u64, Spent)> {
    let warm_up = keys.len() / 10;
    read_part(peer, keys, 0, warm_up, tasks).await?;
    let watch = Stopwatch::start();
    read_part(peer, keys, warm_up, keys.len(), tasks).await?;
    Ok(((keys.len() - warm_up) as u64, watch.spent()))
}

async fn read_part<P: MemoryCache>(
    peer: &Arc<P>,
    keys: &Arc<[String]>,
    first: usize,
    end: usize,
    tasks: usize,
) -> Result<()> {
    let mut running = JoinSet::new();
    for task in 0..tasks {
        let (peer, keys) = (Arc::clone(peer), Arc::clone(keys));
        running.spawn(async move {
            for number in (first + task..end).step_by(tasks) {
                miss(&*peer, &keys[number]).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = running.join_next().await {
        done??;
    }
    peer.rest().await;
    Ok(())
}
