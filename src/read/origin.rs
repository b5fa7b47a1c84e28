//! Asking the origin: a fetcher among others, within its bounds.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt;
use larder_store::{Error, ErrorKind, Result};

use super::{flight::Flight, plan::Plan};
use crate::{
    counters::count,
    engine::{Engine, refused},
    fetch::{BoxFetch, FetchContext, Fetched},
    within::within,
};

/// Runs the fetcher: one of `fetches_max`, within its time-out, its panic caught.
pub(crate) async fn fetch(
    engine: &Arc<Engine>,
    flight: &Flight,
    plan: &Plan,
    fetcher: BoxFetch,
    context: FetchContext,
) -> Result<(Fetched, tokio::sync::OwnedSemaphorePermit)> {
    let bound = engine.settings.fetch_timeout;
    let run = async {
        let slot = Arc::clone(&engine.fetches).acquire_owned().await;
        let slot = slot.map_err(|_| Error::closed("the cache"))?;
        count(&engine.counts.fetches);
        // The call itself may panic, not only its future.
        let fetched = AssertUnwindSafe(async { fetcher(context).await })
            .catch_unwind()
            .await;
        let panicked = |_| Err(refused(ErrorKind::Other, "the fetcher panicked"));
        fetched
            .unwrap_or_else(panicked)
            .map(|fetched| (fetched, slot))
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
        result = within(bound, run) => result.unwrap_or_else(|_| {
            Err(Error::timeout(format!("the fetch took longer than {bound:?}")))
        }),
        () = given_up => {
            count(&engine.counts.flights_abandoned);
            return Err(refused(ErrorKind::Other, "everyone has left"));
        }
    };
    if let Err(error) = &result {
        count(&engine.counts.fetch_errors);
        tracing::debug!(%error, "a fetch failed");
        // What began before a write, a delete or a refresh says nothing of the key after it.
        if !flight.is_retired() {
            let ttl = plan.policy.lifetimes().error_ttl;
            engine.failures.add(&flight.key, error, engine.now(), ttl);
        }
    }
    result
}
