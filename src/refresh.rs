//! Revalidation in the background, and the refresh that a user asks for.

use std::sync::Arc;

use larder_store::KeyBuf;

use crate::{
    counters::count,
    engine::Engine,
    fetch::BoxFetch,
    policy::Policy,
    read::{drive::drive, flight::Flight, look::Accept, plan::Plan},
    tasks::Submitted,
};

/// Sees that a refresh of a stale object is running: one a key, of a bounded number, in a bounded
/// queue. One that finds the object fresh when its turn comes ends without a fetch.
pub(crate) fn refresh_behind(
    engine: &Arc<Engine>,
    key: &KeyBuf,
    policy: Policy,
    fetcher: BoxFetch,
) {
    let job = {
        let (engine, key) = (Arc::clone(engine), key.clone());
        async move {
            let accept = Accept {
                max_age: None,
                stale: false,
                none: false,
                skip_first: false,
            };
            let plan = Plan {
                policy,
                accept,
                anew: false,
                behind: true,
            };
            let limits = engine.settings.spool;
            let since = engine.since();
            let start = || Flight::new(key.clone(), limits, Some(fetcher)).since(since);
            // Where a flight is under way, it does what this one would.
            let Some(flight) = engine.flights.start(&key, start) else {
                return;
            };
            count(&engine.counts.refreshes);
            // A read may have joined: then it is not idle work any more.
            let (idle, readers) = (engine.tasks.idle(), Arc::clone(&flight));
            let unwanted = async {
                idle.await;
                readers.abandoned().await;
            };
            tokio::select! {
                biased;
                () = drive(Arc::clone(&engine), flight, plan) => {}
                () = unwanted => {}
            }
        }
    };
    let submitted = engine.tasks.submit(&engine.refreshes, key, Box::pin(job));
    if submitted == Submitted::Full {
        count(&engine.counts.refreshes_dropped);
    }
}
