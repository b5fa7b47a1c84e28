//! `{disk,memory}/store/{4KiB,64KiB,1MiB}/{put,get}/{cpu,wall}`: stores behind a trait for any
//! medium, by themselves: no cache, no fetch. One task, time for each.
//!
//! - `put`: distinct keys into an empty store. `cpu` is until all has reached the kernel, `wall`
//!   until the last was acknowledged.
//! - `get`: those keys at random, from the page cache or from memory.
//!
//! Larder's stores keep to a capacity, and its disk store checks a checksum of what it reads; the
//! others do neither.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::{Bench, in_turn};
use crate::{
    measure::Stopwatch,
    peers::Name,
    report::Report,
    workload::{self, Load},
};

const SIZES: [(&str, usize); 3] = [("4KiB", 4 << 10), ("64KiB", 64 << 10), ("1MiB", 1 << 20)];
/// Bytes of values, at most, and keys, at most.
const BYTES_MAX: u64 = 128 << 20;
const KEYS_MAX: u64 = 10_000;
/// Room for all of it, however it is padded.
const CAPACITY: u64 = 1 << 30;
/// Filling ends long before, but where every put is synced.
const LIMIT: Duration = Duration::from_secs(5);

/// Runs those of a family that are wanted.
pub(super) async fn run(
    bench: &Bench,
    report: &mut Report,
    family: &str,
    peers: &[Name],
) -> Result<()> {
    let peers = bench.peers(peers);
    for (size, len) in SIZES {
        let case = format!("{family}/{size}");
        if !bench.options.wants(&case) {
            continue;
        }
        let load = Load {
            keys: bench.options.scaled((BYTES_MAX / len as u64).min(KEYS_MAX)),
            len,
            tasks: 1,
        };
        for round in 0..bench.options.rounds {
            for &name in in_turn(&peers, round) {
                store(bench, report, &case, name, load).await?;
            }
        }
        report.print();
    }
    Ok(())
}

async fn store(
    bench: &Bench,
    report: &mut Report,
    case: &str,
    name: Name,
    mut load: Load,
) -> Result<()> {
    let open = bench.open(name, CAPACITY).await?;
    bench.folder.settle()?;

    let watch = Stopwatch::start();
    let filled = workload::fill(&open.peer, &bench.values, load, LIMIT).await?;
    let acknowledged = watch.spent();
    open.peer.flush().await?;
    let flushed = watch.spent();

    let kept = workload::verify(&open.peer, &bench.values, &filled, load.len, 1).await?;
    ensure!(
        kept >= 1.0,
        "{} kept {kept:.3} of what was put",
        name.as_str()
    );
    load.keys = filled.count();
    let time = Duration::from_millis(if bench.options.quick { 50 } else { 250 });
    let (count, read) = workload::read_alone(&open.peer, &bench.values, load, time).await?;
    open.discard().await?;

    let mut record = |what: &str, value| {
        report.record(&format!("{case}/{what}"), name.as_str(), value, "ns");
    };
    record("put/cpu", flushed.cpu_each(load.keys));
    record("put/wall", acknowledged.wall_each(load.keys));
    record("get/cpu", read.cpu_each(count));
    record("get/wall", read.wall_each(count));
    Ok(())
}
