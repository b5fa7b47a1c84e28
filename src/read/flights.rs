//! The flights under way, at most one a key.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::Arc,
    task::Waker,
};

use larder_store::KeyBuf;

use super::flight::{Boarding, Flight, Member};
use crate::{
    fetch::BoxFetch,
    sync::{AtomicUsize, Mutex, Ordering, lock},
};

/// How a member came into its flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Boarded {
    Joined,
    /// As its first; `anew` if the flight takes the place of an earlier one.
    Started {
        anew: bool,
    },
}

/// The flights under way.
pub(crate) struct Flights {
    stripes: Box<[Stripe]>,
    hasher: RandomState,
    flying: AtomicUsize,
    max: usize,
}

type Stripe = Mutex<HashMap<KeyBuf, Arc<Flight>>>;

const STRIPES: usize = 64;

impl Flights {
    pub(crate) fn new(max: usize) -> Self {
        let stripes = (0..STRIPES).map(|_| Mutex::default()).collect();
        Self {
            stripes,
            hasher: RandomState::new(),
            flying: AtomicUsize::new(0),
            max,
        }
    }

    /// The key's flight, or the one that `start` makes. `None` when there are too many.
    ///
    /// With `anew`, or when it cannot be joined any more, or not by who comes now (`joins`), the
    /// key's flight is retired first.
    pub(crate) fn join(
        &self,
        key: &KeyBuf,
        fetches: bool,
        anew: bool,
        joins: impl FnOnce(&Flight) -> bool,
        mut fetcher: impl FnMut(Boarded) -> Option<BoxFetch>,
        start: impl FnOnce(Option<BoxFetch>) -> Flight,
    ) -> Option<(Member, Boarded)> {
        let mut stripe = lock(self.stripe(key));
        if !anew
            && let Some(flight) = stripe.get(key)
            && joins(flight)
            && let Some(boarding) = flight.join(fetches, None, || fetcher(Boarded::Joined))
        {
            return Some((boarding.member, Boarded::Joined));
        }
        let retired = stripe.remove(key);
        if let Some(flight) = &retired {
            flight.retire();
            self.flying.fetch_sub(1, Ordering::Relaxed);
        }
        if self.flying.load(Ordering::Relaxed) >= self.max {
            drop(stripe);
            ground(retired);
            return None;
        }
        let boarded = Boarded::Started {
            anew: anew || retired.is_some(),
        };
        let flight = Arc::new(start(fetcher(boarded)));
        let boarding = flight.join(fetches, None, || None);
        let member = boarding.expect("a new flight can be joined").member;
        stripe.insert(key.clone(), flight);
        self.flying.fetch_add(1, Ordering::Relaxed);
        drop(stripe);
        ground(retired);
        Some((member, boarded))
    }

    /// A place in the key's flight, if it has one that may be joined.
    pub(crate) fn find(
        &self,
        key: &str,
        fetches: bool,
        waker: &Waker,
        joins: impl FnOnce(&Flight) -> bool,
        fetcher: impl FnOnce() -> Option<BoxFetch>,
    ) -> Option<Boarding> {
        if self.flying.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let stripe = lock(self.stripe(key));
        let flight = stripe.get(key).filter(|flight| joins(flight))?;
        flight.join(fetches, Some(waker), fetcher)
    }

    /// Starts a flight without readers, unless the key has one.
    pub(crate) fn start(
        &self,
        key: &KeyBuf,
        start: impl FnOnce() -> Flight,
    ) -> Option<Arc<Flight>> {
        let mut stripe = lock(self.stripe(key));
        if stripe.contains_key(key) || self.flying.load(Ordering::Relaxed) >= self.max {
            return None;
        }
        let flight = Arc::new(start());
        stripe.insert(key.clone(), Arc::clone(&flight));
        self.flying.fetch_add(1, Ordering::Relaxed);
        Some(flight)
    }

    /// Whether the key has a flight.
    pub(crate) fn contains(&self, key: &str) -> bool {
        lock(self.stripe(key)).contains_key(key)
    }

    /// A flight has ended.
    pub(crate) fn remove(&self, flight: &Arc<Flight>) {
        let mut stripe = lock(self.stripe(&flight.key));
        if stripe
            .get(&flight.key)
            .is_some_and(|known| Arc::ptr_eq(known, flight))
        {
            let removed = stripe.remove(&flight.key);
            self.flying.fetch_sub(1, Ordering::Relaxed);
            drop(stripe);
            drop(removed);
        }
    }

    /// Retires the key's flight: its readers stay, nobody joins, it publishes nothing.
    pub(crate) fn retire(&self, key: &KeyBuf) {
        let mut stripe = lock(self.stripe(key));
        let retired = stripe.remove(key);
        if let Some(flight) = &retired {
            flight.retire();
            self.flying.fetch_sub(1, Ordering::Relaxed);
        }
        drop(stripe);
        ground(retired);
    }

    /// Retires every flight.
    pub(crate) fn retire_all(&self) {
        let keys = self
            .stripes
            .iter()
            .flat_map(|stripe| lock(stripe).keys().cloned().collect::<Vec<_>>());
        keys.collect::<Vec<_>>()
            .iter()
            .for_each(|key| self.retire(key));
    }

    pub(crate) fn len(&self) -> usize {
        self.stripes.iter().map(|stripe| lock(stripe).len()).sum()
    }

    #[allow(clippy::cast_possible_truncation)] // A part of the hash is enough.
    fn stripe(&self, key: &str) -> &Stripe {
        &self.stripes[self.hasher.hash_one(key) as usize % STRIPES]
    }
}

/// What is left to do for a flight that was retired, outside of the table's lock.
fn ground(retired: Option<Arc<Flight>>) {
    if let Some(flight) = retired {
        flight.let_go();
    }
}
