//! Entries that a tier may still hold though they were replaced or deleted.
//!
//! Where a delete fails in its turn, the key is suspect in that tier: it is not read there until a
//! delete has succeeded. The table is bounded; a tier whose suspects do not fit is distrusted as a
//! whole until it was cleared.

use std::collections::HashMap;

use larder_store::KeyBuf;

use crate::sync::{AtomicU64, AtomicUsize, Mutex, Ordering, lock};

pub(crate) struct Suspects {
    /// For each key the tiers in which it is suspect, a bit each.
    keys: Mutex<HashMap<KeyBuf, u64>>,
    tiers: Box<[Trust]>,
    max: usize,
}

#[derive(Default)]
struct Trust {
    suspects: AtomicUsize,
    /// How many did not fit, since ever, and up to which of them the tier was cleared since.
    overflows: AtomicU64,
    cleared: AtomicU64,
}

impl Trust {
    #[inline]
    fn is_distrusted(&self) -> bool {
        self.overflows.load(Ordering::Acquire) != self.cleared.load(Ordering::Acquire)
    }
}

impl Suspects {
    pub(crate) fn new(tiers: usize, max: usize) -> Self {
        let tiers = (0..tiers).map(|_| Trust::default()).collect();
        Self {
            keys: Mutex::default(),
            tiers,
            max,
        }
    }

    /// Whether the tier may be read for this key. Without suspects that is one load.
    #[inline]
    pub(crate) fn trusts(&self, tier: usize, key: &str) -> bool {
        let trust = &self.tiers[tier];
        !trust.is_distrusted()
            && (trust.suspects.load(Ordering::Acquire) == 0 || !self.is_suspect(tier, key))
    }

    #[cold]
    fn is_suspect(&self, tier: usize, key: &str) -> bool {
        let keys = lock(&self.keys);
        keys.get(key).is_some_and(|bits| bits & (1 << tier) != 0)
    }

    /// Records that a delete failed.
    pub(crate) fn add(&self, tier: usize, key: &KeyBuf) {
        let mut keys = lock(&self.keys);
        if keys.len() >= self.max && !keys.contains_key(key) {
            self.tiers[tier].overflows.fetch_add(1, Ordering::Release);
            drop(keys);
            tracing::warn!(
                tier,
                "too many suspect keys: the tier is not read until it is cleared"
            );
            return;
        }
        let bits = keys.entry(key.clone()).or_default();
        if *bits & (1 << tier) == 0 {
            *bits |= 1 << tier;
            self.tiers[tier].suspects.fetch_add(1, Ordering::Release);
        }
    }

    /// Records that a delete succeeded.
    pub(crate) fn clear(&self, tier: usize, key: &str) {
        if self.tiers[tier].suspects.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut keys = lock(&self.keys);
        let Some(bits) = keys.get_mut(key) else {
            return;
        };
        if *bits & (1 << tier) != 0 {
            *bits &= !(1 << tier);
            let empty = *bits == 0;
            if empty {
                keys.remove(key);
            }
            self.tiers[tier].suspects.fetch_sub(1, Ordering::Release);
        }
    }

    /// To be asked before the tier is emptied, for [`trust_again`](Self::trust_again).
    pub(crate) fn overflows(&self, tier: usize) -> u64 {
        self.tiers[tier].overflows.load(Ordering::Acquire)
    }

    /// Records that the tier was emptied. What did not fit meanwhile still counts.
    pub(crate) fn trust_again(&self, tier: usize, overflows: u64) {
        self.tiers[tier]
            .cleared
            .fetch_max(overflows, Ordering::AcqRel);
    }

    /// The keys that are suspect in some tier.
    pub(crate) fn keys(&self) -> Vec<KeyBuf> {
        lock(&self.keys).keys().cloned().collect()
    }

    pub(crate) fn len(&self) -> usize {
        lock(&self.keys).len()
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn a_tier_with_too_many_suspects_is_distrusted_until_it_is_cleared() {
        let suspects = Suspects::new(2, 2);
        let keys: Vec<_> = ["a", "b", "c"].map(|key| KeyBuf::new(key).unwrap()).into();
        suspects.add(1, &keys[0]);
        assert!(!suspects.trusts(1, "a") && suspects.trusts(0, "a") && suspects.trusts(1, "b"));
        suspects.add(1, &keys[1]);
        suspects.add(1, &keys[2]);
        assert!(!suspects.trusts(1, "z"), "distrusted as a whole");
        for key in &keys {
            suspects.clear(1, key);
        }
        assert!(!suspects.trusts(1, "z"));
        let before = suspects.overflows(1);
        suspects.trust_again(1, before);
        assert!(suspects.trusts(1, "a") && suspects.len() == 0);
    }

    #[test]
    fn a_suspect_that_did_not_fit_while_the_tier_was_cleared_still_counts() {
        let suspects = Suspects::new(1, 0);
        let key = KeyBuf::new("a").unwrap();
        suspects.add(0, &key);
        let before = suspects.overflows(0);
        suspects.add(0, &key);
        suspects.trust_again(0, before);
        assert!(!suspects.trusts(0, "z"));
    }
}
