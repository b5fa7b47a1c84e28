//! Flaws in who holds a lease, and for how long.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use larder_conformance::Model;
use larder_store::{
    Commit, Draft, Fence, Holder, Key, KeyBuf, Lease, Leased, Reply, Store, Terms, Writer,
};
use tokio::time::Instant;

use super::now;
use crate::flaw::Flaw;

fn lease(model: &Model) -> &dyn Lease {
    model.as_lease().expect("the model has it")
}

/// S68: looks at the fence when something is committed, and not at the lease.
#[derive(Debug, Default)]
pub(crate) struct LeaseNotFenced;

/// Both fences of a grant, so that each operation can take the one that it should not.
struct Both {
    plain: Fence,
    grant: Fence,
}

fn plain(fence: Fence) -> Fence {
    let both = fence.downcast_ref::<Both>();
    both.map(|both| both.plain.clone()).unwrap_or(fence)
}

fn grant(fence: &Fence) -> &Fence {
    let both = fence.downcast_ref::<Both>();
    both.map_or(fence, |both| &both.grant)
}

fn unleased(mut draft: Draft) -> Draft {
    match draft.take_fence() {
        Some(fence) => draft.fence(plain(fence)),
        None => draft,
    }
}

impl Flaw for LeaseNotFenced {
    fn set<'a>(
        &'a self,
        model: &'a Model,
        key: Key<'a>,
        draft: Draft,
    ) -> Reply<'a, Box<dyn Writer>> {
        model.set_with_writer(key, unleased(draft))
    }

    fn delete<'a>(
        &'a self,
        model: &'a Model,
        key: Key<'a>,
        fence: Option<Fence>,
    ) -> Reply<'a, Commit> {
        model.delete(key, fence.map(plain))
    }

    fn touch<'a>(&'a self, model: &'a Model, key: Key<'a>, draft: Draft) -> Reply<'a, Commit> {
        let touch = model.as_touch().expect("the model has it");
        touch.touch(key, unleased(draft))
    }

    fn acquire<'a>(
        &'a self,
        model: &'a Model,
        key: Key<'a>,
        fence: &'a Fence,
        terms: &'a Terms,
    ) -> Reply<'a, Leased> {
        let acquired = now(lease(model).acquire(key, fence, terms));
        Reply::ready(acquired.map(|acquired| match acquired {
            Leased::Granted(grant) => {
                let plain = fence.clone();
                Leased::Granted(Fence::new(Both { plain, grant }))
            }
            other => other,
        }))
    }

    fn renew<'a>(
        &'a self,
        model: &'a Model,
        key: Key<'a>,
        fence: &'a Fence,
        ttl: Duration,
    ) -> Reply<'a, bool> {
        lease(model).renew(key, grant(fence), ttl)
    }

    fn release<'a>(&'a self, model: &'a Model, key: Key<'a>, fence: &'a Fence) -> Reply<'a, ()> {
        lease(model).release(key, grant(fence))
    }
}

/// Never says no.
#[derive(Debug, Default)]
pub(crate) struct LeaseForAll;

impl Flaw for LeaseForAll {
    fn acquire<'a>(
        &'a self,
        model: &'a Model,
        key: Key<'a>,
        fence: &'a Fence,
        terms: &'a Terms,
    ) -> Reply<'a, Leased> {
        match now(lease(model).acquire(key, fence, terms)) {
            Ok(Leased::Taken(_)) => Reply::ready(Ok(Leased::Granted(fence.clone()))),
            acquired => Reply::ready(acquired),
        }
    }
}

/// Asks for the lease alone, so that a fill is begun of what was stored just now.
#[derive(Debug, Default)]
pub(crate) struct LeaseWithoutFence;

impl Flaw for LeaseWithoutFence {
    fn acquire<'a>(
        &'a self,
        model: &'a Model,
        key: Key<'a>,
        fence: &'a Fence,
        terms: &'a Terms,
    ) -> Reply<'a, Leased> {
        match now(lease(model).acquire(key, fence, terms)) {
            Ok(Leased::Superseded) => {
                let fresh = now(model.fence(key));
                Reply::ready(fresh.and_then(|fence| now(lease(model).acquire(key, &fence, terms))))
            }
            acquired => Reply::ready(acquired),
        }
    }
}

/// Keeps a lease until it expires or is given up, whatever is committed meanwhile.
#[derive(Debug, Default)]
pub(crate) struct LeaseOutlivesCommit(Mutex<HashMap<KeyBuf, (Terms, Instant)>>);

impl Flaw for LeaseOutlivesCommit {
    fn acquire<'a>(
        &'a self,
        model: &'a Model,
        key: Key<'a>,
        fence: &'a Fence,
        terms: &'a Terms,
    ) -> Reply<'a, Leased> {
        let acquired = now(lease(model).acquire(key, fence, terms));
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Reply::ready(
            acquired.map(|acquired| match (acquired, held.get(key.as_str())) {
                (Leased::Granted(_), Some((terms, until))) if *until > Instant::now() => {
                    Leased::Taken(Holder {
                        who: terms.who.clone(),
                        why: terms.why.clone(),
                        left: *until - Instant::now(),
                    })
                }
                (Leased::Granted(fence), _) => {
                    let until = Instant::now() + terms.ttl;
                    held.insert(key.to_buf(), (terms.clone(), until));
                    Leased::Granted(fence)
                }
                (other, _) => other,
            }),
        )
    }

    fn renew<'a>(
        &'a self,
        model: &'a Model,
        key: Key<'a>,
        fence: &'a Fence,
        ttl: Duration,
    ) -> Reply<'a, bool> {
        let renewed = now(lease(model).renew(key, fence, ttl));
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Ok(true), Some((_, until))) = (&renewed, held.get_mut(key.as_str())) {
            *until = Instant::now() + ttl;
        }
        Reply::ready(renewed)
    }

    fn release<'a>(&'a self, model: &'a Model, key: Key<'a>, fence: &'a Fence) -> Reply<'a, ()> {
        let least = Duration::from_millis(1);
        if let Ok(true) = now(self.renew(model, key, fence, least)) {
            let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            held.remove(key.as_str());
        }
        lease(model).release(key, fence)
    }
}

/// Renews for as long as it thinks right.
#[derive(Debug, Default)]
pub(crate) struct RenewsForLess;

impl Flaw for RenewsForLess {
    fn renew<'a>(
        &'a self,
        model: &'a Model,
        key: Key<'a>,
        fence: &'a Fence,
        ttl: Duration,
    ) -> Reply<'a, bool> {
        let ttl = ttl.min(Duration::from_secs(2));
        lease(model).renew(key, fence, ttl)
    }
}

/// Does not tell a holder that it is none any more.
#[derive(Debug, Default)]
pub(crate) struct RenewAlwaysTrue;

impl Flaw for RenewAlwaysTrue {
    fn renew<'a>(
        &'a self,
        model: &'a Model,
        key: Key<'a>,
        fence: &'a Fence,
        ttl: Duration,
    ) -> Reply<'a, bool> {
        Reply::ready(now(lease(model).renew(key, fence, ttl)).map(|_| true))
    }
}

/// Waits for the lease to expire.
#[derive(Debug, Default)]
pub(crate) struct ReleaseDoesNothing;

impl Flaw for ReleaseDoesNothing {
    fn release<'a>(&'a self, _: &'a Model, _: Key<'a>, _: &'a Fence) -> Reply<'a, ()> {
        Reply::ready(Ok(()))
    }
}

/// Releases the key's lease, whoever holds it.
#[derive(Debug, Default)]
pub(crate) struct ReleaseByAnyone(Mutex<HashMap<KeyBuf, Fence>>);

impl Flaw for ReleaseByAnyone {
    fn acquire<'a>(
        &'a self,
        model: &'a Model,
        key: Key<'a>,
        fence: &'a Fence,
        terms: &'a Terms,
    ) -> Reply<'a, Leased> {
        let acquired = now(lease(model).acquire(key, fence, terms));
        if let Ok(Leased::Granted(fence)) = &acquired {
            let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            held.insert(key.to_buf(), fence.clone());
        }
        Reply::ready(acquired)
    }

    fn release<'a>(&'a self, model: &'a Model, key: Key<'a>, _: &'a Fence) -> Reply<'a, ()> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match held.remove(key.as_str()) {
            Some(fence) => Reply::ready(now(lease(model).release(key, &fence))),
            None => Reply::ready(Ok(())),
        }
    }
}

/// Takes whatever terms it is offered.
#[derive(Debug, Default)]
pub(crate) struct AnyTerms;

impl Flaw for AnyTerms {
    fn acquire<'a>(
        &'a self,
        model: &'a Model,
        key: Key<'a>,
        fence: &'a Fence,
        terms: &'a Terms,
    ) -> Reply<'a, Leased> {
        let mut terms = terms.clone();
        terms.ttl = terms.ttl.max(Duration::from_millis(1));
        Reply::ready(now(lease(model).acquire(key, fence, &terms)))
    }
}

/// Has one lease for everything.
#[derive(Debug, Default)]
pub(crate) struct OneLease;

impl Flaw for OneLease {
    fn acquire<'a>(
        &'a self,
        model: &'a Model,
        key: Key<'a>,
        fence: &'a Fence,
        terms: &'a Terms,
    ) -> Reply<'a, Leased> {
        let all = Key::new("lease").expect("a key");
        let acquired = now(lease(model).acquire(key, fence, terms));
        if !matches!(acquired, Ok(Leased::Granted(_))) {
            return Reply::ready(acquired);
        }
        let one = now(model.fence(all)).and_then(|one| now(lease(model).acquire(all, &one, terms)));
        match one {
            Ok(Leased::Granted(_)) => Reply::ready(acquired),
            other => Reply::ready(other),
        }
    }
}
