//! Asking the origin: a fetcher among others, within its bounds.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt;
use larder_store::{Error, ErrorKind, Result};

use super::{
    flight::Flight,
    nesting::{Scope, has_slot},
    plan::Plan,
};
use crate::{
    counters::count,
    engine::{Engine, refused},
    fetch::{BoxFetch, FetchContext, Fetched, Found},
    within::within,
};

/// Runs the fetcher: one of `fetches_max`, within its time-out, its panic caught. The flight holds
/// its slot from then on.
///
/// A fetcher that reads through the cache lends its slot to the fetches that this starts, so that
/// it never waits for a slot that it holds itself.
pub(crate) async fn fetch(
    engine: &Arc<Engine>,
    flight: &Arc<Flight>,
    plan: &Plan,
    fetcher: BoxFetch,
    context: FetchContext,
) -> Result<Fetched> {
    let bound = engine.settings.fetch_timeout;
    let scope = Scope::of(engine, flight);
    let run = async {
        let slot = if has_slot(engine, flight.parent.as_deref()) {
            None
        } else {
            let slot = Arc::clone(&engine.fetches).acquire_owned().await;
            Some(slot.map_err(|_| Error::closed("the cache"))?)
        };
        flight.hold_slot(slot);
        count(&engine.counts.fetches);
        // The call itself may panic, not only its future.
        let fetched = AssertUnwindSafe(async { fetcher(context).await }).catch_unwind();
        let fetched = Arc::clone(&scope).run(fetched).await;
        fetched.unwrap_or_else(|_| Err(refused(ErrorKind::Other, "the fetcher panicked")))
    };
    let given_up = async {
        loop {
            flight.abandoned().await;
            if plan.behind || engine.outlives_readers(0, None) {
                std::future::pending::<()>().await;
            }
            if flight.closes_abandoned() {
                return;
            }
        }
    };
    let result = tokio::select! {
        biased;
        result = within(engine.tasks.runtime(), bound, run) => result.unwrap_or_else(|missed| {
            Err(missed.error(|| format!("the fetch took longer than {bound:?}")))
        }),
        () = given_up => {
            count(&engine.counts.flights_abandoned);
            return Err(refused(ErrorKind::Other, "everyone has left"));
        }
    };
    if result.is_err() {
        flight.release_slot();
    }
    if let Err(error) = &result {
        count(&engine.counts.fetch_errors);
        tracing::debug!(%error, "a fetch failed");
        // What began before a write, a delete or a refresh says nothing of the key after it.
        if !flight.is_retired() {
            let ttl = plan.policy.lifetimes().error_ttl;
            engine.failures.add(&flight.key, error, engine.now(), ttl);
        }
    }
    result.map(|fetched| fetched.within(scope))
}

impl Fetched {
    /// The same, its body read in the scope of its fetcher.
    fn within(mut self, scope: Arc<Scope>) -> Self {
        self.found = match self.found {
            Found::Body(body) => Found::Body(scope.body(body)),
            found => found,
        };
        self
    }
}
