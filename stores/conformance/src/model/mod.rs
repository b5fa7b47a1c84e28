//! The store that is right because it is simple.
//!
//! One map under one lock. Whatever a real store does differently is a bug in one of the two.
//
// Invariants:
// 1. A key changes only while its stripe of the fences is locked; the state's lock is taken
//    beneath it, and nothing beneath that.
// 2. `live` is the sum of `Entry::size` over the entries, and `order` holds each of them once.

mod bus;
mod lease;
mod writer;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use futures_util::stream;
use larder_store::{
    Body, Bus, ByteRange, Commit, Draft, Error, Fence, Fences, Identity, Key, KeyBuf, Keys, Lease,
    List, Lookup, Message, Metadata, Object, Reply, Result, Store, Stripe, Timestamp, Touch, Usage,
    Version, Writer,
};
use tokio::sync::broadcast;

use self::{lease::Leases, writer::ModelWriter};
use crate::Setup;

/// A reference store: the whole contract with every capability, in one map under one lock.
///
/// It is a handle: clones are the same store. It evicts the oldest first. Its clock stands at
/// [`Timestamp::EPOCH`] unless one is given, so that only what expires at the epoch does. Leases
/// last by tokio's clock. A subscriber of its bus has 1,024 messages waiting at most, and hears
/// that it has lost the oldest.
///
/// ```
/// use larder_conformance::{Model, Setup};
/// use larder_store::{Draft, StoreExt};
///
/// # larder_conformance::run("example", async {
/// let store = Model::with(Setup::new(1 << 20, 1 << 16)).chunked(2);
/// store.write("greeting", "hello", Draft::new()).await.unwrap();
/// assert_eq!(store.read("greeting", 1024).await.unwrap().unwrap(), "hello");
/// # });
/// ```
#[derive(Clone)]
pub struct Model {
    shared: Arc<Shared>,
    /// The length of a body's chunks; `None` gives it whole.
    chunk: Option<usize>,
    lazy: bool,
}

struct Shared {
    setup: Setup,
    fences: Fences,
    clock: Mutex<Clock>,
    state: Mutex<State>,
}

type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

#[derive(Default)]
struct State {
    entries: HashMap<KeyBuf, Entry>,
    /// The entries by age.
    order: BTreeMap<u64, KeyBuf>,
    live: u64,
    staged: u64,
    evictions: u64,
    /// The last version that was given; no version is given twice.
    version: u64,
    leases: Leases,
    /// Made for the first subscriber; they hear the end when it goes.
    bus: Option<broadcast::Sender<Message>>,
    closed: bool,
}

struct Entry {
    metadata: Arc<Metadata>,
    body: Bytes,
    age: u64,
    size: u64,
}

const CHUNK: usize = 1024;

impl Model {
    /// A model with the default [`Setup`].
    pub fn new() -> Self {
        Self::with(Setup::default())
    }

    /// A model with these limits.
    pub fn with(setup: Setup) -> Self {
        let clock: Clock = Arc::new(|| Timestamp::EPOCH);
        Self {
            shared: Arc::new(Shared {
                setup,
                fences: Fences::new(),
                clock: Mutex::new(clock),
                state: Mutex::default(),
            }),
            chunk: Some(CHUNK),
            lazy: false,
        }
    }

    /// A handle whose bodies come in chunks of at most this many bytes; 1,024 where nothing is
    /// said.
    ///
    /// # Panics
    ///
    /// When it is zero.
    #[must_use]
    pub fn chunked(mut self, len: usize) -> Self {
        assert!(len > 0, "a chunk has at least one byte");
        self.chunk = Some(len);
        self
    }

    /// A handle whose bodies come whole.
    #[must_use]
    pub fn whole(mut self) -> Self {
        self.chunk = None;
        self
    }

    /// A handle whose replies are never ready: each yields once before it acts and once after.
    #[must_use]
    pub fn lazy(mut self) -> Self {
        self.lazy = true;
        self
    }

    /// Expires objects by this clock, for all handles.
    #[must_use]
    pub fn clock(self, clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        *lock(&self.shared.clock) = Arc::new(clock);
        self
    }

    /// The number of keys with a live fence: zero when nothing is in flight.
    pub fn fences(&self) -> usize {
        self.shared.fences.len()
    }

    fn state(&self) -> Result<MutexGuard<'_, State>> {
        let state = lock(&self.shared.state);
        if state.closed {
            return Err(Error::closed("the model"));
        }
        Ok(state)
    }

    fn now(&self) -> Timestamp {
        let clock = Arc::clone(&lock(&self.shared.clock));
        clock()
    }

    /// The answer of an operation, at once or, for a lazy handle, in three polls.
    fn reply<'a, T: Send + 'a>(
        &self,
        operation: impl FnOnce() -> Result<T> + Send + 'a,
    ) -> Reply<'a, T> {
        if !self.lazy {
            return Reply::ready(operation());
        }
        Reply::later(async move {
            tokio::task::yield_now().await;
            let result = operation();
            tokio::task::yield_now().await;
            result
        })
    }

    /// Changes a key, if the fence holds, and ends its fences. The change may still find that
    /// there is nothing to do, and then ends none.
    fn change(
        &self,
        key: Key<'_>,
        fence: Option<&Fence>,
        change: impl FnOnce(&mut State) -> Result<Commit>,
    ) -> Result<Commit> {
        let now = self.now();
        let mut stripe = self.shared.fences.lock(key);
        let mut state = self.state()?;
        if fence.is_some_and(|fence| !state.holds(&stripe, key, fence)) {
            return Ok(Commit::Superseded);
        }
        state.expire(key, now);
        let commit = change(&mut state)?;
        if commit.is_done() {
            stripe.invalidate();
            state.leases.end(key);
        }
        Ok(commit)
    }

    fn look<T>(
        &self,
        key: Key<'_>,
        found: impl FnOnce(&mut Stripe<'_>, Option<&Entry>) -> Result<T>,
    ) -> Result<T> {
        let now = self.now();
        let mut stripe = self.shared.fences.lock(key);
        let mut state = self.state()?;
        state.expire(key, now);
        found(&mut stripe, state.entries.get(key.as_str()))
    }

    fn publish(
        &self,
        key: &KeyBuf,
        fence: Option<&Fence>,
        draft: Draft,
        body: Bytes,
    ) -> Result<Commit> {
        let size = (key.len() + draft.header().size() + body.len()) as u64;
        if size > self.shared.setup.capacity {
            return Err(Error::too_large("the object is above the model's capacity"));
        }
        self.change(key.as_key(), fence, |state| {
            let version = state.next_version();
            let metadata = Arc::new(draft.commit(body.len() as u64, Version(version), None));
            state.remove(key);
            while state.live + size > self.shared.setup.capacity {
                state.evict();
            }
            let entry = Entry {
                metadata: Arc::clone(&metadata),
                body,
                age: version,
                size,
            };
            state.insert(key.clone(), entry);
            Ok(Commit::Done(Some(metadata)))
        })
    }

    fn object(&self, entry: &Entry, range: ByteRange) -> Result<Object> {
        let object = Object::slice(Arc::clone(&entry.metadata), &entry.body, range)?;
        let (Some(len), Some(bytes)) = (self.chunk, object.body.as_whole().cloned()) else {
            return Ok(object);
        };
        let total = bytes.len() as u64;
        let chunks = stream::unfold(bytes, move |mut rest| async move {
            // Like a medium that is not always ready.
            tokio::task::yield_now().await;
            let chunk = rest.split_to(len.min(rest.len()));
            (!chunk.is_empty()).then_some((Ok(chunk), rest))
        });
        Ok(Object {
            body: Body::stream(Some(total), chunks),
            ..object
        })
    }
}

impl State {
    fn insert(&mut self, key: KeyBuf, entry: Entry) {
        self.live += entry.size;
        self.order.insert(entry.age, key.clone());
        self.entries.insert(key, entry);
    }

    fn remove(&mut self, key: &str) -> Option<Entry> {
        let entry = self.entries.remove(key)?;
        self.live -= entry.size;
        self.order.remove(&entry.age);
        Some(entry)
    }

    fn evict(&mut self) {
        let (_, oldest) = (self.order.first_key_value()).expect("what is live has an order");
        let oldest = oldest.clone();
        self.remove(&oldest);
        self.evictions += 1;
    }

    fn expire(&mut self, key: Key<'_>, now: Timestamp) {
        let expired =
            (self.entries.get(key.as_str())).is_some_and(|entry| entry.metadata.is_expired(now));
        if expired {
            self.remove(key.as_str());
        }
    }

    fn next_version(&mut self) -> u64 {
        self.version += 1;
        self.version
    }
}

impl Default for Model {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let usage = self.usage();
        f.debug_struct("Model").field("usage", &usage).finish()
    }
}

impl Store for Model {
    fn get_stream<'a>(&'a self, key: Key<'a>, range: ByteRange) -> Reply<'a, Lookup> {
        self.reply(move || {
            self.look(key, |stripe, entry| match entry {
                Some(entry) => self.object(entry, range).map(Lookup::Hit),
                None => Ok(Lookup::Miss(stripe.fence())),
            })
        })
    }

    fn set_with_writer<'a>(&'a self, key: Key<'a>, draft: Draft) -> Reply<'a, Box<dyn Writer>> {
        self.reply(move || {
            drop(self.state()?);
            draft.check()?;
            ModelWriter::open(self.clone(), key.to_buf(), draft)
        })
    }

    fn delete<'a>(&'a self, key: Key<'a>, fence: Option<Fence>) -> Reply<'a, Commit> {
        self.reply(move || {
            self.change(key, fence.as_ref(), |state| {
                state.remove(key.as_str());
                Ok(Commit::Done(None))
            })
        })
    }

    fn stat<'a>(&'a self, key: Key<'a>) -> Reply<'a, Option<Arc<Metadata>>> {
        self.reply(move || {
            self.look(key, |_, entry| {
                Ok(entry.map(|entry| Arc::clone(&entry.metadata)))
            })
        })
    }

    fn fence<'a>(&'a self, key: Key<'a>) -> Reply<'a, Fence> {
        self.reply(move || self.look(key, |stripe, _| Ok(stripe.fence())))
    }

    fn kind(&self) -> &'static str {
        "model"
    }

    fn usage(&self) -> Usage {
        let state = lock(&self.shared.state);
        let mut usage = Usage::default();
        usage.entries = state.entries.len() as u64;
        usage.live = state.live;
        usage.stored = state.live;
        usage.staged = state.staged;
        usage.capacity = Some(self.shared.setup.capacity);
        usage.evictions = state.evictions;
        usage
    }

    fn close(&self) -> Reply<'_, ()> {
        self.reply(|| {
            let mut state = lock(&self.shared.state);
            state.closed = true;
            state.bus = None;
            Ok(())
        })
    }

    fn object_max(&self) -> Option<u64> {
        Some(self.shared.setup.object_max)
    }

    fn identity(&self) -> Identity {
        Identity::of(&*self.shared)
    }

    fn as_touch(&self) -> Option<&dyn Touch> {
        Some(self)
    }

    fn as_list(&self) -> Option<&dyn List> {
        Some(self)
    }

    fn as_lease(&self) -> Option<&dyn Lease> {
        Some(self)
    }

    fn as_bus(&self) -> Option<&dyn Bus> {
        Some(self)
    }
}

impl Touch for Model {
    fn touch<'a>(&'a self, key: Key<'a>, mut draft: Draft) -> Reply<'a, Commit> {
        self.reply(move || {
            draft.check()?;
            let fence = draft.take_fence();
            self.change(key, fence.as_ref(), |state| {
                let Some(old) = state.entries.get(key.as_str()) else {
                    return Ok(Commit::Superseded);
                };
                draft.check_len(old.metadata.len())?;
                let version = state.next_version();
                let mut entry = state.remove(key.as_str()).expect("it was found just now");
                let before = entry.metadata.header().size() as u64;
                entry.metadata = Arc::new(entry.metadata.touched(draft.owned(), Version(version)));
                entry.size = entry.size - before + entry.metadata.header().size() as u64;
                entry.age = version;
                let metadata = Arc::clone(&entry.metadata);
                while state.live + entry.size > self.shared.setup.capacity && state.live > 0 {
                    state.evict();
                }
                state.insert(key.to_buf(), entry);
                Ok(Commit::Done(Some(metadata)))
            })
        })
    }
}

impl List for Model {
    fn list(&self, prefix: &str) -> Keys {
        let now = self.now();
        let keys = self.state().map(|state| {
            let entries = state.entries.iter();
            entries
                .filter(|(key, entry)| key.starts_with(prefix) && !entry.metadata.is_expired(now))
                .map(|(key, _)| Ok(key.clone()))
                .collect()
        });
        Box::pin(stream::iter(
            keys.unwrap_or_else(|closed| vec![Err(closed)]),
        ))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
