//! `disk/stream/{1GiB,10GiB}/...`: one large object, written from pieces of 256 KiB and read back
//! piece by piece, each peer in a process of its own and alone on the disk.
//!
//! - `write`, `read`, `both`, each `wall` and `cpu`: milliseconds for the whole object.
//! - `memory`: the peak of resident memory above what it was with the store open.

use anyhow::Result;

use crate::{
    cases::{Bench, in_turn},
    child::Job,
    folder,
    peers::streams::Streamer,
    report::Report,
};

pub(super) async fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    let mut lengths = vec![("1GiB", bench.options.scaled(1 << 30))];
    if bench.options.large {
        lengths.push(("10GiB", 10 << 30));
    }
    for (size, len) in lengths {
        let case = format!("disk/stream/{size}");
        if !bench.options.wants(&case) {
            continue;
        }
        let peers = bench.streamers();
        for round in 0..bench.options.rounds {
            for &peer in in_turn(&peers, round) {
                stream(bench, report, &case, peer, len).await?;
            }
        }
        report.print();
    }
    Ok(())
}

async fn stream(
    bench: &Bench,
    report: &mut Report,
    case: &str,
    peer: Streamer,
    len: u64,
) -> Result<()> {
    let folder = bench.folder.fresh(peer.as_str())?;
    bench.folder.settle()?;
    let job = Job::Stream {
        peer,
        folder: folder.clone(),
        len,
    };
    let figures = job.run().await?;
    folder::remove(&folder)?;

    let mut record = |what: &str, value, unit| {
        report.record(&format!("{case}/{what}"), peer.as_str(), value, unit);
    };
    let (read_wall, read_cpu) = figures.read;
    record("write/wall", figures.wall, "ms");
    record("write/cpu", figures.cpu, "ms");
    record("read/wall", read_wall, "ms");
    record("read/cpu", read_cpu, "ms");
    record("both/wall", figures.wall + read_wall, "ms");
    record("both/cpu", figures.cpu + read_cpu, "ms");
    record("memory", figures.memory / f64::from(1 << 20), "MiB");
    Ok(())
}
