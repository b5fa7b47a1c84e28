//! W-TinyLFU and LRU, by `moka`.
//!
//! W-TinyLFU is described in "`TinyLFU`: A Highly Efficient Cache Admission Policy" (Einziger,
//! Friedman, Manes, 2017).
//!
//! `moka` puts inserts off and evicts later, so that a cap in bytes would be overshot threefold.
//! [`Moka::settle`] makes it catch up after each insert. What leaves passes through its eviction
//! listener into a queue, which `settle` empties.

use std::sync::{Arc, Mutex, PoisonError};

use larder_store::KeyBuf;
use moka::{
    notification::RemovalCause,
    policy::EvictionPolicy,
    sync::{Cache, CacheBuilder},
};

use super::Gone;
use crate::{
    config::{Eviction, Limits},
    entry::Entry,
};

/// How often `settle` asks for more before it leaves the rest to the next insert. Once is enough
/// unless other threads write at the same moment.
const ROUNDS_MAX: usize = 16;

pub(crate) struct Moka {
    cache: Cache<KeyBuf, Entry>,
    left: Arc<Mutex<Gone>>,
    capacity: u64,
}

impl Moka {
    pub(super) fn new(policy: Eviction, limits: &Limits) -> Self {
        let left = Arc::new(Mutex::new(Gone::default()));
        let queue = Arc::clone(&left);
        let policy = match policy {
            Eviction::Lru => EvictionPolicy::lru(),
            _ => EvictionPolicy::tiny_lfu(),
        };
        let cache = CacheBuilder::new(limits.capacity)
            .eviction_policy(policy)
            .weigher(|_: &KeyBuf, entry: &Entry| u32::try_from(entry.weight).unwrap_or(u32::MAX))
            .eviction_listener(move |_, entry: Entry, cause| {
                let mut left = queue.lock().unwrap_or_else(PoisonError::into_inner);
                match cause {
                    // Whoever removes an entry is given it, and drops it himself.
                    RemovalCause::Explicit => return,
                    RemovalCause::Replaced => {}
                    RemovalCause::Size | RemovalCause::Expired => left.evictions += 1,
                }
                left.entries.push(entry);
            })
            .build();
        Self {
            cache,
            left,
            capacity: limits.capacity,
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<Entry> {
        self.cache.get(key)
    }

    /// `moka` counts whatever `get` is asked for, absent or not. Asked for twice, what is absent
    /// would count double against what is there, and push it out. `contains_key` does not count.
    pub(super) fn peek(&self, key: &str) -> Option<Entry> {
        if self.cache.contains_key(key) {
            return self.cache.get(key);
        }
        None
    }

    pub(super) fn insert(&self, key: &KeyBuf, entry: Entry) -> Gone {
        self.cache.insert(key.clone(), entry);
        Gone::default()
    }

    pub(super) fn remove(&self, key: &str) -> Option<Entry> {
        self.cache.remove(key)
    }

    pub(super) fn settle(&self) -> Gone {
        for _ in 0..ROUNDS_MAX {
            self.cache.run_pending_tasks();
            if self.cache.weighted_size() <= self.capacity {
                break;
            }
        }
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *left)
    }

    pub(super) fn keys(&self, fits: impl Fn(&str, &Entry) -> bool) -> Vec<KeyBuf> {
        self.cache
            .iter()
            .filter(|(key, entry)| fits(key, entry))
            .map(|(key, _)| KeyBuf::clone(&key))
            .collect()
    }

    pub(super) fn clear(&self) {
        // `invalidate_all` would only mark the entries, and compare times to do it.
        for (key, entry) in &self.cache {
            drop(entry);
            drop(self.cache.remove(&**key));
        }
        drop(self.settle());
    }

    pub(super) fn usage(&self) -> (u64, u64) {
        (self.cache.entry_count(), self.cache.weighted_size())
    }
}
