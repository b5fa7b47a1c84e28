//! The flights under way.
//!
//! Invariants:
//! 1. A key has at most one *current* flight, which reads join, and one *demoted* flight, in whose
//!    place a later one became the current. A demoted flight keeps its readers, and publishes
//!    unless something newer was published.
//! 2. Of a key's refreshes one runs and one waits for it; later ones join the one that waits.
//! 3. A retired flight is not in the table.
//! 4. Of two flights of a key in the table, the one with the greater number began later.
//! 5. `flying` counts all flights that have not landed, also those that are not in the table.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::Arc,
    task::Waker,
};

use larder_store::KeyBuf;
use tokio::sync::oneshot;

use super::{
    fetcher::Lend,
    flight::{Boarding, Flight, Member, Opening},
};
use crate::{
    bus::Since,
    sync::{AtomicU64, AtomicUsize, Mutex, Ordering, lock},
};

/// The flights under way.
pub(crate) struct Flights {
    stripes: Box<[Stripe]>,
    hasher: RandomState,
    flying: AtomicUsize,
    /// Demoted flights: while there are none, a commit need not look for other flights of its key.
    demoted: AtomicUsize,
    numbers: AtomicU64,
    max: usize,
}

type Stripe = Mutex<HashMap<KeyBuf, Entry>>;

/// The flights of one key.
#[derive(Default)]
struct Entry {
    current: Option<Arc<Flight>>,
    demoted: Option<Arc<Flight>>,
    /// A refresh that waits for the one that runs.
    waiting: Option<Arc<Flight>>,
    /// Dropped, and so woken, when one of the flights has ended.
    waiters: Vec<oneshot::Sender<()>>,
}

const STRIPES: usize = 64;

/// Which flight a caller wants to be in.
pub(crate) struct Wants<'a> {
    pub(crate) what: What,
    /// Whether it takes its fetcher along: it may refuse an answer that it shares.
    pub(crate) keeps_fetcher: bool,
    /// A flight that it was in, and whose answer it could not use.
    pub(crate) unfit: Option<&'a Arc<Flight>>,
    /// Whether it may join a flight; the answer is given where the flight is open.
    pub(crate) accepts: &'a (dyn Fn(&Flight, Option<&Opening>) -> bool + Sync),
}

/// Why a caller wants a flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// A read without a fetcher: it starts a look-up, and never takes another flight's place.
    Get,
    /// A read with a fetcher, a background refresh, or a body that goes on.
    Fetch,
    /// The user's refresh: it joins none that has begun.
    Refresh,
}

/// How a caller came aboard.
pub(crate) enum Boarded {
    Joined(Boarding),
    /// As the first member of a new flight, which began like this.
    Started(Member, Began),
    /// Two flights are under way, and neither will do: one has ended when this resolves.
    Wait(oneshot::Receiver<()>),
    /// It needs a flight outside of the table.
    Alone,
    /// Too many flights are under way.
    Full,
}

/// How a flight began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Began {
    /// As the only one of its key, or outside of the table.
    First,
    /// In the place of another, which it demoted.
    Anew,
    /// Not at all: it is a refresh that waits, see [`Flights::begin`].
    Waits,
}

/// Whether a refresh that waited has begun.
pub(crate) enum Turn {
    Begun,
    /// A flight before it is still under way: one has ended when this resolves.
    Wait(oneshot::Receiver<()>),
}

impl Flights {
    pub(crate) fn new(max: usize) -> Self {
        let stripes = (0..STRIPES).map(|_| Mutex::default()).collect();
        Self {
            stripes,
            hasher: RandomState::new(),
            flying: AtomicUsize::new(0),
            demoted: AtomicUsize::new(0),
            numbers: AtomicU64::new(0),
            max,
        }
    }

    /// A place in the key's flight, or in the one that `make` makes.
    pub(crate) fn board(
        &self,
        key: &KeyBuf,
        wants: &Wants<'_>,
        fetcher: &mut dyn Lend,
        make: impl FnOnce() -> Flight,
    ) -> Boarded {
        let mut stripe = lock(self.stripe(key));
        let mut waits = false;
        if let Some(entry) = stripe.get_mut(key) {
            if let Some(boarding) = entry.join(wants, fetcher) {
                return Boarded::Joined(boarding);
            }
            waits = wants.what == What::Refresh && entry.refreshes();
            if wants.what == What::Get && entry.current.is_some() {
                return Boarded::Alone;
            }
            if entry.is_full() && !waits {
                return Boarded::Wait(entry.wait());
            }
        }
        if !self.admit() {
            return Boarded::Full;
        }
        let (flight, member) = first(make(), wants, fetcher);
        let entry = stripe.entry(key.clone()).or_default();
        let began = if waits {
            entry.waiting = Some(flight);
            Began::Waits
        } else {
            self.make_current(entry, flight)
        };
        Boarded::Started(member, began)
    }

    /// A place in a flight that is not in the table, and that nobody joins. `None` when there are
    /// too many.
    pub(crate) fn alone(
        &self,
        wants: &Wants<'_>,
        fetcher: &mut dyn Lend,
        make: impl FnOnce() -> Flight,
    ) -> Option<Member> {
        self.admit().then(|| first(make(), wants, fetcher).1)
    }

    /// A place in the key's current flight, if it may be joined.
    pub(crate) fn find(
        &self,
        key: &str,
        wants: &Wants<'_>,
        waker: &Waker,
        fetcher: &mut dyn Lend,
    ) -> Option<Boarding> {
        if self.flying.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let stripe = lock(self.stripe(key));
        let flight = stripe.get(key)?.current.as_ref()?;
        flight.join(wants, Some(waker), fetcher)
    }

    /// Begins a refresh that waits, unless one before it runs or the key has no place free.
    pub(crate) fn begin(&self, flight: &Arc<Flight>, since: Since) -> Turn {
        let mut stripe = lock(self.stripe(&flight.key));
        let entry = stripe.entry(flight.key.clone()).or_default();
        if entry.refreshes() || entry.is_full() {
            return Turn::Wait(entry.wait());
        }
        entry.waiting.take_if(|place| Arc::ptr_eq(place, flight));
        flight.begin(since);
        self.make_current(entry, Arc::clone(flight));
        Turn::Begun
    }

    /// Takes a refresh that waited for too long out of the table: it goes on alone.
    pub(crate) fn leave(&self, flight: &Arc<Flight>, since: Since) {
        self.take_out(flight);
        flight.begin(since);
    }

    /// Whether the key has a current flight of which this is true.
    pub(crate) fn has(&self, key: &str, is_it: impl FnOnce(&Flight) -> bool) -> bool {
        if self.flying.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let stripe = lock(self.stripe(key));
        let current = stripe.get(key).and_then(|entry| entry.current.as_deref());
        current.is_some_and(is_it)
    }

    /// The other flights of the key that have begun.
    pub(crate) fn others(&self, key: &KeyBuf, than: Option<&Arc<Flight>>) -> Vec<Arc<Flight>> {
        let may_have = match than {
            Some(_) => self.has_demoted(),
            None => self.flying.load(Ordering::Acquire) > 0,
        };
        if !may_have {
            return Vec::new();
        }
        let stripe = lock(self.stripe(key));
        let Some(entry) = stripe.get(key) else {
            return Vec::new();
        };
        let is_other = |flight: &&Arc<Flight>| than.is_none_or(|own| !Arc::ptr_eq(own, flight));
        let flights = entry.current.iter().chain(&entry.demoted);
        flights.filter(is_other).cloned().collect()
    }

    /// Whether some key has a demoted flight.
    pub(crate) fn has_demoted(&self) -> bool {
        self.demoted.load(Ordering::Acquire) > 0
    }

    /// A flight has landed: whoever waits for its place is woken.
    pub(crate) fn remove(&self, flight: &Arc<Flight>) {
        self.take_out(flight);
        self.flying.fetch_sub(1, Ordering::AcqRel);
    }

    fn take_out(&self, flight: &Arc<Flight>) {
        let mut stripe = lock(self.stripe(&flight.key));
        let Some(entry) = stripe.get_mut(&flight.key) else {
            return;
        };
        let is_it = |place: &mut Arc<Flight>| Arc::ptr_eq(place, flight);
        let demoted = entry.demoted.take_if(is_it);
        self.demoted
            .fetch_sub(usize::from(demoted.is_some()), Ordering::AcqRel);
        let gone = demoted
            .or_else(|| entry.current.take_if(is_it))
            .or_else(|| entry.waiting.take_if(is_it));
        let woken = gone.is_some().then(|| std::mem::take(&mut entry.waiters));
        let empty = entry.is_empty().then(|| stripe.remove_entry(&flight.key));
        drop(stripe);
        // They hold foreign values, which are dropped outside of the lock.
        drop((gone, woken, empty));
    }

    /// Retires the key's flights: their readers stay, nobody joins, they publish nothing. A refresh
    /// that waits has not begun, and stays.
    pub(crate) fn retire(&self, key: &KeyBuf) {
        if self.flying.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut stripe = lock(self.stripe(key));
        let Some(entry) = stripe.get_mut(key) else {
            return;
        };
        let demoted = entry.demoted.take();
        self.demoted
            .fetch_sub(usize::from(demoted.is_some()), Ordering::AcqRel);
        let retired = [entry.current.take(), demoted];
        retired.iter().flatten().for_each(|flight| flight.retire());
        let woken = std::mem::take(&mut entry.waiters);
        let empty = entry.is_empty().then(|| stripe.remove_entry(key));
        drop(stripe);
        drop((woken, empty));
        retired
            .into_iter()
            .flatten()
            .for_each(|flight| flight.let_go());
    }

    /// Retires every flight that has begun.
    pub(crate) fn retire_all(&self) {
        let keys = self
            .stripes
            .iter()
            .flat_map(|stripe| lock(stripe).keys().cloned().collect::<Vec<_>>());
        keys.collect::<Vec<_>>()
            .iter()
            .for_each(|key| self.retire(key));
    }

    /// The flights that have not landed, retired ones among them.
    pub(crate) fn len(&self) -> usize {
        self.flying.load(Ordering::Acquire)
    }

    /// Counts one more flight, if there may be one more.
    fn admit(&self) -> bool {
        let room = |flying: usize| (flying < self.max).then_some(flying + 1);
        let counted = self
            .flying
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, room);
        counted.is_ok()
    }

    /// Puts a flight in its key's first place. The one that was there is demoted.
    fn make_current(&self, entry: &mut Entry, flight: Arc<Flight>) -> Began {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed) + 1;
        flight.set_number(number);
        let Some(before) = entry.current.take() else {
            entry.current = Some(flight);
            return if entry.demoted.is_some() {
                Began::Anew
            } else {
                Began::First
            };
        };
        flight.inherit(&before);
        entry.demoted = Some(before);
        self.demoted.fetch_add(1, Ordering::AcqRel);
        entry.current = Some(flight);
        Began::Anew
    }

    #[allow(clippy::cast_possible_truncation)] // A part of the hash is enough.
    fn stripe(&self, key: &str) -> &Stripe {
        &self.stripes[self.hasher.hash_one(key) as usize % STRIPES]
    }
}

/// A new flight, and its first member.
fn first(flight: Flight, wants: &Wants<'_>, fetcher: &mut dyn Lend) -> (Arc<Flight>, Member) {
    let flight = Arc::new(flight);
    flight.give(fetcher);
    let member = flight.enter(wants.what != What::Get);
    (flight, member)
}

impl Entry {
    /// A place in the flight that this caller may join.
    fn join(&self, wants: &Wants<'_>, fetcher: &mut dyn Lend) -> Option<Boarding> {
        let flight = match wants.what {
            What::Refresh => self.waiting.as_ref(),
            What::Get | What::Fetch => self.current.as_ref(),
        }?;
        let is_unfit = wants.unfit.is_some_and(|unfit| Arc::ptr_eq(unfit, flight));
        if is_unfit {
            return None;
        }
        flight.join(wants, None, fetcher)
    }

    /// Whether neither flight of the key may be followed by a third.
    fn is_full(&self) -> bool {
        self.current.is_some() && self.demoted.is_some()
    }

    /// Whether a refresh runs.
    fn refreshes(&self) -> bool {
        let mut flights = self.current.iter().chain(&self.demoted);
        flights.any(|flight| flight.is_refresh)
    }

    fn is_empty(&self) -> bool {
        self.current.is_none() && self.demoted.is_none() && self.waiting.is_none()
    }

    /// Resolves when a flight of the key has ended.
    fn wait(&mut self) -> oneshot::Receiver<()> {
        // Those who gave up meanwhile are forgotten, so that a stream of them does not grow it.
        if self.waiters.len() == self.waiters.capacity() {
            self.waiters.retain(|waiter| !waiter.is_closed());
        }
        let (waiter, woken) = oneshot::channel();
        self.waiters.push(waiter);
        woken
    }
}
