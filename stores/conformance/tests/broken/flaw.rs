//! A model with one operation replaced.

use std::{fmt::Debug, sync::Arc, time::Duration};

use larder_conformance::{Model, Setup};
use larder_store::{
    Bus, ByteRange, Commit, Deliveries, Draft, Fence, Identity, Key, Keys, Lease, Leased, List,
    Lookup, Message, Metadata, Reply, Store, Terms, Touch, Usage, Writer,
};

/// What is wrong with a store: the operations that it overrides.
pub(crate) trait Flaw: Debug + Default + Send + Sync + 'static {
    fn get<'a>(&'a self, model: &'a Model, key: Key<'a>, range: ByteRange) -> Reply<'a, Lookup> {
        model.get_stream(key, range)
    }

    fn set<'a>(
        &'a self,
        model: &'a Model,
        key: Key<'a>,
        draft: Draft,
    ) -> Reply<'a, Box<dyn Writer>> {
        model.set_with_writer(key, draft)
    }

    fn delete<'a>(
        &'a self,
        model: &'a Model,
        key: Key<'a>,
        fence: Option<Fence>,
    ) -> Reply<'a, Commit> {
        model.delete(key, fence)
    }

    fn stat<'a>(&'a self, model: &'a Model, key: Key<'a>) -> Reply<'a, Option<Arc<Metadata>>> {
        model.stat(key)
    }

    fn fence<'a>(&'a self, model: &'a Model, key: Key<'a>) -> Reply<'a, Fence> {
        model.fence(key)
    }

    fn touch<'a>(&'a self, model: &'a Model, key: Key<'a>, draft: Draft) -> Reply<'a, Commit> {
        model
            .as_touch()
            .expect("the model has it")
            .touch(key, draft)
    }

    fn list(&self, model: &Model, prefix: &str) -> Keys {
        model.as_list().expect("the model has it").list(prefix)
    }

    fn usage(&self, model: &Model) -> Usage {
        model.usage()
    }

    fn object_max(&self, model: &Model) -> Option<u64> {
        model.object_max()
    }

    fn identity(&self, model: &Model) -> Identity {
        model.identity()
    }

    fn acquire<'a>(
        &'a self,
        model: &'a Model,
        key: Key<'a>,
        fence: &'a Fence,
        terms: &'a Terms,
    ) -> Reply<'a, Leased> {
        let lease = model.as_lease().expect("the model has it");
        lease.acquire(key, fence, terms)
    }

    fn renew<'a>(
        &'a self,
        model: &'a Model,
        key: Key<'a>,
        fence: &'a Fence,
        ttl: Duration,
    ) -> Reply<'a, bool> {
        let lease = model.as_lease().expect("the model has it");
        lease.renew(key, fence, ttl)
    }

    fn release<'a>(&'a self, model: &'a Model, key: Key<'a>, fence: &'a Fence) -> Reply<'a, ()> {
        let lease = model.as_lease().expect("the model has it");
        lease.release(key, fence)
    }

    fn publish<'a>(&'a self, model: &'a Model, message: &'a Message) -> Reply<'a, ()> {
        model.as_bus().expect("the model has it").publish(message)
    }

    fn subscribe<'a>(&'a self, model: &'a Model) -> Reply<'a, Deliveries> {
        model.as_bus().expect("the model has it").subscribe()
    }

    /// The capability that it does not claim.
    fn hides(&self) -> &'static str {
        "none"
    }
}

#[derive(Debug)]
pub(crate) struct Broken<F> {
    model: Model,
    flaw: F,
}

impl<F: Flaw> Broken<F> {
    pub(crate) fn new(setup: Setup) -> Self {
        Self::over(Model::with(setup))
    }

    pub(crate) fn over(model: Model) -> Self {
        let flaw = F::default();
        Self { model, flaw }
    }
}

impl<F: Flaw> Store for Broken<F> {
    fn get_stream<'a>(&'a self, key: Key<'a>, range: ByteRange) -> Reply<'a, Lookup> {
        self.flaw.get(&self.model, key, range)
    }

    fn set_with_writer<'a>(&'a self, key: Key<'a>, draft: Draft) -> Reply<'a, Box<dyn Writer>> {
        self.flaw.set(&self.model, key, draft)
    }

    fn delete<'a>(&'a self, key: Key<'a>, fence: Option<Fence>) -> Reply<'a, Commit> {
        self.flaw.delete(&self.model, key, fence)
    }

    fn stat<'a>(&'a self, key: Key<'a>) -> Reply<'a, Option<Arc<Metadata>>> {
        self.flaw.stat(&self.model, key)
    }

    fn fence<'a>(&'a self, key: Key<'a>) -> Reply<'a, Fence> {
        self.flaw.fence(&self.model, key)
    }

    fn kind(&self) -> &'static str {
        self.model.kind()
    }

    fn usage(&self) -> Usage {
        self.flaw.usage(&self.model)
    }

    fn close(&self) -> Reply<'_, ()> {
        self.model.close()
    }

    fn object_max(&self) -> Option<u64> {
        self.flaw.object_max(&self.model)
    }

    fn identity(&self) -> Identity {
        self.flaw.identity(&self.model)
    }

    fn as_touch(&self) -> Option<&dyn Touch> {
        (self.flaw.hides() != "touch").then_some(self as &dyn Touch)
    }

    fn as_list(&self) -> Option<&dyn List> {
        Some(self)
    }

    fn as_lease(&self) -> Option<&dyn Lease> {
        (self.flaw.hides() != "lease").then_some(self as &dyn Lease)
    }

    fn as_bus(&self) -> Option<&dyn Bus> {
        (self.flaw.hides() != "bus").then_some(self as &dyn Bus)
    }
}

impl<F: Flaw> Touch for Broken<F> {
    fn touch<'a>(&'a self, key: Key<'a>, draft: Draft) -> Reply<'a, Commit> {
        self.flaw.touch(&self.model, key, draft)
    }
}

impl<F: Flaw> List for Broken<F> {
    fn list(&self, prefix: &str) -> Keys {
        self.flaw.list(&self.model, prefix)
    }
}

impl<F: Flaw> Lease for Broken<F> {
    fn acquire<'a>(
        &'a self,
        key: Key<'a>,
        fence: &'a Fence,
        terms: &'a Terms,
    ) -> Reply<'a, Leased> {
        self.flaw.acquire(&self.model, key, fence, terms)
    }

    fn renew<'a>(&'a self, key: Key<'a>, fence: &'a Fence, ttl: Duration) -> Reply<'a, bool> {
        self.flaw.renew(&self.model, key, fence, ttl)
    }

    fn release<'a>(&'a self, key: Key<'a>, fence: &'a Fence) -> Reply<'a, ()> {
        self.flaw.release(&self.model, key, fence)
    }
}

impl<F: Flaw> Bus for Broken<F> {
    fn publish<'a>(&'a self, message: &'a Message) -> Reply<'a, ()> {
        self.flaw.publish(&self.model, message)
    }

    fn subscribe(&self) -> Reply<'_, Deliveries> {
        self.flaw.subscribe(&self.model)
    }
}
