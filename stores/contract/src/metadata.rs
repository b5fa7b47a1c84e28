//! What is known of an object beside its bytes.

use std::{ops::Deref, sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{EntityTag, Error, Fence, Result, Timestamp};

/// The most bytes that metadata may have: [`Header::size`] is checked against it.
pub const METADATA_LEN_MAX: usize = 64 << 10;

/// What a writer says of an object: validators, times, lifetimes, whatever the user adds.
///
/// Plain data. A store keeps it as it is and gives it back; only `expires_at` concerns the store
/// itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Header {
    /// The tag to ask the origin with whether the object changed.
    pub etag: Option<EntityTag>,
    /// When the origin last changed it.
    pub last_modified: Option<Timestamp>,
    /// The media type, as the origin gave it.
    pub content_type: Option<Arc<str>>,
    /// When the fetch that brought it began; its age counts from here.
    pub fetched_at: Timestamp,
    /// How long it is fresh; `None` is until it is replaced.
    pub ttl: Option<Duration>,
    /// How long past `ttl` it may be served while it is fetched anew.
    pub stale_while_revalidate: Duration,
    /// How long past `ttl` it may be served when the fetch fails.
    pub stale_if_error: Duration,
    /// When a store may and should drop it; from then on it is absent.
    pub expires_at: Option<Timestamp>,
    /// Which generation of its cache last knew it to be current, zero for none. Only a cache that
    /// follows a bus sets it, in tiers of its own process; see [`Bus`](crate::Bus).
    pub generation: u64,
    /// The object stands for "the origin has none"; it has no body.
    pub absent: bool,
    /// Names under which it can be found together with others.
    pub tags: Vec<Arc<str>>,
    /// Whatever the user wants to keep beside the object.
    pub attributes: Vec<(Arc<str>, Bytes)>,
}

impl Header {
    /// The bytes that it counts for: its texts and attributes, and [`FIXED_SIZE`](Self::FIXED_SIZE)
    /// for all the rest.
    pub fn size(&self) -> usize {
        let etag = self.etag.as_ref().map_or(0, |tag| tag.opaque().len());
        let content_type = self.content_type.as_ref().map_or(0, |text| text.len());
        let tags: usize = self
            .tags
            .iter()
            .map(|tag| tag.len() + Self::ITEM_SIZE)
            .sum();
        let attributes: usize = (self.attributes.iter())
            .map(|(name, value)| name.len() + value.len() + 2 * Self::ITEM_SIZE)
            .sum();
        Self::FIXED_SIZE + etag + content_type + tags + attributes
    }

    /// What the fields of fixed size count for.
    pub const FIXED_SIZE: usize = 96;
    /// What each tag counts for beside its text; an attribute counts twice that.
    pub const ITEM_SIZE: usize = 16;

    /// The value of the first attribute of this name.
    pub fn attribute(&self, name: &str) -> Option<&Bytes> {
        self.attributes
            .iter()
            .find(|(key, _)| &**key == name)
            .map(|(_, value)| value)
    }

    /// Whether a store must take it for absent.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }
}

/// An object that a writer proposes.
///
/// ```
/// use larder_store::{Draft, EntityTag};
///
/// let draft = Draft::new()
///     .len(5)
///     .with(|header| header.etag = EntityTag::strong("v1").ok());
/// assert_eq!(draft.expected_len(), Some(5));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Draft {
    header: Header,
    len: Option<u64>,
    fence: Option<Fence>,
}

impl Draft {
    /// A draft that says nothing of the object.
    pub fn new() -> Self {
        Self::default()
    }

    /// Changes the header.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Header)) -> Self {
        change(&mut self.header);
        self
    }

    /// Declares the length in bytes. A store refuses to commit another; it allocates nothing by it.
    #[must_use]
    pub fn len(mut self, len: u64) -> Self {
        self.len = Some(len);
        self
    }

    /// Makes the commit depend on this fence.
    #[must_use]
    pub fn fence(mut self, fence: Fence) -> Self {
        self.fence = Some(fence);
        self
    }

    /// Gives it attributes of its own. An attribute may be a small slice of a large buffer, which it
    /// keeps in memory: a store that keeps a draft for longer than a call copies them first.
    #[must_use]
    pub fn owned(mut self) -> Self {
        for (_, value) in &mut self.header.attributes {
            *value = Bytes::copy_from_slice(value);
        }
        self
    }

    /// What it says of the object.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The declared length.
    pub fn expected_len(&self) -> Option<u64> {
        self.len
    }

    /// Takes the fence out, for the store to keep until the commit.
    pub fn take_fence(&mut self) -> Option<Fence> {
        self.fence.take()
    }

    /// Checks what every store must refuse: more than [`METADATA_LEN_MAX`] bytes of metadata is
    /// `TooLarge`, a body for an absent object `Invalid`.
    pub fn check(&self) -> Result<()> {
        let size = self.header.size();
        if size > METADATA_LEN_MAX {
            return Err(Error::too_large(format!(
                "the metadata has {size} bytes, at most {METADATA_LEN_MAX} are allowed"
            )));
        }
        if self.header.absent && self.len.is_some_and(|len| len > 0) {
            return Err(Error::invalid("an absent object has no body"));
        }
        Ok(())
    }

    /// Checks a written length against the declared one: `Corrupt` when it is another, `Invalid`
    /// when an absent object has any.
    pub fn check_len(&self, written: u64) -> Result<()> {
        match self.len {
            Some(len) if len != written => Err(Error::corrupt(format!(
                "{written} bytes were written where {len} were declared"
            ))),
            _ if self.header.absent && written > 0 => {
                Err(Error::invalid("an absent object has no body"))
            }
            _ => Ok(()),
        }
    }

    /// The metadata of this draft as a store commits it.
    pub fn commit(self, len: u64, version: Version, checksum: Option<u32>) -> Metadata {
        Metadata {
            header: self.header,
            len,
            version,
            checksum,
        }
    }
}

impl From<Header> for Draft {
    fn from(header: Header) -> Self {
        Self {
            header,
            len: None,
            fence: None,
        }
    }
}

/// Tells two commits of one key in one store apart. Only equality means anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Version(pub u64);

/// An object as a store committed it: the writer's [`Header`], to which it dereferences, with what
/// the store knows itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    header: Header,
    len: u64,
    version: Version,
    checksum: Option<u32>,
}

impl Metadata {
    /// What the writer said of the object.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The length of the body in bytes.
    #[allow(clippy::len_without_is_empty)] // It is the object's length, not a container's.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Which commit this is.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The CRC-32C of the body, where the store keeps one.
    pub fn checksum(&self) -> Option<u32> {
        self.checksum
    }

    /// The same body under another header, as [`Touch`](crate::Touch) leaves it.
    #[must_use]
    pub fn touched(&self, draft: Draft, version: Version) -> Self {
        draft.commit(self.len, version, self.checksum)
    }
}

impl Deref for Metadata {
    type Target = Header;

    fn deref(&self) -> &Header {
        &self.header
    }
}
