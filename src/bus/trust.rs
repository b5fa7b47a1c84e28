//! Which entries of private tiers are known to be current.
//!
//! Invariants:
//! 1. Generations only go up, from a number drawn when the cache was built; none is zero or
//!    [`NONE`].
//! 2. `serving` is the current generation, or [`NONE`] from a lapse until an own message has come
//!    back that was sent after it.
//! 3. Both change under the lock; a hit reads them without.

use larder_store::Timestamp;
use tokio::time::Instant;

use super::Pace;
use crate::sync::{AtomicU64, Mutex, Ordering, lock};

pub(super) struct Trust {
    /// The generation whose entries are served.
    serving: AtomicU64,
    /// When the last own message that came back was sent, in milliseconds of the wall clock: a
    /// process that was paused sees how long by its first look at the time.
    proven: AtomicU64,
    current: AtomicU64,
    pace: Pace,
    life: Mutex<Life>,
}

/// The same by the clock that waits go by, which never steps.
struct Life {
    proven: Instant,
    /// Since when nothing is served.
    off: Option<Instant>,
}

/// A generation that no entry has.
const NONE: u64 = u64::MAX;

impl Trust {
    /// Nothing is trusted yet.
    pub(super) fn new(seed: u64, pace: Pace) -> Self {
        let now = Instant::now();
        Self {
            serving: AtomicU64::new(NONE),
            proven: AtomicU64::new(0),
            // Half of all numbers are ahead: it never wraps.
            current: AtomicU64::new((seed >> 1) + 1),
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
        generation == self.serving.load(Ordering::Acquire) && !self.is_overdue(now)
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
        self.advance(&lock(&self.life));
    }

    fn advance(&self, life: &Life) {
        let next = self.current.load(Ordering::Acquire) + 1;
        self.current.store(next, Ordering::Release);
        let serving = if life.off.is_some() { NONE } else { next };
        self.serving.store(serving, Ordering::Release);
    }

    /// Says whether own messages have ceased to come back: a generation began then. While that
    /// lasts one begins every bound, so that nothing that takes long is taken for new.
    pub(super) fn lapses(&self, now: Timestamp, at: Instant) -> bool {
        let mut life = lock(&self.life);
        let lapsed = match life.off {
            Some(since) => at.duration_since(since) > self.pace.bound,
            None => self.is_overdue(now) || at.duration_since(life.proven) > self.pace.window,
        };
        if lapsed {
            life.off = Some(at);
            self.advance(&life);
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
        self.serving.store(self.current(), Ordering::Release);
    }
}
