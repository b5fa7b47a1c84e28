//! The wall clock that stamps objects, and one that stands still for tests.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use larder_store::Timestamp;

/// Tells what time it is. Objects are stamped and judged by it; waits are not.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The wall-clock time now. It may step back; ages are then zero, and what was stamped later
    /// than now is not trusted to be fresh.
    fn now(&self) -> Timestamp;
}

/// The system's wall clock. On Linux it is read to the kernel's tick, 1 to 10 ms, which costs a
/// fifth of an exact reading; ages are no finer.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

/// A clock that moves only when it is told to. Clones share their time.
///
/// ```
/// use std::time::Duration;
/// use larder::{Clock, ManualClock, Timestamp};
///
/// let clock = ManualClock::new(Timestamp::from_millis(1_000));
/// clock.clone().advance(Duration::from_secs(1));
/// assert_eq!(clock.now(), Timestamp::from_millis(2_000));
/// ```
#[derive(Clone, Debug, Default)]
pub struct ManualClock(Arc<Mutex<Timestamp>>);

impl ManualClock {
    /// A clock that stands at this time.
    pub fn new(now: Timestamp) -> Self {
        Self(Arc::new(Mutex::new(now)))
    }

    /// Moves it forward.
    pub fn advance(&self, by: Duration) {
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *now = now.after(by);
    }

    /// Sets it, also backwards.
    pub fn set(&self, to: Timestamp) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = to;
    }
}

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)] // The one place that asks the system.
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
