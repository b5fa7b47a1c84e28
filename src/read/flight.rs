//! One flight per key, many readers.
//!
//! A flight looks a key up once, fetches it once if no tier has it, and gives the result to all who
//! joined. [`drive`](super::drive) drives it; whoever asked first is a member like any other and may
//! leave.
//!
//! Invariants:
//! 1. The table holds at most one flight a key. Who finds it there may join unless it is over or
//!    closed; who then cannot starts another in its place.
//! 2. A flight is removed from the table before its failure is told, so that a later read tries
//!    again; and after its commits have ended, so that no read falls between the two.
//! 3. A retired flight is not in the table, nobody joins it, and it publishes nothing: retiring and
//!    publishing both happen under the key's turn, or before it.
//! 4. The phase only goes forward: `Looking`, `Fetching`, `Open` or `Over`.
//! 5. One lock a flight, held for a moment; wakers are woken and readers' are dropped outside. The
//!    table's lock comes first.
//! 6. Nothing here knows a runtime or does I/O.

mod member;

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Poll, Waker},
};

use bytes::Bytes;
use larder_store::{Error, Header, KeyBuf, Metadata, Object, Staged};

use super::spool::{Next, Spool, SpoolLimits, Wakers};
use crate::{
    bus::Since,
    fetch::BoxFetch,
    response::{Source, Stale},
    sync::{AtomicBool, Mutex, Ordering, lock},
};

pub(crate) use member::{Boarding, Member, Seen};

pub(crate) struct Flight {
    pub(crate) key: KeyBuf,
    pub(crate) since: Since,
    state: Mutex<State>,
    retired: AtomicBool,
}

struct State {
    phase: Phase,
    spool: Spool,
    /// What to run when the tiers have nothing: of the first member who has one.
    fetcher: Option<BoxFetch>,
    /// Whether it was ever given one.
    was_lent: bool,
    /// Whether someone is there who does not wait for a fetch.
    has_impatient: bool,
    driver: Option<(Waker, Awaits)>,
    /// What the window's memory was reserved with; released with the last reader.
    reserved: Option<Box<dyn Send>>,
    /// What keeps other processes waiting for this flight.
    lease: Option<Box<dyn Send>>,
}

/// What the driver waits for, so that it is not woken for each of many readers.
#[derive(Clone, Copy)]
enum Awaits {
    /// A reader to move, come or leave.
    Progress,
    /// The last reader to leave.
    Departure,
}

enum Phase {
    Looking,
    /// With what may be served meanwhile.
    Fetching(Option<Arc<Opening>>),
    Open(Arc<Opening>),
    Over(Over),
}

#[derive(Clone)]
enum Over {
    Failed(Error),
    /// No tier had it, and nobody had a fetcher.
    Nowhere,
}

/// What a flight found, as all its members see it.
pub(crate) struct Opening {
    pub(crate) header: Arc<Header>,
    /// The metadata, where a tier has committed the object; of a renewed one as it was before.
    pub(crate) stored: Option<Arc<Metadata>>,
    pub(crate) len: Option<u64>,
    pub(crate) source: Source,
    pub(crate) stale: Option<Stale>,
    pub(crate) revalidated: bool,
    pub(crate) carrier: Carrier,
}

/// How the members get the bytes.
pub(crate) enum Carrier {
    /// Here they are.
    Whole(Bytes),
    /// Through the flight's spool.
    Spooled,
    /// From this tier, each for itself: nothing is to be filled. The first may take the object that
    /// the flight has opened.
    Direct {
        tier: usize,
        object: Mutex<Option<Object>>,
    },
    /// There are none: the origin has no such object.
    Absent,
}

impl Flight {
    pub(crate) fn new(key: KeyBuf, limits: SpoolLimits, fetcher: Option<BoxFetch>) -> Self {
        let (phase, spool) = (Phase::Looking, Spool::new(limits));
        let state = Mutex::new(State {
            phase,
            spool,
            was_lent: fetcher.is_some(),
            fetcher,
            has_impatient: false,
            driver: None,
            reserved: None,
            lease: None,
        });
        Self {
            key,
            since: Since::default(),
            state,
            retired: AtomicBool::new(false),
        }
    }

    /// Says when it began.
    pub(crate) fn since(mut self, since: Since) -> Self {
        self.since = since;
        self
    }

    /// Joins, unless nobody may any more. A member with a fetcher lends it to a flight that has
    /// none: `fetcher` is called only then.
    ///
    /// The waker is kept where there is nothing to be seen yet.
    pub(crate) fn join(
        self: &Arc<Self>,
        fetches: bool,
        waker: Option<&Waker>,
        fetcher: impl FnOnce() -> Option<BoxFetch>,
    ) -> Option<Boarding> {
        let mut state = lock(&self.state);
        if matches!(state.phase, Phase::Over(_)) || !state.spool.is_joinable() {
            return None;
        }
        if fetches && state.fetcher.is_none() && matches!(state.phase, Phase::Looking) {
            state.fetcher = fetcher();
            state.was_lent |= state.fetcher.is_some();
        }
        state.has_impatient |= !fetches;
        let id = state.spool.enter();
        let waits = match state.phase {
            Phase::Looking => true,
            Phase::Fetching(None) => fetches,
            _ => false,
        };
        let waker = waker.filter(|_| waits);
        let before = waker.and_then(|waker| state.spool.wait(id, waker));
        let driver = state.due();
        drop(state);
        drop(before);
        if let Some(waker) = driver {
            waker.wake();
        }
        let member = Member {
            flight: Arc::clone(self),
            id,
            fetches,
            has_left: false,
        };
        let waits = waker.is_some();
        Some(Boarding { member, waits })
    }

    // --- what the driver tells ---

    /// The tiers have nothing: gives the fetcher to run, or ends the flight where nobody has one.
    pub(crate) fn fetching(&self, meanwhile: Option<Arc<Opening>>) -> Option<BoxFetch> {
        let mut state = lock(&self.state);
        let fetcher = state.fetcher.take();
        state.phase = match fetcher {
            Some(_) => Phase::Fetching(meanwhile),
            None => Phase::Over(Over::Nowhere),
        };
        // Who waits for the fetch need not hear that it begins.
        let is_news = state.has_impatient || !matches!(state.phase, Phase::Fetching(None));
        let wakers = is_news.then(|| state.spool.wake_all());
        drop(state);
        wakers.unwrap_or_default().wake();
        fetcher
    }

    /// Takes the fetcher out without running it, for a refresh behind.
    pub(crate) fn take_fetcher(&self) -> Option<BoxFetch> {
        lock(&self.state).fetcher.take()
    }

    /// Gives back a fetcher that was not run.
    pub(crate) fn lend(&self, fetcher: BoxFetch) {
        lock(&self.state).fetcher = Some(fetcher);
    }

    /// The object was found.
    pub(crate) fn open(&self, opening: Arc<Opening>) {
        let mut state = lock(&self.state);
        state.phase = Phase::Open(opening);
        let wakers = state.spool.wake_all();
        drop(state);
        wakers.wake();
    }

    /// The flight failed: who waits is told, who reads is told after the bytes.
    pub(crate) fn fail(&self, error: Error) {
        let mut state = lock(&self.state);
        if !matches!(state.phase, Phase::Open(_) | Phase::Over(_)) {
            state.phase = Phase::Over(Over::Failed(error.clone()));
        }
        let wakers = state.spool.finish(Err(error));
        drop(state);
        wakers.wake();
    }

    /// Changes the spool, and wakes whom that concerns.
    fn with_spool(&self, change: impl FnOnce(&mut Spool) -> Wakers) {
        let mut state = lock(&self.state);
        let wakers = change(&mut state.spool);
        drop(state);
        wakers.wake();
    }

    /// The source gave bytes.
    pub(crate) fn append(&self, bytes: Bytes) {
        self.with_spool(|spool| spool.append(bytes));
    }

    /// The source ended.
    pub(crate) fn finish(&self) {
        self.with_spool(|spool| spool.finish(Ok(())));
    }

    /// A writer stages what it takes, from the first byte on.
    pub(crate) fn add_backing(&self, staged: Arc<dyn Staged>) {
        lock(&self.state).spool.add_backing(0, staged);
    }

    pub(crate) fn backed(&self, staged: &Arc<dyn Staged>, to: u64) {
        lock(&self.state).spool.backed(staged, to);
    }

    pub(crate) fn spilled(&self, file: &Arc<dyn Staged>, from: u64, len: u64) {
        lock(&self.state).spool.spilled(file, from, len);
    }

    pub(crate) fn spill_failed(&self) {
        lock(&self.state).spool.spill_failed();
    }

    /// Keeps the reservation of memory until the flight's last handle is dropped.
    pub(crate) fn keep(&self, reserved: Box<dyn Send>) {
        lock(&self.state).reserved = Some(reserved);
    }

    /// Holds a lease, until the flight lands or is retired.
    pub(crate) fn hold(&self, lease: Box<dyn Send>) {
        lock(&self.state).lease = Some(lease);
        if self.is_retired() {
            self.let_go();
        }
    }

    /// Gives up the lease, if it holds one: others need not wait for it.
    pub(crate) fn let_go(&self) {
        let lease = lock(&self.state).lease.take();
        drop(lease);
    }

    /// What to do next, see [`Spool::next`]; with the readers' progress so far.
    pub(crate) fn next(&self, ahead: bool, pressure: bool) -> (Next, u64) {
        let mut state = lock(&self.state);
        let next = (state.spool.next(ahead, pressure), state.spool.progress());
        let gone = state.spool.take_gone();
        drop(state);
        drop(gone);
        next
    }

    /// Cuts the readers that hold the flight up; says how many.
    pub(crate) fn cut_blocked(&self) -> usize {
        let mut state = lock(&self.state);
        let (cut, wakers) = state.spool.cut_blocked();
        drop(state);
        wakers.wake();
        cut
    }

    /// Waits until a reader has moved, come or left.
    pub(crate) async fn moved(&self, since: u64) {
        self.driver_until(Awaits::Progress, |spool| spool.progress() != since)
            .await;
    }

    /// Waits until everyone has left.
    pub(crate) async fn abandoned(&self) {
        self.driver_until(Awaits::Departure, |spool| spool.readers() == 0)
            .await;
    }

    async fn driver_until(&self, awaits: Awaits, mut done: impl FnMut(&Spool) -> bool) {
        poll_fn(|cx| {
            let mut state = lock(&self.state);
            if done(&state.spool) {
                return Poll::Ready(());
            }
            state.driver = Some((cx.waker().clone(), awaits));
            Poll::Pending
        })
        .await;
    }

    /// From here on it publishes nothing. Its lease is to be given up then, outside of the table's
    /// lock.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }

    // --- what can be asked ---

    /// Whether everyone has left; then nobody joins any more, and the flight may end unseen.
    pub(crate) fn closes_abandoned(&self) -> bool {
        lock(&self.state).spool.close_if_left()
    }

    /// Whether it was given a fetcher that does not come back: it ran, or is for a refresh.
    pub(crate) fn keeps_fetcher(&self, refreshes: bool) -> bool {
        let state = lock(&self.state);
        state.was_lent && (refreshes || state.fetcher.is_none())
    }

    pub(crate) fn is_crowded(&self) -> bool {
        lock(&self.state).spool.is_crowded()
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// Bytes that came, bytes held in memory, and what the next chunk may bring.
    pub(crate) fn extent(&self) -> (u64, u64, u64) {
        let state = lock(&self.state);
        (
            state.spool.end(),
            state.spool.held(),
            state.spool.chunk_max(),
        )
    }
}

impl State {
    /// The driver's waker, where what it waits for may have come.
    fn due(&mut self) -> Option<Waker> {
        let is_due = match self.driver.as_ref()?.1 {
            Awaits::Progress => true,
            Awaits::Departure => self.spool.readers() == 0,
        };
        self.driver.take_if(|_| is_due).map(|(waker, _)| waker)
    }
}
