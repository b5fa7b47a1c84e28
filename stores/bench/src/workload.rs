//! What is asked of a store: how often, of which keys, of what size.

use std::{sync::Arc, time::Duration};

use crate::Trace;

/// One run's worth of operations.
///
/// ```
/// use larder_bench::{Popularity, Workload};
///
/// let workload = Workload::read_mostly()
///     .popularity(Popularity::Zipf { keys: 10_000, exponent: 0.9 })
///     .tasks(16);
/// assert!(workload.check().is_ok());
/// ```
#[derive(Clone, Debug)]
pub struct Workload {
    /// The name that reports show.
    pub name: String,
    /// Which keys are asked for.
    pub popularity: Popularity,
    /// How long the objects are.
    pub sizes: Sizes,
    /// What is done with a key.
    pub mix: Mix,
    /// How many operations are under way at once, at most 100,000.
    pub tasks: usize,
    /// Operations a second that begin, whether or not earlier ones have ended, as long as there is
    /// a task for them; `None` begins each when the one before has ended.
    pub rate: Option<f64>,
    /// When it is over.
    pub length: Length,
    /// What is done first and not counted. It also shows whether operations are so fast that only
    /// some may be timed; without it each is.
    pub warm_up: Length,
    /// Whether every key is written before the warm-up.
    pub preload: bool,
    /// What the random numbers begin with: the same seed gives the same operations.
    pub seed: u64,
}

/// Which keys are asked for.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Popularity {
    /// Each of so many as often as any other.
    Uniform {
        /// How many there are.
        keys: usize,
    },
    /// The n-th of so many in proportion to `1 / n^exponent`.
    Zipf {
        /// How many there are.
        keys: usize,
        /// The exponent, above zero.
        exponent: f64,
    },
    /// Each of so many in turn.
    Scan {
        /// How many there are.
        keys: usize,
    },
    /// As this trace has them, from its start again when it ends.
    Trace(Arc<Trace>),
}

/// How long objects are, in bytes. Each key has one length.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Sizes {
    /// All the same.
    Fixed(u64),
    /// Log-normal around this median, cut off at `max`.
    LogNormal {
        /// Half of them are shorter.
        median: u64,
        /// The standard deviation of their logarithm.
        sigma: f64,
        /// None is longer.
        max: u64,
    },
    /// As services have them: nine in ten around 4 KiB, most others around 64 KiB, one in a
    /// hundred around 1 MiB.
    ProdLike,
    /// As the trace says; what has no size there has this one.
    Trace(u64),
}

/// What is done with a key: in parts of the whole.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mix {
    /// Reads, to the end of the body.
    pub reads: f64,
    /// Sets of the whole object.
    pub writes: f64,
    /// Deletes.
    pub deletes: f64,
    /// Whether a read that misses sets the object, as a cache does.
    pub fill: bool,
}

/// How long something goes on.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Length {
    /// So many operations, all tasks together.
    Count(u64),
    /// So long.
    Duration(Duration),
}

impl Workload {
    fn new(name: &str, mix: Mix) -> Self {
        Self {
            name: name.to_owned(),
            popularity: Popularity::Zipf {
                keys: 10_000,
                exponent: 0.9,
            },
            sizes: Sizes::Fixed(4 << 10),
            mix,
            tasks: 1,
            rate: None,
            length: Length::Duration(Duration::from_secs(5)),
            warm_up: Length::Duration(Duration::from_secs(1)),
            preload: true,
            seed: 1,
        }
    }

    /// 95 reads to 5 writes; a read that misses fills.
    pub fn read_mostly() -> Self {
        Self::new("read-mostly", Mix::of(0.95, 0.05, 0.0).fill(true))
    }

    /// Nothing but writes, of keys that follow each other.
    pub fn write_burst() -> Self {
        let mut workload = Self::new("write-burst", Mix::of(0.0, 1.0, 0.0));
        workload.popularity = Popularity::Scan { keys: 100_000 };
        workload.preload = false;
        workload
    }

    /// Half reads, and the rest writes and some deletes.
    pub fn mixed() -> Self {
        Self::new("mixed", Mix::of(0.5, 0.4, 0.1).fill(true))
    }

    /// Reads of one key after the other, filling.
    pub fn scan() -> Self {
        let mut workload = Self::new("scan", Mix::of(1.0, 0.0, 0.0).fill(true));
        workload.popularity = Popularity::Scan { keys: 100_000 };
        workload.preload = false;
        workload
    }

    /// Reads and some writes of few objects of 64 MiB.
    pub fn large_streams() -> Self {
        let mut workload = Self::new("large-streams", Mix::of(0.9, 0.1, 0.0).fill(true));
        workload.popularity = Popularity::Uniform { keys: 8 };
        workload.sizes = Sizes::Fixed(64 << 20);
        workload.tasks = 4;
        workload
    }

    /// Everybody reads one key, which now and then is replaced.
    pub fn stampede() -> Self {
        let mut workload = Self::new("stampede", Mix::of(0.999, 0.001, 0.0).fill(true));
        workload.popularity = Popularity::Uniform { keys: 1 };
        workload.tasks = 64;
        workload
    }

    /// Reads and fills of objects of the lengths that services have.
    pub fn prod_like() -> Self {
        let mut workload = Self::new("prod-like", Mix::of(0.98, 0.015, 0.005).fill(true));
        workload.sizes = Sizes::ProdLike;
        workload.tasks = 16;
        workload
    }

    /// The names of the ready-made workloads.
    pub const NAMES: [&str; 7] = [
        "read-mostly",
        "write-burst",
        "mixed",
        "scan",
        "large-streams",
        "stampede",
        "prod-like",
    ];

    /// The ready-made workload of this name.
    pub fn by_name(name: &str) -> Option<Self> {
        let make = match name {
            "read-mostly" => Self::read_mostly,
            "write-burst" => Self::write_burst,
            "mixed" => Self::mixed,
            "scan" => Self::scan,
            "large-streams" => Self::large_streams,
            "stampede" => Self::stampede,
            "prod-like" => Self::prod_like,
            _ => return None,
        };
        Some(make())
    }

    /// Changes which keys are asked for.
    #[must_use]
    pub fn popularity(mut self, popularity: Popularity) -> Self {
        self.popularity = popularity;
        self
    }

    /// Changes how long objects are.
    #[must_use]
    pub fn sizes(mut self, sizes: Sizes) -> Self {
        self.sizes = sizes;
        self
    }

    /// Changes how many operations are under way at once.
    #[must_use]
    pub fn tasks(mut self, tasks: usize) -> Self {
        self.tasks = tasks;
        self
    }

    /// Changes when it is over.
    #[must_use]
    pub fn length(mut self, length: Length) -> Self {
        self.length = length;
        self
    }

    /// Changes how much is done first and not counted.
    #[must_use]
    pub fn warm_up(mut self, length: Length) -> Self {
        self.warm_up = length;
        self
    }

    /// Says what makes no sense.
    pub fn check(&self) -> Result<(), String> {
        let keys = self.popularity.keys();
        if matches!(&self.popularity, Popularity::Trace(trace) if trace.order().is_empty()) {
            return Err("the trace is empty".to_owned());
        }
        if keys == 0 || keys > KEYS_MAX {
            return Err(format!("{keys} keys are not between 1 and {KEYS_MAX}"));
        }
        if self.tasks == 0 || self.tasks > TASKS_MAX {
            let tasks = self.tasks;
            return Err(format!("{tasks} tasks are not between 1 and {TASKS_MAX}"));
        }
        if let Popularity::Zipf { exponent, .. } = self.popularity
            && !(exponent > 0.0 && exponent.is_finite())
        {
            return Err(format!("a zipf exponent of {exponent} is not above zero"));
        }
        if let Some(rate) = self.rate
            && !(RATE_MIN..=RATE_MAX).contains(&rate)
        {
            return Err(format!(
                "a rate of {rate} a second is not between {RATE_MIN} and {RATE_MAX}"
            ));
        }
        let Mix {
            reads,
            writes,
            deletes,
            ..
        } = self.mix;
        let parts = [reads, writes, deletes];
        let sum: f64 = parts.iter().sum();
        let bad = |part: &f64| part.is_nan() || *part < 0.0;
        if parts.iter().any(bad) || !sum.is_normal() {
            return Err("the parts of the mix are not numbers from zero up".to_owned());
        }
        Ok(())
    }
}

const KEYS_MAX: usize = 100_000_000;
const TASKS_MAX: usize = 100_000;
const RATE_MIN: f64 = 1e-3;
const RATE_MAX: f64 = 1e8;

impl Popularity {
    /// How many keys there are.
    pub fn keys(&self) -> usize {
        match self {
            Self::Uniform { keys } | Self::Zipf { keys, .. } | Self::Scan { keys } => *keys,
            Self::Trace(trace) => trace.keys().len(),
        }
    }

    /// The same with so many keys; a trace keeps its own.
    #[must_use]
    pub fn with_keys(self, keys: usize) -> Self {
        match self {
            Self::Uniform { .. } => Self::Uniform { keys },
            Self::Zipf { exponent, .. } => Self::Zipf { keys, exponent },
            Self::Scan { .. } => Self::Scan { keys },
            Self::Trace(trace) => Self::Trace(trace),
        }
    }
}

impl Mix {
    /// These parts of the whole; a read that misses does nothing more.
    pub const fn of(reads: f64, writes: f64, deletes: f64) -> Self {
        Self {
            reads,
            writes,
            deletes,
            fill: false,
        }
    }

    /// Whether a read that misses sets the object.
    #[must_use]
    pub const fn fill(mut self, fill: bool) -> Self {
        self.fill = fill;
        self
    }
}
