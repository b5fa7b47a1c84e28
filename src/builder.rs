//! Tiers and settings into a cache.

mod check;
#[cfg(all(test, not(shuttle)))]
mod tests;

use std::{
    hash::{BuildHasher, RandomState},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use larder_store::{Error, ErrorKind, Result, Store};
use tokio::{runtime::Handle, sync::Semaphore};

use crate::{
    behind::Behind,
    bus::Bus,
    cache::Cache,
    clock::{Clock, SystemClock},
    counters::Counts,
    engine::{Dice, Engine, Failures, OnAbandon, Settings},
    lease::Leases,
    policy::Policy,
    read::{flights::Flights, promote::SecondHits, spill::SpillSpace, spool::SpoolLimits},
    runtime::Runtime,
    suspects::Suspects,
    sync::AtomicBool,
    tasks::{Pool, Tasks},
    tier::{Place, Tier},
    turns::Turns,
};

/// A cache being configured, see [`Cache::builder`].
#[derive(Debug)]
#[must_use]
pub struct Builder {
    tiers: Vec<Tier>,
    policy: Policy,
    settings: Settings,
    clock: Arc<dyn Clock>,
    runtime: Option<Handle>,
    seed: Option<u64>,
    leases: Option<Arc<dyn Store>>,
    bus: Option<Arc<dyn Store>>,
    process: Option<Arc<str>>,
}

/// More tiers than this are a mistake; suspects keep a bit for each.
const TIERS_MAX: usize = 16;

const DAY: Duration = Duration::from_secs(24 * 3600);

impl Default for Settings {
    fn default() -> Self {
        Self {
            spool: SpoolLimits {
                memory: 1 << 20,
                disk: 4 << 30,
            },
            spool_memory_total: 256 << 20,
            spool_disk_total: 16 << 30,
            spool_dir: std::env::temp_dir(),
            flights_max: 65_536,
            fetches_max: 1024,
            fetch_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(30),
            close_timeout: Duration::from_secs(10),
            refreshes_max: 64,
            refresh_queue_max: 1024,
            behind_max: 16,
            behind_queue_max: 4096,
            behind_bytes_max: 64 << 20,
            suspects_max: 65_536,
            failures_max: 65_536,
            lease_ttl: Duration::from_secs(5),
            lease_wait: Duration::from_secs(5),
            bus_bound: Duration::from_secs(5),
            on_abandon: OnAbandon::Finish,
        }
    }
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self {
            tiers: Vec::new(),
            policy: Policy::new(),
            settings: Settings::default(),
            clock: Arc::new(SystemClock),
            runtime: None,
            seed: None,
            leases: None,
            bus: None,
            process: None,
        }
    }

    /// Adds a tier below those added before: the hottest comes first.
    pub fn tier(mut self, tier: impl Into<Tier>) -> Self {
        self.tiers.push(tier.into());
        self
    }

    /// The lifetimes that hold where neither request nor fetch result decides.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// The clock that stamps and judges objects. Default: the system's.
    ///
    /// Stores have clocks of their own, by which they drop what has expired: give a memory store
    /// the same one, or a clock that stands in the past makes it drop everything at once.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// The runtime of the cache: its tasks run there, and all its timers and blocking steps are that
    /// runtime's, so that a caller may poll the cache in another runtime or in none. It needs timers
    /// (`enable_time`). Default: the one that `build` is called in.
    ///
    /// When it ends the cache is closed: verbs give [`Closed`](ErrorKind::Closed), and a body that
    /// would need it ends in an error.
    pub fn runtime(mut self, runtime: Handle) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// The seed of the jitter. Default: taken from the system.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// The window in memory of one flight, in bytes, at least 128 KiB. Default 1 MiB.
    ///
    /// The window copies chunks below 16 KiB into blocks of its own, so that a slice of a large
    /// buffer does not keep that buffer in memory. A larger chunk is kept as the source gave it and
    /// counts as long as it is: the buffer is the source's, and to copy it would cost more than it
    /// saves. A source that gives slices of 16 KiB or more should let them be most of their buffers.
    ///
    /// A request for the last `n` bytes of an object of unknown length keeps `n` bytes in the
    /// window. Where no tier stages the object and nothing can be spilled, a request for more than
    /// the window is refused as `TooLarge`.
    pub fn spool_memory(mut self, bytes: u64) -> Self {
        self.settings.spool.memory = bytes;
        self
    }

    /// The windows of all flights together, in bytes. Default 256 MiB.
    ///
    /// A flight that finds no memory left spills what its readers still need of its window.
    pub fn spool_memory_total(mut self, bytes: u64) -> Self {
        self.settings.spool_memory_total = bytes;
        self
    }

    /// The most that one flight may spill to a file, in bytes; zero spills nothing. Default 4 GiB.
    ///
    /// A flight spills only bytes that no tier stages, and only if a reader lags by more than a
    /// window. Each step on the file has one second, or a quarter of the idle time-out where that is
    /// shorter. When the file fails, is late or is full, the slowest reader sets the pace.
    pub fn spool_disk_max(mut self, bytes: u64) -> Self {
        self.settings.spool.disk = bytes;
        self
    }

    /// The most that the spill files of all flights may take together, in bytes. A flight that finds
    /// no room goes on as if its own file were full. A file gives its bytes back when the flight and
    /// its last lagging reader have ended. Default 16 GiB.
    pub fn spool_disk_total(mut self, bytes: u64) -> Self {
        self.settings.spool_disk_total = bytes;
        self
    }

    /// Where spill files are made, a folder that exists and can be written; `build` makes a file
    /// there and removes it. Where nothing is spilled, see [`spool_disk_max`](Self::spool_disk_max),
    /// it need not be writable. Default: the system's folder for temporary files.
    pub fn spool_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.settings.spool_dir = dir.into();
        self
    }

    /// How many flights may be under way; a read that would start one more is refused as `Full`.
    /// Default 65,536.
    pub fn flights_max(mut self, flights: usize) -> Self {
        self.settings.flights_max = flights;
        self
    }

    /// How many fetches may run at once; others wait, within their time-out. Default 1,024.
    pub fn fetches_max(mut self, fetches: usize) -> Self {
        self.settings.fetches_max = fetches;
        self
    }

    /// How long a fetcher may take until it gives its answer, the wait for its turn included; its
    /// body is bounded by the idle time-out. Default 30 s.
    pub fn fetch_timeout(mut self, timeout: Duration) -> Self {
        self.settings.fetch_timeout = timeout;
        self
    }

    /// How long a source, or a body that comes straight from a tier, may give nothing, and how long
    /// a reader may hold up its flight. Default 30 s.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.settings.idle_timeout = timeout;
        self
    }

    /// How long `close` waits for work under way; each store then has as long again, or its tier's
    /// time-out where that is shorter. Default 10 s.
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.settings.close_timeout = timeout;
        self
    }

    /// How many background refreshes run at once, and how many may be queued or running.
    /// Default 64 and 1,024.
    pub fn refreshes(mut self, running_max: usize, queue_max: usize) -> Self {
        self.settings.refreshes_max = running_max;
        self.settings.refresh_queue_max = queue_max;
        self
    }

    /// How many keys, and how many bytes, may wait to be written behind. Default 4,096 and 64 MiB.
    pub fn behind_queue(mut self, keys_max: usize, bytes_max: u64) -> Self {
        self.settings.behind_queue_max = keys_max;
        self.settings.behind_bytes_max = bytes_max;
        self
    }

    /// How many writes behind run at once. Default 16.
    pub fn behind_max(mut self, writes: usize) -> Self {
        self.settings.behind_max = writes;
        self
    }

    /// How many keys' failed fetches are remembered for their `error_ttl`. Default 65,536.
    pub fn failures_max(mut self, keys: usize) -> Self {
        self.settings.failures_max = keys;
        self
    }

    /// How many suspect keys are remembered before a tier is distrusted as a whole.
    /// Default 65,536.
    pub fn suspects_max(mut self, keys: usize) -> Self {
        self.settings.suspects_max = keys;
        self
    }

    /// Makes a miss in several processes one fetch: who fetches first takes a lease of this store,
    /// as a rule the shared tier itself, see [`Lease`](larder_store::Lease). The others serve stale
    /// where they may, or wait until the shared tier has the object, at most
    /// [`lease_wait`](Self::lease_wait). Where the store does not answer they fetch.
    ///
    /// An answer that no shared tier keeps (`no_store`, too large) is fetched by each process; after
    /// the first time they do not wait for each other. An explicit
    /// [`refresh`](crate::Cache::refresh) never waits.
    ///
    /// A tier that gives the leases is [`shared`](Tier::shared) and not written behind: the others
    /// look there. A store that is not a tier is closed with the cache.
    pub fn leases(mut self, store: impl Store) -> Self {
        self.leases = Some(Arc::new(store));
        self
    }

    /// How long a lease lasts; it is renewed at each third of it while the fetch is under way. A
    /// process that dies keeps others waiting this long at most. From 10 ms to an hour.
    /// Default 5 s.
    pub fn lease_ttl(mut self, ttl: Duration) -> Self {
        self.settings.lease_ttl = ttl;
        self
    }

    /// How long a fetch waits, in all, for another process that holds the lease; then it goes on
    /// without. At most a day. Default 5 s.
    pub fn lease_wait(mut self, wait: Duration) -> Self {
        self.settings.lease_wait = wait;
        self
    }

    /// What this process is called where others are told who holds a lease, at most 256 bytes.
    /// Default: the process id.
    pub fn process(mut self, name: impl Into<Arc<str>>) -> Self {
        self.process = Some(name.into());
        self
    }

    /// Follows what other processes write, delete, clear and refresh, and tells them what this one
    /// does: a key that one of them names is deleted in the private tiers here, those that are not
    /// [`shared`](Tier::shared). The store carries the messages, as a rule the shared tier itself.
    ///
    /// Where messages may have been missed, what the private tiers hold is checked before it is
    /// served: in a shared tier, or at the origin with its validators; a `get` that finds it in no
    /// shared tier finds nothing. That holds until the bus was reached, too. Fills of misses and
    /// refreshes behind are not told: what they replace is bounded by its lifetimes.
    ///
    /// A store that is not a tier is closed with the cache.
    pub fn bus(mut self, store: impl Store) -> Self {
        self.bus = Some(Arc::new(store));
        self
    }

    /// No private tier serves an entry later than this after another process's delete or `clear` of
    /// it succeeded, whatever the bus loses, repeats or holds up; as a rule it is gone within the time
    /// that a message takes. So it is for a write that the shared tiers and the bus took; one succeeds
    /// where any tier did. What the bus may not do is hold back one publisher's messages alone.
    /// Shorter bounds cost more messages, five in each, and suffer less delay: a fifth of it. From
    /// 100 ms to a day. Default 5 s.
    pub fn bus_bound(mut self, bound: Duration) -> Self {
        self.settings.bus_bound = bound;
        self
    }

    /// What becomes of a flight that everyone has left. Default: it is finished.
    pub fn on_abandon(mut self, what: OnAbandon) -> Self {
        self.settings.on_abandon = what;
        self
    }

    /// Builds the cache. A time-out above ten years counts as ten years, and a limit above what a
    /// semaphore counts as that, so the largest number stands for "no limit".
    ///
    /// # Errors
    ///
    /// `Invalid` without a tier or with too many (16), with a store given twice, with a first tier
    /// that is written behind, with limits of zero, with lifetimes that contradict
    /// ([`Policy::check`]), with a [`spool_dir`](Self::spool_dir) that does not exist or cannot be
    /// written, outside of a runtime when none was given, and with a runtime that has no timers or
    /// has ended.
    pub fn build(self) -> Result<Cache> {
        let this = self.checked()?;
        let runtime = match this.runtime {
            Some(runtime) => runtime,
            None => Handle::try_current().map_err(|error| {
                let message = "a cache is built within a tokio runtime, or given one";
                Error::with_source(ErrorKind::Invalid, message, error)
            })?,
        };
        let runtime = Runtime::new(runtime)?;
        let mut settings = this.settings;
        // Later the working directory does not matter.
        if let Ok(dir) = std::path::absolute(&settings.spool_dir) {
            settings.spool_dir = dir;
        }
        let seed = this.seed.unwrap_or_else(|| RandomState::new().hash_one(0));
        let tiers = this.tiers.into_iter().zip(0_u64..);
        #[allow(clippy::cast_possible_truncation)] // At most `TIERS_MAX`.
        let place = |(tier, index)| Place::new(index as usize, tier, &runtime, seed ^ index);
        let tiers: Box<[Place]> = tiers.map(place).collect();
        let leases = this.leases.map(|store| {
            let identity = store.identity();
            let is_same = |place: &Place| place.store().identity() == identity;
            let tier = tiers.iter().position(is_same);
            let apart = Tier::new(store).shared();
            let place = || Place::new(TIERS_MAX, apart, &runtime, seed ^ TIERS_MAX as u64);
            let pid = || std::process::id().to_string().into();
            let who = this.process.unwrap_or_else(pid);
            let own = tier.is_none().then(place);
            Leases::new(tier, own, who, settings.lease_ttl, settings.lease_wait)
        });
        let bus = this.bus.map(|store| {
            let identity = store.identity();
            let is_tier = tiers
                .iter()
                .any(|place| place.store().identity() == identity);
            let tier = Tier::new(store).name("bus");
            let place = Place::new(TIERS_MAX + 1, tier, &runtime, seed);
            // It takes the time.
            let _entered = runtime.enter();
            Bus::new(place, is_tier, settings.bus_bound, this.clock.now())
        });
        let counts = Arc::new(Counts::default());
        let memory = usize::try_from(settings.spool_memory_total >> 10).unwrap_or(usize::MAX);
        Cache::new(Engine {
            order: commit_order(&tiers),
            policy: this.policy,
            clock: this.clock,
            flights: Flights::new(settings.flights_max),
            turns: Turns::new(),
            suspects: Suspects::new(tiers.len(), settings.suspects_max),
            failures: Failures::new(settings.failures_max),
            second_hits: SecondHits::new(),
            leases,
            bus,
            behind: Behind::new(
                settings.behind_max,
                settings.behind_queue_max,
                settings.behind_bytes_max,
            ),
            tasks: Tasks::new(runtime.clone(), Arc::clone(&counts)),
            refreshes: Pool::new(settings.refreshes_max, settings.refresh_queue_max),
            fetches: Arc::new(Semaphore::new(settings.fetches_max)),
            memory: Arc::new(Semaphore::new(memory.clamp(1, Semaphore::MAX_PERMITS))),
            spill: Arc::new(SpillSpace::new(runtime.clone(), &settings)),
            closed: AtomicBool::new(false),
            dice: Dice::new(seed),
            counts,
            settings,
            tiers,
        })
    }
}

/// Shared tiers before private ones, bottom-up, tier 0 last of all.
fn commit_order(tiers: &[Place]) -> Box<[usize]> {
    let mut order: Vec<usize> = (0..tiers.len()).rev().collect();
    order.sort_by_key(|&index| (index == 0, !tiers[index].tier.shared));
    order.into()
}
