//! Which entries of private tiers are known to be current.
//!
//! Invariants:
//! 1. Generations only go up, from a number drawn when the cache was built; none is zero.
//! 2. The current one is served while its proof is young: the last own message that came back, or,
//!    while none does, its own beginning. What it holds was current when it began or later, so that
//!    without any bus it is served a window past that and no more, and then checked.
//! 3. Both change under the lock, the generation first; a hit reads them without, the proof first.

use larder_store::Timestamp;
use tokio::time::Instant;

use super::Pace;
use crate::sync::{AtomicU64, Mutex, Ordering, lock};

pub(super) struct Trust {
    current: AtomicU64,
    /// When the proof is from, in milliseconds of the wall clock: a process that was paused sees
    /// how long by its first look at the time.
    proven: AtomicU64,
    pace: Pace,
    life: Mutex<Life>,
}

/// The same by the clock that waits go by, which never steps.
struct Life {
    proven: Instant,
    /// While no own message comes back: when the last generation began for that.
    off: Option<Instant>,
}

impl Trust {
    /// Nothing is trusted yet.
    pub(super) fn new(seed: u64, pace: Pace) -> Self {
        let now = Instant::now();
        Self {
            // Half of all numbers are ahead: it never wraps.
            current: AtomicU64::new((seed >> 1) + 1),
            proven: AtomicU64::new(0),
            pace,
            life: Mutex::new(Life {
                proven: now,
                off: Some(now),
            }),
        }
    }

    /// Whether an entry of this generation may be served.
    #[inline]
    pub(super) fn holds(&self, generation: u64, now: Timestamp) -> bool {
        // In this order: a new proof is seen only together with the generation that it is for.
        !self.is_overdue(now) && generation == self.current()
    }

    pub(super) fn current(&self) -> u64 {
        self.current.load(Ordering::Acquire)
    }

    /// Whether the last proof is too old, or from the future of a clock that stepped back.
    #[inline]
    #[allow(clippy::cast_possible_truncation)] // A part of the bound.
    fn is_overdue(&self, now: Timestamp) -> bool {
        let age = now
            .as_millis()
            .wrapping_sub(self.proven.load(Ordering::Acquire));
        age > self.pace.window.as_millis() as u64
    }

    /// Begins a generation: something may have been missed.
    pub(super) fn begin(&self) {
        let _life = lock(&self.life);
        self.current.fetch_add(1, Ordering::AcqRel);
    }

    /// Says whether own messages have ceased to come back: a generation began then. While that
    /// lasts one begins every window.
    pub(super) fn lapses(&self, now: Timestamp, at: Instant) -> bool {
        let mut life = lock(&self.life);
        let since = life.off.unwrap_or(life.proven);
        let lapsed = self.is_overdue(now) || at.duration_since(since) > self.pace.window;
        if lapsed {
            life.off = Some(at);
            // First the generation: what a hit reads in between is overdue yet.
            self.current.fetch_add(1, Ordering::AcqRel);
            self.proven.store(now.as_millis(), Ordering::Release);
        }
        lapsed
    }

    /// An own message came back that was sent then. To be called after [`lapses`](Self::lapses).
    pub(super) fn prove(&self, sent: Timestamp, sent_at: Instant) {
        let mut life = lock(&self.life);
        match life.off {
            None if sent_at <= life.proven => return,
            // On its way before nothing came: it proves nothing of what came after.
            Some(since) if sent_at < since => return,
            _ => {}
        }
        life.off = None;
        life.proven = sent_at;
        self.proven.store(sent.as_millis(), Ordering::Release);
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A trust of ten seconds, the two clocks at a moment, and what it is so long after it.
    struct Moments {
        trust: Trust,
        wall: Timestamp,
        at: Instant,
    }

    impl Moments {
        /// One message, sent a second after the beginning, has come back.
        fn new() -> Self {
            let trust = Trust::new(u64::MAX, Pace::new(10 * SECOND));
            let (wall, at) = (Timestamp::from_millis(1_000_000), Instant::now());
            let moments = Self { trust, wall, at };
            assert!(!moments.holds(moments.trust.current(), 1));
            moments.prove(1);
            moments
        }

        fn prove(&self, sent: u32) {
            let (wall, at) = (self.wall.after(sent * SECOND), self.at + sent * SECOND);
            self.trust.prove(wall, at);
        }

        fn holds(&self, generation: u64, now: u32) -> bool {
            self.trust.holds(generation, self.wall.after(now * SECOND))
        }

        fn lapses(&self, wall: u32, at: u32) -> bool {
            let (wall, at) = (self.wall.after(wall * SECOND), self.at + at * SECOND);
            self.trust.lapses(wall, at)
        }
    }

    #[test]
    fn s67_a_generation_is_served_until_the_next_begins() {
        let moments = Moments::new();
        let first = moments.trust.current();
        assert!(moments.holds(first, 2) && !moments.holds(first - 1, 2) && !moments.holds(0, 2));
        moments.trust.begin();
        assert!(!moments.holds(first, 2) && moments.holds(first + 1, 2));
    }

    #[test]
    fn s67_a_hit_sees_by_itself_that_the_wall_clock_went_on_or_back() {
        let moments = Moments::new();
        let first = moments.trust.current();
        assert!(moments.holds(first, 5) && !moments.holds(first, 6) && !moments.holds(first, 0));
    }

    #[test]
    fn s67_either_clock_ends_a_generation_that_is_not_proven() {
        for (wall, at) in [(1, 6), (6, 1), (0, 1)] {
            let moments = Moments::new();
            let first = moments.trust.current();
            assert!(!moments.lapses(5, 5));
            assert!(moments.lapses(wall, at), "{wall} {at}");
            assert_eq!(moments.trust.current(), first + 1);
            assert!(!moments.holds(first, wall));
            // Without a bus: what is checked from now on, for a window.
            assert!(moments.holds(first + 1, wall + 4) && !moments.holds(first + 1, wall + 5));
        }
    }

    #[test]
    fn s67_only_what_was_sent_after_a_lapse_ends_it() {
        let moments = Moments::new();
        let first = moments.trust.current();
        assert!(moments.lapses(6, 6));
        moments.prove(5);
        assert!(!moments.holds(first, 6) && moments.holds(first + 1, 10));
        assert!(
            !moments.holds(first + 1, 11),
            "of the beginning, not of that message"
        );
        moments.trust.begin();
        assert!(!moments.holds(first + 2, 11));
        moments.prove(7);
        assert!(moments.holds(first + 2, 11) && !moments.holds(first + 1, 8));
    }

    #[test]
    fn s67_while_nothing_is_heard_a_generation_begins_every_window() {
        let moments = Moments::new();
        let lapses = (2..40).filter(|&now| moments.lapses(now, now));
        assert_eq!(lapses.collect::<Vec<_>>(), [6, 11, 16, 21, 26, 31, 36]);
    }
}
