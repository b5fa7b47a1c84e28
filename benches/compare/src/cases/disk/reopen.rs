//! `disk/reopen/{1M,10M}/{clean,killed}/...`: opening a store of so many entries of 100 bytes,
//! after it was closed in good order and after SIGKILL, each time in a new process.
//!
//! - `wall`, `cpu`: milliseconds until it is open.
//! - `found`: the share of entries that it has then.
//!
//! Before the kill the process waits until what it put has reached the kernel. Each round opens a
//! fresh copy of the folder, since opening changes it. The files are in the page cache.
//!
//! Stores of files read nothing when they open and are not here. foyer takes 4 KiB an entry, so it
//! is here with 1 million only: ten would be more than 40 GB.

use anyhow::{Result, ensure};

use crate::{
    cases::{Bench, in_turn},
    child::{Entries, Job},
    folder,
    peers::Name,
    report::Report,
};

/// Bytes of each value.
pub(super) const LEN: usize = 100;
/// Above this many, only Larder.
const PEERS_MAX: u64 = 1_000_000;

/// Numbers of entries that are wanted, and their names.
pub(super) fn counts(bench: &Bench) -> Vec<(&'static str, u64)> {
    let mut counts = vec![("1M", bench.options.scaled(1_000_000))];
    if !bench.options.quick {
        counts.push(("10M", 10_000_000));
    }
    counts
}

/// Who can hold so many.
pub(super) fn peers(bench: &Bench, count: u64) -> Vec<Name> {
    let mut peers = bench.peers(&Name::INDEXED);
    peers.retain(|&name| name == Name::Larder || count <= PEERS_MAX);
    peers
}

/// A place for so many.
pub(super) fn entries(bench: &Bench, name: Name, count: u64) -> Result<Entries> {
    // What is left after padding, and some more.
    let each = if name == Name::Larder { 512 } else { 5_120 };
    Ok(Entries {
        folder: bench.folder.fresh(name.as_str())?,
        count,
        len: LEN,
        capacity: (count * each).max(1 << 30),
    })
}

pub(super) async fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    for (name, count) in counts(bench) {
        for (end, close) in [("clean", true), ("killed", false)] {
            let case = format!("disk/reopen/{name}/{end}");
            if bench.options.wants(&case) {
                reopen(bench, report, &case, count, close).await?;
                report.print();
            }
        }
    }
    Ok(())
}

async fn reopen(
    bench: &Bench,
    report: &mut Report,
    case: &str,
    count: u64,
    close: bool,
) -> Result<()> {
    let mut filled = Vec::new();
    for peer in peers(bench, count) {
        let entries = entries(bench, peer, count)?;
        let job = Job::Fill {
            peer,
            entries: entries.clone(),
            close,
        };
        let put = job.run().await?.count;
        ensure!(put == count, "{} put only {put} in time", peer.as_str());
        filled.push((peer, entries));
    }
    for round in 0..bench.options.rounds {
        for (peer, entries) in in_turn(&filled, round) {
            open_copy(bench, report, case, *peer, entries).await?;
        }
    }
    for (_, entries) in filled {
        folder::remove(&entries.folder)?;
    }
    Ok(())
}

async fn open_copy(
    bench: &Bench,
    report: &mut Report,
    case: &str,
    peer: Name,
    filled: &Entries,
) -> Result<()> {
    let mut entries = filled.clone();
    entries.folder = bench.folder.fresh(peer.as_str())?;
    folder::copy(&filled.folder, &entries.folder)?;
    bench.folder.settle()?;
    let folder = entries.folder.clone();
    let figures = Job::Open { peer, entries }.run().await?;
    folder::remove(&folder)?;

    let mut record = |what: &str, value, unit| {
        report.record(&format!("{case}/{what}"), peer.as_str(), value, unit);
    };
    record("wall", figures.wall, "ms");
    record("cpu", figures.cpu, "ms");
    record("found", figures.found * 100.0, "%");
    Ok(())
}
