//! Background refreshes of stale objects.

use std::sync::Arc;

use larder_store::KeyBuf;

use crate::{
    counters::count,
    engine::Engine,
    fetch::BoxFetch,
    freshness::{Freshness, Terms},
    policy::Policy,
    read::{
        drive::drive,
        fetcher::Given,
        flights::{Boarded, Wants, What},
        look::{Accept, FirstTier},
        plan::Plan,
        start::try_board,
    },
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
    let job = refresh(Arc::clone(engine), key.clone(), policy, fetcher);
    let submitted = engine.tasks.submit(&engine.refreshes, key, Box::pin(job));
    if submitted == Submitted::Full {
        count(&engine.counts.refreshes_dropped);
    }
}

impl Engine {
    /// Whether a refresh of the key is queued, or a flight is under way that does what one would.
    pub(crate) fn is_refreshing(&self, key: &str) -> bool {
        let now = self.now();
        let does = |flight: &crate::read::flight::Flight| {
            flight.is_closed()
                || flight.opening().is_some_and(|answer| {
                    self.admits(flight, Some(&answer), Terms::default(), now)
                        == Some(Freshness::Fresh)
                })
        };
        self.refreshes.contains(key) || self.flights.has(key, does)
    }
}

async fn refresh(engine: Arc<Engine>, key: KeyBuf, policy: Policy, fetcher: BoxFetch) {
    let terms = Terms::default();
    let now = engine.now();
    let wants = Wants {
        what: What::Fetch,
        keeps_fetcher: true,
        unfit: None,
        accepts: &|flight, answer| engine.admits(flight, answer, terms, now).is_some(),
    };
    let boarded = try_board(&engine, &key, &wants, &mut Given(Some(fetcher)));
    // Where another flight is under way, it does what this one would.
    let Boarded::Started(member, began) = boarded else {
        return;
    };
    count(&engine.counts.refreshes);
    let flight = Arc::clone(member.flight());
    drop(member);
    let accept = Accept {
        terms,
        none: false,
        first: FirstTier::Unknown,
    };
    let plan = Plan {
        began,
        behind: true,
        ..Plan::new(policy, accept)
    };
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
