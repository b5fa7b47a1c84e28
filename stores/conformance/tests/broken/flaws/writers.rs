//! Flaws in how a writer works and ends.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use larder_conformance::Model;
use larder_store::{
    ByteRange, Commit, Draft, Error, ErrorKind, Fence, Key, KeyBuf, Lookup, Reply, Staged, Store,
    Writer,
};

use super::{now, wrap};
use crate::flaw::Flaw;

/// Removes the old object first, and publishes the new one then.
#[derive(Debug, Default)]
pub(crate) struct GapWhileReplacing;

struct GapWriter {
    inner: Box<dyn Writer>,
    model: Model,
    key: KeyBuf,
    written: usize,
    fenced: bool,
    declared: Option<u64>,
}

impl Flaw for GapWhileReplacing {
    fn set<'a>(
        &'a self,
        model: &'a Model,
        key: Key<'a>,
        mut draft: Draft,
    ) -> Reply<'a, Box<dyn Writer>> {
        let declared = draft.expected_len();
        let fence = draft.take_fence();
        let fenced = fence.is_some();
        let draft = match fence {
            Some(fence) => draft.fence(fence),
            None => draft,
        };
        wrap(model.set_with_writer(key, draft), |inner| GapWriter {
            inner,
            model: model.clone(),
            key: key.to_buf(),
            written: 0,
            fenced,
            declared,
        })
    }
}

impl Writer for GapWriter {
    fn write(&mut self, chunk: Bytes) -> Reply<'_, ()> {
        self.written += chunk.len();
        self.inner.write(chunk)
    }

    fn commit(self: Box<Self>) -> Reply<'static, Commit> {
        let whole = self.declared.is_none_or(|len| len == self.written as u64);
        let present = now(self.model.stat(self.key.as_key())).is_ok_and(|found| found.is_some());
        if present && whole && !self.fenced && self.written > 9000 {
            drop(now(self.model.delete(self.key.as_key(), None)));
            for _ in 0..500 {
                std::thread::yield_now();
            }
        }
        Reply::ready(now(self.inner.commit()))
    }

    fn abort(self: Box<Self>) -> Reply<'static, ()> {
        self.inner.abort()
    }

    fn staged(&self) -> Option<Arc<dyn Staged>> {
        self.inner.staged()
    }
}

/// Cleans up in a task, and forgets that a drop can happen anywhere.
#[derive(Debug, Default)]
pub(crate) struct DropNeedsRuntime;

impl Flaw for DropNeedsRuntime {
    fn set<'a>(
        &'a self,
        model: &'a Model,
        key: Key<'a>,
        draft: Draft,
    ) -> Reply<'a, Box<dyn Writer>> {
        wrap(model.set_with_writer(key, draft), |inner| OnDrop {
            inner: Some(inner),
            then: |inner| drop(tokio::spawn(async { drop(inner) })),
        })
    }
}

/// A writer that does something else when it is dropped.
struct OnDrop<F: FnMut(Box<dyn Writer>) + Send + 'static> {
    inner: Option<Box<dyn Writer>>,
    then: F,
}

impl<F: FnMut(Box<dyn Writer>) + Send + 'static> OnDrop<F> {
    fn take(&mut self) -> Box<dyn Writer> {
        self.inner.take().expect("only its end takes it")
    }
}

impl<F: FnMut(Box<dyn Writer>) + Send + 'static> Writer for OnDrop<F> {
    fn write(&mut self, chunk: Bytes) -> Reply<'_, ()> {
        self.inner
            .as_mut()
            .expect("only its end takes it")
            .write(chunk)
    }

    fn commit(mut self: Box<Self>) -> Reply<'static, Commit> {
        self.take().commit()
    }

    fn abort(mut self: Box<Self>) -> Reply<'static, ()> {
        self.take().abort()
    }

    fn staged(&self) -> Option<Arc<dyn Staged>> {
        self.inner.as_ref().and_then(|inner| inner.staged())
    }
}

impl<F: FnMut(Box<dyn Writer>) + Send + 'static> Drop for OnDrop<F> {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.take() {
            (self.then)(inner);
        }
    }
}

/// S16: ends the fences of the key when a writer gives up.
#[derive(Debug, Default)]
pub(crate) struct AbortCounts;

impl Flaw for AbortCounts {
    fn set<'a>(
        &'a self,
        model: &'a Model,
        key: Key<'a>,
        draft: Draft,
    ) -> Reply<'a, Box<dyn Writer>> {
        let (model_then, key_then) = (model.clone(), key.to_buf());
        wrap(model.set_with_writer(key, draft), |inner| OnDrop {
            inner: Some(inner),
            then: move |inner| {
                drop(inner);
                if matches!(now(model_then.stat(key_then.as_key())), Ok(None)) {
                    drop(now(model_then.delete(key_then.as_key(), None)));
                }
            },
        })
    }
}

/// Hands the commit to a queue when nobody waits for it any more.
#[derive(Debug, Default)]
pub(crate) struct LateCommit;

struct LateWriter(Box<dyn Writer>);

impl Flaw for LateCommit {
    fn set<'a>(
        &'a self,
        model: &'a Model,
        key: Key<'a>,
        draft: Draft,
    ) -> Reply<'a, Box<dyn Writer>> {
        wrap(model.set_with_writer(key, draft), LateWriter)
    }
}

impl Writer for LateWriter {
    fn write(&mut self, chunk: Bytes) -> Reply<'_, ()> {
        self.0.write(chunk)
    }

    fn commit(self: Box<Self>) -> Reply<'static, Commit> {
        let mut queued = OnDrop {
            inner: Some(self.0),
            then: |inner: Box<dyn Writer>| {
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(4)).await;
                    drop(inner.commit().await);
                });
            },
        };
        Reply::later(async move {
            tokio::task::yield_now().await;
            queued.take().commit().await
        })
    }

    fn abort(self: Box<Self>) -> Reply<'static, ()> {
        self.0.abort()
    }

    fn staged(&self) -> Option<Arc<dyn Staged>> {
        self.0.staged()
    }
}

/// Notices a short body, but not one that runs past its declared length.
#[derive(Debug, Default)]
pub(crate) struct LengthExceeded;

struct UpToWriter {
    inner: Box<dyn Writer>,
    declared: u64,
    written: u64,
}

impl Flaw for LengthExceeded {
    fn set<'a>(
        &'a self,
        model: &'a Model,
        key: Key<'a>,
        mut draft: Draft,
    ) -> Reply<'a, Box<dyn Writer>> {
        // Whatever is wrong at the start is said.
        if let Err(error) = now(model.set_with_writer(key, draft.clone())) {
            return Reply::ready(Err(error));
        }
        let declared = draft.expected_len().unwrap_or(0);
        let fence = draft.take_fence();
        let mut undeclared = Draft::from(draft.header().clone());
        if let Some(fence) = fence {
            undeclared = undeclared.fence(fence);
        }
        wrap(model.set_with_writer(key, undeclared), |inner| UpToWriter {
            inner,
            declared,
            written: 0,
        })
    }
}

impl Writer for UpToWriter {
    fn write(&mut self, chunk: Bytes) -> Reply<'_, ()> {
        self.written += chunk.len() as u64;
        self.inner.write(chunk)
    }

    fn commit(self: Box<Self>) -> Reply<'static, Commit> {
        if self.written < self.declared {
            return Reply::ready(Err(Error::corrupt("the object is short")));
        }
        self.inner.commit()
    }

    fn abort(self: Box<Self>) -> Reply<'static, ()> {
        self.inner.abort()
    }

    fn staged(&self) -> Option<Arc<dyn Staged>> {
        self.inner.staged()
    }
}

/// Says that there is no room now, as if there could be later.
#[derive(Debug, Default)]
pub(crate) struct LargeIsFull;

struct FullWriter(Box<dyn Writer>);

fn full(error: Error) -> Error {
    if error.is_too_large() {
        return Error::new(ErrorKind::Full, error.to_string());
    }
    error
}

impl Flaw for LargeIsFull {
    fn set<'a>(
        &'a self,
        model: &'a Model,
        key: Key<'a>,
        draft: Draft,
    ) -> Reply<'a, Box<dyn Writer>> {
        let opened = now(model.set_with_writer(key, draft)).map_err(full);
        wrap(Reply::ready(opened), FullWriter)
    }
}

impl Writer for FullWriter {
    fn write(&mut self, chunk: Bytes) -> Reply<'_, ()> {
        Reply::ready(now(self.0.write(chunk)).map_err(full))
    }

    fn commit(self: Box<Self>) -> Reply<'static, Commit> {
        self.0.commit()
    }

    fn abort(self: Box<Self>) -> Reply<'static, ()> {
        self.0.abort()
    }

    fn staged(&self) -> Option<Arc<dyn Staged>> {
        self.0.staged()
    }
}

/// Removes the staged bytes when the writer ends.
#[derive(Debug, Default)]
pub(crate) struct StagedGoes;

struct GoingWriter {
    inner: Box<dyn Writer>,
    alive: Arc<()>,
}

struct Going {
    inner: Arc<dyn Staged>,
    alive: std::sync::Weak<()>,
}

impl Flaw for StagedGoes {
    fn set<'a>(
        &'a self,
        model: &'a Model,
        key: Key<'a>,
        draft: Draft,
    ) -> Reply<'a, Box<dyn Writer>> {
        wrap(model.set_with_writer(key, draft), |inner| GoingWriter {
            inner,
            alive: Arc::new(()),
        })
    }
}

impl Writer for GoingWriter {
    fn write(&mut self, chunk: Bytes) -> Reply<'_, ()> {
        self.inner.write(chunk)
    }

    fn commit(self: Box<Self>) -> Reply<'static, Commit> {
        self.inner.commit()
    }

    fn abort(self: Box<Self>) -> Reply<'static, ()> {
        self.inner.abort()
    }

    fn staged(&self) -> Option<Arc<dyn Staged>> {
        let alive = Arc::downgrade(&self.alive);
        let inner = self.inner.staged()?;
        Some(Arc::new(Going { inner, alive }))
    }
}

impl Staged for Going {
    fn read(self: Arc<Self>, offset: u64, max: usize) -> Reply<'static, Bytes> {
        if self.alive.strong_count() == 0 {
            return Reply::ready(Err(Error::invalid("the writer is gone")));
        }
        Arc::clone(&self.inner).read(offset, max)
    }
}

/// A drop that publishes what there is.
#[derive(Debug, Default)]
pub(crate) struct DropPublishes;

impl Flaw for DropPublishes {
    fn set<'a>(
        &'a self,
        model: &'a Model,
        key: Key<'a>,
        draft: Draft,
    ) -> Reply<'a, Box<dyn Writer>> {
        wrap(model.set_with_writer(key, draft), |inner| OnDrop {
            inner: Some(inner),
            then: |inner| drop(now(inner.commit())),
        })
    }
}

/// A fence that compares versions, so that a key which is absent again looks as before.
#[derive(Debug, Default)]
pub(crate) struct VersionFence;

impl Flaw for VersionFence {
    fn get<'a>(&'a self, model: &'a Model, key: Key<'a>, range: ByteRange) -> Reply<'a, Lookup> {
        match now(model.get_stream(key, range)) {
            Ok(Lookup::Miss(_)) => Reply::ready(now(self.fence(model, key)).map(Lookup::Miss)),
            found => Reply::ready(found),
        }
    }

    fn set<'a>(
        &'a self,
        model: &'a Model,
        key: Key<'a>,
        mut draft: Draft,
    ) -> Reply<'a, Box<dyn Writer>> {
        let Some(then) = draft.take_fence() else {
            return model.set_with_writer(key, draft);
        };
        let (model_then, key_then) = (model.clone(), key.to_buf());
        wrap(model.set_with_writer(key, draft), |inner| VersionWriter {
            inner,
            model: model_then,
            key: key_then,
            then,
        })
    }

    fn fence<'a>(&'a self, model: &'a Model, key: Key<'a>) -> Reply<'a, Fence> {
        let version = now(model.stat(key)).map(|found| found.map(|metadata| metadata.version()));
        Reply::ready(version.map(Fence::new))
    }
}

struct VersionWriter {
    inner: Box<dyn Writer>,
    model: Model,
    key: KeyBuf,
    then: Fence,
}

impl Writer for VersionWriter {
    fn write(&mut self, chunk: Bytes) -> Reply<'_, ()> {
        self.inner.write(chunk)
    }

    fn commit(self: Box<Self>) -> Reply<'static, Commit> {
        let version = now(self.model.stat(self.key.as_key()));
        let version = version.map(|found| found.map(|metadata| metadata.version()));
        match version {
            Err(error) => Reply::ready(Err(error)),
            Ok(version) if self.then.downcast_ref() == Some(&version) => self.inner.commit(),
            Ok(_) => Reply::ready(Ok(Commit::Superseded)),
        }
    }

    fn abort(self: Box<Self>) -> Reply<'static, ()> {
        self.inner.abort()
    }
}
