//! The store's handle: the contract and its capabilities over the shared state.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use larder_store::{
    Bus, ByteRange, Commit, Draft, Fence, Identity, Key, Keys, Lease, Leased, List, Lookup,
    Metadata, Reply, Result, Store, Terms, Touch, Usage, Writer,
};

use crate::{
    config::{Builder, Settings},
    fence::{self, Token},
    lease,
    link::Link,
    list,
    names::{Names, Place},
    reader,
    script::{self, Outcome},
    shared::{Shared, required},
    touch,
    writer::RedisWriter,
};

/// A store in a Redis server; see the [crate] for what it does.
///
/// A cheap handle: clones share one store and its connections, which end with the last handle,
/// writer and body, or when it is [closed](Store::close).
#[derive(Clone)]
pub struct Redis(pub(crate) Arc<Shared>);

impl Redis {
    /// Connects to a server with the default [settings](Builder).
    ///
    /// The URL is `redis://[user:password@]host[:port][/database]`, or with the feature `tls`
    /// `rediss://`; `unix:///path` is a socket. For the errors see [`Builder::connect`].
    pub async fn connect(url: impl Into<String>) -> Result<Self> {
        Self::builder(url).connect().await
    }

    /// Settings for a store in the server at this URL.
    pub fn builder(url: impl Into<String>) -> Builder {
        Builder::new(vec![url.into()], false)
    }

    /// Settings for a store in a Redis Cluster, of which these are some nodes.
    #[cfg(feature = "cluster")]
    pub fn cluster(urls: impl IntoIterator<Item = impl Into<String>>) -> Builder {
        Builder::new(urls.into_iter().map(Into::into).collect(), true)
    }

    pub(crate) fn open(link: Link, names: Names, settings: Settings, seed: Option<u64>) -> Self {
        Self(Shared::new(link, names, settings, seed))
    }
}

/// Cancel safety: what is sent to the server for one key is sent in order over one connection, so
/// that an operation whose reply was dropped takes effect before any later one on that key, or
/// never. An operation that changes something is never sent twice.
impl Store for Redis {
    fn get_stream<'a>(&'a self, key: Key<'a>, range: ByteRange) -> Reply<'a, Lookup> {
        Reply::later(self.0.home.run(reader::look_up(&self.0, key, range)))
    }

    fn set_with_writer<'a>(&'a self, key: Key<'a>, draft: Draft) -> Reply<'a, Box<dyn Writer>> {
        let writer = RedisWriter::open(&self.0, key, draft);
        Reply::ready(writer.map(|writer| Box::new(writer) as Box<dyn Writer>))
    }

    fn delete<'a>(&'a self, key: Key<'a>, fence: Option<Fence>) -> Reply<'a, Commit> {
        Reply::later(self.0.home.run(async move {
            self.0.check_open()?;
            let place = self.0.names.place(key);
            let token = fence.as_ref().map(Token::of);
            match remove(&self.0, &place, key, token.as_ref()).await? {
                Outcome::Superseded => Ok(Commit::Superseded),
                _ => Ok(Commit::Done(None)),
            }
        }))
    }

    fn stat<'a>(&'a self, key: Key<'a>) -> Reply<'a, Option<Arc<Metadata>>> {
        Reply::later(self.0.home.run(reader::stat(&self.0, key)))
    }

    fn fence<'a>(&'a self, key: Key<'a>) -> Reply<'a, Fence> {
        Reply::later(self.0.home.run(fence::take(&self.0, key)))
    }

    fn kind(&self) -> &'static str {
        "redis"
    }

    fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        usage.staged = self.0.staged.load(Ordering::Relaxed);
        usage.elsewhere = true;
        usage
    }

    fn close(&self) -> Reply<'_, ()> {
        self.0.close();
        Reply::ready(Ok(()))
    }

    /// What [`Builder::object_max`] was set to, or its default.
    fn object_max(&self) -> Option<u64> {
        Some(self.0.settings.object_max)
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

/// Ends fences and lease of a key as well.
pub(crate) async fn remove(
    shared: &Shared,
    place: &Place,
    key: Key<'_>,
    fence: Option<&Token>,
) -> Result<Outcome> {
    let [marker, token] = required(fence);
    let keys: [&[u8]; 3] = [&place.manifest(key), &place.marker(key), &place.lease(key)];
    let args: [&[u8]; 4] = [marker, token, &place.chunks(), &shared.grace()];
    let code: i64 = shared.run(place, &script::DELETE, &keys, &args).await?;
    Ok(code.into())
}

impl Touch for Redis {
    fn touch<'a>(&'a self, key: Key<'a>, draft: Draft) -> Reply<'a, Commit> {
        Reply::later(self.0.home.run(touch::touch(&self.0, key, draft)))
    }
}

/// What others store is listed as well. Objects that have expired may be.
///
/// The server is asked for its names a part at a time, and goes through all that it has, those of
/// other applications included. A hash of each key that was given is kept until the end: 16 bytes
/// for each.
impl List for Redis {
    fn list(&self, prefix: &str) -> Keys {
        list::list(&self.0, prefix)
    }
}

impl Lease for Redis {
    fn acquire<'a>(
        &'a self,
        key: Key<'a>,
        fence: &'a Fence,
        terms: &'a Terms,
    ) -> Reply<'a, Leased> {
        Reply::later(self.0.home.run(lease::acquire(&self.0, key, fence, terms)))
    }

    fn renew<'a>(&'a self, key: Key<'a>, fence: &'a Fence, ttl: Duration) -> Reply<'a, bool> {
        Reply::later(self.0.home.run(lease::renew(&self.0, key, fence, ttl)))
    }

    fn release<'a>(&'a self, key: Key<'a>, fence: &'a Fence) -> Reply<'a, ()> {
        Reply::later(self.0.home.run(lease::release(&self.0, key, fence)))
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis")
            .field("names", &self.0.names)
            .finish_non_exhaustive()
    }
}
