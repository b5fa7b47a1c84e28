//! The contract itself.

use std::{fmt, ops::Range, sync::Arc};

use crate::{
    Body, Bus, ByteRange, Commit, Draft, Fence, Fencing, Key, Lease, List, Metadata, Reply, Result,
    Touch, Usage, Writer,
};

/// A place for byte objects under keys; see the [crate] for what it promises.
///
/// Everything takes `&self`; a store keeps its state in an inner `Arc`, so that bodies and commits
/// outlive the call that made them. After [`close`](Self::close) every operation is an error of
/// kind [`Closed`](crate::ErrorKind::Closed).
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// Opens an object, or says that it is absent. A range that does not fit is `Invalid`.
    fn get_stream<'a>(&'a self, key: Key<'a>, range: ByteRange) -> Reply<'a, Lookup>;

    /// Opens a writer for a new object under `key`. What is there stays until the commit; any
    /// number of writers may be open. `TooLarge` when the draft's length is above the limit.
    fn set_with_writer<'a>(&'a self, key: Key<'a>, draft: Draft) -> Reply<'a, Box<dyn Writer>>;

    /// Removes an object; without one, only ends the key's fences. With a fence it takes effect
    /// only if that holds.
    fn delete<'a>(&'a self, key: Key<'a>, fence: Option<Fence>) -> Reply<'a, Commit>;

    /// The metadata of an object, `None` when it is absent.
    fn stat<'a>(&'a self, key: Key<'a>) -> Reply<'a, Option<Arc<Metadata>>>;

    /// A fence for `key` as it is now, to be taken before replacing what is there.
    fn fence<'a>(&'a self, key: Key<'a>) -> Reply<'a, Fence>;

    /// A short name of what it is: `memory`, `disk`, `redis`.
    fn kind(&self) -> &'static str;

    /// What it holds now.
    fn usage(&self) -> Usage;

    /// Flushes and stops background work. Idempotent; bodies that are open may be read to the end.
    fn close(&self) -> Reply<'_, ()>;

    /// How well its fences hold.
    fn fencing(&self) -> Fencing {
        Fencing::Exact
    }

    /// The longest body, in bytes, that the store takes now. `None` if it has no limit, or none that
    /// it knows.
    ///
    /// A writer for a longer body fails, as a rule as `TooLarge`. The limit is on the body alone: a
    /// store may still refuse a shorter object whose key and metadata make it too heavy, and answers
    /// `Full` when it has no room for the moment. The limit may change while the store runs.
    ///
    /// A cache reads the limit at the start of each fill, so that it need not send a body to learn
    /// that the store refuses it. The call returns at once: it does no I/O and waits for nobody.
    fn object_max(&self) -> Option<u64> {
        None
    }

    /// Tells whether two handles are the same store. A handle that can be cloned overrides this
    /// with the address of what its clones share.
    fn identity(&self) -> Identity {
        Identity::of(self)
    }

    /// Replacing metadata, if it can.
    fn as_touch(&self) -> Option<&dyn Touch> {
        None
    }

    /// Listing keys, if it can.
    fn as_list(&self) -> Option<&dyn List> {
        None
    }

    /// Being the one who works on a key, if it can.
    fn as_lease(&self) -> Option<&dyn Lease> {
        None
    }

    /// Telling other processes what is not to be served any more, if it can.
    fn as_bus(&self) -> Option<&dyn Bus> {
        None
    }
}

/// Where the state of a store lives: equal for two handles of one store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity(usize);

impl Identity {
    /// The identity that is this value's address.
    pub fn of<T: ?Sized>(shared: &T) -> Self {
        Self(std::ptr::from_ref(shared).cast::<()>().addr())
    }
}

/// What a look-up found.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // A hit is the path that must not allocate.
pub enum Lookup {
    /// The object, open.
    Hit(Object),
    /// Nothing; the fence was taken at that moment.
    Miss(Fence),
}

/// An open object.
#[derive(Debug)]
pub struct Object {
    /// What is known of it.
    pub metadata: Arc<Metadata>,
    /// Which of its bytes the body gives.
    pub range: Range<u64>,
    /// Those bytes.
    pub body: Body,
}

impl Object {
    /// The part of a whole, stored body that was asked for.
    pub fn slice(metadata: Arc<Metadata>, whole: &bytes::Bytes, range: ByteRange) -> Result<Self> {
        let range = range.resolve(whole.len() as u64)?;
        #[allow(clippy::cast_possible_truncation)] // Within bytes that are in memory.
        let body = Body::from(whole.slice(range.start as usize..range.end as usize));
        Ok(Self {
            metadata,
            range,
            body,
        })
    }
}

macro_rules! forward {
    ($pointer:ident) => {
        impl<S: Store + ?Sized> Store for $pointer<S> {
            fn get_stream<'a>(&'a self, key: Key<'a>, range: ByteRange) -> Reply<'a, Lookup> {
                (**self).get_stream(key, range)
            }

            fn set_with_writer<'a>(
                &'a self,
                key: Key<'a>,
                draft: Draft,
            ) -> Reply<'a, Box<dyn Writer>> {
                (**self).set_with_writer(key, draft)
            }

            fn delete<'a>(&'a self, key: Key<'a>, fence: Option<Fence>) -> Reply<'a, Commit> {
                (**self).delete(key, fence)
            }

            fn stat<'a>(&'a self, key: Key<'a>) -> Reply<'a, Option<Arc<Metadata>>> {
                (**self).stat(key)
            }

            fn fence<'a>(&'a self, key: Key<'a>) -> Reply<'a, Fence> {
                (**self).fence(key)
            }

            fn kind(&self) -> &'static str {
                (**self).kind()
            }

            fn usage(&self) -> Usage {
                (**self).usage()
            }

            fn close(&self) -> Reply<'_, ()> {
                (**self).close()
            }

            fn fencing(&self) -> Fencing {
                (**self).fencing()
            }

            fn object_max(&self) -> Option<u64> {
                (**self).object_max()
            }

            fn identity(&self) -> Identity {
                (**self).identity()
            }

            fn as_touch(&self) -> Option<&dyn Touch> {
                (**self).as_touch()
            }

            fn as_list(&self) -> Option<&dyn List> {
                (**self).as_list()
            }

            fn as_lease(&self) -> Option<&dyn Lease> {
                (**self).as_lease()
            }

            fn as_bus(&self) -> Option<&dyn Bus> {
                (**self).as_bus()
            }
        }
    };
}

forward!(Box);
forward!(Arc);
