//! How much of its capacity a store may use while its disk is full or fails.
//!
//! A full disk makes the store smaller, a segment at a time, down to a minimum. If not even that
//! helps, or if the disk fails otherwise, nothing is stored for a while; then it is tried again.

use std::time::Duration;

use larder_store::{Error, ErrorKind};
use tokio::time::Instant;

use crate::log::DOWN_TIME;

/// The log keeps at least so many segments: one to write to, and two spares.
pub(crate) const SEGMENTS_MIN: u64 = 3;
/// After so long without a failure the store begins to grow again: ...
const GROWTH_PAUSE: Duration = Duration::from_secs(5);
/// ... each time this has passed ...
const GROWTH_STEP: Duration = Duration::from_secs(1);
/// ... by one in so many parts of its capacity.
const GROWTH_SHARE: u64 = 16;

/// The state of the disk, as far as failures tell.
#[derive(Debug)]
pub(crate) struct Health {
    capacity: u64,
    segment_size: u64,
    limit: u64,
    /// When the store may grow, while its limit is below the capacity.
    grows_at: Option<Instant>,
    /// When it is to be tried whether writing works, after it did not.
    probe_at: Option<Instant>,
    /// Why nothing is stored.
    down: Option<Error>,
    /// Whether that is for ever.
    is_withdrawn: bool,
}

impl Health {
    pub(crate) fn new(capacity: u64, segment_size: u64) -> Self {
        Self {
            capacity,
            segment_size,
            limit: capacity,
            grows_at: None,
            probe_at: None,
            down: None,
            is_withdrawn: false,
        }
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Why nothing is stored for now.
    pub(crate) fn down(&self) -> Option<&Error> {
        self.down.as_ref()
    }

    /// Whether no write may be tried: it fails for another reason than that the disk is full.
    pub(crate) fn is_failing(&self) -> bool {
        self.down.as_ref().is_some_and(|error| !error.is_full())
    }

    /// Whether the disk was found full, and that is not over.
    pub(crate) fn is_short(&self) -> bool {
        self.limit < self.capacity || self.down.as_ref().is_some_and(Error::is_full)
    }

    /// From now on nothing is stored, and nothing is tried.
    pub(crate) fn withdraw(&mut self, error: &Error) {
        self.down = Some(error.clone());
        self.is_withdrawn = true;
        (self.grows_at, self.probe_at) = (None, None);
    }

    pub(crate) fn is_withdrawn(&self) -> bool {
        self.is_withdrawn
    }

    /// Takes note of a failure while so many bytes are used.
    pub(crate) fn failed(&mut self, error: &Error, used: u64, now: Instant) {
        if self.is_withdrawn {
            return;
        }
        match error.kind() {
            ErrorKind::Closed => return,
            ErrorKind::Full => self.shrink(error, used, now),
            _ => self.go_down(error),
        }
        self.probe_at = Some(now + DOWN_TIME);
    }

    fn shrink(&mut self, error: &Error, used: u64, now: Instant) {
        let least = (SEGMENTS_MIN * self.segment_size).min(self.capacity);
        let fewer = used.saturating_sub(self.segment_size).max(least);
        if fewer < self.limit {
            if self.limit == self.capacity {
                tracing::warn!(%error, limit = fewer, "the disk is full: the store shrinks");
            }
            self.limit = fewer;
        } else if self.limit == least {
            self.go_down(error);
        }
        self.grows_at = (self.limit < self.capacity).then(|| now + GROWTH_PAUSE);
    }

    fn go_down(&mut self, error: &Error) {
        if self.down.is_none() {
            tracing::warn!(%error, "nothing can be stored for now");
        }
        self.down = Some(error.clone());
    }

    /// Whether it is time to try whether writing works.
    pub(crate) fn is_probe_due(&self, now: Instant) -> bool {
        self.probe_at.is_some_and(|at| at <= now)
    }

    /// Takes note that writing works.
    pub(crate) fn recovered(&mut self) {
        if self.is_withdrawn {
            return;
        }
        if self.down.take().is_some() {
            tracing::warn!("objects can be stored again");
        }
        self.probe_at = None;
    }

    /// Grows the limit when it is time.
    pub(crate) fn grow(&mut self, now: Instant) {
        if self.down.is_some() || self.grows_at.is_none_or(|at| at > now) {
            return;
        }
        let more = self.limit + (self.capacity / GROWTH_SHARE).max(1);
        self.limit = more.min(self.capacity);
        self.grows_at = Some(now + GROWTH_STEP);
        if self.limit == self.capacity {
            tracing::warn!("the store has grown to its capacity again");
            self.grows_at = None;
        }
    }

    /// When there is something to do here.
    pub(crate) fn next(&self) -> Option<Instant> {
        let grows_at = self.grows_at.filter(|_| self.down.is_none());
        [grows_at, self.probe_at].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Error {
        Error::new(ErrorKind::Full, "no space left")
    }

    #[test]
    fn a_full_disk_shrinks_the_store_and_it_grows_again() {
        let now = Instant::now();
        let mut health = Health::new(1_600, 100);
        assert_eq!((health.limit(), health.next()), (1_600, None));
        health.failed(&full(), 1_000, now);
        health.failed(&full(), 1_000, now);
        assert_eq!(health.limit(), 900);
        assert!(health.down().is_none() && health.is_short());
        health.grow(now + GROWTH_PAUSE / 2);
        assert_eq!(health.limit(), 900);
        let mut then = now + GROWTH_PAUSE;
        for limit in [1_000, 1_100, 1_200, 1_300, 1_400, 1_500, 1_600, 1_600] {
            health.grow(then);
            assert_eq!(health.limit(), limit);
            then += GROWTH_STEP;
        }
        health.recovered();
        assert_eq!(health.next(), None);
        assert!(!health.is_short());
    }

    #[test]
    fn at_its_minimum_it_passes_through_until_writing_works() {
        let now = Instant::now();
        let mut health = Health::new(1_600, 100);
        health.failed(&full(), 300, now);
        assert_eq!(health.limit(), 300);
        assert!(health.down().is_none());
        health.failed(&full(), 300, now);
        assert!(health.down().is_some_and(Error::is_full));
        assert!(!health.is_failing() && !health.is_probe_due(now));
        assert!(health.is_probe_due(now + DOWN_TIME));
        health.grow(now + 2 * GROWTH_PAUSE);
        assert_eq!(health.limit(), 300);
        health.recovered();
        assert!(health.down().is_none());
        assert!(!health.is_probe_due(now + DOWN_TIME));
    }

    #[test]
    fn another_failure_stops_it_at_once() {
        let now = Instant::now();
        let mut health = Health::new(1_600, 100);
        health.failed(
            &Error::new(ErrorKind::Unavailable, "no such disk"),
            300,
            now,
        );
        assert!(health.is_failing());
        assert_eq!(
            (health.limit(), health.next()),
            (1_600, Some(now + DOWN_TIME))
        );
    }
}
