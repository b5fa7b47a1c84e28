//! What came out.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The percentiles that a report has.
pub const PERCENTILES: [f64; 14] = [
    0.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.95, 99.99, 99.999, 100.0,
];

/// The result of one run. Sizes are bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Report {
    /// The store's [`kind`](larder_store::Store::kind).
    pub store: String,
    /// The workload's name.
    pub workload: String,
    /// How many operations could be under way at once.
    pub tasks: usize,
    /// Operations that were to begin each second, in an open loop.
    pub rate: Option<f64>,
    /// Operations of an open loop that were due when the time was over and had not begun.
    pub overdue: u64,
    /// How long it took.
    pub seconds: f64,
    /// Reads, to the end of the body.
    pub reads: u64,
    /// Those that found their object.
    pub hits: u64,
    /// Sets, without those that fill after a read that missed.
    pub writes: u64,
    /// Deletes.
    pub deletes: u64,
    /// Sets and fills that the store refused for their size or for want of room.
    pub refused: u64,
    /// Bytes of bodies that were read.
    pub bytes_read: u64,
    /// Bytes of bodies that were set and filled.
    pub bytes_written: u64,
    /// The store cannot tell the next four, which are zero: a server counts them, which others use
    /// as well.
    #[serde(default)]
    pub elsewhere: bool,
    /// Objects that the store held at the end.
    pub entries: u64,
    /// Bytes of those objects, as the store counts them.
    pub live: u64,
    /// Bytes that they took on the medium.
    pub stored: u64,
    /// Objects that the store removed to make room, since it was opened.
    pub evictions: u64,
    /// Processor time of the whole process, in user and kernel; zero where the system does not
    /// tell.
    pub cpu_seconds: f64,
    /// Allocations of the whole process, where somebody counts them.
    pub allocations: Option<u64>,
    /// The most memory of the process that was resident, where the system tells.
    pub peak_memory: Option<u64>,
    /// One operation in so many was timed.
    pub timed_every: u64,
    /// Of reads, with the fills after those that missed.
    pub read_latency: Option<Latency>,
    /// Of sets.
    pub write_latency: Option<Latency>,
    /// Of all operations that were timed.
    pub latency: Option<Latency>,
}

/// How long operations took, in nanoseconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Latency {
    /// How many were timed.
    pub timed: u64,
    /// Their mean.
    pub mean: f64,
    /// The longest.
    pub max: u64,
    /// For each of [`PERCENTILES`], the time that so many did not exceed.
    pub percentiles: Vec<(f64, u64)>,
}

impl Latency {
    /// The time that so many percent did not exceed, where the report has it.
    pub fn percentile(&self, percentile: f64) -> Option<u64> {
        let found = (self.percentiles.iter()).find(|(at, _)| (at - percentile).abs() < 1e-9);
        found.map(|(_, nanos)| *nanos)
    }
}

#[allow(clippy::cast_precision_loss)] // Figures for people.
impl Report {
    /// Operations, all kinds together.
    pub fn operations(&self) -> u64 {
        self.reads + self.writes + self.deletes
    }

    /// Operations a second.
    pub fn throughput(&self) -> f64 {
        self.operations() as f64 / self.seconds.max(1e-9)
    }

    /// The part of the reads that found their object.
    pub fn hit_ratio(&self) -> Option<f64> {
        (self.reads > 0).then(|| self.hits as f64 / self.reads as f64)
    }

    /// Processor time an operation, in nanoseconds.
    pub fn cpu_per_operation(&self) -> f64 {
        self.cpu_seconds * 1e9 / self.operations().max(1) as f64
    }

    /// Allocations an operation, where they were counted.
    pub fn allocations_per_operation(&self) -> Option<f64> {
        let count = self.allocations?;
        Some(count as f64 / self.operations().max(1) as f64)
    }
}

/// A table for people.
#[allow(clippy::cast_precision_loss)] // Figures for people.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tasks = plural(self.tasks as u64, "task");
        let pace = match self.rate {
            None => "closed loop".to_owned(),
            Some(rate) => format!("open loop, {rate:.0}/s"),
        };
        writeln!(f, "{} on {}: {tasks}, {pace}", self.workload, self.store)?;
        let mut line = |name: &str, value: String| writeln!(f, "  {name:<16} {value}");
        let done = plural(self.operations(), "operation");
        let rate = format!("{:.0} op/s", self.throughput());
        line(
            "throughput",
            format!("{rate}, {done} in {:.2} s", self.seconds),
        )?;
        if self.overdue > 0 {
            let overdue = plural(self.overdue, "operation");
            line("overdue", format!("{overdue} due and not begun at the end"))?;
        }
        let per_second = |bytes: u64| size(bytes as f64 / self.seconds.max(1e-9));
        let (read, written) = (per_second(self.bytes_read), per_second(self.bytes_written));
        line("bytes", format!("{read}/s read, {written}/s written"))?;
        if self.refused > 0 {
            line("refused", plural(self.refused, "write"))?;
        }
        if let Some(ratio) = self.hit_ratio() {
            line("hit ratio", format!("{:.2} %", ratio * 100.0))?;
        }
        let cpu = time(self.cpu_per_operation());
        line("CPU", format!("{cpu} an operation"))?;
        if let Some(count) = self.allocations_per_operation() {
            line("allocations", format!("{count:.2} an operation"))?;
        }
        if let Some(peak) = self.peak_memory {
            line("peak memory", size(peak as f64))?;
        }
        line("held", self.held())?;
        self.latencies(f)
    }
}

pub(crate) fn plural(count: u64, what: &str) -> String {
    let end = if count == 1 { "" } else { "s" };
    format!("{count} {what}{end}")
}

#[allow(clippy::cast_precision_loss)] // Figures for people.
impl Report {
    fn held(&self) -> String {
        if self.elsewhere {
            return "unknown here: the server counts it".to_owned();
        }
        let entries = match self.entries {
            1 => "1 entry".to_owned(),
            count => format!("{count} entries"),
        };
        let (live, stored) = (size(self.live as f64), size(self.stored as f64));
        let evictions = plural(self.evictions, "eviction");
        format!("{entries}, {live} live, {stored} stored, {evictions}")
    }

    fn latencies(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = [
            ("reads", &self.read_latency),
            ("writes", &self.write_latency),
            ("all", &self.latency),
        ];
        let columns = ["p50", "p90", "p99", "p99.9", "max"].map(|name| format!("{name:>10}"));
        let timed = match self.timed_every {
            1 => "latency of each".to_owned(),
            every => format!("one in {every}"),
        };
        writeln!(f, "  {timed:<16} {} {:>10}", columns.join(" "), "timed")?;
        for (name, latency) in kinds {
            let Some(latency) = latency else { continue };
            let at = [50.0, 90.0, 99.0, 99.9, 100.0].map(|percentile| {
                let nanos = latency.percentile(percentile);
                let text = nanos.map_or_else(String::new, |nanos| time(nanos as f64));
                format!("{text:>10}")
            });
            writeln!(f, "  {name:<16} {} {:>10}", at.join(" "), latency.timed)?;
        }
        Ok(())
    }
}

/// A time in the unit that suits it.
pub(crate) fn time(nanos: f64) -> String {
    match nanos {
        ..1e3 => format!("{nanos:.0} ns"),
        ..1e6 => format!("{:.2} us", nanos / 1e3),
        ..1e9 => format!("{:.2} ms", nanos / 1e6),
        _ => format!("{:.2} s", nanos / 1e9),
    }
}

/// A size in the unit that suits it.
pub(crate) fn size(bytes: f64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{value:.0} B")
    } else {
        format!("{value:.1} {}", units[unit])
    }
}
