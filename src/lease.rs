//! One fetch among several processes.
//!
//! Before a flight fetches it asks for the key's lease. Its holder fetches, renews the lease while
//! it does, and fills the shared tier under the lease's fence. The others ask again now and then:
//! where the answer is "superseded" the object is there, and they look; where the wait is over they
//! fetch for themselves. A lease saves fetches; what keeps data right are the fences.
//!
//! Invariants:
//! 1. Nothing waits for a lease longer than `lease_wait` in all, nor for a store that does not
//!    answer longer than its time-out. Nothing asks twice in a row without a pause.
//! 2. The fence of a granted lease takes the place of the one that the look-up gave, so that a
//!    holder whose lease was lost publishes nothing in the shared tier, nor in those above.
//! 3. A lease is renewed only while its flight is under way and may publish, and given up when that
//!    ends or is retired: what comes after it in the same process would wait for nothing.

use std::{sync::Arc, time::Duration};

use larder_store::{Error, ErrorKind, Fence, Holder, KeyBuf, Leased, Result, Terms};
use tokio::time::{Instant, sleep};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    counters::count,
    engine::Engine,
    read::{
        flight::Flight,
        look::{Look, Seat, look},
        plan::Plan,
        promote::Marks,
    },
    tier::Place,
};

/// The store that gives leases, and on what terms.
pub(crate) struct Leases {
    /// The tier that is the same store: its fence and the lease are one.
    tier: Option<usize>,
    /// The store's place where it is no tier.
    apart: Option<Place>,
    who: Arc<str>,
    ttl: Duration,
    wait: Duration,
    /// Keys whose last answer here was not to be shared: to queue for their lease would make the
    /// processes fetch one after the other.
    unshared: Marks,
}

/// Whether a flight may fetch.
pub(crate) enum Entry {
    /// It fetches; with the lease, or without one where none could be had in time.
    Fetch(Option<Arc<Lease>>),
    /// Somebody else has stored the object: `look` has it.
    Found,
    /// Everyone has left meanwhile.
    Abandoned,
}

/// A lease that is held, and renewed until it is dropped.
pub(crate) struct Lease {
    fence: Fence,
    _renewing: DropGuard,
}

/// How long is waited yet, and how soon is asked again.
struct Patience {
    until: Instant,
    pause: Duration,
}

/// How often to ask whether a lease is free: at first, and at most.
const POLL_MIN: Duration = Duration::from_millis(2);
const POLL_MAX: Duration = Duration::from_millis(100);

impl Leases {
    pub(crate) fn new(
        tier: Option<usize>,
        apart: Option<Place>,
        who: Arc<str>,
        ttl: Duration,
        wait: Duration,
    ) -> Self {
        let unshared = Marks::new();
        Self {
            tier,
            apart,
            who,
            ttl,
            wait,
            unshared,
        }
    }

    fn place<'a>(&'a self, engine: &'a Engine) -> &'a Place {
        match (&self.apart, self.tier) {
            (Some(place), _) => place,
            (None, Some(tier)) => &engine.tiers[tier],
            (None, None) => unreachable!("the builder gives one of them"),
        }
    }

    /// Waits until this flight may fetch, or need not any more.
    pub(crate) async fn enter(
        &self,
        engine: &Arc<Engine>,
        flight: &Flight,
        plan: &Plan,
        found: &mut Look,
    ) -> Entry {
        // Of the flight whose place this one took, which still holds it.
        if let Some(lease) = flight.lease() {
            self.apply(found, lease.fence.clone());
            return Entry::Fetch(Some(lease));
        }
        let mut patience = Patience::new(self.wait, plan.accept.terms.max_age);
        let (mut waited, mut superseded) = (false, false);
        loop {
            let Some(fence) = self.fence(engine, &flight.key, found).await else {
                return Entry::Fetch(None);
            };
            match self.acquire(engine, &flight.key, plan, &fence).await {
                Ok(Leased::Granted(fence)) => {
                    count(&engine.counts.leases_granted);
                    let lease = self.keep(engine, &flight.key, &fence);
                    self.apply(found, fence);
                    // A store that is no tier does not know whether the object is there by now.
                    if waited
                        && self.tier.is_none()
                        && look_again(engine, flight, plan, found).await
                    {
                        return Entry::Found;
                    }
                    return Entry::Fetch(Some(Arc::new(lease)));
                }
                Ok(Leased::Superseded) => {
                    if look_again(engine, flight, plan, found).await {
                        count(&engine.counts.leases_followed);
                        return Entry::Found;
                    }
                    if patience.is_over() {
                        return Entry::Fetch(None);
                    }
                    // Once is somebody's write; a store may forget all its fences.
                    if std::mem::replace(&mut superseded, true) {
                        patience.rest(engine).await;
                    }
                }
                // What it fetches now would not have to do for a refresh: that asks for itself.
                Ok(Leased::Taken(_)) if plan.accept.none || self.unshared.has(&flight.key) => {
                    return Entry::Fetch(None);
                }
                Ok(Leased::Taken(holder)) => {
                    waited = true;
                    if patience.is_over() {
                        count(&engine.counts.leases_timed_out);
                        let Holder { who, why, .. } = holder;
                        tracing::debug!(%who, %why, "a lease was not free in time");
                        return Entry::Fetch(None);
                    }
                    patience.rest(engine).await;
                }
                Err(_) => return Entry::Fetch(None),
            }
            if !plan.behind && !engine.outlives_readers(0, None) && flight.closes_abandoned() {
                return Entry::Abandoned;
            }
        }
    }

    /// Notes whether the answer goes where the other processes find it, and will do for them.
    pub(crate) fn answered(&self, key: &KeyBuf, is_shared: bool) {
        self.unshared.set(key, !is_shared);
    }

    /// Whether the tier gives the leases: what is done there is done under the lease's fence.
    pub(crate) fn is_of(&self, tier: usize) -> bool {
        self.tier == Some(tier)
    }

    /// Closes the store, where it is no tier.
    pub(crate) async fn close(&self, bound: Duration) -> Result<()> {
        let Some(place) = &self.apart else {
            return Ok(());
        };
        let close = || place.store().close();
        place
            .bounded(bound.min(place.tier.timeout), "closing", close)
            .await
    }

    /// The fence to ask with: of the look-up, where the store is a tier that could answer.
    async fn fence(&self, engine: &Engine, key: &KeyBuf, found: &Look) -> Option<Fence> {
        let Some(tier) = self.tier else {
            let place = self.place(engine);
            let fence = place.attempt("taking a fence", || place.store().fence(key.as_key()));
            return fence.await.ok();
        };
        match found.seats.get(tier)? {
            Seat::Missed(fence) | Seat::Held(fence, _) | Seat::Broken(fence) => Some(fence.clone()),
            Seat::Unknown | Seat::Suspect => None,
        }
    }

    /// Puts the lease's fence in the place of the look-up's.
    fn apply(&self, found: &mut Look, granted: Fence) {
        let seat = self.tier.and_then(|tier| found.seats.get_mut(tier));
        if let Some(Seat::Missed(fence) | Seat::Held(fence, _) | Seat::Broken(fence)) = seat {
            *fence = granted;
        }
    }

    async fn acquire(
        &self,
        engine: &Engine,
        key: &KeyBuf,
        plan: &Plan,
        fence: &Fence,
    ) -> Result<Leased> {
        let place = self.place(engine);
        let terms = Terms {
            who: Arc::clone(&self.who),
            why: if plan.behind { "refresh" } else { "fill" }.into(),
            ttl: self.ttl,
        };
        let acquire = async || match place.store().as_lease() {
            Some(lease) => lease.acquire(key.as_key(), fence, &terms).await,
            None => Err(Error::new(
                ErrorKind::Unsupported,
                "the store has no leases",
            )),
        };
        place.attempt("asking for a lease", acquire).await
    }

    /// Renews the lease until what this gives is dropped, and gives it up then.
    fn keep(&self, engine: &Arc<Engine>, key: &KeyBuf, fence: &Fence) -> Lease {
        let ended = CancellationToken::new();
        let task = {
            let (engine, key, fence) = (Arc::clone(engine), key.clone(), fence.clone());
            let (ended, ttl) = (ended.clone(), self.ttl);
            async move {
                let (Some(leases), cut) = (&engine.leases, &engine.tasks.cut) else {
                    return;
                };
                tokio::select! {
                    biased;
                    () = cut.cancelled() => {}
                    () = ended.cancelled() => {}
                    () = leases.renew(&engine, &key, &fence, ttl) => ended.cancelled().await,
                }
                leases.release(&engine, &key, &fence).await;
            }
        };
        engine.tasks.spawn(task);
        Lease {
            fence: fence.clone(),
            _renewing: ended.drop_guard(),
        }
    }

    /// Returns when the lease is lost.
    async fn renew(&self, engine: &Engine, key: &KeyBuf, fence: &Fence, ttl: Duration) {
        let place = self.place(engine);
        let Some(lease) = place.store().as_lease() else {
            return;
        };
        loop {
            sleep(ttl / 3).await;
            let renew = || lease.renew(key.as_key(), fence, ttl);
            // What fails is tried again: it may last yet.
            if let Ok(false) = place.attempt("renewing a lease", renew).await {
                count(&engine.counts.leases_lost);
                return;
            }
        }
    }

    async fn release(&self, engine: &Engine, key: &KeyBuf, fence: &Fence) {
        let place = self.place(engine);
        if let Some(lease) = place.store().as_lease() {
            let release = || lease.release(key.as_key(), fence);
            // Where this fails it expires.
            let _ = place.attempt("giving up a lease", release).await;
        }
    }
}

impl Patience {
    /// What the holder brings is as old as its fetch, which has begun: after `max_age` it does not do.
    fn new(wait: Duration, max_age: Option<Duration>) -> Self {
        Self {
            until: Instant::now() + max_age.map_or(wait, |max| max.min(wait)),
            pause: POLL_MIN,
        }
    }

    fn is_over(&self) -> bool {
        self.until <= Instant::now()
    }

    async fn rest(&mut self, engine: &Engine) {
        let left = self.until.saturating_duration_since(Instant::now());
        let pause = self.pause.mul_f64(0.5 + engine.dice.roll() / 2.0);
        sleep(pause.min(left)).await;
        self.pause = (self.pause * 2).min(POLL_MAX);
    }
}

/// Looks again; says whether the object is there now.
async fn look_again(engine: &Arc<Engine>, flight: &Flight, plan: &Plan, found: &mut Look) -> bool {
    *found = look(engine, &flight.key, plan.accept).await;
    found.hit.is_some()
}
