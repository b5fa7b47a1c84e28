//! A store that fails on command.

mod body;
mod bus;
mod faults;
mod writer;

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use larder_store::{
    Bus, ByteRange, Commit, Deliveries, Draft, Fence, Fencing, Identity, Key, Keys, Lease, Leased,
    List, Lookup, Message, Metadata, Reply, Store, Terms, Touch, Usage, Writer,
};

pub use self::faults::{Fault, Faults, Op, When};
use self::{body::faulty_object, bus::faulty_deliveries, writer::FaultyWriter};

/// Any store, with faults that can be switched on from outside.
///
/// Without faults it forwards everything, and every capability. With them it is a store that fails
/// as real ones do and still keeps the contract: what fails is not done, or done and said not to
/// be; a writer whose write failed cannot be committed.
///
/// Two of them around clones of one store are two processes that share it, each with faults of its
/// own: so it is to be used for buses, where [`Op::Deliver`] strikes on the way to a subscriber.
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

    fn object_max(&self) -> Option<u64> {
        self.inner.object_max()
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

    fn as_lease(&self) -> Option<&dyn Lease> {
        self.inner.as_lease().map(|_| self as &dyn Lease)
    }

    fn as_bus(&self) -> Option<&dyn Bus> {
        self.inner.as_bus().map(|_| self as &dyn Bus)
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

impl<S: Store> Faulty<S> {
    fn lease(&self) -> &dyn Lease {
        let lease = self.inner.as_lease();
        lease.expect("it was there when it was asked for")
    }

    fn bus(&self) -> &dyn Bus {
        let bus = self.inner.as_bus();
        bus.expect("it was there when it was asked for")
    }
}

impl<S: Store> Lease for Faulty<S> {
    fn acquire<'a>(
        &'a self,
        key: Key<'a>,
        fence: &'a Fence,
        terms: &'a Terms,
    ) -> Reply<'a, Leased> {
        self.call(Op::Acquire, key.as_str(), move || {
            self.lease().acquire(key, fence, terms)
        })
    }

    fn renew<'a>(&'a self, key: Key<'a>, fence: &'a Fence, ttl: Duration) -> Reply<'a, bool> {
        self.call(Op::Renew, key.as_str(), move || {
            self.lease().renew(key, fence, ttl)
        })
    }

    fn release<'a>(&'a self, key: Key<'a>, fence: &'a Fence) -> Reply<'a, ()> {
        self.call(Op::Release, key.as_str(), move || {
            self.lease().release(key, fence)
        })
    }
}

impl<S: Store> Bus for Faulty<S> {
    fn publish<'a>(&'a self, message: &'a Message) -> Reply<'a, ()> {
        self.call(Op::Publish, "", move || self.bus().publish(message))
    }

    fn subscribe(&self) -> Reply<'_, Deliveries> {
        let reply = self.call(Op::Subscribe, "", move || self.bus().subscribe());
        Reply::later(async move {
            let faults = self.faults.clone();
            Ok(faulty_deliveries(faults, reply.await?))
        })
    }
}
