//! `hit-ratio/...`: what each policy of eviction finds of the same requests, with the same room.
//!
//! - `zipf`: keys by a zipf law of exponent 0.9, ten times more bytes than there is room for.
//! - `scan`: the same, and after every 20,000 of them 10,000 keys that nobody asked for before.
//! - `loop`: keys in turn, 1.5 times more bytes than there is room for.
//! - `mix`: a third of each, in turns of 10,000.
//! - `recent`: three of ten for a key that is new, the others for one of the latest, by the same law.
//! - `trace`: the file of `--trace`; objects without a size have 4 KiB.
//!
//! Each tells `requests` and `bytes`, the share that was found. What is absent is put, one request
//! after the other. There is room for 64 MiB, or for `--capacity` bytes. Figures do not depend on
//! the machine, nor on who else uses it; each round has its own seed, and there are at most three.
//!
//! Each peer takes part twice. By itself it weighs an object by its body and by nothing else, where
//! Larder counts its key, its metadata and what the entry takes of the tables as well, some 500
//! bytes: the peer has that much more room, and takes that much more memory than it was given. So
//! it is told again as `..-same-weight`, with weights that are those of Larder's default, and
//! `behind` tells how many points of the requests Larder is behind the best of those: `larder`, its
//! default, and `larder-best`, the best of its policies in memory. Budgets are for these two, since
//! a cap that does not count 500 bytes an entry is another cap. It is told only where all took part.

mod outcome;
mod peers;
mod requests;
mod weights;

use anyhow::{Context as _, Result};
use larder_bench::Trace;

use super::{Bench, in_turn};
use crate::report::Report;

pub use outcome::Outcome;
use peers::Side;

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
    let mut found = Vec::new();
    for peer in in_turn(&peers, number) {
        let outcome = peer.replay(bench, trace, capacity).await;
        let outcome = outcome.with_context(|| peer.name)?;
        for (what, share) in [("requests", outcome.requests()), ("bytes", outcome.bytes())] {
            report.record(&format!("{case}/{what}"), peer.name, share * 100.0, "%");
        }
        found.push((peer.side, outcome.requests() * 100.0));
    }
    if peers.len() == peers::ALL.len() {
        for (name, points) in behind(&found) {
            report.record(&format!("{case}/behind"), name, points, "points");
        }
    }
    Ok(())
}

/// By how much Larder is behind the best peer of the same weight; below zero where it is ahead.
fn behind(found: &[(Side, f64)]) -> [(&'static str, f64); 2] {
    let best = |sides: &[Side]| {
        let of = found.iter().filter(|(side, _)| sides.contains(side));
        of.map(|(_, share)| *share)
            .fold(f64::NEG_INFINITY, f64::max)
    };
    let peers = best(&[Side::SameWeight]);
    [
        ("larder", peers - best(&[Side::Default])),
        ("larder-best", peers - best(&[Side::Default, Side::Policy])),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn larder_is_held_to_the_best_peer_of_the_same_weight() {
        let found = [
            (Side::Beside, 90.0),
            (Side::Policy, 49.5),
            (Side::Default, 48.0),
            (Side::SameWeight, 20.0),
            (Side::SameWeight, 50.0),
        ];
        assert_eq!(behind(&found), [("larder", 2.0), ("larder-best", 0.5)]);
    }
}
