//! A store that can do what the contract demands and nothing beside it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use larder::{ByteRange, Draft, Error, Key, Metadata, Result, Store, Usage};
use larder_store::{Commit, Fence, Identity, Lookup, Reply, Staged, Writer};

/// Forwards the contract and no capability. What its writers have staged can be lost on command.
#[derive(Clone, Debug)]
pub(crate) struct Plain<S> {
    inner: S,
    lost: Arc<AtomicBool>,
}

impl<S: Store> Plain<S> {
    pub(crate) fn new(inner: S) -> Self {
        let lost = Arc::default();
        Self { inner, lost }
    }

    /// From here on, staged bytes cannot be read back: the medium broke.
    pub(crate) fn lose_staged(&self) {
        self.lost.store(true, Ordering::SeqCst);
    }
}

impl<S: Store> Store for Plain<S> {
    fn get_stream<'a>(&'a self, key: Key<'a>, range: ByteRange) -> Reply<'a, Lookup> {
        self.inner.get_stream(key, range)
    }

    fn set_with_writer<'a>(&'a self, key: Key<'a>, draft: Draft) -> Reply<'a, Box<dyn Writer>> {
        Reply::later(async move {
            let inner = self.inner.set_with_writer(key, draft).await?;
            let lost = Arc::clone(&self.lost);
            Ok(Box::new(PlainWriter { inner, lost }) as Box<dyn Writer>)
        })
    }

    fn delete<'a>(&'a self, key: Key<'a>, fence: Option<Fence>) -> Reply<'a, Commit> {
        self.inner.delete(key, fence)
    }

    fn stat<'a>(&'a self, key: Key<'a>) -> Reply<'a, Option<Arc<Metadata>>> {
        self.inner.stat(key)
    }

    fn fence<'a>(&'a self, key: Key<'a>) -> Reply<'a, Fence> {
        self.inner.fence(key)
    }

    fn kind(&self) -> &'static str {
        "plain"
    }

    fn object_max(&self) -> Option<u64> {
        self.inner.object_max()
    }

    fn usage(&self) -> Usage {
        self.inner.usage()
    }

    fn close(&self) -> Reply<'_, ()> {
        self.inner.close()
    }

    fn identity(&self) -> Identity {
        self.inner.identity()
    }
}

struct PlainWriter {
    inner: Box<dyn Writer>,
    lost: Arc<AtomicBool>,
}

impl Writer for PlainWriter {
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
        let (inner, lost) = (self.inner.staged()?, Arc::clone(&self.lost));
        Some(Arc::new(Losable { inner, lost }))
    }
}

struct Losable {
    inner: Arc<dyn Staged>,
    lost: Arc<AtomicBool>,
}

impl Staged for Losable {
    fn read(self: Arc<Self>, offset: u64, max: usize) -> Reply<'static, Bytes> {
        if self.lost.load(Ordering::SeqCst) {
            let result: Result<_> = Err(Error::corrupt("the staged bytes are lost"));
            return Reply::ready(result);
        }
        Arc::clone(&self.inner).read(offset, max)
    }
}
