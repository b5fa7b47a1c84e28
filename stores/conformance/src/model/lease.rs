//! The model's leases.

use std::{collections::HashMap, sync::Arc, time::Duration};

use larder_store::{Fence, Holder, Key, KeyBuf, Lease, Leased, Reply, Stripe, Terms};
use tokio::time::Instant;

use super::{Model, State};

/// Who holds what, by key.
#[derive(Default)]
pub(super) struct Leases {
    held: HashMap<KeyBuf, Held>,
    /// The last token that was given; none is given twice.
    token: u64,
}

struct Held {
    token: u64,
    terms: Terms,
    until: Instant,
}

/// What the fence of a lease stands for.
struct Grant {
    fence: Fence,
    token: u64,
}

impl Leases {
    /// Ends the key's lease: to be called for each commit, touch and delete.
    pub(super) fn end(&mut self, key: Key<'_>) {
        self.held.remove(key.as_str());
    }

    /// The lease that this fence holds.
    fn of(&mut self, key: Key<'_>, fence: &Fence, now: Instant) -> Option<&mut Held> {
        let grant = fence.downcast_ref::<Grant>()?;
        let held = self.held.get_mut(key.as_str())?;
        (held.token == grant.token && held.until > now).then_some(held)
    }
}

impl State {
    /// Whether the fence holds and, if it is one of a lease, the lease too.
    pub(super) fn holds(&mut self, stripe: &Stripe<'_>, key: Key<'_>, fence: &Fence) -> bool {
        match fence.downcast_ref::<Grant>() {
            None => stripe.holds(fence),
            Some(grant) => {
                stripe.holds(&grant.fence) && self.leases.of(key, fence, Instant::now()).is_some()
            }
        }
    }
}

/// Leases last by tokio's clock, which tests can pause and advance.
impl Lease for Model {
    fn acquire<'a>(
        &'a self,
        key: Key<'a>,
        fence: &'a Fence,
        terms: &'a Terms,
    ) -> Reply<'a, Leased> {
        self.reply(move || {
            let stripe = self.shared.fences.lock(key);
            let mut state = self.state()?;
            terms.check()?;
            if !state.holds(&stripe, key, fence) {
                return Ok(Leased::Superseded);
            }
            let now = Instant::now();
            let leases = &mut state.leases;
            leases.held.retain(|_, held| held.until > now);
            if let Some(held) = leases.held.get(key.as_str()) {
                return Ok(Leased::Taken(Holder {
                    who: Arc::clone(&held.terms.who),
                    why: Arc::clone(&held.terms.why),
                    left: held.until - now,
                }));
            }
            leases.token += 1;
            let token = leases.token;
            let held = Held {
                token,
                terms: terms.clone(),
                until: now + terms.ttl,
            };
            leases.held.insert(key.to_buf(), held);
            let fence = fence.clone();
            Ok(Leased::Granted(Fence::new(Grant { fence, token })))
        })
    }

    fn renew<'a>(&'a self, key: Key<'a>, fence: &'a Fence, ttl: Duration) -> Reply<'a, bool> {
        self.reply(move || {
            let mut state = self.state()?;
            Terms::check_ttl(ttl)?;
            let now = Instant::now();
            let held = state.leases.of(key, fence, now);
            Ok(held.map(|held| held.until = now + ttl).is_some())
        })
    }

    fn release<'a>(&'a self, key: Key<'a>, fence: &'a Fence) -> Reply<'a, ()> {
        self.reply(move || {
            let mut state = self.state()?;
            if state.leases.of(key, fence, Instant::now()).is_some() {
                state.leases.end(key);
            }
            Ok(())
        })
    }
}
