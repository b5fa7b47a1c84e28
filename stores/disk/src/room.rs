//! Who may have how many bytes of the disk, and what the keeper and the sealer have to do.
//
// Invariants:
// 1. The lock is the last that anybody takes: nothing is called beneath it that takes another one,
//    or that may run a waiter's code.
// 2. Bytes count from the moment they are granted to the moment when their file is removed. A grant
//    that nobody takes is given back by its drop.
// 3. Who waits is served in order.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use larder_store::{Error, ErrorKind, Result};
use tokio::{sync::oneshot, time::Instant};

use crate::{
    account::Account,
    blobs::{Blob, Standing},
    config::Settings,
    ghost::Ghost,
    health::Health,
    index::{Place, Word},
    log::closed,
    segment::{Queue, Segment},
    victims::{Victim, Victims, Want},
};

/// What was flushed is synced so much later at the latest, and several flushes at once.
const SYNC_PAUSE: Duration = Duration::from_secs(1);

/// The bytes that are given out, and what has to be done about them.
pub(crate) struct Room(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Wakes the keeper.
    keeper: Condvar,
    /// Wakes the sealer.
    sealer: Condvar,
    ghost: Ghost,
    /// Whether something was flushed that nobody has synced.
    dirty: AtomicBool,
    /// Where records that the keeper has moved came from, until they are settled.
    origins: Mutex<HashMap<Place, Word>>,
}

struct State {
    account: Account,
    health: Health,
    victims: Victims,
    waiters: VecDeque<Waiter>,
    /// Blobs whose files go once a record is settled.
    unlinks: VecDeque<(Arc<Blob>, u64)>,
    seals: VecDeque<Arc<Segment>>,
    /// Segments that were handed over and are not yet among the victims.
    sealing: usize,
    /// When to sync what was flushed.
    sync_at: Option<Instant>,
    /// Whether the keeper has something to look at.
    woken: bool,
    stopped: bool,
    keeper_ended: bool,
}

/// Somebody who waits for room.
struct Waiter {
    bytes: u64,
    tell: oneshot::Sender<Result<Grant>>,
}

/// Bytes on their way to who waits for them.
struct Grant {
    shared: Arc<Shared>,
    bytes: u64,
}

/// What the sealer does next.
pub(crate) enum Task {
    Seal(Arc<Segment>),
    Sync,
    End,
}

impl Room {
    /// `used` are the bytes of the files that were found; `blobs` those among them, the oldest
    /// first.
    pub(crate) fn new(settings: &Settings, used: u64, blobs: Vec<Arc<Blob>>) -> Self {
        let Settings {
            capacity,
            segment_size,
            ..
        } = *settings;
        let blob_bytes =
            (blobs.iter()).fold(0_u64, |sum, blob| sum.saturating_add(blob.file_len()));
        let mut victims = Victims::default();
        for blob in blobs {
            let id = blob.id;
            victims.place(blob, Queue::Probation, id);
        }
        let state = State {
            account: Account::new(segment_size, used, blob_bytes),
            health: Health::new(capacity, segment_size),
            victims,
            waiters: VecDeque::new(),
            unlinks: VecDeque::new(),
            seals: VecDeque::new(),
            sealing: 0,
            sync_at: None,
            woken: true,
            stopped: false,
            keeper_ended: false,
        };
        Self(Arc::new(Shared {
            state: Mutex::new(state),
            keeper: Condvar::new(),
            sealer: Condvar::new(),
            ghost: Ghost::new(),
            dirty: AtomicBool::new(false),
            origins: Mutex::default(),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }

    /// Whether an object of this hash was evicted lately: it then goes to the main queue.
    pub(crate) fn was_evicted(&self, hash: u64) -> bool {
        self.0.ghost.contains(hash)
    }

    /// Tells the keeper that somebody waits.
    pub(crate) fn wake(&self) {
        self.0.wake(&mut self.lock());
    }

    /// Waits for room for a blob's file; `Full` where it cannot be had.
    ///
    /// Cancel safety: what was granted to a future that is dropped is given back.
    pub(crate) async fn admit(&self, bytes: u64) -> Result<()> {
        let Some(told) = self.ask(bytes)? else {
            return Ok(());
        };
        let grant = told.await.map_err(|_| closed())??;
        grant.keep();
        Ok(())
    }

    /// Takes the bytes where there are plenty, or else stands in line.
    fn ask(&self, bytes: u64) -> Result<Option<oneshot::Receiver<Result<Grant>>>> {
        let mut state = self.lock();
        state.check(bytes)?;
        let limit = state.health.limit();
        // How many spares there are is not known here.
        let is_there = state.account.obstacle(bytes, limit, 0).is_none();
        if state.waiters.is_empty() && is_there {
            state.account.admit(bytes);
            return Ok(None);
        }
        let (tell, told) = oneshot::channel();
        state.waiters.push_back(Waiter { bytes, tell });
        self.0.wake(&mut state);
        Ok(Some(told))
    }

    /// Gives admitted bytes back: their blob did not come to be.
    pub(crate) fn give_back(&self, bytes: u64) {
        self.0.give_back(bytes);
    }

    /// A blob that was published takes its place in the order of eviction.
    pub(crate) fn add_blob(&self, blob: Arc<Blob>) {
        let mut state = self.lock();
        if blob.standing() == Standing::Fresh {
            state.account.landed(blob.file_len());
        }
        let id = blob.id;
        state.victims.place(blob, Queue::Probation, id);
        if !state.waiters.is_empty() {
            // It may have to go for them.
            self.0.wake(&mut state);
        }
    }

    /// Has a blob's file removed in the background, once this record is settled.
    pub(crate) fn unlink(&self, blob: Arc<Blob>, after: u64) {
        let mut state = self.lock();
        if blob.standing() == Standing::Fresh {
            // Who published it has not come to say so.
            state.account.landed(blob.file_len());
        }
        if state.victims.dismiss(&blob) {
            state.unlinks.push_back((blob, after));
            self.0.wake(&mut state);
        }
    }

    /// Hands over a segment that is written to its end: it gets its footer.
    pub(crate) fn seal(&self, segment: Arc<Segment>) {
        let mut state = self.lock();
        state.sealing += 1;
        (state.victims).expect(segment.queue, segment.allocated());
        state.seals.push_back(segment);
        self.0.sealer.notify_one();
        // The next segment was a spare.
        self.0.wake(&mut state);
    }

    /// Tells that something was written that is to be synced some time.
    pub(crate) fn wrote(&self) {
        if !self.0.dirty.swap(true, Ordering::AcqRel) {
            self.lock().sync_at = Some(Instant::now() + SYNC_PAUSE);
            self.0.sealer.notify_one();
        }
    }

    /// Tells of a write that failed: the store shrinks, or passes through for a while.
    pub(crate) fn failed(&self, error: &Error) {
        let mut state = self.lock();
        let used = state.account.used();
        state.health.failed(error, used, Instant::now());
        self.0.wake(&mut state);
    }

    /// The most bytes that may be used for now: the capacity, or less where the disk is full.
    pub(crate) fn limit(&self) -> u64 {
        self.lock().health.limit()
    }

    /// Bytes of all files.
    pub(crate) fn used(&self) -> u64 {
        self.lock().account.used()
    }

    /// Whether nothing can be stored for now.
    pub(crate) fn is_passing_through(&self) -> bool {
        self.lock().health.down().is_some()
    }

    /// The keeper and the sealer are to end when their work is done.
    pub(crate) fn stop(&self) {
        let mut state = self.lock();
        state.stopped = true;
        self.0.wake(&mut state);
        self.0.sealer.notify_one();
    }

    /// What a moved record was, while it is not settled: see [`note_origin`](Self::note_origin).
    pub(crate) fn origin(&self, place: Place) -> Option<Word> {
        self.origins().get(&place).copied()
    }

    fn origins(&self) -> MutexGuard<'_, HashMap<Place, Word>> {
        (self.0.origins.lock()).unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the keeper does.
impl Room {
    /// Notes that a record at this place is a copy; should it not reach its file, the entry is to
    /// point to the original again. The entry's stripe is locked.
    pub(crate) fn note_origin(&self, place: Place, original: Word) {
        self.origins().insert(place, original);
    }

    pub(crate) fn clear_origins(&self) {
        self.origins().clear();
    }

    pub(crate) fn ghost(&self) -> &Ghost {
        &self.0.ghost
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.lock().stopped
    }

    /// Sleeps until there is something to look at, or until then.
    pub(crate) fn keeper_sleep(&self, until: Option<Instant>) {
        let mut state = self.lock();
        while !state.woken && !state.stopped {
            let now = Instant::now();
            let next = [until, state.health.next()].into_iter().flatten().min();
            state = match next {
                Some(next) if next <= now => break,
                Some(next) => wait_until(&self.0.keeper, state, next - now),
                None => {
                    let waited = self.0.keeper.wait(state);
                    waited.unwrap_or_else(PoisonError::into_inner)
                }
            };
        }
        state.woken = false;
    }

    pub(crate) fn keeper_ended(&self) {
        self.lock().keeper_ended = true;
        self.0.sealer.notify_one();
    }

    /// Looks at the state of the disk, or changes it.
    pub(crate) fn health<T>(&self, look: impl FnOnce(&mut Health) -> T) -> T {
        look(&mut self.lock().health)
    }

    /// Looks at what may be evicted, or changes it.
    pub(crate) fn victims<T>(&self, look: impl FnOnce(&mut Victims) -> T) -> T {
        look(&mut self.lock().victims)
    }

    /// Counts one more segment; `false` where that would be too many. `beyond` the limit it may go
    /// when the keeper cannot make room otherwise.
    pub(crate) fn take_segment(&self, beyond: bool) -> bool {
        let mut state = self.lock();
        let limit = state.health.limit();
        let takes = beyond || state.account.has_segment(limit);
        if takes {
            state.account.take_segment();
        }
        takes
    }

    /// Takes note that a segment's file has another length, zero where it is gone.
    pub(crate) fn resize(&self, from: u64, to: u64) {
        self.lock().account.resize(from, to);
    }

    /// What has to be evicted, with so many spares.
    pub(crate) fn want(&self, spares: usize) -> Option<Want> {
        let state = self.lock();
        if state.stopped || state.health.is_failing() {
            return None;
        }
        let limit = state.health.limit();
        let shortage = state.account.shortage(limit, spares);
        shortage.or_else(|| {
            let bytes = state.waiters.front()?.bytes;
            state.account.obstacle(bytes, limit, spares)
        })
    }

    pub(crate) fn choose(&self, want: Want) -> Option<Victim> {
        let mut state = self.lock();
        let limit = state.health.limit();
        state.victims.choose(limit, want)
    }

    /// Whether room is on its way, or victims are, with nothing more to be done about it.
    pub(crate) fn is_under_way(&self) -> bool {
        let state = self.lock();
        state.sealing > 0 || !state.unlinks.is_empty()
    }

    /// Lets in who waits, in order, as far as there is room.
    pub(crate) fn grant(&self, spares: usize) {
        let mut granted = Vec::new();
        let mut state = self.lock();
        while let Some(waiter) = state.waiters.front() {
            let (bytes, limit) = (waiter.bytes, state.health.limit());
            let is_gone = waiter.tell.is_closed();
            if !is_gone {
                if state.account.obstacle(bytes, limit, spares).is_some() {
                    break;
                }
                state.account.admit(bytes);
            }
            granted.extend(state.waiters.pop_front().filter(|_| !is_gone));
        }
        drop(state);
        for Waiter { bytes, tell } in granted {
            let shared = Arc::clone(&self.0);
            // Where nobody takes it, its drop gives it back.
            let _ = tell.send(Ok(Grant { shared, bytes }));
        }
    }

    /// Turns away who waits first; `false` where nobody does.
    pub(crate) fn refuse_first(&self) -> bool {
        let waiter = self.lock().waiters.pop_front();
        waiter.is_some_and(|waiter| {
            let _ = waiter.tell.send(Err(full()));
            true
        })
    }

    /// Turns away all who wait.
    pub(crate) fn refuse_all(&self, error: &Error) {
        let waiters = std::mem::take(&mut self.lock().waiters);
        for waiter in waiters {
            let _ = waiter.tell.send(Err(error.clone()));
        }
    }

    /// Takes the blob that was to be unlinked first.
    pub(crate) fn next_unlink(&self) -> Option<(Arc<Blob>, u64)> {
        self.lock().unlinks.pop_front()
    }

    /// Not yet.
    pub(crate) fn postpone_unlink(&self, blob: Arc<Blob>, after: u64) {
        self.lock().unlinks.push_back((blob, after));
    }

    pub(crate) fn unlinks(&self) -> usize {
        self.lock().unlinks.len()
    }

    /// Says that a blob's file is gone.
    pub(crate) fn unlinked(&self, blob: &Blob) {
        self.lock().account.free_blob(blob.file_len());
    }
}

/// What the sealer does.
impl Room {
    /// Waits for something to do.
    pub(crate) fn next_task(&self) -> Task {
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            if state.sync_at.is_some_and(|at| at <= now) {
                state.sync_at = None;
                self.0.dirty.store(false, Ordering::Release);
                return Task::Sync;
            }
            if let Some(segment) = state.seals.pop_front() {
                return Task::Seal(segment);
            }
            if state.stopped {
                return Task::End;
            }
            state = match state.sync_at {
                Some(at) => wait_until(&self.0.sealer, state, at - now),
                None => {
                    let waited = self.0.sealer.wait(state);
                    waited.unwrap_or_else(PoisonError::into_inner)
                }
            };
        }
    }

    /// Says that a segment has its final form: it may be evicted from now on. Before, so many bytes
    /// were expected of it.
    pub(crate) fn sealed(&self, segment: Arc<Segment>, expected: u64) {
        let mut state = self.lock();
        state.sealing = state.sealing.saturating_sub(1);
        state.victims.arrived(segment.queue, expected);
        state.victims.add_segment(segment);
        self.0.wake(&mut state);
    }

    /// Waits until the keeper has ended.
    pub(crate) fn await_keeper(&self) {
        let mut state = self.lock();
        while !state.keeper_ended {
            let waited = self.0.sealer.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self, state: &mut State) {
        state.woken = true;
        self.keeper.notify_one();
    }

    fn give_back(&self, bytes: u64) {
        let mut state = self.lock();
        state.account.give_back(bytes);
        if !state.waiters.is_empty() {
            self.wake(&mut state);
        }
    }
}

impl State {
    /// Whether it makes sense to wait for so many bytes.
    fn check(&self, bytes: u64) -> Result<()> {
        if self.stopped {
            return Err(closed());
        }
        let is_possible = (self.account).is_possible(bytes, self.health.limit());
        if self.health.down().is_some() || !is_possible {
            return Err(full());
        }
        Ok(())
    }
}

impl Grant {
    fn keep(mut self) {
        self.bytes = 0;
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.shared.give_back(self.bytes);
        }
    }
}

fn full() -> Error {
    Error::new(ErrorKind::Full, "there is no room on the disk")
}

fn wait_until<'a>(
    condition: &Condvar,
    state: MutexGuard<'a, State>,
    pause: Duration,
) -> MutexGuard<'a, State> {
    let waited = condition.wait_timeout(state, pause);
    waited.unwrap_or_else(PoisonError::into_inner).0
}
