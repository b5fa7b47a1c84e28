//! What happened, in numbers, since the cache was built.

use crate::sync::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Counts of what happened in the whole cache since it was built.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)*
        }

        #[derive(Default)]
        pub(crate) struct Counts {
            $(pub(crate) $name: AtomicU64,)*
        }

        impl Counts {
            pub(crate) fn snapshot(&self) -> Counters {
                Counters { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Reads that no tier could answer and that had a fetcher.
    misses,
    /// Reads that shared the flight of another.
    joined,
    /// Reads that were answered with a stale object.
    stale,
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

macro_rules! tier_counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Counts of what happened in one tier since the cache was built.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct TierCounters {
            $($(#[$doc])* pub $name: u64,)*
        }

        #[derive(Debug, Default)]
        pub(crate) struct TierCounts {
            $(pub(crate) $name: AtomicU64,)*
        }

        impl TierCounts {
            pub(crate) fn snapshot(&self) -> TierCounters {
                TierCounters { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }
    };
}

tier_counters! {
    /// Reads that found their object here.
    hits,
    /// Objects published here after a fetch or a hit lower down.
    fills,
    /// Objects that were not published because something newer was there.
    superseded,
    /// Objects refused as too large, or because there was no room.
    refused,
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

/// Adds one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
