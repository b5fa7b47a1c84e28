//! `hit-ratio/...`: what each policy of eviction finds of the same requests, with the same room.
//!
//! - `zipf`: keys by a zipf law of exponent 0.9, ten times more bytes than there is room for.
//! - `scan`: the same, and after every 20,000 of them 10,000 keys that nobody asked for before.
//! - `loop`: keys in turn, 1.5 times more bytes than there is room for.
//! - `mix`: a third of each, in turns of 10,000.
//! - `trace`: the file of `--trace`; objects without a size have 4 KiB.
//!
//! Each tells `requests` and `bytes`, the share that was found. What is absent is put, one request
//! after the other. There is room for 64 MiB, or for `--capacity` bytes. Figures do not depend on
//! the machine, nor on who else uses it; each round has its own seed, and there are at most three.
//!
//! Peers weigh an object by its size and by nothing else. Larder counts its key, its metadata and
//! what the entry itself takes as well, some 500 bytes in memory: it has that much less room, where
//! a peer takes that much more memory than it was given.

mod outcome;
mod peers;
mod requests;

use anyhow::{Context as _, Result};
use larder_bench::Trace;

use super::{Bench, in_turn};
use crate::report::Report;

pub use outcome::Outcome;

/// Bytes that each may keep, unless `--capacity` says otherwise.
const CAPACITY: u64 = 64 << 20;
const REQUESTS: u64 = 300_000;
const ROUNDS_MAX: usize = 3;

/// Runs every case of this family that is wanted. One that fails does not keep the next from it.
pub async fn run(bench: &Bench, report: &mut Report) {
    let capacity = bench.options.capacity.unwrap_or(CAPACITY);
    if let Some(path) = &bench.options.trace
        && bench.options.wants("hit-ratio/trace")
    {
        let trace = Trace::open(path).with_context(|| path.display().to_string());
        let done = match trace {
            Ok(trace) => round(bench, report, "hit-ratio/trace", &trace, capacity, 0).await,
            Err(error) => Err(error),
        };
        end(report, "hit-ratio/trace", done);
    }
    for kind in requests::Kind::ALL {
        let case = format!("hit-ratio/{}", kind.name());
        if bench.options.wants(&case) {
            let done = generated(bench, report, kind, &case, capacity).await;
            end(report, &case, done);
        }
    }
}

fn end(report: &mut Report, case: &str, done: Result<()>) {
    report.print();
    if let Err(error) = done {
        report.fail(case, &error);
    }
}

async fn generated(
    bench: &Bench,
    report: &mut Report,
    kind: requests::Kind,
    case: &str,
    capacity: u64,
) -> Result<()> {
    for number in 0..bench.options.rounds.min(ROUNDS_MAX) {
        let count = bench.options.scaled(REQUESTS);
        let trace = requests::generate(kind, count, capacity, number as u64)?;
        round(bench, report, case, &trace, capacity, number).await?;
    }
    Ok(())
}

async fn round(
    bench: &Bench,
    report: &mut Report,
    case: &str,
    trace: &Trace,
    capacity: u64,
    number: usize,
) -> Result<()> {
    let invited = |peer: &&peers::Peer| bench.options.invites(peer.name);
    let peers: Vec<_> = peers::ALL.iter().filter(invited).collect();
    for peer in in_turn(&peers, number) {
        let outcome = peer.replay(bench, trace, capacity).await;
        let outcome = outcome.with_context(|| peer.name)?;
        for (what, share) in [("requests", outcome.requests()), ("bytes", outcome.bytes())] {
            report.record(&format!("{case}/{what}"), peer.name, share * 100.0, "%");
        }
    }
    Ok(())
}
