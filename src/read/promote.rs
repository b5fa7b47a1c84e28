//! Which hits lower down are copied up.

use std::hash::{BuildHasher, RandomState};

use crate::{
    sync::{AtomicU64, Ordering},
    tier::{Place, Promote},
};

/// Marked keys, approximately: a table of fixed size in which a later key may take an earlier
/// one's place. A false mark needs two keys of one 64-bit hash.
pub(crate) struct Marks {
    slots: Box<[AtomicU64]>,
    hasher: RandomState,
}

const SLOTS: usize = 8192;

impl Marks {
    pub(crate) fn new() -> Self {
        let slots = (0..SLOTS).map(|_| AtomicU64::new(0)).collect();
        Self {
            slots,
            hasher: RandomState::new(),
        }
    }

    #[allow(clippy::cast_possible_truncation)] // A part of the hash is enough.
    fn slot(&self, key: &str) -> (&AtomicU64, u64) {
        let hash = self.hasher.hash_one(key) | 1;
        (&self.slots[(hash >> 1) as usize % SLOTS], hash)
    }

    /// Whether the key is marked.
    pub(crate) fn has(&self, key: &str) -> bool {
        let (slot, hash) = self.slot(key);
        slot.load(Ordering::Relaxed) == hash
    }

    /// Marks the key, or takes its mark away.
    pub(crate) fn set(&self, key: &str, marked: bool) {
        let (slot, hash) = self.slot(key);
        if marked {
            slot.store(hash, Ordering::Relaxed);
        } else if slot.load(Ordering::Relaxed) == hash {
            slot.store(0, Ordering::Relaxed);
        }
    }
}

/// Which keys were hit once.
pub(crate) struct SecondHits(Marks);

impl SecondHits {
    pub(crate) fn new() -> Self {
        Self(Marks::new())
    }

    /// Notes a hit; says whether the key was hit before.
    fn note(&self, key: &str) -> bool {
        let (slot, hash) = self.0.slot(key);
        if slot.swap(hash, Ordering::Relaxed) != hash {
            return false;
        }
        slot.store(0, Ordering::Relaxed);
        true
    }

    /// Whether a hit in this tier is copied to the tiers above.
    pub(crate) fn promotes(&self, place: &Place, key: &str, len: u64) -> bool {
        len <= place.tier.promote_max
            && match place.tier.promote {
                Promote::Always => true,
                Promote::OnSecondHit => self.note(key),
                Promote::Never => false,
            }
    }
}
