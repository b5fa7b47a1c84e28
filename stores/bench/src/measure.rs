//! Counting what a run does, and what it costs the process.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::{
    plan::Verb,
    report::{Latency, PERCENTILES},
};

/// What one task did.
#[derive(Clone)]
pub(crate) struct Tally {
    pub(crate) reads: u64,
    pub(crate) hits: u64,
    pub(crate) writes: u64,
    pub(crate) deletes: u64,
    pub(crate) refused: u64,
    pub(crate) bytes_read: u64,
    pub(crate) bytes_written: u64,
    /// In nanoseconds, by verb.
    times: [Histogram<u64>; 3],
}

impl Default for Tally {
    fn default() -> Self {
        // Three significant digits, from a nanosecond to as long as it takes.
        let histogram = || Histogram::new(3).expect("three digits are allowed");
        Self {
            reads: 0,
            hits: 0,
            writes: 0,
            deletes: 0,
            refused: 0,
            bytes_read: 0,
            bytes_written: 0,
            times: [histogram(), histogram(), histogram()],
        }
    }
}

impl Tally {
    /// Times are kept to three digits; one above four days is kept as such.
    pub(crate) fn time(&mut self, verb: Verb, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1);
        let times = &mut self.times[verb as usize];
        times.record(nanos).expect("it grows as needed");
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.reads += other.reads;
        self.hits += other.hits;
        self.writes += other.writes;
        self.deletes += other.deletes;
        self.refused += other.refused;
        self.bytes_read += other.bytes_read;
        self.bytes_written += other.bytes_written;
        for (mine, others) in self.times.iter_mut().zip(&other.times) {
            mine.add(others).expect("both grow as needed");
        }
    }

    pub(crate) fn latency(&self, verb: Verb) -> Option<Latency> {
        latency(&self.times[verb as usize])
    }

    pub(crate) fn latency_of_all(&self) -> Option<Latency> {
        let mut all = self.times[0].clone();
        for times in &self.times[1..] {
            all.add(times).expect("both grow as needed");
        }
        latency(&all)
    }
}

fn latency(times: &Histogram<u64>) -> Option<Latency> {
    (!times.is_empty()).then(|| Latency {
        timed: times.len(),
        mean: times.mean(),
        max: times.max(),
        percentiles: PERCENTILES
            .iter()
            .map(|percentile| (*percentile, times.value_at_percentile(*percentile)))
            .collect(),
    })
}

/// What the process had used at one moment.
pub(crate) struct Resources {
    cpu: Duration,
    allocations: Option<u64>,
}

/// What it used between two moments.
pub(crate) struct Usage {
    pub(crate) cpu: Duration,
    pub(crate) allocations: Option<u64>,
    /// The most memory that was resident, in bytes, where the system tells.
    pub(crate) peak_memory: Option<u64>,
}

impl Resources {
    pub(crate) fn now(allocations: Option<fn() -> u64>) -> Self {
        forget_peak();
        Self {
            cpu: cpu_time(),
            allocations: allocations.map(|count| count()),
        }
    }

    pub(crate) fn until_now(&self, allocations: Option<fn() -> u64>) -> Usage {
        let before = self.allocations;
        Usage {
            cpu: cpu_time().saturating_sub(self.cpu),
            allocations: allocations
                .zip(before)
                .map(|(count, before)| count().saturating_sub(before)),
            peak_memory: peak_memory(),
        }
    }
}

/// The processor time of this process, in user and kernel.
#[cfg(unix)]
fn cpu_time() -> Duration {
    use nix::sys::resource::{UsageWho, getrusage};

    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else {
        return Duration::ZERO;
    };
    let of = |time: nix::sys::time::TimeVal| {
        let seconds = u64::try_from(time.tv_sec()).unwrap_or_default();
        let micros = u64::try_from(time.tv_usec()).unwrap_or_default();
        Duration::from_secs(seconds) + Duration::from_micros(micros)
    };
    of(usage.user_time()) + of(usage.system_time())
}

#[cfg(not(unix))]
fn cpu_time() -> Duration {
    Duration::ZERO
}

/// Has the system begin anew with the peak, where it can.
fn forget_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}
