//! Who works on which key, and until when.
//!
//! Invariants:
//! 1. A key's lease begins, is renewed and ends under the key's stripe of the fences, so that "the
//!    lease holds" and "the object is published" are one step. The table's lock is taken beneath
//!    it, and nothing beneath that.
//! 2. A token is given once, so a grant never holds again after its lease ended.
//! 3. `held` and `order` name the same leases, and `len` is how many. Whoever has a key's stripe
//!    sees at least one in `len` if that key has a lease.
//! 4. No fence is dropped here: the last drop of one takes its stripe.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use larder_store::{
    Error, ErrorKind, Fence, Fences, Holder, Key, KeyBuf, Leased, Result, Stripe, Terms, Timestamp,
};

/// How many leases there may be at once. With the longest keys and texts they take 80 MiB.
pub(crate) const LEASES_MAX: usize = 16_384;

/// How many expired leases a request takes away at most. More than one, so that the table shrinks.
const SWEEP_MAX: usize = 4;

#[derive(Default)]
pub(crate) struct Leases {
    table: Mutex<Table>,
    /// Spares those who change a key the table's lock where nobody takes leases.
    len: AtomicUsize,
}

#[derive(Default)]
struct Table {
    held: HashMap<KeyBuf, Held>,
    /// By when they end, the token telling apart those that end together.
    order: BTreeMap<(Timestamp, u64), KeyBuf>,
    /// The last token that was given.
    token: u64,
}

struct Held {
    token: u64,
    who: Arc<str>,
    why: Arc<str>,
    until: Timestamp,
}

/// What the fence of a lease stands for.
struct Grant {
    fence: Fence,
    token: u64,
}

/// Whether the fence is one of a lease, so that the time matters.
pub(crate) fn is_grant(fence: &Fence) -> bool {
    fence.downcast_ref::<Grant>().is_some()
}

impl Leases {
    /// Whether the fence holds and, if it is one of a lease, the lease too.
    pub(crate) fn holds(
        &self,
        stripe: &Stripe<'_>,
        key: Key<'_>,
        fence: &Fence,
        now: Timestamp,
    ) -> bool {
        match fence.downcast_ref::<Grant>() {
            None => stripe.holds(fence),
            Some(grant) => {
                stripe.holds(&grant.fence) && self.table().holder(key, grant, now).is_some()
            }
        }
    }

    /// Ends the key's lease: to be called under its stripe for each commit, touch and delete.
    pub(crate) fn end(&self, key: Key<'_>) {
        if self.len.load(Ordering::Relaxed) > 0 {
            self.change(|table| table.remove(key.as_str()));
        }
    }

    /// Ends them all.
    pub(crate) fn clear(&self) {
        self.change(|table| {
            table.held.clear();
            table.order.clear();
        });
    }

    pub(crate) fn acquire(
        &self,
        fences: &Fences,
        key: Key<'_>,
        fence: &Fence,
        terms: &Terms,
        now: Timestamp,
    ) -> Result<Leased> {
        terms.check()?;
        let stripe = fences.lock(key);
        if !self.holds(&stripe, key, fence, now) {
            return Ok(Leased::Superseded);
        }
        let token = self.change(|table| {
            table.sweep(now);
            table.take(key, terms, now)
        })?;
        drop(stripe);
        Ok(match token {
            Ok(token) => {
                let fence = fence.clone();
                Leased::Granted(Fence::new(Grant { fence, token }))
            }
            Err(holder) => Leased::Taken(holder),
        })
    }

    pub(crate) fn renew(
        &self,
        fences: &Fences,
        key: Key<'_>,
        fence: &Fence,
        ttl: Duration,
        now: Timestamp,
    ) -> Result<bool> {
        Terms::check_ttl(ttl)?;
        let Some(grant) = fence.downcast_ref::<Grant>() else {
            return Ok(false);
        };
        let stripe = fences.lock(key);
        let is_held = stripe.holds(&grant.fence)
            && self.change(|table| table.prolong(key, grant, now, now.after(ttl)));
        Ok(is_held)
    }

    pub(crate) fn release(&self, fences: &Fences, key: Key<'_>, fence: &Fence, now: Timestamp) {
        let Some(grant) = fence.downcast_ref::<Grant>() else {
            return;
        };
        let stripe = fences.lock(key);
        if stripe.holds(&grant.fence) {
            self.change(|table| {
                if table.holder(key, grant, now).is_some() {
                    table.remove(key.as_str());
                }
            });
        }
    }

    /// How many leases are kept, those that expired and were not removed among them.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        let table = self.table();
        assert_eq!(table.held.len(), table.order.len());
        table.held.len()
    }

    fn change<T>(&self, change: impl FnOnce(&mut Table) -> T) -> T {
        let mut table = self.table();
        let result = change(&mut table);
        self.len.store(table.held.len(), Ordering::Relaxed);
        result
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// The lease that this grant holds.
    fn holder(&self, key: Key<'_>, grant: &Grant, now: Timestamp) -> Option<&Held> {
        let held = self.held.get(key.as_str())?;
        (held.token == grant.token && held.until > now).then_some(held)
    }

    /// A token for a lease that is free, or else who holds it.
    fn take(
        &mut self,
        key: Key<'_>,
        terms: &Terms,
        now: Timestamp,
    ) -> Result<std::result::Result<u64, Holder>> {
        if let Some(held) = self.held.get(key.as_str())
            && held.until > now
        {
            return Ok(Err(Holder {
                who: Arc::clone(&held.who),
                why: Arc::clone(&held.why),
                left: held.until.since(now),
            }));
        }
        self.remove(key.as_str());
        if self.held.len() >= LEASES_MAX {
            return Err(Error::new(
                ErrorKind::Full,
                format!("there are {LEASES_MAX} leases already"),
            ));
        }
        self.token += 1;
        let held = Held {
            token: self.token,
            who: Arc::clone(&terms.who),
            why: Arc::clone(&terms.why),
            until: now.after(terms.ttl),
        };
        let key = key.to_buf();
        self.order.insert((held.until, held.token), key.clone());
        self.held.insert(key, held);
        Ok(Ok(self.token))
    }

    fn prolong(&mut self, key: Key<'_>, grant: &Grant, now: Timestamp, until: Timestamp) -> bool {
        let Some(before) = self.holder(key, grant, now).map(|held| held.until) else {
            return false;
        };
        if let Some(name) = self.order.remove(&(before, grant.token)) {
            self.order.insert((until, grant.token), name);
        }
        if let Some(held) = self.held.get_mut(key.as_str()) {
            held.until = until;
        }
        true
    }

    fn remove(&mut self, key: &str) {
        if let Some(held) = self.held.remove(key) {
            self.order.remove(&(held.until, held.token));
        }
    }

    /// Takes away a few leases that have expired, of whatever keys: they hold nothing any more, so
    /// it does not matter that their stripes are not locked.
    fn sweep(&mut self, now: Timestamp) {
        for _ in 0..SWEEP_MAX {
            match self.order.first_entry() {
                Some(first) if first.key().0 <= now => {
                    let key = first.remove();
                    self.held.remove(&key);
                }
                _ => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key<'_> {
        Key::new(text).unwrap()
    }

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn terms(millis: u64) -> Terms {
        let ttl = Duration::from_millis(millis);
        let (who, why) = ("a".into(), "fill".into());
        Terms { who, why, ttl }
    }

    #[test]
    fn the_table_is_bounded_and_empties_itself() {
        let (leases, fences) = (Leases::default(), Fences::new());
        let ask = |name: &str, terms: &Terms, now| {
            let fence = fences.lock(key(name)).fence();
            leases.acquire(&fences, key(name), &fence, terms, at(now))
        };
        for id in 0..LEASES_MAX as u64 {
            let granted = ask(&format!("{id}"), &terms(1000 + id), 0);
            assert!(matches!(granted, Ok(Leased::Granted(_))));
        }
        assert_eq!(leases.len(), LEASES_MAX);
        let refused = ask("one more", &terms(1000), 999).unwrap_err();
        assert!(refused.is_full(), "{refused:?}");
        let known = ask("0", &terms(1000), 999);
        assert!(matches!(known, Ok(Leased::Taken(_))), "that takes no room");

        // One has expired, and makes room for one.
        assert!(ask("one more", &terms(1), 1000).is_ok());
        assert!(ask("another", &terms(1), 1000).is_err());
        assert_eq!(leases.len(), LEASES_MAX);
        // Long after all have expired, every request takes several away.
        for id in 0..LEASES_MAX / 3 {
            assert!(ask(&format!("late/{id}"), &terms(1), 1_000_000 + 2 * id as u64).is_ok());
        }
        assert_eq!(leases.len(), 1);
        fences.lock(key("late/0")).invalidate();
        leases.clear();
        assert_eq!((leases.len(), fences.len()), (0, 0));
    }

    #[test]
    fn a_lease_ends_at_its_moment_and_with_its_key() {
        let (leases, fences) = (Leases::default(), Fences::new());
        let fence = fences.lock(key("a")).fence();
        let ask = |now| leases.acquire(&fences, key("a"), &fence, &terms(10), at(now));
        let Ok(Leased::Granted(grant)) = ask(100) else {
            panic!("it is free");
        };
        let holds = |fence: &Fence, now| {
            let stripe = fences.lock(key("a"));
            leases.holds(&stripe, key("a"), fence, at(now))
        };
        assert!(is_grant(&grant) && !is_grant(&fence));
        assert!(holds(&grant, 109) && !holds(&grant, 110));
        let prolonged = leases.renew(&fences, key("a"), &grant, Duration::from_millis(5), at(109));
        assert!(prolonged.unwrap());
        assert!(holds(&grant, 113) && !holds(&grant, 114), "from then on");
        let late = leases.renew(&fences, key("a"), &grant, Duration::from_millis(5), at(114));
        assert!(!late.unwrap());
        let Ok(Leased::Granted(next)) = ask(114) else {
            panic!("it is free again");
        };
        leases.release(&fences, key("a"), &grant, at(115));
        assert!(holds(&next, 115) && !holds(&grant, 115));
        leases.end(key("a"));
        assert!(!holds(&next, 115) && holds(&fence, 115));
        assert_eq!(leases.len(), 0);
    }
}
