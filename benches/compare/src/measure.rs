//! Time, CPU, memory, bytes written and allocations of this process, and medians.

use std::{fs, time::Duration};

use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

/// Measures wall time and the CPU time of all threads of this process, kernel and user.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch {
    wall: Instant,
    cpu: Duration,
}

/// What something took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    /// Time on the wall.
    pub wall: Duration,
    /// Time on all cores together.
    pub cpu: Duration,
}

impl Stopwatch {
    /// Starts now.
    pub fn start() -> Self {
        Self {
            wall: Instant::now(),
            cpu: cpu(),
        }
    }

    /// What went by since.
    pub fn spent(&self) -> Spent {
        Spent {
            wall: self.wall.elapsed(),
            cpu: cpu().saturating_sub(self.cpu),
        }
    }
}

impl Spent {
    /// Nanoseconds of wall time for each of `count`.
    pub fn wall_each(&self, count: u64) -> f64 {
        nanos_each(self.wall, count)
    }

    /// Nanoseconds of CPU time for each of `count`.
    pub fn cpu_each(&self, count: u64) -> f64 {
        nanos_each(self.cpu, count)
    }
}

fn nanos_each(spent: Duration, count: u64) -> f64 {
    spent.as_nanos() as f64 / count.max(1) as f64
}

/// To the nanosecond, where `getrusage` and `/proc/self/stat` count ticks.
fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(now).unwrap_or_default()
}

/// The middle one, or the mean of the two in the middle; zero of none.
pub fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        len if len % 2 == 1 => sorted[len / 2],
        len => f64::midpoint(sorted[len / 2 - 1], sorted[len / 2]),
    }
}

/// Bytes of memory that are resident now.
pub fn resident() -> u64 {
    status("VmRSS:")
}

/// The most that were resident since the last [`forget_peak`].
pub fn resident_peak() -> u64 {
    status("VmHWM:")
}

/// Lets the peak begin anew. Says whether the kernel could.
pub fn forget_peak() -> bool {
    fs::write("/proc/self/clear_refs", "5").is_ok()
}

fn status(field: &str) -> u64 {
    proc_field("/proc/self/status", field) * 1_024
}

/// Bytes that this process has written.
#[derive(Clone, Copy, Debug)]
pub struct Written {
    /// Handed to the kernel.
    pub to_kernel: u64,
    /// Made dirty in the page cache, in whole pages.
    pub to_device: u64,
}

/// Bytes written since the process began.
pub fn written() -> Written {
    Written {
        to_kernel: proc_field("/proc/self/io", "wchar:"),
        to_device: proc_field("/proc/self/io", "write_bytes:"),
    }
}

fn proc_field(path: &str, field: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix(field));
    let digits = value.and_then(|value| value.split_whitespace().next());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < f64::EPSILON);
    }

    #[test]
    fn the_kernel_tells() {
        assert!(resident() > 100_000);
        assert!(resident_peak() >= resident() / 2);
    }
}
