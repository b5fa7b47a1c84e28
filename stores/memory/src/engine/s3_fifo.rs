//! S3-FIFO, by `quick_cache`.
//!
//! The algorithm is that of "FIFO queues are all you need for cache eviction" (Yang et al., SOSP
//! 2023), here with CLOCK rings for queues.

use larder_store::KeyBuf;
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder, Weighter, sync::Cache};

use super::Gone;
use crate::{config::Limits, entry::Entry};

/// The share of a shard that its main queue may take; the rest is for what comes first.
const HOT_SHARE: f64 = 0.97;

/// The object size from which the length of the history is derived: the engine remembers the
/// hashes of half as many evicted keys as objects of this size would fit.
const OBJECT_TYPICAL: u64 = 1 << 10;

/// More shards than this buy nothing.
const SHARDS_MAX: u64 = 64;

pub(crate) struct S3Fifo(Cache<KeyBuf, Entry, Weights, DefaultHashBuilder, Collect>);

#[derive(Clone)]
struct Weights;

impl Weighter<KeyBuf, Entry> for Weights {
    fn weight(&self, _: &KeyBuf, entry: &Entry) -> u64 {
        entry.weight
    }
}

/// Hands victims and replaced entries to the caller, who drops them when the shard is unlocked.
#[derive(Clone)]
struct Collect;

impl Lifecycle<KeyBuf, Entry> for Collect {
    type RequestState = Vec<(KeyBuf, Entry)>;

    fn on_evict(&self, gone: &mut Self::RequestState, key: KeyBuf, entry: Entry) {
        gone.push((key, entry));
    }
}

impl S3Fifo {
    pub(super) fn new(limits: &Limits) -> Self {
        let layout = Layout::new(limits);
        let items = usize::try_from(limits.capacity / OBJECT_TYPICAL).unwrap_or(usize::MAX);
        let options = OptionsBuilder::new()
            .shards(usize::try_from(layout.shards).expect("at most SHARDS_MAX"))
            .weight_capacity(layout.shards * layout.shard_capacity)
            .hot_allocation(layout.hot_share)
            .estimated_items_capacity(items.max(1))
            .build()
            .expect("both capacities are set");
        let hasher = DefaultHashBuilder::default();
        Self(Cache::with_options(options, Weights, hasher, Collect))
    }

    pub(super) fn get(&self, key: &str) -> Option<Entry> {
        self.0.get(key)
    }

    pub(super) fn peek(&self, key: &str) -> Option<Entry> {
        self.0.peek(key)
    }

    pub(super) fn insert(&self, key: &KeyBuf, entry: Entry) -> Gone {
        let version = entry.version();
        let mut gone = Gone::default();
        let mut left = self.put(key, entry);
        // A key that comes back from the history enters the main queue before room is made, and
        // may be the very entry that the hand picks when all others have been hit. It then leaves
        // no history, so the second time it enters as new, and room is made before.
        let own = left
            .iter()
            .position(|(_, entry)| entry.version() == version);
        if let Some(at) = own {
            let (key, entry) = left.swap_remove(at);
            left.append(&mut self.put(&key, entry));
        }
        for (victim, entry) in left {
            // Under the key itself it is what was replaced, and no eviction, unless it is the new
            // entry again.
            if victim != *key || entry.version() == version {
                gone.evictions += 1;
            }
            gone.entries.push(entry);
        }
        gone
    }

    fn put(&self, key: &KeyBuf, entry: Entry) -> Vec<(KeyBuf, Entry)> {
        let mut left = Vec::new();
        self.0.insert_with_lifecycle(key.clone(), entry, &mut left);
        left
    }

    pub(super) fn remove(&self, key: &str) -> Option<Entry> {
        self.0.remove(key).map(|(_, entry)| entry)
    }

    #[allow(clippy::unused_self)] // Nothing is ever put off here.
    pub(super) fn settle(&self) -> Gone {
        Gone::default()
    }

    pub(super) fn keys(&self, fits: impl Fn(&str, &Entry) -> bool) -> Vec<KeyBuf> {
        self.0
            .iter()
            .filter(|(key, entry)| fits(key, entry))
            .map(|(key, _)| key)
            .collect()
    }

    pub(super) fn clear(&self) {
        // One by one, so that each is dropped when its shard is unlocked.
        self.0.drain().for_each(drop);
    }

    pub(super) fn usage(&self) -> (u64, u64) {
        (self.0.len() as u64, self.0.weight())
    }
}

/// How the capacity is split.
///
/// `quick_cache` gives each shard an equal part, and silently refuses what is heavier than the
/// main queue of one. Hence:
///
/// 1. `shards` times `shard_capacity` is at most the capacity: no rounding up, the cap is a cap.
/// 2. An entry of `entry_max` fits the main queue of any shard.
/// 3. With more than one shard, each has room for two such entries, so that one large object does
///    not sweep a shard.
#[derive(Debug, PartialEq)]
struct Layout {
    shards: u64,
    shard_capacity: u64,
    hot_share: f64,
}

impl Layout {
    fn new(limits: &Limits) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
        let wanted = (threads * 4).next_power_of_two().min(SHARDS_MAX);
        let mut shards = wanted;
        while shards > 1 && limits.capacity / shards < limits.entry_max.saturating_mul(2) {
            shards /= 2;
        }
        let shard_capacity = limits.capacity / shards;
        let hot_share = if main_queue(shard_capacity, HOT_SHARE) >= limits.entry_max {
            HOT_SHARE
        } else {
            1.0
        };
        Self {
            shards,
            shard_capacity,
            hot_share,
        }
    }
}

/// The main queue's part of a shard, as `quick_cache` computes it.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss
)]
fn main_queue(shard_capacity: u64, share: f64) -> u64 {
    (shard_capacity as f64 * share) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_of_the_greatest_size_fits_a_shard() {
        for capacity in [1_000, 4_097, 1 << 20, (64 << 20) + 7, 10 << 30, 1 << 44] {
            for entry_max in [1, capacity / 9, capacity / 2, capacity - 1, capacity] {
                let limits = Limits {
                    capacity,
                    object_max: 1,
                    entry_max: entry_max.max(1),
                    staging_max: capacity,
                    overhead: 0,
                };
                let layout = Layout::new(&limits);
                assert!(layout.shards * layout.shard_capacity <= capacity);
                let room = main_queue(layout.shard_capacity, layout.hot_share);
                assert!(room >= limits.entry_max, "{layout:?} {limits:?}");
            }
        }
    }
}
