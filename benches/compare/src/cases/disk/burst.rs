//! `disk/burst/{100B,4KiB}/{1,16}tasks/...`: distinct keys, as fast as they are taken.
//!
//! - `wall`: until the last was acknowledged, for each; `cpu`: until all had reached the kernel.
//! - `kept`, `reopened`: the share that comes back right then, and after closing and reopening.
//! - `space`, `closed`: bytes in allocated blocks over bytes of keys, metadata and values (Larder's
//!   metadata here are 7 bytes: an empty header has 3, the version 4), while the store is
//!   open, with all that it holds ready for what comes next, and after it was closed.
//!
//! All peers have the same time; slow ones write fewer keys in it, which only does them good.

use std::{sync::Arc, time::Duration};

use anyhow::Result;

use super::SIZES;
use crate::{
    cases::{Bench, in_turn},
    folder,
    keys::KeyBuffer,
    measure::Stopwatch,
    peers::{AnyPeer, Name, Plan},
    report::Report,
    workload::{self, Load},
};

/// Enough that what is preallocated counts little.
const BYTES: u64 = 800 << 20;
const KEYS_MAX: u64 = 1_000_000;
const LIMIT: Duration = Duration::from_secs(2);
const CAPACITY: u64 = 6 << 30;
/// Of a peer's keys so many are checked; of Larder's all.
const CHECKED: u64 = 20_000;

pub(super) async fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    for (size, len) in &SIZES[..2] {
        for tasks in [1, 16] {
            let case = format!("disk/burst/{size}/{tasks}tasks");
            if !bench.options.wants(&case) {
                continue;
            }
            let load = Load {
                keys: bench.options.scaled((BYTES / *len as u64).min(KEYS_MAX)),
                len: *len,
                tasks,
            };
            let peers = bench.peers(&Name::ALL);
            for round in 0..bench.options.rounds {
                for &name in in_turn(&peers, round) {
                    burst(bench, report, &case, name, load).await?;
                }
            }
            report.print();
        }
    }
    Ok(())
}

/// What Larder keeps of an object beside its key and its value.
const METADATA_LEN: usize = 7;

async fn burst(
    bench: &Bench,
    report: &mut Report,
    case: &str,
    name: Name,
    load: Load,
) -> Result<()> {
    let values = &bench.values;
    let open = bench.open(name, CAPACITY).await?;
    bench.folder.settle()?;

    let watch = Stopwatch::start();
    let filled = workload::fill(&open.peer, values, load, LIMIT).await?;
    let acknowledged = watch.spent();
    open.peer.flush().await?;
    let flushed = watch.spent();

    let count = filled.count();
    let user = (count * (KeyBuffer::LEN + METADATA_LEN + load.len) as u64) as f64;
    let space = folder::allocated(&open.folder)? as f64 / user;
    let every = match name {
        Name::Larder => 1,
        _ => (count / CHECKED).max(1),
    };
    let kept = workload::verify(&open.peer, values, &filled, load.len, every).await?;
    open.peer.close().await?;
    drop(open.peer);
    let closed = folder::allocated(&open.folder)? as f64 / user;
    let plan = Plan { capacity: CAPACITY };
    let peer = Arc::new(AnyPeer::open(name, &open.folder, plan).await?);
    let reopened = workload::verify(&peer, values, &filled, load.len, every).await?;
    peer.close().await?;
    drop(peer);
    folder::remove(&open.folder)?;

    let mut record = |what: &str, value, unit| {
        report.record(&format!("{case}/{what}"), name.as_str(), value, unit);
    };
    record("cpu", flushed.cpu_each(count), "ns");
    record("wall", acknowledged.wall_each(count), "ns");
    record("kept", kept * 100.0, "%");
    record("reopened", reopened * 100.0, "%");
    record("space", space, "x");
    record("closed", closed, "x");
    Ok(())
}
