//! Fetching from the origin: what a fetcher is given, and what it gives.

use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_core::Stream;
use futures_util::StreamExt;
use larder_store::{
    Body, BoxError, EntityTag, Error, ErrorKind, Header, KeyBuf, Metadata, Result, Timestamp,
};

use crate::policy::Policy;

/// What a fetcher is told: the key, and the stale copy that it may revalidate.
///
/// The engine holds the body of the stale copy open while the fetcher runs, so that "not modified"
/// is always an answer, whatever becomes of the entry meanwhile.
#[derive(Clone, Debug)]
pub struct FetchContext {
    pub(crate) key: KeyBuf,
    pub(crate) stale: Option<Arc<Metadata>>,
}

impl FetchContext {
    /// The key that is asked for.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The stale copy's entity tag, to be sent as `If-None-Match`.
    pub fn etag(&self) -> Option<&EntityTag> {
        self.stale.as_ref()?.etag.as_ref()
    }

    /// When the stale copy was last modified, to be sent as `If-Modified-Since`.
    pub fn last_modified(&self) -> Option<Timestamp> {
        self.stale.as_ref()?.last_modified
    }

    /// All that is known of the stale copy.
    pub fn stale(&self) -> Option<&Metadata> {
        self.stale.as_deref()
    }
}

/// What a fetcher found at the origin.
///
/// ```
/// use std::time::Duration;
/// use larder::{EntityTag, Fetched};
///
/// # fn main() -> Result<(), larder::Error> {
/// let page = Fetched::bytes("<html>").etag(EntityTag::strong("v1")?).ttl(Duration::from_secs(5));
/// let gone = Fetched::absent().no_store();
/// # let _ = (page, gone);
/// # Ok(())
/// # }
/// ```
#[must_use]
pub struct Fetched {
    pub(crate) found: Found,
    pub(crate) policy: Policy,
    pub(crate) header: Overrides,
    pub(crate) no_store: bool,
}

/// The answer itself.
pub(crate) enum Found {
    Body(Body),
    NotModified,
    Absent,
}

/// What the fetcher says of the object; for "not modified", what it changes.
#[derive(Default)]
pub(crate) struct Overrides {
    etag: Option<EntityTag>,
    last_modified: Option<Timestamp>,
    content_type: Option<Arc<str>>,
    tags: Option<Vec<Arc<str>>>,
    attributes: Vec<(Arc<str>, Bytes)>,
}

impl Fetched {
    fn new(found: Found) -> Self {
        Self {
            found,
            policy: Policy::new(),
            header: Overrides::default(),
            no_store: false,
        }
    }

    /// An object that comes as a stream of chunks. A length, where it is known, is held to: a
    /// source that ends short of it or runs past it fails its readers and is not stored.
    pub fn stream<E: Into<BoxError> + 'static>(
        len: Option<u64>,
        stream: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
    ) -> Self {
        let stream = stream.map(|item| item.map_err(|error| failed("the source failed", error)));
        Self::new(Found::Body(Body::stream(len, stream)))
    }

    /// An object whose body is at hand.
    pub fn body(body: Body) -> Self {
        Self::new(Found::Body(body))
    }

    /// A whole object.
    pub fn bytes(bytes: impl Into<Bytes>) -> Self {
        Self::new(Found::Body(Body::from(bytes)))
    }

    /// The stale copy is still right; its lifetimes begin anew. Without a stale copy this is an
    /// error.
    pub fn not_modified() -> Self {
        Self::new(Found::NotModified)
    }

    /// The origin has no such object.
    pub fn absent() -> Self {
        Self::new(Found::Absent)
    }

    /// The entity tag.
    pub fn etag(mut self, tag: EntityTag) -> Self {
        self.header.etag = Some(tag);
        self
    }

    /// When the origin last changed it.
    pub fn last_modified(mut self, at: impl Into<Timestamp>) -> Self {
        self.header.last_modified = Some(at.into());
        self
    }

    /// The media type.
    pub fn content_type(mut self, media_type: impl AsRef<str>) -> Self {
        self.header.content_type = Some(media_type.as_ref().into());
        self
    }

    /// Adds a tag.
    pub fn tag(mut self, tag: impl AsRef<str>) -> Self {
        self.header
            .tags
            .get_or_insert_default()
            .push(tag.as_ref().into());
        self
    }

    /// Adds an attribute.
    pub fn attribute(mut self, name: impl AsRef<str>, value: impl Into<Bytes>) -> Self {
        self.header
            .attributes
            .push((name.as_ref().into(), value.into()));
        self
    }

    /// How long it is fresh, over what request and cache say.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.policy.ttl = Some(ttl);
        self
    }

    /// All lifetimes at once, merged over what request and cache say.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy.or(self.policy);
        self
    }

    /// Gives it to the readers and stores it nowhere; older copies go.
    pub fn no_store(mut self) -> Self {
        self.no_store = true;
        self
    }
}

impl fmt::Debug for Fetched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.found {
            Found::Body(_) => "Fetched(body)",
            Found::NotModified => "Fetched(not modified)",
            Found::Absent => "Fetched(absent)",
        })
    }
}

impl Overrides {
    pub(crate) fn etag(&self) -> Option<&EntityTag> {
        self.etag.as_ref()
    }

    /// Changes a header by what the fetcher said.
    pub(crate) fn apply(self, header: &mut Header) {
        if self.etag.is_some() {
            header.etag = self.etag;
        }
        if self.last_modified.is_some() {
            header.last_modified = self.last_modified;
        }
        if self.content_type.is_some() {
            header.content_type = self.content_type;
        }
        if let Some(tags) = self.tags {
            header.tags = tags;
        }
        for (name, value) in self.attributes {
            header.attributes.retain(|(known, _)| *known != name);
            header.attributes.push((name, value));
        }
    }
}

/// A fetcher, boxed when it is needed.
pub(crate) type BoxFetch = Box<dyn FnOnce(FetchContext) -> FetchFuture + Send>;
pub(crate) type FetchFuture = Pin<Box<dyn Future<Output = Result<Fetched>> + Send>>;

/// How a read may get what no tier has: not at all after `get`, by its fetcher after
/// `get_or_fetch`. Implemented here only.
pub trait Fetch: Send {
    /// Whether there is a fetcher.
    #[doc(hidden)]
    const FETCHES: bool;

    /// The fetcher, if there is one.
    #[doc(hidden)]
    fn boxed(self) -> Option<BoxFetch>;
}

/// The read of a `get`: the tiers, and nothing else.
#[derive(Debug)]
pub struct NoFetch;

impl Fetch for NoFetch {
    const FETCHES: bool = false;

    fn boxed(self) -> Option<BoxFetch> {
        None
    }
}

/// The read of a `get_or_fetch`.
pub struct FetchWith<F>(pub(crate) F);

impl<F> fmt::Debug for FetchWith<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FetchWith")
    }
}

impl<F, Fut, E> Fetch for FetchWith<F>
where
    F: FnOnce(FetchContext) -> Fut + Send + 'static,
    Fut: Future<Output = Result<Fetched, E>> + Send + 'static,
    E: Into<BoxError> + 'static,
{
    const FETCHES: bool = true;

    fn boxed(self) -> Option<BoxFetch> {
        Some(Box::new(|context| {
            let fetched = (self.0)(context);
            Box::pin(async {
                fetched
                    .await
                    .map_err(|error| failed("the fetch failed", error))
            })
        }))
    }
}

/// An error of the user's as one of ours: its source, so that it can be found again by its type. A
/// Larder error stays what it is.
fn failed(what: &'static str, error: impl Into<BoxError>) -> Error {
    match error.into().downcast::<Error>() {
        Ok(error) => *error,
        Err(error) => Error::with_source(ErrorKind::Other, what, error),
    }
}
