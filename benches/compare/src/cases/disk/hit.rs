//! `disk/hit/{100B,4KiB,64KiB,1MiB}/{1,16}tasks/{cpu,wall}`: reads of keys that are there, at
//! random, from the page cache. Time for each; wall time is that of all tasks over all reads.

use std::time::Duration;

use anyhow::Result;

use super::SIZES;
use crate::{
    cases::{Bench, Open, in_turn, record_times},
    peers::Name,
    report::Report,
    workload::{self, Load},
};

/// Bytes of values, at most, and keys, at most.
const BYTES_MAX: u64 = 128 << 20;
const KEYS_MAX: u64 = 20_000;
/// Room for all of it, however it is padded.
const CAPACITY: u64 = 2 << 30;
/// Filling ends long before.
const LIMIT: Duration = Duration::from_mins(2);

pub(super) async fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    for (size, len) in SIZES {
        if bench.options.wants(&format!("disk/hit/{size}")) {
            run_size(bench, report, size, len).await?;
            report.print();
        }
    }
    Ok(())
}

async fn run_size(bench: &Bench, report: &mut Report, size: &str, len: usize) -> Result<()> {
    let mut load = Load {
        keys: bench.options.scaled((BYTES_MAX / len as u64).min(KEYS_MAX)),
        len,
        tasks: 4,
    };
    let mut peers = Vec::new();
    for name in bench.peers(&Name::ALL) {
        let open = bench.open(name, CAPACITY).await?;
        prepare(bench, report, &open, load).await?;
        peers.push(open);
    }
    bench.folder.settle()?;
    let time = Duration::from_millis(if bench.options.quick { 100 } else { 500 });
    for tasks in [1, 16] {
        let case = format!("disk/hit/{size}/{tasks}tasks");
        if !bench.options.wants(&case) {
            continue;
        }
        load.tasks = tasks;
        for round in 0..bench.options.rounds {
            for Open { peer, .. } in in_turn(&peers, round) {
                let (count, spent) = workload::read(peer, &bench.values, load, time).await?;
                record_times(report, &case, peer.name().as_str(), spent, count);
            }
        }
    }
    for open in peers {
        open.discard().await?;
    }
    Ok(())
}

/// Fills it, and reads everything once, so that all is in the page cache and nothing is missing.
async fn prepare(bench: &Bench, report: &Report, open: &Open, load: Load) -> Result<()> {
    let filled = workload::fill(&open.peer, &bench.values, load, LIMIT).await?;
    open.peer.flush().await?;
    let kept = workload::verify(&open.peer, &bench.values, &filled, load.len, 1).await?;
    if kept < 1.0 || filled.count() < load.keys {
        let name = open.peer.name().as_str();
        report.note(&format!("{name} kept {kept:.3} of {} keys", filled.count()));
    }
    Ok(())
}
