//! Fetchers that read through the cache themselves.
//!
//! A task-local around each fetcher, and around the body that it gives, names the flight that it
//! works for. A fetch that such a read starts runs in its parent's slot, so that fetchers which
//! read other keys cannot starve each other. A read that would wait for a flight whose fetch waits
//! for its own flight fails at once.
//!
//! Work that a fetcher spawns is outside of the task-local, and a caller like any other.

use std::sync::{Arc, PoisonError};

use larder_store::{Body, Error, Result};

use super::flight::Flight;
use crate::engine::Engine;

tokio::task_local! {
    static SCOPE: Arc<Scope>;
}

/// Whose fetcher runs.
pub(crate) struct Scope {
    engine: usize,
    flight: Arc<Flight>,
    /// The fetcher, of this cache or another, that this one was started from.
    parent: Option<Arc<Self>>,
}

impl Scope {
    /// The scope of a flight's fetcher.
    pub(crate) fn of(engine: &Engine, flight: &Arc<Flight>) -> Arc<Self> {
        Arc::new(Self {
            engine: address(engine),
            flight: Arc::clone(flight),
            parent: flight.parent.clone(),
        })
    }

    /// The scope that the caller runs in.
    pub(crate) fn current() -> Option<Arc<Self>> {
        SCOPE.try_with(Arc::clone).ok()
    }

    /// Runs a fetcher in its scope.
    pub(crate) fn run<F: Future>(self: Arc<Self>, fetcher: F) -> impl Future<Output = F::Output> {
        SCOPE.scope(self, fetcher)
    }

    /// A fetcher's body, whose source runs in the fetcher's scope.
    pub(crate) fn body(self: Arc<Self>, mut body: Body) -> Body {
        if body.as_whole().is_some() {
            return body;
        }
        let len = body.len();
        Body::stream(
            len,
            futures_util::stream::poll_fn(move |cx| {
                let poll = || futures_core::Stream::poll_next(std::pin::Pin::new(&mut body), cx);
                SCOPE.sync_scope(Arc::clone(&self), poll)
            }),
        )
    }

    /// The flight of this cache that waits for what is started from here.
    fn flight_of(&self, engine: &Engine) -> Option<&Arc<Flight>> {
        let mut scope = Some(self);
        while let Some(at) = scope {
            if at.engine == address(engine) {
                return Some(&at.flight);
            }
            scope = at.parent.as_deref();
        }
        None
    }
}

fn address(engine: &Engine) -> usize {
    std::ptr::from_ref(engine).addr()
}

/// Whether a fetch that was started from this scope has its slot already: its parent's.
pub(crate) fn has_slot(engine: &Engine, parent: Option<&Scope>) -> bool {
    parent.is_some_and(|scope| scope.flight_of(engine).is_some())
}

/// That one flight's fetch waits for another flight, until it is dropped.
pub(crate) struct Waiting {
    flight: Arc<Flight>,
    /// The flight that it waits for.
    on: Arc<Flight>,
}

impl Waiting {
    /// Notes the wait of a read that began in `scope`. `Invalid` where it would never end.
    ///
    /// The edge is added before the circle is looked for, so that of two that close a circle
    /// together at least one sees it.
    pub(crate) fn begin(engine: &Engine, scope: &Scope, on: &Arc<Flight>) -> Result<Option<Self>> {
        let Some(flight) = scope.flight_of(engine) else {
            return Ok(None);
        };
        edges(flight).push(Arc::clone(on));
        let waiting = Self {
            flight: Arc::clone(flight),
            on: Arc::clone(on),
        };
        if reaches(on, flight) {
            return Err(Error::invalid(format!(
                "the fetch of {:?} cannot wait for {:?}, whose fetch waits for it",
                &*flight.key, &*on.key
            )));
        }
        Ok(Some(waiting))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut edges = edges(&self.flight);
        let own = edges.iter().position(|on| Arc::ptr_eq(on, &self.on));
        let gone = own.map(|at| edges.swap_remove(at));
        drop(edges);
        drop(gone);
    }
}

fn edges(flight: &Flight) -> std::sync::MutexGuard<'_, Vec<Arc<Flight>>> {
    flight
        .waits_for
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
}

/// Whether the fetch of `from` waits for `to`, also by way of others.
fn reaches(from: &Arc<Flight>, to: &Arc<Flight>) -> bool {
    let (mut seen, mut next) = (Vec::new(), vec![Arc::clone(from)]);
    while let Some(flight) = next.pop() {
        if Arc::ptr_eq(&flight, to) {
            return true;
        }
        if seen.iter().any(|known| Arc::ptr_eq(known, &flight)) {
            continue;
        }
        next.extend(edges(&flight).iter().cloned());
        seen.push(flight);
    }
    false
}
