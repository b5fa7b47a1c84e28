//! One flight per key, many readers.
//!
//! A flight looks a key up once, fetches it once if no tier has it, and gives the result to all who
//! joined. [`drive`](super::drive) drives it; whoever asked first is a member like any other and may
//! leave.
//!
//! Invariants:
//! 1. A caller that joins before the answer opens shares it. One that comes later assesses it like a
//!    stored entry, at that moment.
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
    sync::{Arc, OnceLock},
    task::{Poll, Waker},
};

use bytes::Bytes;
use larder_store::{Error, Fence, Header, KeyBuf, Metadata, Object, Staged};
use tokio::sync::OwnedSemaphorePermit;

use super::{
    fetcher::{Keeps, Lend},
    flights::{Wants, What},
    nesting::Scope,
    spool::{Next, Spool, SpoolLimits, Wakers},
};
use crate::{
    bus::Since,
    fetch::BoxFetch,
    lease::Lease,
    response::{Source, Stale},
    sync::{AtomicBool, AtomicU64, Mutex, Ordering, lock},
};

pub(crate) use member::{Boarding, Member, Seen};

pub(crate) struct Flight {
    pub(crate) key: KeyBuf,
    /// Whether the user asked for a refresh.
    pub(crate) is_refresh: bool,
    /// The fetcher that the flight was started from, see [`nesting`](super::nesting).
    pub(crate) parent: Option<Arc<Scope>>,
    /// Flights that this one's fetcher waits for.
    pub(super) waits_for: std::sync::Mutex<Vec<Arc<Flight>>>,
    since: OnceLock<Since>,
    /// Its place among the flights of its key, see [`flights`](super::flights).
    number: AtomicU64,
    state: Mutex<State>,
    retired: AtomicBool,
    /// A flight that began later has published.
    outdated: AtomicBool,
}

struct State {
    phase: Phase,
    spool: Spool,
    fetcher: Loan,
    /// Whether someone is there who does not wait for a fetch.
    has_impatient: bool,
    /// The commits have ended, or there were none.
    landed: bool,
    driver: Option<(Waker, Awaits)>,
    /// What the window's memory was reserved with; released with the last reader.
    reserved: Option<Box<dyn Send>>,
    /// What keeps other processes waiting for this flight.
    lease: Option<Arc<Lease>>,
    /// Its slot among the fetches, until its source ends or it waits for its readers.
    slot: Option<OwnedSemaphorePermit>,
    /// Fences to go on with, where this process published under the key.
    fences: Vec<Refence>,
}

/// The fetcher that a flight runs when the tiers have nothing.
enum Loan {
    /// Nobody lent one.
    None,
    Held(BoxFetch),
    /// It ran, or became a background refresh's.
    Used,
}

/// A tier's fence for a flight to go on with. This process changed the key there, and nobody else
/// since the fence that the flight had.
pub(crate) struct Refence {
    pub(crate) tier: usize,
    pub(crate) fence: Fence,
    /// The object that is there now.
    pub(crate) there: Option<Arc<Metadata>>,
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
    pub(crate) too_large_for: Option<Arc<Vec<&'static str>>>,
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
    pub(crate) fn new(
        key: KeyBuf,
        limits: SpoolLimits,
        is_refresh: bool,
        parent: Option<Arc<Scope>>,
    ) -> Self {
        let state = Mutex::new(State {
            phase: Phase::Looking,
            spool: Spool::new(limits),
            fetcher: Loan::None,
            has_impatient: false,
            landed: false,
            driver: None,
            reserved: None,
            lease: None,
            slot: None,
            fences: Vec::new(),
        });
        Self {
            key,
            is_refresh,
            parent,
            waits_for: std::sync::Mutex::default(),
            since: OnceLock::new(),
            number: AtomicU64::new(0),
            state,
            retired: AtomicBool::new(false),
            outdated: AtomicBool::new(false),
        }
    }

    /// Says when it began. The first word stands.
    pub(crate) fn begin(&self, since: Since) {
        self.since.get_or_init(|| since);
    }

    /// When it began; `None` while it waits, see [`Flights::begin`](super::flights::Flights::begin).
    pub(crate) fn since(&self) -> Option<Since> {
        self.since.get().copied()
    }

    /// The generation that ran when it began, zero without a bus.
    pub(crate) fn generation(&self) -> u64 {
        self.since().unwrap_or_default().generation
    }

    pub(super) fn set_number(&self, number: u64) {
        self.number.store(number, Ordering::Release);
    }

    /// Whether it began before that one.
    pub(crate) fn is_older(&self, than: &Self) -> bool {
        self.number.load(Ordering::Acquire) < than.number.load(Ordering::Acquire)
    }

    /// Gives it a fetcher, before anybody has joined.
    pub(super) fn give(self: &Arc<Self>, fetcher: &mut dyn Lend) {
        if let Some(fetch) = fetcher.lend(self) {
            lock(&self.state).fetcher = Loan::Held(fetch);
        }
    }

    /// Shares the lease of the flight whose place it takes: to wait for that would be to wait for
    /// itself.
    pub(super) fn inherit(&self, before: &Self) {
        let lease = lock(&before.state).lease.clone();
        if lease.is_some() {
            lock(&self.state).lease = lease;
        }
    }

    /// Joins a flight that has just begun.
    pub(super) fn enter(self: &Arc<Self>, fetches: bool) -> Member {
        let mut state = lock(&self.state);
        state.has_impatient |= !fetches;
        let id = state.spool.enter();
        drop(state);
        self.member(id, fetches, false)
    }

    /// Joins, if the caller accepts it and everything can still be read. A caller with a fetcher
    /// lends it to a flight that has none and still looks.
    ///
    /// The waker is kept where there is nothing to be seen yet.
    pub(super) fn join(
        self: &Arc<Self>,
        wants: &Wants<'_>,
        waker: Option<&Waker>,
        fetcher: &mut dyn Lend,
    ) -> Option<Boarding> {
        let fetches = wants.what != What::Get;
        let mut state = lock(&self.state);
        let answer = match &state.phase {
            Phase::Open(opening) => Some(&**opening),
            Phase::Over(_) => return None,
            Phase::Looking | Phase::Fetching(_) => None,
        };
        let is_late = answer.is_some();
        if !(wants.accepts)(self, answer) || !state.spool.is_joinable() {
            return None;
        }
        if fetches && matches!((&state.phase, &state.fetcher), (Phase::Looking, Loan::None)) {
            let lent = if wants.keeps_fetcher {
                Keeps.lend(self)
            } else {
                fetcher.lend(self)
            };
            state.fetcher = lent.map_or(Loan::None, Loan::Held);
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
        let waits = waker.is_some();
        let member = self.member(id, fetches, is_late);
        Some(Boarding { member, waits })
    }

    fn member(self: &Arc<Self>, id: usize, fetches: bool, is_late: bool) -> Member {
        Member {
            flight: Arc::clone(self),
            id,
            fetches,
            is_late,
            has_left: false,
        }
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
        // Readers that wait for the fetch need not hear that it begins.
        let is_news = state.has_impatient || !matches!(state.phase, Phase::Fetching(None));
        let wakers = is_news.then(|| state.spool.wake_all());
        drop(state);
        wakers.unwrap_or_default().wake();
        fetcher
    }

    /// Takes the fetcher out for other use: a background refresh, or a source that broke off.
    pub(crate) fn take_fetcher(&self) -> Option<BoxFetch> {
        lock(&self.state).fetcher.take()
    }

    /// Gives the fetcher back to the read that lent it, if it was not needed.
    pub(crate) fn return_fetcher(&self) -> Option<BoxFetch> {
        self.take_fetcher()
    }

    /// Keeps a fetcher that was taken out and not run.
    pub(crate) fn keep_fetcher(&self, fetcher: BoxFetch) {
        lock(&self.state).fetcher = Loan::Held(fetcher);
    }

    /// Holds a slot of the fetches that may run at once.
    pub(crate) fn hold_slot(&self, slot: Option<OwnedSemaphorePermit>) {
        lock(&self.state).slot = slot;
    }

    /// Gives its slot back: its source has ended, or it waits for somebody else.
    pub(crate) fn release_slot(&self) {
        let slot = lock(&self.state).slot.take();
        drop(slot);
    }

    /// Goes on under these fences.
    pub(crate) fn refence(&self, refence: Refence) {
        let mut state = lock(&self.state);
        state.fences.push(refence);
    }

    /// The fences to go on with that came since the last call.
    pub(crate) fn take_refences(&self) -> Vec<Refence> {
        std::mem::take(&mut lock(&self.state).fences)
    }

    /// Its commits have ended: who waited for that is woken.
    pub(crate) fn landed(&self) {
        let mut state = lock(&self.state);
        state.landed = true;
        let wakers = state.spool.wake_all();
        drop(state);
        wakers.wake();
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
    pub(crate) fn append(&self, bytes: &Bytes) {
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

    /// All writers have said whether they stage.
    pub(crate) fn staged(&self) {
        self.with_spool(Spool::staged);
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
    pub(crate) fn hold(&self, lease: Arc<Lease>) {
        let before = lock(&self.state).lease.replace(lease);
        drop(before);
        if self.is_retired() {
            self.let_go();
        }
    }

    /// The lease that it holds.
    pub(crate) fn lease(&self) -> Option<Arc<Lease>> {
        lock(&self.state).lease.clone()
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
        let (gone, due) = state.spool.take_gone();
        drop(state);
        drop(gone);
        due.wake();
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
        match lock(&self.state).fetcher {
            Loan::None => false,
            Loan::Held(_) => refreshes,
            Loan::Used => true,
        }
    }

    /// Whether its answer is still to come.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(lock(&self.state).phase, Phase::Looking | Phase::Fetching(_))
    }

    /// Its answer, once it is open.
    pub(crate) fn opening(&self) -> Option<Arc<Opening>> {
        match &lock(&self.state).phase {
            Phase::Open(opening) => Some(Arc::clone(opening)),
            _ => None,
        }
    }

    pub(crate) fn is_crowded(&self) -> bool {
        lock(&self.state).spool.is_crowded()
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// A flight that began later has published: this one publishes nothing any more.
    pub(crate) fn outdate(&self) {
        self.outdated.store(true, Ordering::Release);
    }

    /// Whether it may publish what it found.
    pub(crate) fn publishes(&self) -> bool {
        !self.is_retired() && !self.outdated.load(Ordering::Acquire)
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

impl Loan {
    fn take(&mut self) -> Option<BoxFetch> {
        match std::mem::replace(self, Self::Used) {
            Self::Held(fetcher) => Some(fetcher),
            other => {
                *self = other;
                None
            }
        }
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
