//! Wall-clock time as it is stamped on objects.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A moment of the wall clock, in milliseconds since the Unix epoch.
///
/// Arithmetic saturates: no stamp, however wrong the clock that made it, can overflow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The Unix epoch.
    pub const EPOCH: Self = Self(0);

    /// The system's wall clock, for those who were not given another. On Linux it is read to the
    /// kernel's tick, 1 to 10 ms, at a fifth of the cost of an exact reading: ages are no finer.
    #[inline]
    pub fn now() -> Self {
        wall_clock()
    }

    /// The moment this many milliseconds after the epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to this moment, zero when `earlier` is the later one.
    #[inline]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// The moment this much later.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(
            self.0
                .saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)),
        )
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        Self::EPOCH.after(time.duration_since(UNIX_EPOCH).unwrap_or_default())
    }
}

#[cfg(target_os = "linux")]
#[inline]
fn wall_clock() -> Timestamp {
    // Not rustix's, which is faster yet: it reads the kernel's page by itself, and under valgrind
    // there is none.
    use nix::time::{ClockId, clock_gettime};

    // It cannot fail for this clock; the epoch makes everything look fetched in the future, which
    // is not trusted.
    let Ok(now) = clock_gettime(ClockId::CLOCK_REALTIME_COARSE) else {
        return Timestamp::EPOCH;
    };
    let seconds = u64::try_from(now.tv_sec()).unwrap_or_default();
    let millis = u64::try_from(now.tv_nsec()).unwrap_or_default() / 1_000_000;
    Timestamp(seconds.saturating_mul(1_000).saturating_add(millis))
}

#[cfg(not(target_os = "linux"))]
#[allow(clippy::disallowed_methods)] // The one place that asks the system.
fn wall_clock() -> Timestamp {
    SystemTime::now().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods)] // Against the exact reading.
    fn now_is_now() {
        let exact = Timestamp::from(SystemTime::now());
        let now = Timestamp::now();
        assert!(now.since(exact).max(exact.since(now)) < Duration::from_secs(1));
    }
}
