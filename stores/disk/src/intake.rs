//! What the open writers share: the memory that they may hold, and who is let in.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use larder_store::{Error, ErrorKind, Result};
use tokio::{sync::Semaphore, time::Instant};

use crate::{
    clock,
    config::{Admission, Settings},
    ghost::Ghost,
};

/// So many writers write to their files at once; others wait for them.
const WRITES_MAX: usize = 32;
/// Offers of large objects that are remembered, about.
const OFFERS: u64 = 16 << 10;

pub(crate) struct Intake {
    pub(crate) memory: Arc<Memory>,
    /// A permit for each writer that writes to its file.
    pub(crate) writes: Arc<Semaphore>,
    rate: Option<Rate>,
    /// When time began, for the rate.
    begun: Instant,
    /// Hashes of large objects that were offered, where the first offer is refused.
    offered: Option<Mutex<Ghost>>,
}

impl Intake {
    pub(crate) fn new(settings: &Settings) -> Self {
        let offered = match settings.admission {
            Admission::All => None,
            Admission::SecondHit => {
                let offered = Ghost::new();
                offered.fit(OFFERS);
                Some(Mutex::new(offered))
            }
        };
        Self {
            memory: Arc::new(Memory::new(settings.staging_max)),
            writes: Arc::new(Semaphore::new(WRITES_MAX)),
            rate: settings.write_rate_max.map(Rate::new),
            begun: clock::now(),
            offered,
        }
    }

    /// `Full` while more was written than the write rate allows.
    pub(crate) fn check_rate(&self) -> Result<()> {
        if self
            .rate
            .as_ref()
            .is_some_and(|rate| !rate.is_open(self.now()))
        {
            let message = "more is written than the write rate allows";
            return Err(Error::new(ErrorKind::Full, message));
        }
        Ok(())
    }

    /// Counts bytes that were written, or are about to be.
    pub(crate) fn charge(&self, bytes: u64) {
        if let Some(rate) = &self.rate {
            rate.charge(bytes, self.now());
        }
    }

    fn now(&self) -> u64 {
        let elapsed = u64::try_from(clock::now().duration_since(self.begun).as_nanos());
        elapsed.map_or(u64::MAX, |elapsed| elapsed.saturating_add(SECOND))
    }

    /// `Full` for a large object that was not offered lately, which from now on it was; `is_known`
    /// tells of those that the store has had.
    pub(crate) fn check_offer(&self, hash: u64, is_known: impl FnOnce() -> bool) -> Result<()> {
        let Some(offered) = &self.offered else {
            return Ok(());
        };
        let offered = offered.lock().unwrap_or_else(PoisonError::into_inner);
        if offered.contains(hash) {
            return Ok(());
        }
        offered.insert(hash);
        drop(offered);
        if is_known() {
            return Ok(());
        }
        let message = "a large object is let in when it is offered again";
        Err(Error::new(ErrorKind::Full, message))
    }
}

/// The memory of all open writers. What a write counts stands together, on one cache line.
pub(crate) struct Memory {
    max: u64,
    taken: AtomicU64,
    /// Bytes that writers have acknowledged, and that do not count with an entry yet.
    staged: AtomicU64,
}

impl Memory {
    fn new(max: u64) -> Self {
        Self {
            max,
            taken: AtomicU64::new(0),
            staged: AtomicU64::new(0),
        }
    }

    pub(crate) fn staged(&self) -> u64 {
        self.staged.load(Ordering::Relaxed)
    }

    pub(crate) fn stage(&self, bytes: u64) {
        self.staged.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn unstage(&self, bytes: u64) {
        if bytes > 0 {
            self.staged.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    #[cfg(test)]
    pub(crate) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}

/// What one writer has of it; given back by its drop.
pub(crate) struct Loan {
    memory: Arc<Memory>,
    bytes: u64,
}

impl Loan {
    pub(crate) fn new(memory: &Arc<Memory>) -> Self {
        Self {
            memory: Arc::clone(memory),
            bytes: 0,
        }
    }

    /// Takes so many bytes more, or none where that would be too much.
    pub(crate) fn grow(&mut self, bytes: u64) -> bool {
        self.grow_within(bytes, self.memory.max)
    }

    /// As [`grow`](Self::grow), for who could do without: half of the memory is kept for others.
    pub(crate) fn grow_modestly(&mut self, bytes: u64) -> bool {
        self.grow_within(bytes, self.memory.max / 2)
    }

    fn grow_within(&mut self, bytes: u64, max: u64) -> bool {
        let taken = &self.memory.taken;
        let more = |taken: u64| taken.checked_add(bytes).filter(|sum| *sum <= max);
        let is_there = taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .is_ok();
        if is_there {
            self.bytes += bytes;
        }
        is_there
    }

    /// Gives so many bytes back, of those that it has.
    pub(crate) fn shrink(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        if bytes > 0 {
            self.bytes -= bytes;
            self.memory.taken.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.shrink(self.bytes);
    }
}

/// A token bucket that holds a second's worth, in its form as a virtual clock (the "generic cell
/// rate algorithm", ITU-T I.371). What was let in is written whole: who comes later pays for it.
struct Rate {
    bytes_a_second: u64,
    /// What was written so far is paid for at this time.
    paid_at: AtomicU64,
}

/// Times are nanoseconds; they begin a second before the first, so that none is negative.
const SECOND: u64 = 1_000_000_000;

impl Rate {
    fn new(bytes_a_second: u64) -> Self {
        Self {
            bytes_a_second,
            paid_at: AtomicU64::new(0),
        }
    }

    fn is_open(&self, now: u64) -> bool {
        self.paid_at.load(Ordering::Relaxed) <= now
    }

    fn charge(&self, bytes: u64, now: u64) {
        let cost = u128::from(bytes) * u128::from(SECOND) / u128::from(self.bytes_a_second);
        let cost = u64::try_from(cost).unwrap_or(u64::MAX);
        let least = now.saturating_sub(SECOND);
        let paid = |at: u64| Some(at.max(least).saturating_add(cost));
        // It never fails: there is always a next value.
        let _ = (self.paid_at).fetch_update(Ordering::Relaxed, Ordering::Relaxed, paid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_lets_in_a_seconds_worth_and_then_as_much_as_time_brings() {
        let rate = Rate::new(1_000);
        let mut now = SECOND;
        assert!(rate.is_open(now));
        rate.charge(999, now);
        assert!(rate.is_open(now));
        rate.charge(5_000, now);
        now += SECOND * 4_998 / 1_000;
        assert!(!rate.is_open(now));
        now += SECOND / 1_000;
        assert!(rate.is_open(now));
        // However long nothing comes, no more than a second's worth is saved.
        now += SECOND * 1_000;
        rate.charge(1_000, now);
        assert!(rate.is_open(now));
        rate.charge(1, now);
        assert!(!rate.is_open(now));
    }

    #[test]
    fn a_rate_can_be_tiny_and_a_charge_huge() {
        let rate = Rate::new(1);
        for _ in 0..3 {
            rate.charge(u64::MAX, SECOND);
        }
        assert!(!rate.is_open(SECOND));
        Rate::new(u64::MAX).charge(1, 0);
    }

    #[test]
    fn a_loan_is_bounded_and_given_back() {
        let memory = Arc::new(Memory::new(100));
        let (mut one, mut two) = (Loan::new(&memory), Loan::new(&memory));
        assert!(one.grow(40) && two.grow_modestly(10));
        assert!(!two.grow_modestly(1) && !two.grow(51));
        assert!(two.grow(50));
        assert!(!one.grow(u64::MAX));
        one.shrink(1_000);
        assert_eq!((one.bytes(), two.bytes()), (0, 60));
        drop(two);
        assert!(one.grow(100));
    }

    #[test]
    fn a_large_object_is_let_in_when_it_was_known_or_comes_again() {
        let folder = std::path::PathBuf::new();
        let mut settings = crate::Builder::new(folder, 1 << 30).settings().unwrap();
        let intake = Intake::new(&settings);
        assert!(intake.check_offer(1, || false).is_ok());
        settings.admission = Admission::SecondHit;
        let intake = Intake::new(&settings);
        assert!(
            intake
                .check_offer(1, || false)
                .is_err_and(|error| error.is_full())
        );
        assert!(intake.check_offer(1, || false).is_ok());
        assert!(intake.check_offer(2, || true).is_ok());
    }
}
