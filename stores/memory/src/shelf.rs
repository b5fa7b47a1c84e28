//! The state that the handles of a store share, and every change to it.
//!
//! Invariants:
//! 1. A key's entry is put in, replaced and taken out only under the key's stripe; only the
//!    engine's evictions take place without it.
//! 2. Beneath a stripe one lock of the engine or that of the leases is taken at a time, and nothing
//!    else. (`moka` nests locks of its own; none of them is ever held when a stripe is asked for.)
//! 3. What leaves the engine is dropped with no lock held, and so is every fence: the last drop of
//!    one takes its stripe.
//! 4. Who publishes asks whether the store is closed *after* publishing, and who closes empties it
//!    *after* saying so: one of the two removes the entry.
//! 5. The clock is called with no lock held.
//! 6. There is no background task, and no lock lives across an await: every answer is ready.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use larder_store::{
    ByteRange, Commit, Draft, Error, Fence, Fences, Key, KeyBuf, Leased, Lookup, Metadata, Result,
    Terms, Timestamp, Usage, Version,
};

use crate::{
    bus::Hub,
    clock::Clock,
    config::{Eviction, Limits},
    engine::{Engine, Gone},
    entry::{Entry, weigh},
    expiry::Expiries,
    lease::{Leases, is_grant},
    staging::Staging,
};

/// How many expired entries a commit takes away at most. More than one, so that the sweep gains on
/// the writers.
const SWEEP_MAX: usize = 4;

pub(crate) struct Shelf {
    engine: Engine,
    fences: Fences,
    leases: Leases,
    hub: Hub,
    expiries: Expiries,
    staging: Arc<Staging>,
    limits: Limits,
    clock: Clock,
    versions: AtomicU64,
    evictions: AtomicU64,
    closed: AtomicBool,
}

/// How publishing ended.
enum Published {
    Done,
    /// The fence does not hold.
    Superseded,
    /// The entry that was to be replaced is another one by now.
    Changed,
}

impl Shelf {
    pub(crate) fn new(policy: Eviction, limits: Limits, clock: Clock) -> Self {
        Self {
            engine: Engine::new(policy, &limits),
            fences: Fences::new(),
            leases: Leases::default(),
            hub: Hub::default(),
            expiries: Expiries::default(),
            staging: Arc::new(Staging::new(limits.staging_max)),
            limits,
            clock,
            versions: AtomicU64::new(1),
            evictions: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        }
    }

    /// A hit takes no stripe. A miss looks again under the stripe, so that it and its fence are of
    /// one moment.
    pub(crate) fn look_up(&self, key: Key<'_>, range: ByteRange) -> Result<Lookup> {
        self.check_open()?;
        if let Some(entry) = self.engine.get(key.as_str())
            && !entry.is_expired(&*self.clock)
        {
            return entry.open(range).map(Lookup::Hit);
        }
        let now = (self.clock)();
        let found;
        let mut expired = None;
        let fence = {
            let mut stripe = self.fences.lock(key);
            found = self.engine.peek(key.as_str());
            if found.as_ref().is_some_and(|entry| entry.is_expired(|| now)) {
                expired = self.engine.remove(key.as_str());
            }
            match (&found, &expired) {
                (Some(_), None) => None,
                _ => Some(stripe.fence()),
            }
        };
        self.farewell(expired);
        match (fence, found) {
            (None, Some(entry)) => entry.open(range).map(Lookup::Hit),
            (Some(fence), _) => Ok(Lookup::Miss(fence)),
            (None, None) => unreachable!("what is not found has a fence"),
        }
    }

    pub(crate) fn stat(&self, key: Key<'_>) -> Result<Option<Arc<Metadata>>> {
        self.check_open()?;
        Ok(self.find(key).map(|entry| entry.metadata))
    }

    pub(crate) fn fence(&self, key: Key<'_>) -> Result<Fence> {
        self.check_open()?;
        Ok(self.fences.lock(key).fence())
    }

    /// Publishes what a writer has staged.
    pub(crate) fn commit(
        &self,
        key: &KeyBuf,
        draft: Draft,
        body: Bytes,
        fence: Option<&Fence>,
    ) -> Result<Commit> {
        // No checksum: nothing lies between the bytes and their reader that could alter them
        // unseen, and a hit would not pay for the check.
        let metadata = draft.commit(body.len() as u64, self.next_version(), None);
        let entry = Entry::new(key.as_key(), metadata, body, self.limits.overhead);
        let metadata = Arc::clone(&entry.metadata);
        match self.publish(key, entry, fence, None)? {
            Published::Done => Ok(Commit::Done(Some(metadata))),
            Published::Superseded | Published::Changed => Ok(Commit::Superseded),
        }
    }

    /// Gives an entry another header. It is looked up and rebuilt without the stripe, and published
    /// only over the very entry that was found.
    pub(crate) fn touch(&self, key: Key<'_>, draft: Draft) -> Result<Commit> {
        self.check_open()?;
        draft.check()?;
        let mut draft = draft.owned();
        let fence = draft.take_fence();
        let key = key.to_buf();
        loop {
            let Some(old) = self.find(key.as_key()) else {
                return Ok(Commit::Superseded);
            };
            draft.check_len(old.metadata.len())?;
            self.check_size(key.as_key(), &draft, old.metadata.len())?;
            let touched = old.metadata.touched(draft.clone(), self.next_version());
            let overhead = self.limits.overhead;
            let entry = Entry::new(key.as_key(), touched, old.body.clone(), overhead);
            let metadata = Arc::clone(&entry.metadata);
            match self.publish(&key, entry, fence.as_ref(), Some(old.version()))? {
                Published::Done => return Ok(Commit::Done(Some(metadata))),
                Published::Superseded => return Ok(Commit::Superseded),
                // Another thread got ahead with this key, so this loop ends when they do.
                Published::Changed => {}
            }
        }
    }

    pub(crate) fn delete(&self, key: Key<'_>, fence: Option<&Fence>) -> Result<Commit> {
        self.check_open()?;
        let now = self.moment_of(fence);
        let removed = {
            let mut stripe = self.fences.lock(key);
            if fence.is_some_and(|fence| !self.leases.holds(&stripe, key, fence, now)) {
                return Ok(Commit::Superseded);
            }
            stripe.invalidate();
            self.leases.end(key);
            self.engine.remove(key.as_str())
        };
        self.farewell(removed);
        Ok(Commit::Done(None))
    }

    /// The keys that begin with `prefix`, as they are now.
    pub(crate) fn keys(&self, prefix: &str) -> Result<Vec<KeyBuf>> {
        self.check_open()?;
        let now = (self.clock)();
        Ok(self
            .engine
            .keys(|key, entry| key.starts_with(prefix) && !entry.is_expired(|| now)))
    }

    pub(crate) fn usage(&self) -> Usage {
        self.settle();
        let (entries, live) = self.engine.usage();
        let mut usage = Usage::default();
        usage.entries = entries;
        usage.live = live;
        usage.stored = live;
        usage.staged = self.staging.bytes();
        usage.capacity = Some(self.limits.capacity);
        usage.evictions = self.evictions.load(Ordering::Relaxed);
        usage
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.engine.clear();
        self.expiries.clear();
        self.leases.clear();
        self.hub.close();
    }

    pub(crate) fn acquire(&self, key: Key<'_>, fence: &Fence, terms: &Terms) -> Result<Leased> {
        self.check_open()?;
        let now = self.now();
        self.leases.acquire(&self.fences, key, fence, terms, now)
    }

    pub(crate) fn renew(&self, key: Key<'_>, fence: &Fence, ttl: Duration) -> Result<bool> {
        self.check_open()?;
        let now = self.now();
        self.leases.renew(&self.fences, key, fence, ttl, now)
    }

    pub(crate) fn release(&self, key: Key<'_>, fence: &Fence) -> Result<()> {
        self.check_open()?;
        let now = self.now();
        self.leases.release(&self.fences, key, fence, now);
        Ok(())
    }

    pub(crate) fn hub(&self) -> &Hub {
        &self.hub
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(Error::closed("the memory store"));
        }
        Ok(())
    }

    /// `TooLarge` where an object of this draft and length is above the limit.
    pub(crate) fn check_size(&self, key: Key<'_>, draft: &Draft, len: u64) -> Result<()> {
        let (most, entry_max) = (self.limits.object_max, self.limits.entry_max);
        if len > most {
            return Err(Error::too_large(format!(
                "the object has {len} bytes or more, at most {most} are allowed"
            )));
        }
        let weight = weigh(key, draft.header(), len, self.limits.overhead);
        if weight > entry_max {
            return Err(Error::too_large(format!(
                "the object counts for {weight} bytes, at most {entry_max} are allowed"
            )));
        }
        Ok(())
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(crate) fn staging(&self) -> &Arc<Staging> {
        &self.staging
    }

    pub(crate) fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// The moment at which a fence is checked; it matters only to that of a lease, and nobody else
    /// asks the clock. A lease that ends between this and the check was held when the call began.
    fn moment_of(&self, fence: Option<&Fence>) -> Timestamp {
        match fence {
            Some(fence) if is_grant(fence) => self.now(),
            _ => Timestamp::EPOCH,
        }
    }

    /// The one place where an entry is put in: under the fence, if any, and only over the entry of
    /// version `over`, if given.
    fn publish(
        &self,
        key: &KeyBuf,
        entry: Entry,
        fence: Option<&Fence>,
        over: Option<Version>,
    ) -> Result<Published> {
        let metadata = Arc::clone(&entry.metadata);
        self.expiries.arm(key, &metadata);
        let now = self.moment_of(fence);
        let current;
        let (published, gone) = {
            let mut stripe = self.fences.lock(key.as_key());
            current = over.and_then(|_| self.engine.peek(key));
            let name = key.as_key();
            if fence.is_some_and(|fence| !self.leases.holds(&stripe, name, fence, now)) {
                (Published::Superseded, Gone::default())
            } else if over != current.as_ref().map(Entry::version) {
                (Published::Changed, Gone::default())
            } else {
                stripe.invalidate();
                self.leases.end(name);
                (Published::Done, self.engine.insert(key, entry))
            }
        };
        if !matches!(published, Published::Done) {
            self.expiries.forget(&metadata);
            return Ok(published);
        }
        self.part(gone);
        self.settle();
        self.sweep();
        if metadata.expires_at.is_some() {
            // Armed before it was published, it may have been popped in between.
            drop(self.find(key.as_key()));
        }
        if let Err(closed) = self.check_open() {
            self.engine.clear();
            self.expiries.clear();
            return Err(closed);
        }
        Ok(published)
    }

    /// An entry that is there and has not expired; one that has is removed.
    fn find(&self, key: Key<'_>) -> Option<Entry> {
        let entry = self.engine.peek(key.as_str())?;
        if !entry.is_expired(&*self.clock) {
            return Some(entry);
        }
        self.purge(key, self.now());
        None
    }

    /// Removes an entry that has expired. The fences of its key hold on: nothing was said of it.
    fn purge(&self, key: Key<'_>, now: Timestamp) {
        let found;
        let expired = {
            let _stripe = self.fences.lock(key);
            found = self.engine.peek(key.as_str());
            match &found {
                Some(entry) if entry.is_expired(|| now) => self.engine.remove(key.as_str()),
                _ => None,
            }
        };
        self.farewell(expired);
    }

    /// Takes away a few entries that have expired, wherever they are.
    fn sweep(&self) {
        if self.expiries.is_empty() {
            return; // The clock need not be asked.
        }
        let now = self.now();
        for _ in 0..SWEEP_MAX {
            let Some(key) = self.expiries.pop(now) else {
                return;
            };
            self.purge(key.as_key(), now);
        }
    }

    fn settle(&self) {
        self.part(self.engine.settle());
    }

    fn part(&self, gone: Gone) {
        self.evictions.fetch_add(gone.evictions, Ordering::Relaxed);
        for entry in gone.entries {
            self.farewell(Some(entry));
        }
    }

    /// Forgets and drops what has left the engine. To be called with no lock held.
    fn farewell(&self, entry: Option<Entry>) {
        if let Some(entry) = entry {
            self.expiries.forget(&entry.metadata);
        }
    }

    fn next_version(&self) -> Version {
        Version(self.versions.fetch_add(1, Ordering::Relaxed))
    }

    #[cfg(test)]
    pub(crate) fn in_flight(&self) -> (usize, usize) {
        (self.fences.len(), self.expiries.len())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use larder_store::{Reply, Store};

    use super::*;
    use crate::Memory;

    fn now<T>(reply: Reply<'_, T>) -> Result<T> {
        reply.now_or_never().expect("every reply is ready")
    }

    /// Misses, commits, evictions, failures, deletes: what is kept by key is empty again.
    #[test]
    fn s18_nothing_is_kept_for_keys_that_are_gone() {
        let store = Memory::builder(64 << 10).build().unwrap();
        for index in 0..100_000 {
            let name = format!("{index}");
            let key = Key::new(&name).unwrap();
            let Lookup::Miss(fence) = now(store.get_stream(key, ByteRange::FULL)).unwrap() else {
                panic!("hit a key that was never set");
            };
            if index % 3 == 0 {
                continue;
            }
            let at = Timestamp::from_millis(u64::MAX - index);
            let draft = Draft::new().with(|header| header.expires_at = Some(at));
            let mut writer = now(store.set_with_writer(key, draft.fence(fence))).unwrap();
            now(writer.write(Bytes::from_static(b"x"))).unwrap();
            match index % 5 {
                3 => {
                    assert!(now(store.delete(key, None)).unwrap().is_done());
                    let late = now(writer.commit()).unwrap();
                    assert_eq!(late, Commit::Superseded);
                }
                0 => drop(writer),
                1 => now(writer.abort()).unwrap(),
                _ => assert!(now(writer.commit()).unwrap().is_done()),
            }
            if index % 7 == 0 {
                assert!(now(store.delete(key, None)).unwrap().is_done());
            }
        }
        let entries = usize::try_from(store.usage().entries).unwrap();
        assert!(entries > 50);
        assert_eq!(store.shelf().in_flight(), (0, entries));
        now(store.close()).unwrap();
        assert_eq!(store.shelf().in_flight(), (0, 0));
    }
}
