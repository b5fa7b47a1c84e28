//! What keeps old data from landing on new.

use std::{
    any::Any,
    collections::HashMap,
    fmt,
    hash::BuildHasher,
    sync::{Arc, Weak},
};

use crate::{
    Key,
    sync::{AtomicU64, Mutex, MutexGuard, Ordering, PoisonError},
};

/// "The key, as this store knew it then."
///
/// A look-up that misses carries one; [`Store::fence`](crate::Store::fence) gives one for a key
/// that is present. A write, touch or delete with a fence takes effect only if nothing was
/// committed, touched or deleted under the key since, and otherwise says
/// [`Superseded`](crate::Commit::Superseded) and changes nothing. A store that has forgotten a
/// fence, or never made it, answers `Superseded`.
///
/// It is opaque: a store builds it from any value of its own and finds that value again. Clones
/// share it; the value is dropped with the last.
#[derive(Clone)]
pub struct Fence(Arc<dyn Any + Send + Sync>);

/// How well a store's fences hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fencing {
    /// Every commit, touch and delete in between is seen, whoever made it.
    #[default]
    Exact,
    /// Some can go unseen: a set and a delete in between, or one by another process.
    Advisory,
}

impl Fence {
    /// A fence that stands for this value.
    pub fn new(value: impl Any + Send + Sync) -> Self {
        Self(Arc::new(value))
    }

    /// The value, for the store that made it.
    pub fn downcast_ref<T: Any>(&self) -> Option<&T> {
        self.0.downcast_ref()
    }
}

impl fmt::Debug for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fence")
    }
}

/// The fences of a store that lives in one process.
///
/// A live fence keeps a small entry for its key; each [`invalidate`](Stripe::invalidate) removes
/// it, and so does the drop of the last fence: with nothing in flight the table is empty. Keys are
/// told apart by a keyed 64-bit hash.
///
/// A key's [`Stripe`] is also the lock under which its store changes the key, so that "the fence
/// holds" and "the object is published" are one step:
///
/// ```
/// use larder_store::{Fences, Key};
///
/// # fn main() -> Result<(), larder_store::Error> {
/// let fences = Fences::new();
/// let key = Key::new("a")?;
/// let fence = fences.lock(key).fence();
///
/// let mut stripe = fences.lock(key);
/// if stripe.holds(&fence) {
///     // publish here
///     stripe.invalidate();
/// }
/// assert!(!stripe.holds(&fence));
/// # Ok(())
/// # }
/// ```
//
// Invariants:
// 1. An entry exists while a fence that it made is alive and nothing invalidated it since.
// 2. A token is given once, so a fence never holds again after it was invalidated.
// 3. No lock but the stripe's own is taken here, and nothing foreign runs under it.
#[derive(Clone)]
pub struct Fences(Arc<Table>);

struct Table {
    stripes: Box<[Mutex<Slots>]>,
    tokens: AtomicU64,
    hasher: std::hash::RandomState,
}

type Slots = HashMap<u64, Slot, Unhashed>;

struct Slot {
    token: u64,
    /// What all the key's fences share, so that the next costs a reference count.
    ticket: Weak<Ticket>,
}

/// One key's part of [`Fences`], locked.
///
/// Drop no [`Fence`] of the same table while it is held: the last drop of a fence takes this lock.
pub struct Stripe<'a> {
    table: &'a Arc<Table>,
    slots: MutexGuard<'a, Slots>,
    hash: u64,
}

/// What the fences of one key and one token stand for.
struct Ticket {
    table: Arc<Table>,
    hash: u64,
    token: u64,
}

const STRIPES: usize = 64;

impl Fences {
    /// An empty table.
    pub fn new() -> Self {
        let stripes = (0..STRIPES).map(|_| Mutex::new(Slots::default())).collect();
        let hasher = std::hash::RandomState::new();
        Self(Arc::new(Table {
            stripes,
            tokens: AtomicU64::new(0),
            hasher,
        }))
    }

    /// Locks a key's stripe.
    pub fn lock(&self, key: Key<'_>) -> Stripe<'_> {
        let hash = self.0.hasher.hash_one(key.as_str());
        Stripe {
            table: &self.0,
            slots: self.0.slots(hash),
            hash,
        }
    }

    /// The number of keys with a live fence.
    pub fn len(&self) -> usize {
        (self.0.stripes.iter())
            .map(|stripe| stripe.lock().unwrap_or_else(PoisonError::into_inner).len())
            .sum()
    }

    /// Whether no fence is alive.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Default for Fences {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Fences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fences")
    }
}

impl Table {
    #[allow(clippy::cast_possible_truncation)] // A part of the hash is enough.
    fn slots(&self, hash: u64) -> MutexGuard<'_, Slots> {
        let stripe = &self.stripes[hash as usize % STRIPES];
        stripe.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stripe<'_> {
    /// A fence for the key as it is now.
    pub fn fence(&mut self) -> Fence {
        if let Some(slot) = self.slots.get(&self.hash)
            && let Some(ticket) = slot.ticket.upgrade()
        {
            return Fence(ticket);
        }
        // Where the last fence is on its way out it waits for this stripe, and finds another's slot.
        let token = self.table.tokens.fetch_add(1, Ordering::Relaxed);
        let ticket = Arc::new(Ticket {
            table: Arc::clone(self.table),
            hash: self.hash,
            token,
        });
        let slot = Slot {
            token,
            ticket: Arc::downgrade(&ticket),
        };
        self.slots.insert(self.hash, slot);
        Fence(ticket)
    }

    /// Whether the fence is of this table and key, and nothing was invalidated since.
    pub fn holds(&self, fence: &Fence) -> bool {
        fence.downcast_ref::<Ticket>().is_some_and(|ticket| {
            Arc::ptr_eq(&ticket.table, self.table)
                && ticket.hash == self.hash
                && self
                    .slots
                    .get(&self.hash)
                    .is_some_and(|slot| slot.token == ticket.token)
        })
    }

    /// Ends every fence of the key: to be called for each commit, touch and delete.
    pub fn invalidate(&mut self) {
        self.slots.remove(&self.hash);
    }
}

impl fmt::Debug for Stripe<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stripe")
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut slots = self.table.slots(self.hash);
        let is_own = |slot: &Slot| slot.token == self.token;
        if slots.get(&self.hash).is_some_and(is_own) {
            slots.remove(&self.hash);
        }
    }
}

/// The keys of the table are hashes already.
#[derive(Clone, Copy, Default)]
struct Unhashed;

struct Same(u64);

impl BuildHasher for Unhashed {
    type Hasher = Same;

    fn build_hasher(&self) -> Same {
        Same(0)
    }
}

impl std::hash::Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only a u64 is hashed here")
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    fn key(text: &str) -> Key<'_> {
        Key::new(text).expect("a key")
    }

    #[test]
    fn a_fence_holds_until_something_happens_to_its_key() {
        let fences = Fences::new();
        let fence = fences.lock(key("a")).fence();
        let other = fences.lock(key("b")).fence();
        fences.lock(key("b")).invalidate();
        assert!(fences.lock(key("a")).holds(&fence));
        assert!(!fences.lock(key("b")).holds(&other));
        fences.lock(key("a")).invalidate();
        assert!(!fences.lock(key("a")).holds(&fence));
        let later = fences.lock(key("a")).fence();
        assert!(!fences.lock(key("a")).holds(&fence), "never again");
        assert!(fences.lock(key("a")).holds(&later));
        assert!(
            !Fences::new().lock(key("a")).holds(&later),
            "not in another table"
        );
        assert!(
            !fences.lock(key("a")).holds(&Fence::new(7_u8)),
            "not a stranger's"
        );
    }

    #[test]
    fn a_fence_taken_while_the_last_one_goes_holds() {
        let fences = Fences::new();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        let fence = fences.lock(key("a")).fence();
                        assert!(fences.lock(key("a")).holds(&fence));
                    }
                });
            }
        });
        assert!(fences.is_empty());
    }

    #[test]
    fn s18_the_table_is_empty_when_nothing_is_in_flight() {
        let fences = Fences::new();
        let first = fences.lock(key("a")).fence();
        let second = fences.lock(key("a")).fence();
        let third = second.clone();
        assert_eq!(fences.len(), 1);
        drop((first, second));
        assert_eq!(fences.len(), 1);
        fences.lock(key("a")).invalidate();
        let newer = fences.lock(key("a")).fence();
        drop(third);
        assert_eq!(
            fences.len(),
            1,
            "an old fence does not take a newer one's entry away"
        );
        drop(newer);
        assert!(fences.is_empty());
    }
}

#[cfg(all(test, shuttle))]
mod model {
    use super::*;

    /// Writers that publish only under a fence, and a deleter: what is published after a delete
    /// was begun after it.
    #[test]
    fn s12_no_fence_taken_before_a_delete_holds_after_it() {
        shuttle::check_random(
            || {
                let fences = Fences::new();
                let value = Arc::new(Mutex::new(0_u32));
                let fence = fences.lock(Key::new("k").unwrap()).fence();
                let writer = {
                    let (fences, value) = (fences.clone(), Arc::clone(&value));
                    shuttle::thread::spawn(move || {
                        let mut stripe = fences.lock(Key::new("k").unwrap());
                        if stripe.holds(&fence) {
                            *value.lock().unwrap() = 1;
                            stripe.invalidate();
                        }
                        drop(stripe);
                        drop(fence);
                    })
                };
                let mut stripe = fences.lock(Key::new("k").unwrap());
                *value.lock().unwrap() = 0;
                stripe.invalidate();
                drop(stripe);
                writer.join().unwrap();
                assert_eq!(*value.lock().unwrap(), 0, "brought back after the delete");
                assert!(fences.is_empty());
            },
            2_000,
        );
    }
}
