//! The order in which entries expire.
//!
//! Invariants:
//! 1. Whatever is in the engine and has an expiry is in here: it is armed before it is published,
//!    and forgotten after it is gone.
//! 2. Nothing else stays in here: whoever takes an entry out of the engine forgets it.
//! 3. The lock is a leaf, and nothing foreign runs under it.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use larder_store::{KeyBuf, Metadata, Timestamp};

/// The keys of what expires, earliest first; the version tells two entries of one key apart.
#[derive(Default)]
pub(crate) struct Expiries(Mutex<BTreeMap<(Timestamp, u64), KeyBuf>>);

impl Expiries {
    /// Notes that an entry expires, if it does.
    pub(crate) fn arm(&self, key: &KeyBuf, metadata: &Metadata) {
        if let Some(at) = metadata.expires_at {
            self.lock().insert((at, metadata.version().0), key.clone());
        }
    }

    /// Notes that an entry is gone.
    pub(crate) fn forget(&self, metadata: &Metadata) {
        if let Some(at) = metadata.expires_at {
            self.lock().remove(&(at, metadata.version().0));
        }
    }

    /// Takes the key of one entry that has expired.
    pub(crate) fn pop(&self, now: Timestamp) -> Option<KeyBuf> {
        let mut queue = self.lock();
        let first = queue.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    pub(crate) fn clear(&self) {
        let all = std::mem::take(&mut *self.lock());
        drop(all);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(Timestamp, u64), KeyBuf>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
