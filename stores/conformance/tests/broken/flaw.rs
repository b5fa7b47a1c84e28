//! A model with one operation replaced.

use std::{fmt::Debug, sync::Arc};

use larder_conformance::{Model, Setup};
use larder_store::{
    ByteRange, Commit, Draft, Fence, Identity, Key, Keys, List, Lookup, Metadata, Reply, Store,
    Touch, Usage, Writer,
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

    fn identity(&self, model: &Model) -> Identity {
        model.identity()
    }

    fn touches(&self) -> bool {
        true
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

    fn identity(&self) -> Identity {
        self.flaw.identity(&self.model)
    }

    fn as_touch(&self) -> Option<&dyn Touch> {
        self.flaw.touches().then_some(self as &dyn Touch)
    }

    fn as_list(&self) -> Option<&dyn List> {
        Some(self)
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
