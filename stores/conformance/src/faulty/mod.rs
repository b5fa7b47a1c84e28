//! A store that fails on command.

mod body;
mod faults;
mod writer;

use std::sync::Arc;

use futures_util::{StreamExt, stream};
use larder_store::{
    ByteRange, Commit, Draft, Fence, Fencing, Identity, Key, Keys, List, Lookup, Metadata, Reply,
    Store, Touch, Usage, Writer,
};

pub use self::faults::{Fault, Faults, Op, When};
use self::{body::faulty_object, writer::FaultyWriter};

/// Any store, with faults that can be switched on from outside.
///
/// Without faults it forwards everything, and every capability. With them it is a store that fails
/// as real ones do and still keeps the contract: what fails is not done, or done and said not to
/// be; a writer whose write failed cannot be committed.
///
/// Whole bodies are forwarded whole unless a fault of [`Op::Body`] is waiting when they are opened;
/// their chunks are not counted then.
///
/// ```
/// use larder_conformance::{Fault, Faulty, Model, Op};
/// use larder_store::{Draft, ErrorKind, StoreExt};
///
/// # larder_conformance::run("example", async {
/// let store = Faulty::new(Model::new());
/// store.faults().on(Op::Commit).inject(Fault::Fail(ErrorKind::Unavailable));
/// assert!(store.write("key", "value", Draft::new()).await.unwrap_err().is_unavailable());
/// assert!(store.write("key", "value", Draft::new()).await.unwrap().is_done());
/// # });
/// ```
#[derive(Clone, Debug)]
pub struct Faulty<S> {
    inner: S,
    faults: Faults,
}

impl<S: Store> Faulty<S> {
    /// Wraps a store; nothing goes wrong yet.
    pub fn new(inner: S) -> Self {
        let faults = Faults::default();
        Self { inner, faults }
    }

    /// The handle that makes things go wrong.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// The store beneath, which never fails on command.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    fn call<'a, T: Send + 'a>(
        &self,
        op: Op,
        key: &str,
        operation: impl FnOnce() -> Reply<'a, T> + Send + 'a,
    ) -> Reply<'a, T> {
        match self.faults.strike(op, key) {
            None => operation(),
            Some(strike) => Reply::later(strike.around(operation)),
        }
    }
}

impl<S: Store> Store for Faulty<S> {
    fn get_stream<'a>(&'a self, key: Key<'a>, range: ByteRange) -> Reply<'a, Lookup> {
        let strike = self.faults.strike(Op::Get, key.as_str());
        let shorten = match strike.as_ref().map(|strike| strike.fault) {
            Some(Fault::Shorten(len)) => Some(len),
            _ => None,
        };
        let reply = match strike {
            None => self.inner.get_stream(key, range),
            Some(strike) => Reply::later(strike.around(move || self.inner.get_stream(key, range))),
        };
        if reply.is_ready() && shorten.is_none() && !self.faults.expects(Op::Body) {
            return reply;
        }
        Reply::later(async move {
            Ok(match reply.await? {
                Lookup::Hit(object) => {
                    let faults = self.faults.clone();
                    Lookup::Hit(faulty_object(faults, key.to_buf(), object, shorten))
                }
                miss @ Lookup::Miss(_) => miss,
            })
        })
    }

    fn set_with_writer<'a>(&'a self, key: Key<'a>, draft: Draft) -> Reply<'a, Box<dyn Writer>> {
        let reply = self.call(Op::Set, key.as_str(), move || {
            self.inner.set_with_writer(key, draft)
        });
        Reply::later(async move {
            let faults = self.faults.clone();
            Ok(FaultyWriter::wrap(faults, key.to_buf(), reply.await?))
        })
    }

    fn delete<'a>(&'a self, key: Key<'a>, fence: Option<Fence>) -> Reply<'a, Commit> {
        self.call(Op::Delete, key.as_str(), move || {
            self.inner.delete(key, fence)
        })
    }

    fn stat<'a>(&'a self, key: Key<'a>) -> Reply<'a, Option<Arc<Metadata>>> {
        self.call(Op::Stat, key.as_str(), move || self.inner.stat(key))
    }

    fn fence<'a>(&'a self, key: Key<'a>) -> Reply<'a, Fence> {
        self.call(Op::Fence, key.as_str(), move || self.inner.fence(key))
    }

    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    fn usage(&self) -> Usage {
        self.inner.usage()
    }

    fn close(&self) -> Reply<'_, ()> {
        self.call(Op::Close, "", || self.inner.close())
    }

    fn fencing(&self) -> Fencing {
        self.inner.fencing()
    }

    fn identity(&self) -> Identity {
        self.inner.identity()
    }

    fn as_touch(&self) -> Option<&dyn Touch> {
        self.inner.as_touch().map(|_| self as &dyn Touch)
    }

    fn as_list(&self) -> Option<&dyn List> {
        self.inner.as_list().map(|_| self as &dyn List)
    }
}

impl<S: Store> Touch for Faulty<S> {
    fn touch<'a>(&'a self, key: Key<'a>, draft: Draft) -> Reply<'a, Commit> {
        let touch = self
            .inner
            .as_touch()
            .expect("it was there when it was asked for");
        self.call(Op::Touch, key.as_str(), move || touch.touch(key, draft))
    }
}

impl<S: Store> List for Faulty<S> {
    fn list(&self, prefix: &str) -> Keys {
        let list = self
            .inner
            .as_list()
            .expect("it was there when it was asked for");
        let keys = list.list(prefix);
        let Some(strike) = self.faults.strike(Op::List, "") else {
            return keys;
        };
        let keys = stream::once(async move {
            let struck = match strike.before().await {
                Ok(()) => strike.after().await,
                failed => failed,
            };
            match struck {
                Ok(()) => keys,
                Err(error) => Box::pin(stream::once(async { Err(error) })),
            }
        });
        Box::pin(keys.flatten())
    }
}
