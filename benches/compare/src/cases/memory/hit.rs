//! `memory/hit/{256,50000}keys/{1,16}tasks/{cpu,wall}`: reads of keys that are there, at random.
//! Time for each; wall time is that of all tasks over all reads.
//!
//! The small set fits into the second-level cache of a core whatever the peer; the large one, of
//! 50 MiB with its values, does not, and tells mostly of memory. Each value is an allocation of its
//! own with a count of references of its own, and begins with the number of its key, which is all
//! that is looked at: whoever copies it pays for that later.

use std::{sync::Arc, time::Duration};

use anyhow::{Result, ensure};
use bytes::Bytes;
use rand::{RngExt as _, SeedableRng, rngs::SmallRng};
use tokio::{
    task::{JoinSet, yield_now},
    time::Instant,
};

use super::Open;
use crate::{
    cases::{Bench, in_turn, record_times},
    measure::{Spent, Stopwatch},
    peers::memory::{MemoryCache, Room, each_memory},
    report::Report,
};

pub(super) const LEN: usize = 1 << 10;
/// Reads between two looks at the clock, after which the task yields: which wakes another worker,
/// at the cost of many reads.
const BATCH: u64 = 4_096;

pub(super) async fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    for count in [256, 50_000] {
        let case = format!("memory/hit/{count}keys");
        if bench.options.wants(&case) {
            run_count(bench, report, &case, count).await?;
            report.print();
        }
    }
    Ok(())
}

async fn run_count(bench: &Bench, report: &mut Report, case: &str, count: usize) -> Result<()> {
    let keys: Arc<[String]> = (0..count).map(key).collect();
    let mut peers = Vec::new();
    for name in super::peers(bench) {
        let open = super::open(bench, name, room(count)).await?;
        each_memory!(&open.peer, peer => fill(&**peer, &keys).await?);
        peers.push(open);
    }
    let time = Duration::from_millis(if bench.options.quick { 100 } else { 500 });
    for tasks in [1, 16] {
        let case = format!("{case}/{tasks}tasks");
        if !bench.options.wants(&case) {
            continue;
        }
        for round in 0..bench.options.rounds {
            for Open { name, peer, .. } in in_turn(&peers, round) {
                let (count, spent) =
                    each_memory!(peer, peer => read(peer, &keys, tasks, time).await?);
                record_times(report, &case, name.as_str(), spent, count);
            }
        }
    }
    for open in peers {
        open.discard().await?;
    }
    Ok(())
}

pub(super) fn key(number: usize) -> String {
    format!("object/{number:010}")
}

/// Room for all of them, however a peer splits it.
pub(super) fn room(count: usize) -> Room {
    Room {
        bytes: (4 * count * LEN).max(64 << 20) as u64,
        objects: 4 * count,
    }
}

/// Puts all keys, and looks whether they are there.
pub(super) async fn fill(peer: &impl MemoryCache, keys: &[String]) -> Result<()> {
    for (number, key) in keys.iter().enumerate() {
        let mut value = vec![0; LEN];
        value[..8].copy_from_slice(&number.to_le_bytes());
        let value = Bytes::from(value);
        // The first clone of what was a vector allocates.
        drop(value.clone());
        peer.put(key, value).await?;
    }
    peer.rest().await;
    for (number, key) in keys.iter().enumerate() {
        hit(peer, key, number).await?;
    }
    Ok(())
}

/// Reads a key that is there.
pub(super) async fn hit(peer: &impl MemoryCache, key: &str, number: usize) -> Result<()> {
    let mut right = false;
    let look = |value: &[u8]| right = value.len() == LEN && value[..8] == number.to_le_bytes();
    let found = peer.hit(key, look).await?;
    ensure!(found, "{key} is absent");
    ensure!(right, "wrong bytes for {key}");
    Ok(())
}

async fn read<P: MemoryCache>(
    peer: &Arc<P>,
    keys: &Arc<[String]>,
    tasks: u64,
    time: Duration,
) -> Result<(u64, Spent)> {
    let watch = Stopwatch::start();
    let deadline = Instant::now() + time;
    let mut running = JoinSet::new();
    for task in 0..tasks {
        let (peer, keys) = (Arc::clone(peer), Arc::clone(keys));
        running.spawn(async move {
            let mut random = SmallRng::seed_from_u64(task);
            let mut count = 0;
            while count == 0 || Instant::now() < deadline {
                for _ in 0..BATCH {
                    let number = random.random_range(0..keys.len());
                    hit(&*peer, &keys[number], number).await?;
                }
                count += BATCH;
                yield_now().await;
            }
            anyhow::Ok(count)
        });
    }
    let mut count = 0;
    while let Some(done) = running.join_next().await {
        count += done??;
    }
    Ok((count, watch.spent()))
}
