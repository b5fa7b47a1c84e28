//! What a read gives.

use std::{fmt, ops::Range, sync::Arc, time::Duration};

use larder_store::{Body, Header, Metadata, Timestamp};

/// The answer of a read: where it comes from, what is known of it, and its content.
#[derive(Debug)]
pub struct Response {
    pub(crate) status: Status,
    pub(crate) metadata: Described,
    pub(crate) range: Given,
    pub(crate) content: Content,
}

/// Which bytes a body gives, where that is known. It is a word shorter than an `Option` of a range,
/// since every hit moves it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Given {
    start: u64,
    end: u64,
}

impl Given {
    /// No object ends there.
    const UNKNOWN: Self = Self {
        start: u64::MAX,
        end: u64::MAX,
    };

    fn get(self) -> Option<Range<u64>> {
        (self.start != u64::MAX).then_some(self.start..self.end)
    }
}

impl From<Option<Range<u64>>> for Given {
    #[inline]
    fn from(range: Option<Range<u64>>) -> Self {
        match range {
            Some(Range { start, end }) => Self { start, end },
            None => Self::UNKNOWN,
        }
    }
}

/// What is known of the object, shared with the store or the flight.
#[derive(Debug)]
pub(crate) enum Described {
    Nothing,
    Stored(Arc<Metadata>),
    /// With the length of the whole object, where it is known.
    Flying(Arc<Header>, Option<u64>),
}

/// One of three things that a read can give.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // The large one is the usual one, and must not allocate.
pub enum Content {
    /// The bytes that were asked for.
    Body(Body),
    /// The condition holds: the caller has this object already.
    NotModified,
    /// There is no such object.
    Absent,
}

/// Where an answer comes from, and how old it is.
#[derive(Clone, Debug)]
pub struct Status {
    pub(crate) source: Source,
    /// In milliseconds, the unit of the stamps. Every byte here is moved with every hit.
    pub(crate) age: u64,
    pub(crate) while_revalidate: bool,
    pub(crate) joined: bool,
    pub(crate) revalidated: bool,
    /// One word, since most answers have none.
    pub(crate) rare: Option<Arc<Rare>>,
}

/// The parts of a status that few answers have.
#[derive(Debug)]
pub(crate) struct Rare {
    pub(crate) on_error: Option<larder_store::Error>,
    pub(crate) too_large_for: Option<Arc<Vec<&'static str>>>,
}

/// Who had the object.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// A tier.
    Tier {
        /// Its place, 0 for the hottest.
        index: u8,
        /// Its name; by default the store's kind.
        name: &'static str,
    },
    /// The fetcher; also where it said that a stored copy is still right, see
    /// [`Status::is_revalidated`].
    Origin,
    /// Nobody: a `get` found it in no tier.
    Nowhere,
}

/// Why a stale object was served.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Stale {
    /// It is within `stale_while_revalidate`: a read that can fetch has it fetched anew behind.
    WhileRevalidate,
    /// Fetching it anew failed, with this error.
    Error(larder_store::Error),
}

impl Response {
    /// Where it comes from, and how old it is.
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// What is known of the object; `None` where there is none, and for an absence that no tier
    /// remembers.
    pub fn metadata(&self) -> Option<&Header> {
        match &self.metadata {
            Described::Nothing => None,
            Described::Stored(metadata) => Some(metadata),
            Described::Flying(header, _) => Some(header),
        }
    }

    /// Which bytes of the object the body gives; `None` while the end of them is not known, since
    /// the object's length is not.
    pub fn range(&self) -> Option<Range<u64>> {
        self.range.get()
    }

    /// The length of its body, as far as that is known in advance.
    #[inline]
    pub(crate) fn bytes(&self) -> u64 {
        match self.content {
            Content::Body(_) => self.range.end - self.range.start,
            Content::NotModified | Content::Absent => 0,
        }
    }

    /// The length of the whole object in bytes, also where the body gives a part of it or there is
    /// none: what a service needs for `Content-Range`. `None` where there is no object, and while
    /// the origin has not said or reached the object's end.
    ///
    /// ```
    /// # use larder::{ByteRange, Cache, Error, Fetched, Memory};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Error> {
    /// # let cache = Cache::builder().tier(Memory::new(1 << 20)).build()?;
    /// let fetch = async |_| Ok::<_, Error>(Fetched::bytes("hello, world"));
    /// let response = cache.get_or_fetch("greeting", fetch).range(ByteRange::within(7, 100)?).await?;
    /// assert_eq!((response.range(), response.total_len()), (Some(7..12), Some(12)));
    /// # Ok(())
    /// # }
    /// ```
    pub fn total_len(&self) -> Option<u64> {
        let (absent, len) = match &self.metadata {
            Described::Nothing => return None,
            Described::Stored(metadata) => (metadata.absent, Some(metadata.len())),
            Described::Flying(header, len) => (header.absent, *len),
        };
        len.filter(|_| !absent)
    }

    /// The content.
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// The content, owned.
    pub fn into_content(self) -> Content {
        self.content
    }

    /// The body, where there is one.
    #[inline]
    pub fn into_body(self) -> Option<Body> {
        match self.content {
            Content::Body(body) => Some(body),
            _ => None,
        }
    }

    /// Whether the caller has this object already.
    pub fn is_not_modified(&self) -> bool {
        matches!(self.content, Content::NotModified)
    }

    /// Whether there is no such object.
    pub fn is_absent(&self) -> bool {
        matches!(self.content, Content::Absent)
    }
}

impl Status {
    /// The status of an object that was fetched at this moment.
    pub(crate) fn new(source: Source, fetched_at: Timestamp, now: Timestamp) -> Self {
        Self {
            source,
            age: now.as_millis().saturating_sub(fetched_at.as_millis()),
            while_revalidate: false,
            joined: false,
            revalidated: false,
            rare: None,
        }
    }

    /// Who had the object.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Whether a tier answered.
    pub fn is_hit(&self) -> bool {
        matches!(self.source, Source::Tier { .. })
    }

    /// Whether this read shared the flight of another.
    pub fn is_joined(&self) -> bool {
        self.joined
    }

    /// Whether the object was past its lifetime.
    pub fn is_stale(&self) -> bool {
        self.while_revalidate || self.on_error().is_some()
    }

    fn on_error(&self) -> Option<&larder_store::Error> {
        self.rare.as_ref()?.on_error.as_ref()
    }

    /// Why a stale object was served.
    pub fn stale(&self) -> Option<Stale> {
        match self.on_error() {
            Some(error) => Some(Stale::Error(error.clone())),
            None => self.while_revalidate.then_some(Stale::WhileRevalidate),
        }
    }

    /// Whether the origin was asked and said that the stored copy is still right.
    pub fn is_revalidated(&self) -> bool {
        self.revalidated
    }

    /// The names of the tiers that do not store the object because its body is above their limit,
    /// from hot to cold: each reason why the next read will not find it there. The limit of a tier is
    /// the smaller of [`Tier::object_max`](crate::Tier::object_max) and what its store takes.
    ///
    /// Of a hit only the tiers above the one that answered are asked. Empty while the length of the
    /// body is not known: then [`TierCounters::too_large`](crate::TierCounters::too_large) reports
    /// it once the limit is passed.
    ///
    /// ```
    /// use larder::{Cache, Error, Fetched, Memory, Tier};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Error> {
    /// let small = Tier::new(Memory::new(1 << 20)).name("small").object_max(1_000);
    /// let cache = Cache::builder().tier(small).build()?;
    /// let fetch = async |_| Ok::<_, Error>(Fetched::bytes(vec![0; 5_000]));
    /// let response = cache.get_or_fetch("large", fetch).await?;
    /// assert_eq!(response.status().too_large_for(), ["small"]);
    /// assert!(response.status().to_string().ends_with(", too large for small"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn too_large_for(&self) -> &[&'static str] {
        let names = self
            .rare
            .as_ref()
            .and_then(|rare| rare.too_large_for.as_ref());
        names.map_or(&[], |names| names)
    }

    /// The time since the fetch that brought the object began.
    pub fn age(&self) -> Duration {
        Duration::from_millis(self.age)
    }
}

impl fmt::Display for Status {
    /// One line for a log: `memory fresh, 3s old`, `disk fresh, 3s old, too large for memory`, or
    /// `nowhere` where a `get` found nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.source == Source::Nowhere {
            // It has no age, and cannot be fresh.
            let joined = if self.joined { ", joined" } else { "" };
            return write!(f, "nowhere{joined}");
        }
        match &self.source {
            Source::Tier { name, .. } => f.write_str(name)?,
            Source::Origin => f.write_str("origin")?,
            Source::Nowhere => {}
        }
        match self.stale() {
            None => f.write_str(" fresh")?,
            Some(Stale::WhileRevalidate) => f.write_str(" stale while revalidate")?,
            Some(Stale::Error(error)) => write!(f, " stale, since {error}")?,
        }
        if self.revalidated {
            f.write_str(", revalidated")?;
        }
        if self.joined {
            f.write_str(", joined")?;
        }
        write!(f, ", {:?} old", self.age())?;
        match self.too_large_for() {
            [] => Ok(()),
            names => write!(f, ", too large for {}", names.join(" and ")),
        }
    }
}
