//! S3-FIFO, by `quick_cache`.
//!
//! The algorithm is that of "FIFO queues are all you need for cache eviction" (Yang et al., SOSP
//! 2023), here with CLOCK rings for queues, and with a memory of its own for what has left: see
//! [`History`] for what goes on to the main queue, beside what is hit in probation.

use std::{
    hash::BuildHasher,
    sync::{Mutex, MutexGuard, PoisonError},
};

use larder_store::KeyBuf;
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder, Weighter, sync::Cache};

use super::{
    Gone,
    history::{History, Mark, Queue},
};
use crate::{config::Limits, entry::Entry};

/// The share of a shard that its main queue may take; the rest is for what comes first. Less would
/// find less of everything but of what is asked for soonest after it came, which the history sees.
const HOT_SHARE: f64 = 0.98;

/// Bytes of capacity for each slot of the history, which has 8 bytes.
const BYTES_PER_SLOT: u64 = 512;

/// How many objects the engine is told to expect. It makes fewer shards where that is little, and
/// would keep a history in proportion, which is switched off.
const ITEMS: usize = 1 << 16;

/// More shards than this buy nothing.
const SHARDS_MAX: u64 = 64;

pub(crate) struct S3Fifo {
    cache: Cache<KeyBuf, Entry, Weights, DefaultHashBuilder, Collect>,
    hasher: DefaultHashBuilder,
    /// Each has a part of the keys; a lock is held for one call, and no other beneath it.
    histories: Box<[Mutex<History>]>,
}

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
    type RequestState = Vec<Left>;

    fn on_evict_cold(&self, left: &mut Self::RequestState, key: KeyBuf, entry: Entry) {
        left.push(Left {
            key,
            entry,
            from: Queue::Probation,
        });
    }

    fn on_evict_hot(&self, left: &mut Self::RequestState, key: KeyBuf, entry: Entry) {
        left.push(Left {
            key,
            entry,
            from: Queue::Main,
        });
    }
}

/// An entry that was evicted or replaced.
struct Left {
    key: KeyBuf,
    entry: Entry,
    from: Queue,
}

impl S3Fifo {
    pub(super) fn new(limits: &Limits) -> Self {
        let layout = Layout::new(limits);
        let shards = usize::try_from(layout.shards).expect("at most SHARDS_MAX");
        let options = OptionsBuilder::new()
            .shards(shards)
            .weight_capacity(layout.shards * layout.shard_capacity)
            .hot_allocation(layout.hot_share)
            .ghost_allocation(0.0)
            .estimated_items_capacity(ITEMS)
            .build()
            .expect("both capacities are set");
        let hasher = DefaultHashBuilder::default();
        let slots = limits.capacity / BYTES_PER_SLOT / layout.shards;
        let slots = usize::try_from(slots).unwrap_or(usize::MAX / 2);
        let history = || Mutex::new(History::new(slots));
        Self {
            cache: Cache::with_options(options, Weights, hasher.clone(), Collect),
            hasher,
            histories: std::iter::repeat_with(history).take(shards).collect(),
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<Entry> {
        self.cache.get(key)
    }

    pub(super) fn peek(&self, key: &str) -> Option<Entry> {
        self.cache.peek(key)
    }

    pub(super) fn insert(&self, key: &KeyBuf, entry: Entry) -> Gone {
        let version = entry.version();
        let mut gone = Gone::default();
        let (mut history, mark) = self.history(key);
        let keep = history.enter(mark, entry.weight);
        drop(history);
        let mut left = self.put(key, entry);
        // What replaces a lighter entry takes its place before room is made, and may be the very
        // one that the hand picks when all others have been hit. The second time it enters as new,
        // and room is made before.
        let own = left.iter().position(|left| left.entry.version() == version);
        if let Some(at) = own {
            let own = left.swap_remove(at);
            left.append(&mut self.put(&own.key, own.entry));
        }
        if keep {
            // Counted as used, it goes on to the main queue.
            drop(self.cache.get(&**key));
        }
        for left in left {
            let (mut history, mark) = self.history(&left.key);
            // Under the key itself it is what was replaced, and no eviction, unless it is the new
            // entry again.
            if left.key != *key || left.entry.version() == version {
                history.evict(mark, left.entry.weight, left.from);
                gone.evictions += 1;
            } else {
                history.forget(left.entry.weight);
            }
            drop(history);
            gone.entries.push(left.entry);
        }
        gone
    }

    fn put(&self, key: &KeyBuf, entry: Entry) -> Vec<Left> {
        let mut left = Vec::new();
        self.cache
            .insert_with_lifecycle(key.clone(), entry, &mut left);
        left
    }

    pub(super) fn remove(&self, key: &str) -> Option<Entry> {
        let (_, entry) = self.cache.remove(key)?;
        self.history(key).0.forget(entry.weight);
        Some(entry)
    }

    fn history(&self, key: &str) -> (MutexGuard<'_, History>, Mark) {
        let mark = Mark::new(self.hasher.hash_one(key));
        let history = &self.histories[mark.part(self.histories.len())];
        let history = history.lock().unwrap_or_else(PoisonError::into_inner);
        (history, mark)
    }

    #[allow(clippy::unused_self)] // Nothing is ever put off here.
    pub(super) fn settle(&self) -> Gone {
        Gone::default()
    }

    pub(super) fn keys(&self, fits: impl Fn(&str, &Entry) -> bool) -> Vec<KeyBuf> {
        self.cache
            .iter()
            .filter(|(key, entry)| fits(key, entry))
            .map(|(key, _)| key)
            .collect()
    }

    pub(super) fn clear(&self) {
        // One by one, so that each is dropped when its shard is unlocked.
        self.cache.drain().for_each(drop);
        for history in &self.histories {
            let mut history = history.lock().unwrap_or_else(PoisonError::into_inner);
            history.clear();
        }
    }

    pub(super) fn usage(&self) -> (u64, u64) {
        (self.cache.len() as u64, self.cache.weight())
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
