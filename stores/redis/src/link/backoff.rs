//! How long to wait before the next attempt to connect.

use std::time::Duration;

/// The shortest pause between two attempts to connect, but for the first, which comes at once.
pub(crate) const PAUSE_MIN: Duration = Duration::from_millis(50);

/// The longest pause, and so about the longest that a server which is back is not found.
pub(crate) const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Exponential, with jitter, so that the clients of a server that went away do not all come back
/// in the same moment. The first attempt after a [`reset`](Self::reset) is made at once.
pub(crate) struct Backoff {
    /// The next wait before jitter; zero after a reset.
    next: Duration,
    random: u64,
}

impl Backoff {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            next: Duration::ZERO,
            random: seed,
        }
    }

    pub(crate) fn reset(&mut self) {
        self.next = Duration::ZERO;
    }

    /// Whether the next attempt is made at once.
    pub(crate) fn is_reset(&self) -> bool {
        self.next.is_zero()
    }

    /// The wait before the next attempt: from half of the step up to the step, which doubles.
    pub(crate) fn wait(&mut self) -> Duration {
        let step = self.next;
        self.next = (step * 2).clamp(PAUSE_MIN, PAUSE_MAX);
        let half = step / 2;
        let part = u32::try_from(self.random() >> 32).unwrap_or(u32::MAX);
        half + half.mul_f64(f64::from(part) / f64::from(u32::MAX))
    }

    /// `SplitMix64` (Steele, Lea, Flood 2014): enough to spread, and its state is one word.
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_start_over() {
        let mut backoff = Backoff::new(7);
        assert_eq!(backoff.wait(), Duration::ZERO);
        for step in [50, 100, 200, 400, 800, 1600, 3200, 5000, 5000].map(Duration::from_millis) {
            let wait = backoff.wait();
            assert!(step / 2 <= wait && wait <= step, "{wait:?} of {step:?}");
        }
        backoff.reset();
        assert_eq!(backoff.wait(), Duration::ZERO);
    }

    #[test]
    fn two_seeds_do_not_wait_alike() {
        let waits = |seed| {
            let mut backoff = Backoff::new(seed);
            (0..5).map(|_| backoff.wait()).collect::<Vec<_>>()
        };
        assert_ne!(waits(1), waits(2));
        assert_eq!(waits(1), waits(1));
    }
}
