//! Which hits lower down are copied up.

use std::hash::{BuildHasher, RandomState};

use crate::{
    sync::{AtomicU64, Ordering},
    tier::{Place, Promote},
};

/// Which keys were hit once, approximately: a table of fixed size in which a later key may take an
/// earlier one's place. A false "second hit" needs two keys of one 64-bit hash.
pub(crate) struct SecondHits {
    slots: Box<[AtomicU64]>,
    hasher: RandomState,
}

const SLOTS: usize = 8192;

impl SecondHits {
    pub(crate) fn new() -> Self {
        let slots = (0..SLOTS).map(|_| AtomicU64::new(0)).collect();
        Self {
            slots,
            hasher: RandomState::new(),
        }
    }

    /// Notes a hit; says whether the key was hit before.
    #[allow(clippy::cast_possible_truncation)] // A part of the hash is enough.
    fn note(&self, key: &str) -> bool {
        let hash = self.hasher.hash_one(key) | 1;
        let slot = &self.slots[(hash >> 1) as usize % SLOTS];
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
