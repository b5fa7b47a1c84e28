//! The pace of an open loop.
//
// Invariants:
// 1. Operation `n` is due `n / rate` after the start, whatever became of those before.
// 2. There are as many permits as operations were due so far. Once all of a count are given there
//    is one more for each task, so that each learns of the end; when a time is over there are none.
// 3. Whoever has a permit takes the next number; so no operation begins before it is due, but for
//    two tasks that change places within the same moment.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
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
    start: OnceLock<Instant>,
    rate: f64,
    length: Length,
    /// Operations in all.
    count: u64,
    tasks: usize,
}

/// Keeps the pace; dropped, it stops.
pub(crate) struct PaceMaker {
    due: Arc<Due>,
    thread: Option<JoinHandle<()>>,
}

impl Due {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // It saturates.
    pub(crate) fn new(rate: f64, length: Length, tasks: usize) -> Self {
        Self {
            permits: Semaphore::new(0),
            begun: AtomicU64::new(0),
            start: OnceLock::new(),
            rate,
            length,
            count: match length {
                Length::Count(count) => count,
                Length::Duration(whole) => (whole.as_secs_f64() * rate).ceil() as u64,
            },
            tasks,
        }
    }

    /// Begins to count from now. An error where the system gives no thread.
    pub(crate) fn start(self: &Arc<Self>) -> std::io::Result<PaceMaker> {
        let start = *self.start.get_or_init(Instant::now);
        let due = Arc::clone(self);
        let thread = std::thread::Builder::new()
            .name("larder-bench-pace".to_owned())
            .spawn(move || due.keep(start))?;
        Ok(PaceMaker {
            due: Arc::clone(self),
            thread: Some(thread),
        })
    }

    /// Waits for the next operation to be due; gives its number and the moment at which it was, or
    /// `None` at the end. What is due and not begun when the time is over does not begin.
    pub(crate) async fn next(&self) -> Option<(u64, Instant)> {
        self.permits.acquire().await.ok()?.forget();
        let number = self.begun.fetch_add(1, Ordering::Relaxed);
        if number >= self.count {
            return None;
        }
        let due = self.start.get()?.checked_add(at(number, self.rate))?;
        Some((number, due))
    }

    /// Operations that were to begin and did not.
    pub(crate) fn overdue(&self) -> u64 {
        self.count
            .saturating_sub(self.begun.load(Ordering::Relaxed))
    }

    /// How much of a count has begun.
    pub(crate) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed).min(self.count)
    }

    fn keep(&self, start: Instant) {
        wake_in_time();
        let mut given = 0_u64;
        while given < self.count && !self.permits.is_closed() {
            let elapsed = start.elapsed();
            if self.is_over(elapsed) {
                break;
            }
            let until = due_by(elapsed, self.rate).min(self.count);
            let fresh = usize::try_from(until.saturating_sub(given)).unwrap_or(usize::MAX);
            let room = Semaphore::MAX_PERMITS - self.permits.available_permits() - self.tasks;
            let fresh = fresh.min(room);
            self.permits.add_permits(fresh);
            given += fresh as u64;
            self.rest(start, at(given, self.rate));
        }
        match self.length {
            Length::Count(_) => self.permits.add_permits(self.tasks),
            Length::Duration(whole) => {
                while !self.is_over(start.elapsed()) && !self.permits.is_closed() {
                    self.rest(start, whole);
                }
                self.permits.close();
            }
        }
    }

    fn is_over(&self, elapsed: Duration) -> bool {
        matches!(self.length, Length::Duration(whole) if elapsed >= whole)
    }

    /// Until this time after the start, or the end, or until it is stopped.
    fn rest(&self, start: Instant, until: Duration) {
        let until = match self.length {
            Length::Duration(whole) => until.min(whole),
            Length::Count(_) => until,
        };
        std::thread::park_timeout(until.saturating_sub(start.elapsed()).max(REST));
    }
}

/// Linux wakes a thread 50 us late, to save energy, unless it says that it minds.
fn wake_in_time() {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let _ = nix::sys::prctl::set_timerslack(1);
}

/// The pace maker rests at least so long, and leaves the processor to what is measured.
const REST: Duration = Duration::from_micros(10);

impl Drop for PaceMaker {
    fn drop(&mut self) {
        self.due.permits.close();
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It cannot panic, and ends at once.
            let _ = thread.join();
        }
    }
}

/// When the operation of this number is due, from the start.
#[allow(clippy::cast_precision_loss)] // A run has less than 2^52 operations.
fn at(number: u64, rate: f64) -> Duration {
    Duration::try_from_secs_f64(number as f64 / rate).unwrap_or(Duration::MAX)
}

/// How many operations are due by then: the first one is at the start.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // It saturates.
fn due_by(elapsed: Duration, rate: f64) -> u64 {
    (elapsed.as_secs_f64() * rate) as u64 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn gives_so_many_and_none_early() {
        let due = Arc::new(Due::new(10_000.0, Length::Count(100), 2));
        let pace = due.start().unwrap();
        let start = *due.start.get().unwrap();
        for expected in 0..100 {
            let (number, moment) = due.next().await.unwrap();
            assert_eq!(number, expected);
            assert_eq!(moment, start + at(number, 10_000.0));
            assert!(Instant::now() >= moment);
        }
        assert!(due.next().await.is_none() && due.next().await.is_none());
        assert_eq!(due.overdue(), 0);
        drop(pace);
    }

    #[tokio::test]
    async fn what_is_late_at_the_end_is_overdue() {
        let due = Arc::new(Due::new(
            1e6,
            Length::Duration(Duration::from_millis(20)),
            1,
        ));
        let _pace = due.start().unwrap();
        assert!(due.next().await.is_some());
        tokio::time::sleep(Duration::from_millis(40)).await;
        assert!(due.next().await.is_none());
        assert_eq!(due.overdue(), 19_999);
    }

    #[test]
    fn no_pace_is_too_slow_to_stop() {
        let due = Arc::new(Due::new(1e-3, Length::Count(u64::MAX), 1));
        drop(due.start().unwrap());
        assert_eq!(at(u64::MAX, 1e-300), Duration::MAX);
    }
}
