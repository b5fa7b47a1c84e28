//! The store's handle: the contract and its capabilities over the shared state.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_core::Stream;
use larder_store::{
    Bus, ByteRange, Commit, Deliveries, Draft, Fence, Identity, Key, KeyBuf, Keys, Lease, Leased,
    List, Lookup, Message, Metadata, Reply, Result, Store, Terms, Touch, Usage, Writer,
};

use crate::{
    clock::Clock,
    config::{Builder, Eviction, Limits},
    shelf::Shelf,
    writer::MemoryWriter,
};

/// A store in this process's memory; see the [crate] for what it does.
///
/// A cheap handle: clones share one store, whose objects live until the last handle, and the last
/// open writer, is gone or it is [closed](Store::close).
#[derive(Clone)]
pub struct Memory(Arc<Shelf>);

impl Memory {
    /// A store that holds at most this many bytes, with the default [settings](Builder).
    ///
    /// It takes bodies of up to an eighth of its capacity, and of 16 MiB at most: a store of
    /// 64 MiB takes 8 MiB, one of 1 GiB takes 16 MiB. [`Builder::object_max`] sets another
    /// limit.
    ///
    /// ```
    /// use larder_memory::Memory;
    /// use larder_store::Store;
    ///
    /// assert_eq!(Memory::new(1 << 30).object_max(), Some(16 << 20));
    /// let films = Memory::builder(1 << 30).object_max(256 << 20).build()?;
    /// assert_eq!(films.object_max(), Some(256 << 20));
    /// # Ok::<(), larder_store::Error>(())
    /// ```
    ///
    /// # Panics
    ///
    /// When no object at all would fit: below 514 bytes, so also for zero. Where the number comes
    /// from outside, [`builder`](Self::builder) gives an error instead.
    pub fn new(capacity: u64) -> Self {
        match Self::builder(capacity).build() {
            Ok(store) => store,
            Err(error) => panic!("{error}"),
        }
    }

    /// Settings for a store that holds at most this many bytes.
    pub fn builder(capacity: u64) -> Builder {
        Builder::new(capacity)
    }

    pub(crate) fn open(policy: Eviction, limits: Limits, clock: Clock) -> Self {
        Self(Arc::new(Shelf::new(policy, limits, clock)))
    }

    #[cfg(test)]
    pub(crate) fn shelf(&self) -> &Shelf {
        &self.0
    }
}

/// Every reply is ready: an operation has taken effect when its call returns, and dropping the
/// reply changes nothing.
impl Store for Memory {
    fn get_stream<'a>(&'a self, key: Key<'a>, range: ByteRange) -> Reply<'a, Lookup> {
        Reply::ready(self.0.look_up(key, range))
    }

    fn set_with_writer<'a>(&'a self, key: Key<'a>, draft: Draft) -> Reply<'a, Box<dyn Writer>> {
        let writer = MemoryWriter::open(&self.0, key, draft);
        Reply::ready(writer.map(|writer| Box::new(writer) as Box<dyn Writer>))
    }

    fn delete<'a>(&'a self, key: Key<'a>, fence: Option<Fence>) -> Reply<'a, Commit> {
        Reply::ready(self.0.delete(key, fence.as_ref()))
    }

    fn stat<'a>(&'a self, key: Key<'a>) -> Reply<'a, Option<Arc<Metadata>>> {
        Reply::ready(self.0.stat(key))
    }

    fn fence<'a>(&'a self, key: Key<'a>) -> Reply<'a, Fence> {
        Reply::ready(self.0.fence(key))
    }

    fn kind(&self) -> &'static str {
        "memory"
    }

    fn usage(&self) -> Usage {
        self.0.usage()
    }

    fn close(&self) -> Reply<'_, ()> {
        self.0.close();
        Reply::ready(Ok(()))
    }

    /// What [`Builder::object_max`] was set to, or its default.
    fn object_max(&self) -> Option<u64> {
        Some(self.0.limits().object_max)
    }

    fn identity(&self) -> Identity {
        Identity::of(&*self.0)
    }

    fn as_touch(&self) -> Option<&dyn Touch> {
        Some(self)
    }

    fn as_list(&self) -> Option<&dyn List> {
        Some(self)
    }

    fn as_lease(&self) -> Option<&dyn Lease> {
        Some(self)
    }

    fn as_bus(&self) -> Option<&dyn Bus> {
        Some(self)
    }
}

/// A header that makes the object too heavy is `TooLarge`, and changes nothing.
impl Touch for Memory {
    fn touch<'a>(&'a self, key: Key<'a>, draft: Draft) -> Reply<'a, Commit> {
        Reply::ready(self.0.touch(key, draft))
    }
}

/// The keys are copied when `list` is called, a reference count each; the stream holds no lock.
impl List for Memory {
    fn list(&self, prefix: &str) -> Keys {
        Box::pin(match self.0.keys(prefix) {
            Ok(keys) => Listing(keys.into_iter().map(Ok).collect::<Vec<_>>().into_iter()),
            Err(error) => Listing(vec![Err(error)].into_iter()),
        })
    }
}

/// Leases are for those who share this store in one process. They last by the store's clock, that of
/// the system to its tick of up to 10 ms, and there are at most 16,384 at once: a request for one
/// more is `Full`. Those that expired make room.
impl Lease for Memory {
    fn acquire<'a>(
        &'a self,
        key: Key<'a>,
        fence: &'a Fence,
        terms: &'a Terms,
    ) -> Reply<'a, Leased> {
        Reply::ready(self.0.acquire(key, fence, terms))
    }

    fn renew<'a>(&'a self, key: Key<'a>, fence: &'a Fence, ttl: Duration) -> Reply<'a, bool> {
        Reply::ready(self.0.renew(key, fence, ttl))
    }

    fn release<'a>(&'a self, key: Key<'a>, fence: &'a Fence) -> Reply<'a, ()> {
        Reply::ready(self.0.release(key, fence))
    }
}

/// The bus reaches the handles of this store in one process. For each subscriber at most 1,024
/// messages wait; when one more comes it loses them, hears [`Lost`](larder_store::Delivery::Lost),
/// and goes on with the new one. At most 1,024 may listen at once: one more is `Full`.
impl Bus for Memory {
    fn publish<'a>(&'a self, message: &'a Message) -> Reply<'a, ()> {
        Reply::ready(self.0.hub().publish(message))
    }

    fn subscribe(&self) -> Reply<'_, Deliveries> {
        let subscribed = self.0.hub().subscribe();
        Reply::ready(subscribed.map(|subscription| Box::pin(subscription) as Deliveries))
    }
}

/// Keys that are there already, as a stream.
struct Listing(std::vec::IntoIter<Result<KeyBuf>>);

impl Stream for Listing {
    type Item = Result<KeyBuf>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.0.next())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory")
            .field("usage", &self.usage())
            .finish_non_exhaustive()
    }
}
