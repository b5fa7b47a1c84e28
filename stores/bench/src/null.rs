//! The store that does nothing, to see what the benchmark itself costs.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use larder_store::{
    ByteRange, Commit, Draft, Error, Fence, Key, Lookup, Metadata, Object, Reply, Result, Store,
    Usage, Version, Writer,
};

/// A store that answers every get with one and the same object, and forgets what is written.
///
/// What a run against it costs is what the benchmark costs, and the little that any store must do
/// to hand out an object. It is no cache, and keeps no contract.
pub struct Null {
    metadata: Arc<Metadata>,
    body: Bytes,
}

/// The object it has is no longer than this.
const LEN_MAX: u64 = 1 << 30;

impl Null {
    /// A store whose one object has so many bytes: `TooLarge` above 1 GiB.
    pub fn new(len: u64) -> Result<Self> {
        let bytes = usize::try_from(len).ok().filter(|_| len <= LEN_MAX);
        let bytes = bytes.ok_or_else(|| Error::too_large("the null store's object is too long"))?;
        Ok(Self {
            metadata: Arc::new(Draft::new().commit(len, Version(1), None)),
            body: Bytes::from(vec![0; bytes]),
        })
    }
}

impl fmt::Debug for Null {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Null")
    }
}

impl Store for Null {
    fn get_stream<'a>(&'a self, _: Key<'a>, range: ByteRange) -> Reply<'a, Lookup> {
        let object = Object::slice(Arc::clone(&self.metadata), &self.body, range);
        Reply::ready(object.map(Lookup::Hit))
    }

    fn set_with_writer<'a>(&'a self, _: Key<'a>, _: Draft) -> Reply<'a, Box<dyn Writer>> {
        // A value without a size: no allocation.
        Reply::ready(Ok(Box::new(NullWriter)))
    }

    fn delete<'a>(&'a self, _: Key<'a>, _: Option<Fence>) -> Reply<'a, Commit> {
        Reply::ready(Ok(Commit::Done(None)))
    }

    fn stat<'a>(&'a self, _: Key<'a>) -> Reply<'a, Option<Arc<Metadata>>> {
        Reply::ready(Ok(Some(Arc::clone(&self.metadata))))
    }

    fn fence<'a>(&'a self, _: Key<'a>) -> Reply<'a, Fence> {
        Reply::ready(Ok(Fence::new(())))
    }

    fn kind(&self) -> &'static str {
        "null"
    }

    fn usage(&self) -> Usage {
        Usage::default()
    }

    fn close(&self) -> Reply<'_, ()> {
        Reply::ready(Ok(()))
    }
}

struct NullWriter;

impl Writer for NullWriter {
    fn write(&mut self, _: Bytes) -> Reply<'_, ()> {
        Reply::ready(Ok(()))
    }

    fn commit(self: Box<Self>) -> Reply<'static, Commit> {
        Reply::ready(Ok(Commit::Done(None)))
    }

    fn abort(self: Box<Self>) -> Reply<'static, ()> {
        Reply::ready(Ok(()))
    }
}
