//! The pace of an open loop.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Semaphore, time::Instant};

use crate::Length;

/// Says when operations begin: a thread of its own keeps the pace, since a runtime's timer is no
/// finer than a millisecond.
pub(crate) struct Due {
    /// One permit for each operation that is due and not begun.
    permits: Semaphore,
    begun: AtomicU64,
    start: OnceLock<(Instant, f64)>,
}

impl Default for Due {
    fn default() -> Self {
        Self {
            permits: Semaphore::new(0),
            begun: AtomicU64::new(0),
            start: OnceLock::new(),
        }
    }
}

/// Keeps the pace; dropped, it stops.
pub(crate) struct PaceMaker(Arc<Due>);

impl Due {
    /// Begins to count from now.
    pub(crate) fn start(self: Arc<Self>, rate: f64, length: Length) -> PaceMaker {
        let start = Instant::now();
        let _ = self.start.set((start, rate));
        let due = Arc::clone(&self);
        std::thread::spawn(move || due.keep(start, rate, length));
        PaceMaker(self)
    }

    /// Waits for the next operation to be due; gives the moment at which it was, or `None` at the
    /// end.
    pub(crate) async fn next(&self) -> Option<Instant> {
        self.permits.acquire().await.ok()?.forget();
        let number = self.begun.fetch_add(1, Ordering::Relaxed);
        let (start, rate) = self.start.get()?;
        Some(*start + at(number, *rate))
    }

    fn keep(&self, start: Instant, rate: f64, length: Length) {
        let mut given = 0_u64;
        while !self.permits.is_closed() {
            let elapsed = start.elapsed();
            let end = match length {
                Length::Count(count) => given >= count,
                Length::Duration(whole) => elapsed >= whole,
            };
            if end {
                self.permits.close();
                return;
            }
            while at(given, rate) <= elapsed {
                self.permits.add_permits(1);
                given += 1;
            }
            std::thread::park_timeout(at(given, rate).saturating_sub(start.elapsed()));
        }
    }
}

impl Drop for PaceMaker {
    fn drop(&mut self) {
        self.0.permits.close();
    }
}

/// When the operation of this number is due, from the start.
#[allow(clippy::cast_precision_loss)] // A run has less than 2^52 operations.
fn at(number: u64, rate: f64) -> Duration {
    Duration::from_secs_f64(number as f64 / rate)
}
