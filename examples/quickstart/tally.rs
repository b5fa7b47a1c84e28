//! What a pass amounts to.

use std::{collections::BTreeMap, fs, time::Duration};

use crate::{origin::Asked, pantry::Read};

/// The reads of one pass, counted.
#[derive(Default)]
pub(crate) struct Tally {
    hits: BTreeMap<&'static str, u64>,
    joined: u64,
    bytes: u64,
    times: Vec<Duration>,
}

/// What is told of one pass.
pub(crate) struct Outcome {
    pub(crate) pass: &'static str,
    pub(crate) reads: u64,
    /// Requests that reached the origin, as it counted them.
    pub(crate) origin_fetches: u64,
    /// Those of them that were answered with "not modified".
    pub(crate) not_modified: u64,
    /// Reads that a tier answered, by its name.
    pub(crate) hits: BTreeMap<&'static str, u64>,
    pub(crate) joined: u64,
    pub(crate) bytes: u64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    pub(crate) elapsed: Duration,
    /// The most memory that this process has had so far, its origin included.
    pub(crate) peak_rss_mib: Option<u64>,
}

impl Tally {
    pub(crate) fn add(&mut self, read: Read) {
        if let Some(tier) = read.tier {
            *self.hits.entry(tier).or_default() += 1;
        }
        self.joined += u64::from(read.joined);
        self.bytes += read.bytes;
        self.times.push(read.time);
    }

    pub(crate) fn merge(&mut self, other: Self) {
        for (tier, hits) in other.hits {
            *self.hits.entry(tier).or_default() += hits;
        }
        self.joined += other.joined;
        self.bytes += other.bytes;
        self.times.extend(other.times);
    }

    /// Closes the books. A tier that had no hit is told too.
    pub(crate) fn finish(
        mut self,
        pass: &'static str,
        elapsed: Duration,
        [before, after]: [Asked; 2],
    ) -> Outcome {
        self.times.sort_unstable();
        for tier in ["memory", "disk"] {
            self.hits.entry(tier).or_default();
        }
        Outcome {
            pass,
            reads: self.times.len() as u64,
            origin_fetches: after.requests - before.requests,
            not_modified: after.not_modified - before.not_modified,
            p50: percentile(&self.times, 50),
            p99: percentile(&self.times, 99),
            hits: self.hits,
            joined: self.joined,
            bytes: self.bytes,
            elapsed,
            peak_rss_mib: peak_rss_mib(),
        }
    }
}

/// The smallest time that this percentage of the sorted times does not exceed.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted
        .get(rank.saturating_sub(1))
        .copied()
        .unwrap_or_default()
}

/// The high-water mark of resident memory, where the system tells it.
fn peak_rss_mib() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib.div_ceil(1024))
}
