//! What came out.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The percentiles that a report has.
pub const PERCENTILES: [f64; 14] = [
    0.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.95, 99.99, 99.999, 100.0,
];

/// The result of one run. Sizes are bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs)] // The names are the field's.
pub struct Report {
    pub store: String,
    pub workload: String,
    pub tasks: usize,
    pub rate: Option<f64>,
    pub seconds: f64,
    pub reads: u64,
    pub hits: u64,
    pub writes: u64,
    pub deletes: u64,
    pub refused: u64,
    pub bytes_read: u64,
    pub bytes_written: u64,
    pub entries: u64,
    pub live: u64,
    pub stored: u64,
    pub evictions: u64,
    pub cpu_seconds: f64,
    pub allocations: Option<u64>,
    pub peak_memory: Option<u64>,
    pub read_latency: Option<Latency>,
    pub write_latency: Option<Latency>,
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
        let loop_kind = self.rate.map_or_else(
            || "closed loop".to_owned(),
            |rate| format!("open loop, {rate:.0}/s"),
        );
        let tasks = self.tasks;
        writeln!(
            f,
            "{} on {}: {tasks} tasks, {loop_kind}",
            self.workload, self.store
        )?;
        let mut line = |name: &str, value: String| writeln!(f, "  {name:<16} {value}");
        line("throughput", format!("{:.0} op/s", self.throughput()))?;
        let per_second = |bytes: u64| size(bytes as f64 / self.seconds.max(1e-9));
        line(
            "bytes",
            format!(
                "{}/s read, {}/s written",
                per_second(self.bytes_read),
                per_second(self.bytes_written)
            ),
        )?;
        if self.refused > 0 {
            line("refused", format!("{} writes", self.refused))?;
        }
        if let Some(ratio) = self.hit_ratio() {
            line("hit ratio", format!("{:.2} %", ratio * 100.0))?;
        }
        line(
            "CPU",
            format!("{} an operation", time(self.cpu_per_operation())),
        )?;
        if let Some(count) = self.allocations_per_operation() {
            line("allocations", format!("{count:.2} an operation"))?;
        }
        if let Some(peak) = self.peak_memory {
            line("peak memory", size(peak as f64))?;
        }
        line(
            "held",
            format!(
                "{} entries, {} live, {} stored, {} evictions",
                self.entries,
                size(self.live as f64),
                size(self.stored as f64),
                self.evictions
            ),
        )?;
        self.latencies(f)
    }
}

#[allow(clippy::cast_precision_loss)] // Figures for people.
impl Report {
    fn latencies(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = [
            ("reads", &self.read_latency),
            ("writes", &self.write_latency),
            ("all", &self.latency),
        ];
        writeln!(
            f,
            "  {:<16} {:>10} {:>10} {:>10} {:>10} {:>10}",
            "latency", "p50", "p90", "p99", "p99.9", "max"
        )?;
        for (name, latency) in kinds {
            let Some(latency) = latency else { continue };
            let at = |percentile| {
                latency
                    .percentile(percentile)
                    .map_or_else(String::new, |nanos| time(nanos as f64))
            };
            writeln!(
                f,
                "  {name:<16} {:>10} {:>10} {:>10} {:>10} {:>10}",
                at(50.0),
                at(90.0),
                at(99.0),
                at(99.9),
                time(latency.max as f64)
            )?;
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
