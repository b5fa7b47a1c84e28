//! What all parts of a cache share.

use std::{collections::HashMap, sync::Arc, time::Duration};

use larder_store::{Error, ErrorKind, Header, KeyBuf, Result, Timestamp};
use tokio::sync::Semaphore;

use crate::{
    behind::Behind,
    bus::Bus,
    clock::Clock,
    counters::Counts,
    freshness::{Freshness, SKEW_MAX, Terms, assess},
    lease::Leases,
    policy::Policy,
    read::{flights::Flights, promote::SecondHits, spill::SpillSpace, spool::SpoolLimits},
    suspects::Suspects,
    sync::{AtomicBool, AtomicU64, AtomicUsize, Mutex, Ordering, lock},
    tasks::{Pool, Tasks},
    tier::Place,
    turns::Turns,
    within::ended,
};

pub(crate) struct Engine {
    /// From hot to cold.
    pub(crate) tiers: Box<[Place]>,
    /// In which commits and deletes go: shared before private, bottom-up, tier 0 last.
    pub(crate) order: Box<[usize]>,
    pub(crate) policy: Policy,
    pub(crate) settings: Settings,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) flights: Flights,
    pub(crate) turns: Turns,
    pub(crate) suspects: Suspects,
    pub(crate) failures: Failures,
    pub(crate) second_hits: SecondHits,
    pub(crate) behind: Behind,
    pub(crate) leases: Option<Leases>,
    pub(crate) bus: Option<Bus>,
    pub(crate) counts: Arc<Counts>,
    pub(crate) tasks: Tasks,
    pub(crate) refreshes: Pool,
    /// Running fetches.
    pub(crate) fetches: Arc<Semaphore>,
    /// Memory for all windows of all flights, in KiB.
    pub(crate) memory: Arc<Semaphore>,
    /// Room for all spill files of all flights.
    pub(crate) spill: Arc<SpillSpace>,
    pub(crate) closed: AtomicBool,
    pub(crate) dice: Dice,
}

/// Limits and waits of the engine, each with its default.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) spool: SpoolLimits,
    pub(crate) spool_memory_total: u64,
    pub(crate) spool_disk_total: u64,
    pub(crate) spool_dir: std::path::PathBuf,
    pub(crate) flights_max: usize,
    pub(crate) fetches_max: usize,
    pub(crate) fetch_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) close_timeout: Duration,
    pub(crate) refreshes_max: usize,
    pub(crate) refresh_queue_max: usize,
    pub(crate) behind_max: usize,
    pub(crate) behind_queue_max: usize,
    pub(crate) behind_bytes_max: u64,
    pub(crate) suspects_max: usize,
    pub(crate) failures_max: usize,
    pub(crate) lease_ttl: Duration,
    pub(crate) lease_wait: Duration,
    pub(crate) bus_bound: Duration,
    pub(crate) on_abandon: OnAbandon,
}

/// Where an object is that may be served.
#[derive(Clone, Copy)]
pub(crate) enum Held<'a> {
    /// In a tier.
    Tier(&'a Place),
    /// In a flight that is open, which began in the generation that runs or not long ago.
    Flight { is_current: bool },
}

/// What becomes of a flight that everyone has left.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum OnAbandon {
    /// It goes on while some tier takes it, so that the next reader finds the object.
    #[default]
    Finish,
    /// It goes on if at least this share of it, from 0.0 to 1.0, has come.
    FinishIf(f64),
    /// It ends at once.
    Abort,
}

impl Engine {
    #[inline]
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// `Closed` once the cache was closed, or its runtime has ended.
    #[inline]
    pub(crate) fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            Err(self.why_closed())
        } else {
            Ok(())
        }
    }

    #[cold]
    fn why_closed(&self) -> Error {
        if self.tasks.runtime().has_ended() {
            ended()
        } else {
            Error::closed("the cache")
        }
    }

    /// Assesses an object that is to be served, wherever it is. An object that may be out of date is
    /// checked first: it is not served meanwhile, nor on an error.
    ///
    /// All that is served passes here, when it is served: entries of tiers, the answers of flights
    /// that are open, stale copies during a fetch and after one that failed.
    #[inline]
    pub(crate) fn assess(
        &self,
        held: Held<'_>,
        header: &Header,
        terms: Terms,
        now: Timestamp,
    ) -> Freshness {
        let is_current = match held {
            Held::Tier(place) => self.trusts(place, header, now),
            Held::Flight { is_current } => is_current,
        };
        if is_current {
            assess(header, terms, now)
        } else {
            Freshness::Expired { if_error: false }
        }
    }

    /// Where a flight stands when everyone has left it: whether it goes on.
    pub(crate) fn outlives_readers(&self, came: u64, len: Option<u64>) -> bool {
        match self.settings.on_abandon {
            OnAbandon::Finish => true,
            OnAbandon::Abort => false,
            #[allow(clippy::cast_precision_loss)] // A share, not a count.
            OnAbandon::FinishIf(share) => {
                len.is_some_and(|len| len == 0 || came as f64 / len as f64 >= share)
            }
        }
    }
}

/// The errors of fetches that failed not long ago, see `error_ttl`. They are the user's: they are
/// dropped outside of the lock.
pub(crate) struct Failures {
    known: Mutex<HashMap<KeyBuf, Failure>>,
    /// How many there are: as a rule none, and then no read takes the lock. What one flight of a key
    /// has added the next one sees, since both have held the flights' lock.
    len: AtomicUsize,
    max: usize,
}

struct Failure {
    error: Error,
    at: Timestamp,
    until: Timestamp,
}

impl Failure {
    /// Whether it is to be given again. After a step back of the clock its age is not known.
    fn holds(&self, now: Timestamp) -> bool {
        now < self.until && self.at.since(now) <= SKEW_MAX
    }
}

impl Failures {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            known: Mutex::default(),
            len: AtomicUsize::new(0),
            max,
        }
    }

    /// The error of the key's last fetch, if it is to be given again.
    pub(crate) fn get(&self, key: &str, now: Timestamp) -> Option<Error> {
        if self.is_empty() {
            return None;
        }
        let mut known = lock(&self.known);
        let failure = known.get(key)?;
        if failure.holds(now) {
            return Some(failure.error.clone());
        }
        let expired = known.remove(key);
        self.len.store(known.len(), Ordering::Release);
        drop(known);
        drop(expired);
        None
    }

    /// Remembers an error for a while, as far as there is room.
    pub(crate) fn add(&self, key: &KeyBuf, error: &Error, now: Timestamp, ttl: Duration) {
        if ttl.is_zero() {
            return;
        }
        let mut known = lock(&self.known);
        let mut gone = Vec::new();
        if known.len() >= self.max {
            gone.extend(known.extract_if(|_, failure| !failure.holds(now)));
        }
        let mut replaced = None;
        if known.len() < self.max {
            let failure = Failure {
                error: error.clone(),
                at: now,
                until: now.after(ttl),
            };
            replaced = known.insert(key.clone(), failure);
        }
        self.len.store(known.len(), Ordering::Release);
        drop(known);
        drop((gone, replaced));
    }

    pub(crate) fn clear(&self, key: &str) {
        if self.is_empty() {
            return;
        }
        let mut known = lock(&self.known);
        let gone = known.remove(key);
        self.len.store(known.len(), Ordering::Release);
        drop(known);
        drop(gone);
    }

    fn is_empty(&self) -> bool {
        self.len.load(Ordering::Acquire) == 0
    }

    pub(crate) fn len(&self) -> usize {
        lock(&self.known).len()
    }
}

/// Injected randomness: `SplitMix64` (Steele, Lea, Flood 2014), rolled by any number of threads.
pub(crate) struct Dice(AtomicU64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// A number from 0.0 to 1.0.
    #[allow(clippy::cast_precision_loss)] // 53 bits are kept.
    pub(crate) fn roll(&self) -> f64 {
        const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self
            .0
            .fetch_add(GAMMA, Ordering::Relaxed)
            .wrapping_add(GAMMA);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// An error of the engine's own.
pub(crate) fn refused(kind: ErrorKind, message: &'static str) -> Error {
    Error::new(kind, message)
}
