//! Where a read's fetcher is.
//!
//! A fetcher runs at most once. It is its read's own, or lent to the flight that the read waits in,
//! or gone: it ran, or became the background refresh's. A flight that did not need it gives it back.

use std::{mem, sync::Arc};

use super::flight::Flight;
use crate::fetch::{BoxFetch, Fetch};

/// A read's fetcher, wherever it is.
pub(crate) struct Fetcher<F>(State<F>);

enum State<F> {
    /// The read has it; not boxed while nobody needs it.
    Mine(F),
    /// The read has it again.
    Returned(BoxFetch),
    /// This flight has it, and may have run it.
    Lent(Arc<Flight>),
    /// It ran, or there never was one.
    Gone,
}

/// A caller that can lend a fetcher to a flight.
pub(crate) trait Lend {
    /// The fetcher, for this flight to keep until it runs it or the read takes it back.
    fn lend(&mut self, to: &Arc<Flight>) -> Option<BoxFetch>;
}

impl<F: Fetch> Fetcher<F> {
    pub(crate) fn new(fetch: F) -> Self {
        Self(if F::FETCHES {
            State::Mine(fetch)
        } else {
            State::Gone
        })
    }

    /// Whether the read has it, so that it can start over; takes it back from a flight that did not
    /// need it.
    pub(crate) fn regain(&mut self) -> bool {
        if let State::Lent(flight) = &self.0 {
            let returned = flight.return_fetcher();
            self.0 = returned.map_or(State::Gone, State::Returned);
        }
        self.is_mine()
    }

    pub(crate) fn is_mine(&self) -> bool {
        matches!(self.0, State::Mine(_) | State::Returned(_))
    }

    /// Whether a flight has it, so that the read could not fetch again.
    pub(crate) fn is_lent(&self) -> bool {
        F::FETCHES && !self.is_mine()
    }

    /// The fetcher for other use, where the read has it.
    pub(crate) fn take(&mut self) -> Option<BoxFetch> {
        match mem::replace(&mut self.0, State::Gone) {
            State::Mine(fetch) => fetch.boxed(),
            State::Returned(fetch) => Some(fetch),
            other => {
                self.0 = other;
                None
            }
        }
    }

    /// The fetcher for other use, also from a flight that did not need it.
    pub(crate) fn spare(&mut self) -> Option<BoxFetch> {
        self.regain();
        self.take()
    }
}

impl<F: Fetch> Lend for Fetcher<F> {
    fn lend(&mut self, to: &Arc<Flight>) -> Option<BoxFetch> {
        let fetch = self.take()?;
        self.0 = State::Lent(Arc::clone(to));
        Some(fetch)
    }
}

/// A fetcher that does not come back.
pub(crate) struct Given(pub(crate) Option<BoxFetch>);

impl Lend for Given {
    fn lend(&mut self, _: &Arc<Flight>) -> Option<BoxFetch> {
        self.0.take()
    }
}

/// Lends nothing: a read that may refuse a shared answer needs its fetcher then.
pub(crate) struct Keeps;

impl Lend for Keeps {
    fn lend(&mut self, _: &Arc<Flight>) -> Option<BoxFetch> {
        None
    }
}
