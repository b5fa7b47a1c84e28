//! Who may have how many bytes of the disk, and what the keeper and the sealer have to do.
//
// Invariants:
// 1. The lock is the last that anybody takes: nothing is called beneath it that takes another one,
//    or that may run a waiter's code.
// 2. Bytes count from the moment they are granted to the moment when their file is removed. A grant
//    that nobody takes is given back by its drop.
// 3. Who waits is served in order.

mod duties;

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

pub(crate) use self::duties::Task;
use crate::{
    account::Account,
    blobs::{Blob, Standing},
    clock,
    config::Settings,
    ghost::Ghost,
    health::Health,
    index::{Place, Word},
    log::closed,
    segment::{Queue, Segment},
    victims::{Victims, Want},
};

/// In a store of fewer segments nothing goes for the sake of a second spare until somebody waits.
const SMALL: u64 = 16;
/// When no file can be made, so many go at once: one in so many, and ...
const INODES_SHARE: usize = 32;
/// ... at most these.
const INODES_MAX: usize = 64;
/// Longest wait for them.
const INODES_TIME: Duration = Duration::from_secs(1);
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
    /// Tells those who wait for a file to go.
    inodes: Condvar,
    ghost: Ghost,
    /// Whether something was flushed that nobody has synced.
    dirty: AtomicBool,
    /// Whether nothing can be stored, as `State::health` has it: each writer asks.
    passing_through: AtomicBool,
    /// Where records that the keeper has moved came from, until they are settled.
    origins: Mutex<HashMap<Place, Word>>,
}

#[allow(clippy::struct_excessive_bools)] // Each is a fact of its own.
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
    /// Files that are to go since no more can be made.
    inodes_wanted: Option<(Want, usize)>,
    /// When to sync what was flushed.
    sync_at: Option<Instant>,
    /// Whether somebody waits for the log, since there were all spares.
    is_pressed: bool,
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

impl Room {
    /// `used` are the bytes of the files that were found; `blobs` those among them, the oldest
    /// first.
    pub(crate) fn new(settings: &Settings, used: u64, blobs: Vec<Arc<Blob>>) -> Self {
        let Settings {
            capacity,
            segment_size,
            ..
        } = *settings;
        let blob_bytes = (blobs.iter()).fold(0_u64, |sum, blob| sum.saturating_add(blob.room()));
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
            inodes_wanted: None,
            sync_at: None,
            is_pressed: false,
            woken: true,
            stopped: false,
            keeper_ended: false,
        };
        Self(Arc::new(Shared {
            state: Mutex::new(state),
            keeper: Condvar::new(),
            sealer: Condvar::new(),
            inodes: Condvar::new(),
            ghost: Ghost::new(),
            dirty: AtomicBool::new(false),
            passing_through: AtomicBool::new(false),
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

    /// Tells the keeper that somebody waits for the log.
    pub(crate) fn wake(&self) {
        let mut state = self.lock();
        state.is_pressed = true;
        self.0.wake(&mut state);
    }

    /// Tells the keeper that a spare has become a segment.
    pub(crate) fn began(&self) {
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
            state.account.landed(blob.room());
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
            state.account.landed(blob.room());
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
            self.lock().sync_at = Some(clock::now() + SYNC_PAUSE);
            self.0.sealer.notify_one();
        }
    }

    /// Tells of a write that failed: the store shrinks, or passes through for a while.
    pub(crate) fn failed(&self, error: &Error) {
        let mut state = self.lock();
        let used = state.account.used();
        state.health.failed(error, used, clock::now());
        self.note_health(&state.health);
        self.0.wake(&mut state);
    }

    /// The longest file that a blob can have for now, in bytes.
    pub(crate) fn blob_max(&self) -> u64 {
        let state = self.lock();
        state.account.blobs_max(state.health.limit())
    }

    /// Tells that no file can be made for want of inodes, and what may go so that others can be:
    /// for a blob other blobs, for the log anything. `false` where nothing can go.
    pub(crate) fn want_inodes(&self, want: Want) -> bool {
        let mut state = self.lock();
        let count = match want {
            Want::Blob => (state.victims.blobs() / INODES_SHARE).clamp(1, INODES_MAX),
            Want::Anything => 1,
        };
        let is_possible = state.victims.has(want);
        if is_possible && state.inodes_wanted.is_none() {
            self.0.want_inodes(&mut state, Some((want, count)));
            self.0.wake(&mut state);
        }
        is_possible
    }

    /// Waits until the files that were to go have gone, though no longer than
    /// [`INODES_TIME`]. For a thread that may wait for the disk.
    pub(crate) fn await_inodes(&self) {
        let state = self.lock();
        let is_wanted = |state: &mut State| state.inodes_wanted.is_some() && !state.stopped;
        let inodes = &self.0.inodes;
        let waited = inodes.wait_timeout_while(state, INODES_TIME, is_wanted);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// The most bytes that may be used for now: the capacity, or less where the disk is full.
    pub(crate) fn limit(&self) -> u64 {
        self.lock().health.limit()
    }

    /// Bytes of all files; none where the folder is no longer the store's.
    pub(crate) fn used(&self) -> u64 {
        let state = self.lock();
        if state.health.is_withdrawn() {
            return 0;
        }
        state.account.used()
    }

    /// Nothing is stored or removed any more; who waits is turned away.
    pub(crate) fn withdraw(&self, error: &Error) {
        let mut state = self.lock();
        state.health.withdraw(error);
        self.note_health(&state.health);
        let victims = std::mem::take(&mut state.victims);
        let unlinks = std::mem::take(&mut state.unlinks);
        drop(state);
        drop((victims, unlinks));
        self.refuse_all(error);
    }

    /// Whether nothing can be stored for now.
    pub(crate) fn is_passing_through(&self) -> bool {
        self.0.passing_through.load(Ordering::Relaxed)
    }

    /// To be called after each change to the state of the disk, under its lock.
    fn note_health(&self, health: &Health) {
        let is_down = health.down().is_some();
        self.0.passing_through.store(is_down, Ordering::Relaxed);
    }

    /// The keeper and the sealer are to end when their work is done.
    pub(crate) fn stop(&self) {
        let mut state = self.lock();
        state.stopped = true;
        self.0.inodes.notify_all();
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

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self, state: &mut State) {
        state.woken = true;
        self.keeper.notify_one();
    }

    /// Takes note that a file is gone.
    fn freed_inode(&self, state: &mut State) {
        let left = state.inodes_wanted.map(|(want, count)| (want, count - 1));
        self.want_inodes(state, left.filter(|(_, count)| *count > 0));
    }

    fn want_inodes(&self, state: &mut State, wanted: Option<(Want, usize)>) {
        state.inodes_wanted = wanted;
        if wanted.is_none() {
            self.inodes.notify_all();
        }
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
    /// As many spares as these are worth: where the last is not worth an eviction, one more.
    fn spares_worth(&self, spares: usize) -> usize {
        let is_small = self.health.limit() < SMALL * self.account.segment_size();
        spares + usize::from(is_small && !self.is_pressed)
    }

    /// Whether it makes sense to wait for so many bytes.
    fn check(&self, bytes: u64) -> Result<()> {
        if self.stopped {
            return Err(closed());
        }
        if let Some(error) = self.health.down().filter(|_| self.health.is_withdrawn()) {
            return Err(error.clone());
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
