//! `disk/allocs/{100B,4KiB,64KiB,1MiB}`: allocations for each hit, of all threads together, counted
//! by a program of its own.

use std::time::Duration;

use anyhow::Result;

use super::SIZES;
use crate::{
    allocations,
    cases::{Bench, counting, in_turn},
    keys::KeyBuffer,
    peers::Name,
    report::Report,
    workload::{self, Load, read_one},
};

const CAPACITY: u64 = 1 << 30;
const KEYS: u64 = 64;
const READS: u64 = 1_000;
const LIMIT: Duration = Duration::from_mins(1);

pub(super) async fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    counting::run(bench, report, "disk/allocs").await
}

/// Counts them; the allocator of this program counts.
pub async fn count(bench: &Bench, report: &mut Report) -> Result<()> {
    for (size, len) in SIZES {
        let case = format!("disk/allocs/{size}");
        if !bench.options.wants(&case) {
            continue;
        }
        let peers = bench.peers(&Name::ALL);
        for round in 0..bench.options.rounds {
            for &name in in_turn(&peers, round) {
                let each = count_one(bench, name, len).await?;
                report.record(&case, name.as_str(), each, "count");
            }
        }
    }
    Ok(())
}

async fn count_one(bench: &Bench, name: Name, len: usize) -> Result<f64> {
    let open = bench.open(name, CAPACITY).await?;
    let load = Load {
        keys: KEYS,
        len,
        tasks: 1,
    };
    workload::fill(&open.peer, &bench.values, load, LIMIT).await?;
    open.peer.flush().await?;
    let (peer, values) = (open.peer.clone(), bench.values.clone());
    let counted = tokio::spawn(async move {
        let mut buffer = KeyBuffer::new();
        let mut before = 0;
        for turn in 0..2 * READS {
            if turn == READS {
                before = allocations::count(); // The first half was to warm up.
            }
            read_one(&peer, &values, &mut buffer, turn % KEYS, len).await?;
        }
        anyhow::Ok(allocations::count() - before)
    });
    let counted = counted.await??;
    open.discard().await?;
    Ok(counted as f64 / READS as f64)
}
