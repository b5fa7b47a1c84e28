//! Two sets of runs beside each other.

use std::fmt;

use crate::{
    Report,
    report::{size, time},
};

/// One figure of two sets of runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// What is compared.
    pub figure: &'static str,
    /// The median of the first set.
    pub before: f64,
    /// The median of the second.
    pub after: f64,
    /// The second by the first.
    pub ratio: f64,
    /// How far runs of one set lie from their median, as a part of it: the median of the distances,
    /// of the set where it is larger, made comparable to a standard deviation.
    pub noise: f64,
    /// Whether the ratio is further from one than twice the noise, and either set has three runs.
    pub exceeds_noise: bool,
    unit: Unit,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Unit {
    Rate,
    Nanos,
    Ratio,
    Count,
    Bytes,
}

/// Compares what both sets have, figure by figure.
#[allow(clippy::cast_precision_loss)] // Figures for people.
pub fn compare(before: &[Report], after: &[Report]) -> Vec<Comparison> {
    type Figure = (&'static str, Unit, fn(&Report) -> Option<f64>);
    let figures: [Figure; 9] = [
        ("throughput", Unit::Rate, |report| Some(report.throughput())),
        ("p50", Unit::Nanos, |report| at(report, 50.0)),
        ("p90", Unit::Nanos, |report| at(report, 90.0)),
        ("p99", Unit::Nanos, |report| at(report, 99.0)),
        ("p99.9", Unit::Nanos, |report| at(report, 99.9)),
        ("hit ratio", Unit::Ratio, Report::hit_ratio),
        ("CPU an operation", Unit::Nanos, |report| {
            Some(report.cpu_per_operation())
        }),
        (
            "allocations",
            Unit::Count,
            Report::allocations_per_operation,
        ),
        ("peak memory", Unit::Bytes, |report| {
            report.peak_memory.map(|bytes| bytes as f64)
        }),
    ];
    let compared = figures.iter().filter_map(|(figure, unit, of)| {
        let before: Vec<f64> = before.iter().filter_map(of).collect();
        let after: Vec<f64> = after.iter().filter_map(of).collect();
        let (from, to) = (median(&before)?, median(&after)?);
        // Two zeros are the same; from zero to something is endlessly more.
        let ratio = if (to - from).abs() < f64::EPSILON {
            1.0
        } else {
            to / from
        };
        let noise = spread(&before, from).max(spread(&after, to));
        let enough = before.len().min(after.len()) >= 3;
        Some(Comparison {
            figure,
            before: from,
            after: to,
            ratio,
            noise,
            exceeds_noise: enough && (ratio - 1.0).abs() > 2.0 * noise,
            unit: *unit,
        })
    });
    compared.collect()
}

#[allow(clippy::cast_precision_loss)] // Figures for people.
fn at(report: &Report, percentile: f64) -> Option<f64> {
    let latency = report.latency.as_ref()?;
    latency.percentile(percentile).map(|nanos| nanos as f64)
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        len if len % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// The median absolute deviation, by the median; 1.4826 makes it a standard deviation where the
/// values are normal.
fn spread(values: &[f64], median_of_them: f64) -> f64 {
    let distances: Vec<f64> = (values.iter())
        .map(|value| (value - median_of_them).abs())
        .collect();
    let distance = median(&distances).unwrap_or(0.0) * 1.4826;
    if median_of_them == 0.0 {
        0.0
    } else {
        distance / median_of_them.abs()
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |value: f64| match self.unit {
            Unit::Rate => format!("{value:.0}/s"),
            Unit::Nanos => time(value),
            Unit::Ratio => format!("{:.2} %", value * 100.0),
            Unit::Count => format!("{value:.2}"),
            Unit::Bytes => size(value),
        };
        let verdict = if self.exceeds_noise {
            "differs"
        } else {
            "within the noise"
        };
        write!(
            f,
            "{:<18} {:>12} {:>12}   x {:<7.3} noise {:>5.1} %   {verdict}",
            self.figure,
            show(self.before),
            show(self.after),
            self.ratio,
            self.noise * 100.0,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_spreads() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
        assert!((spread(&[9.0, 10.0, 11.0], 10.0) - 0.148_26).abs() < 1e-9);
    }

    fn runs(seconds: [f64; 3]) -> Vec<Report> {
        let run = |seconds| Report {
            store: "s".into(),
            workload: "w".into(),
            tasks: 1,
            rate: None,
            overdue: 0,
            timed_every: 1,
            seconds,
            reads: 100,
            hits: 50,
            writes: 0,
            deletes: 0,
            refused: 0,
            bytes_read: 0,
            bytes_written: 0,
            elsewhere: false,
            entries: 0,
            live: 0,
            stored: 0,
            evictions: 0,
            cpu_seconds: 1.0,
            allocations: None,
            peak_memory: None,
            read_latency: None,
            write_latency: None,
            latency: None,
        };
        seconds.map(run).to_vec()
    }

    #[test]
    fn tells_a_difference_from_noise() {
        let find = |before, after| {
            let all = compare(&runs(before), &runs(after));
            all.into_iter()
                .find(|one| one.figure == "throughput")
                .unwrap()
        };
        let same = find([1.0, 1.1, 0.9], [1.05, 0.95, 1.0]);
        assert!(!same.exceeds_noise, "{same}");
        let slower = find([1.0, 1.01, 0.99], [2.0, 2.01, 1.99]);
        assert!(slower.exceeds_noise, "{slower}");
        assert!((slower.ratio - 0.5).abs() < 0.01);
    }
}
