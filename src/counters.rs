//! What happened, in numbers, since the cache was built.

use std::{cell::Cell, ops::Deref, sync::atomic::AtomicUsize};

use crate::sync::{AtomicU64, Ordering};

/// How many copies there are of the counts of one cache. Two threads that raise one number take its
/// line of the processor's cache from each other, at each hit.
const COPIES: usize = 8;

/// Counts in copies, of which each thread raises its own: it is what this dereferences to.
#[derive(Debug, Default)]
pub(crate) struct Striped<T>([Line<T>; COPIES]);

/// Two lines, since processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Line<T>(T);

impl<T> Striped<T> {
    fn sum(&self, count: impl Fn(&T) -> &AtomicU64) -> u64 {
        let counts = self.0.iter().map(|line| count(&line.0));
        counts.map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

impl<T> Deref for Striped<T> {
    type Target = T;

    fn deref(&self) -> &T {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local!(static COPY: Cell<usize> = const { Cell::new(usize::MAX) });
        let copy = COPY.with(|copy| {
            if copy.get() == usize::MAX {
                copy.set(THREADS.fetch_add(1, Ordering::Relaxed));
            }
            copy.get()
        });
        &self.0[copy % COPIES].0
    }
}

macro_rules! counters {
    ($of:literal, $public:ident, $counts:ident, $copy:ident:
        $($(#[$doc:meta])* $name:ident),* $(,)?) => {
        #[doc = concat!("Counts of what happened in ", $of, " since the cache was built.")]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct $public {
            $($(#[$doc])* pub $name: u64,)*
        }

        #[derive(Debug, Default)]
        pub(crate) struct $copy {
            $(pub(crate) $name: AtomicU64,)*
        }

        pub(crate) type $counts = Striped<$copy>;

        impl Striped<$copy> {
            pub(crate) fn snapshot(&self) -> $public {
                $public { $($name: self.sum(|copy| &copy.$name),)* }
            }
        }

        impl $public {
            /// The counts since an earlier snapshot of the same counters.
            #[must_use]
            pub fn since(&self, earlier: &Self) -> Self {
                Self { $($name: self.$name.saturating_sub(earlier.$name),)* }
            }
        }
    };
}

counters! { "the whole cache", Counters, Counts, CountsCopy:
    /// Reads that a tier answered, also with a stale object or with an absence that it remembers:
    /// the sum of its tiers' [`hits`](TierCounters::hits).
    hits,
    /// Reads that a fetch answered, their own or one that they shared; "not modified" among them.
    misses,
    /// Reads without a fetcher that found no object which they accept.
    not_found,
    /// Reads that ended with an error.
    failed,
    /// Reads that were dropped before they had their answer.
    cancelled,
    /// Of all these, reads that shared the flight of another.
    joined,
    /// Of the hits, reads that were answered with a stale object.
    stale,
    /// Bytes of the bodies that hits were given: the sum of the tiers'
    /// [`hit_bytes`](TierCounters::hit_bytes).
    hit_bytes,
    /// Bytes of the bodies that misses were given. A body of unknown length counts as it is read,
    /// every other when it is given.
    miss_bytes,
    /// Fetchers that were run.
    fetches,
    /// Fetchers that failed, panicked or ran out of time.
    fetch_errors,
    /// Fetchers that said "not modified".
    revalidated,
    /// Reads that were given an earlier fetch's error, see `error_ttl`.
    error_hits,
    /// Flights that could not start because there were too many.
    flights_refused,
    /// Flights given up because everyone had left.
    flights_abandoned,
    /// Flights that ended after a newer write, delete or refresh, and published nothing.
    flights_retired,
    /// Leases that this cache was given, see [`Builder::leases`](crate::Builder::leases).
    leases_granted,
    /// Fetches that were spared because the holder of the lease had stored the object.
    leases_followed,
    /// Fetches without a lease because another held it for too long.
    leases_timed_out,
    /// Leases that were lost before their fetch was stored.
    leases_lost,
    /// Messages that the bus took, beats among them, see [`Builder::bus`](crate::Builder::bus).
    bus_published,
    /// Messages of others that the bus gave.
    bus_received,
    /// Times that something may have been missed on the bus: what the private tiers held then is
    /// checked before it is served.
    bus_gaps,
    /// Writes, deletes and clears that returned before the bus had taken their message.
    bus_late,
    /// Entries of private tiers that were checked because something may have been missed.
    bus_checked,
    /// Background refreshes that ran.
    refreshes,
    /// Background refreshes dropped because the queue was full.
    refreshes_dropped,
    /// Background jobs that panicked.
    background_panics,
    /// Bytes written to spill files.
    spilled_bytes,
    /// Flights whose spill file could not be written, or reached its limit.
    spill_refused,
    /// Readers that were cut because they held up a flight for too long.
    readers_cut,
    /// Writes queued for tiers that are written behind.
    behind_queued,
    /// Writes that the queue for tiers written behind had no room for.
    behind_dropped,
    /// Keys that are suspect in some tier now or were.
    suspects,
}

counters! { "one tier", TierCounters, TierCounts, TierCountsCopy:
    /// Reads that were answered from here, stale objects and remembered absences among them.
    hits,
    /// Bytes of the bodies that those were given.
    hit_bytes,
    /// Objects published here after a fetch or a hit lower down.
    fills,
    /// Objects that were not published because something newer was there.
    superseded,
    /// Objects refused as too large, or because there was no room. That is no failure.
    refused,
    /// Those among the refused that are above the limit of the tier or of its store, counted each
    /// time that they would have been stored here.
    too_large,
    /// Operations that failed.
    errors,
    /// Operations that ran out of time.
    timeouts,
    /// Operations that were not tried because the store was away, see [`Breaker`](crate::Breaker).
    spared,
    /// Writers that were given up because they stalled.
    stalls,
    /// Objects whose metadata was renewed.
    touched,
}

impl Counters {
    /// Every read since the cache was built that has ended, counted once by how it ended.
    pub fn reads(&self) -> u64 {
        self.hits + self.misses + self.not_found + self.failed + self.cancelled
    }

    /// The share of reads that a tier answered, from 0.0 to 1.0, of all that got an answer or an
    /// error; 0.0 before the first. Reads that were dropped before that do not count.
    pub fn hit_ratio(&self) -> f64 {
        ratio(
            self.hits,
            self.hits + self.misses + self.not_found + self.failed,
        )
    }

    /// The share of bytes that came from a tier, from 0.0 to 1.0; 0.0 before the first.
    pub fn byte_hit_ratio(&self) -> f64 {
        ratio(self.hit_bytes, self.hit_bytes + self.miss_bytes)
    }
}

#[allow(clippy::cast_precision_loss)] // A share, not a count.
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

/// Adds this many.
#[inline]
pub(crate) fn add(counter: &AtomicU64, many: u64) {
    counter.fetch_add(many, Ordering::Relaxed);
}

/// Adds one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn what_many_threads_count_is_one_number() {
        let counts = TierCounts::default();
        std::thread::scope(|scope| {
            for _ in 0..3 * COPIES {
                scope.spawn(|| {
                    count(&counts.hits);
                    count(&counts.fills);
                    count(&counts.hits);
                });
            }
        });
        let threads = 3 * COPIES as u64;
        let all = counts.snapshot();
        assert_eq!((all.hits, all.fills), (2 * threads, threads));
        count(&counts.hits);
        let later = counts.snapshot().since(&all);
        assert_eq!((later.hits, later.fills), (1, 0));
        let used = counts
            .0
            .iter()
            .filter(|line| line.0.hits.load(Ordering::Relaxed) > 0);
        assert!(used.count() > 1, "not all of them raise the same");
    }
}
