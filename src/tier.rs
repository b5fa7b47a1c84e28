//! A store and its place in the stack.

use std::{sync::Arc, time::Duration};

use larder_store::{Error, ErrorKind, Header, Lookup, Result, Store};

use crate::{
    attempt::Attempt,
    breaker::{Breaker, Guard},
    counters::{TierCounts, count},
    response::Source,
    runtime::Runtime,
};

/// A store with the settings of its place in the stack; any store converts into one.
///
/// ```
/// use std::time::Duration;
/// use larder::{Cache, Memory, Promote, Tier};
///
/// # async fn demo() -> Result<(), larder::Error> {
/// let cache = Cache::builder()
///     .tier(Memory::new(1 << 20))
///     .tier(Tier::new(Memory::new(64 << 20)).timeout(Duration::from_secs(2)).promote(Promote::OnSecondHit))
///     .build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Tier {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) name: Option<&'static str>,
    pub(crate) timeout: Duration,
    pub(crate) write_stall: Duration,
    pub(crate) ttl_max: Option<Duration>,
    pub(crate) object_max: u64,
    pub(crate) negatives: bool,
    pub(crate) promote: Promote,
    pub(crate) promote_max: u64,
    pub(crate) behind: bool,
    pub(crate) shared: bool,
    pub(crate) breaker: Option<Breaker>,
}

/// When an object found in this tier is copied to the tiers above.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Promote {
    /// At each hit.
    #[default]
    Always,
    /// At the second hit within a while, so that a scan does not empty the tiers above. Which keys
    /// were hit once is remembered approximately, in a table of fixed size.
    OnSecondHit,
    /// Not at all.
    Never,
}

impl Tier {
    /// A store in its place, with the default settings.
    pub fn new(store: impl Store) -> Self {
        Self {
            store: Arc::new(store),
            name: None,
            timeout: Duration::from_secs(5),
            write_stall: Duration::from_secs(1),
            ttl_max: None,
            object_max: u64::MAX,
            negatives: true,
            promote: Promote::Always,
            promote_max: u64::MAX,
            behind: false,
            shared: false,
            breaker: None,
        }
    }

    /// The name in statuses and traces; by default the store's kind.
    #[must_use]
    pub fn name(mut self, name: &'static str) -> Self {
        self.name = Some(name);
        self
    }

    /// How long one operation may take: a look-up, a commit, a delete. Default 5 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long a write of one chunk may hold up a flight before the tier leaves it. Default 1 s.
    #[must_use]
    pub fn write_stall(mut self, stall: Duration) -> Self {
        self.write_stall = stall;
        self
    }

    /// The longest time to live of what is stored here. Default: no cap.
    #[must_use]
    pub fn ttl_max(mut self, ttl: Duration) -> Self {
        self.ttl_max = Some(ttl);
        self
    }

    /// The longest body to store here, in bytes. The smaller of this and the store's own limit
    /// ([`Store::object_max`]) counts. Default: no bound.
    ///
    /// A longer object is not stored here, an older copy of it is removed, and a hit in a tier below
    /// is served from there. [`Status::too_large_for`](crate::Status::too_large_for) names the tier,
    /// [`TierCounters::too_large`](crate::TierCounters::too_large) counts it.
    #[must_use]
    pub fn object_max(mut self, bytes: u64) -> Self {
        self.object_max = bytes;
        self
    }

    /// Whether "the origin has none" is stored here. Default: yes.
    #[must_use]
    pub fn negatives(mut self, admit: bool) -> Self {
        self.negatives = admit;
        self
    }

    /// When a hit here is copied to the tiers above. Default: always.
    #[must_use]
    pub fn promote(mut self, promote: Promote) -> Self {
        self.promote = promote;
        self
    }

    /// The largest body, in bytes, that a hit here copies to the tiers above. Default: no bound.
    #[must_use]
    pub fn promote_max(mut self, bytes: u64) -> Self {
        self.promote_max = bytes;
        self
    }

    /// Writes this tier behind: a write first deletes here, then returns, and the new bytes follow
    /// in the background. Not for the first tier.
    #[must_use]
    pub fn behind(mut self) -> Self {
        self.behind = true;
        self
    }

    /// Says that other processes use the same store: it is written before the private tiers. It
    /// gets a [`Breaker`], since it is a server as a rule.
    #[must_use]
    pub fn shared(mut self) -> Self {
        self.shared = true;
        self.breaker.get_or_insert_default();
        self
    }

    /// When the store is taken to be away, so that operations are refused at once. Default: after
    /// five failures in a row for a [`shared`](Self::shared) tier, never for others.
    #[must_use]
    pub fn breaker(mut self, breaker: Breaker) -> Self {
        self.breaker = Some(breaker);
        self
    }
}

impl<S: Store> From<S> for Tier {
    fn from(store: S) -> Self {
        Self::new(store)
    }
}

/// Why a tier does not admit an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Barred {
    /// It stands for an absence, which is not stored there.
    Absent,
    /// Its body is above the limit.
    TooLarge,
}

/// A tier at work.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) index: usize,
    pub(crate) name: &'static str,
    pub(crate) tier: Tier,
    pub(crate) counts: TierCounts,
    pub(crate) guard: Option<Arc<Guard>>,
    pub(crate) runtime: Runtime,
}

impl Place {
    pub(crate) fn new(index: usize, tier: Tier, runtime: &Runtime, seed: u64) -> Self {
        Self {
            index,
            name: tier.name.unwrap_or_else(|| tier.store.kind()),
            guard: Guard::new(&tier, runtime, seed),
            tier,
            counts: TierCounts::default(),
            runtime: runtime.clone(),
        }
    }

    #[inline]
    pub(crate) fn source(&self) -> Source {
        let index = u8::try_from(self.index).expect("at most TIERS_MAX");
        Source::Tier {
            index,
            name: self.name,
        }
    }

    #[inline]
    pub(crate) fn store(&self) -> &dyn Store {
        &*self.tier.store
    }

    /// The longest body, in bytes, that is stored here now: by the store's limit or by the tier's,
    /// whichever is less.
    pub(crate) fn object_max(&self) -> u64 {
        let store_max = self.store().object_max().unwrap_or(u64::MAX);
        self.tier.object_max.min(store_max)
    }

    /// Whether an object may be stored here, as far as is known before its bytes: the reason why
    /// not.
    pub(crate) fn admits(&self, header: &Header, len: Option<u64>, max: u64) -> Result<(), Barred> {
        if header.absent {
            let is_kept = header.ttl.is_none_or(|ttl| !ttl.is_zero());
            let stores = self.tier.negatives && is_kept;
            return stores.then_some(()).ok_or(Barred::Absent);
        }
        match len {
            Some(len) if len > max => Err(Barred::TooLarge),
            _ => Ok(()),
        }
    }

    /// Counts and traces an object that is left out for its size.
    pub(crate) fn note_too_large(&self, len: u64, max: u64) {
        count(&self.counts.refused);
        count(&self.counts.too_large);
        let tier = self.name;
        tracing::debug!(tier, len, max, "an object is too large for a tier");
    }

    /// The header as this tier stores it: lifetimes capped; generations are for private tiers.
    pub(crate) fn capped(&self, header: &Header) -> Header {
        let mut header = header.clone();
        header.generation *= u64::from(!self.tier.shared);
        if let Some(max) = self.tier.ttl_max {
            header.ttl = Some(header.ttl.map_or(max, |ttl| ttl.min(max)));
        }
        header
    }

    /// One operation of the store, within the tier's time-out.
    pub(crate) fn attempt<F, T>(
        &self,
        what: &'static str,
        call: impl FnOnce() -> F,
    ) -> impl Future<Output = Result<T>>
    where
        F: Future<Output = Result<T>>,
    {
        self.within(self.tier.timeout, what, call)
    }

    /// As [`attempt`](Self::attempt), within another bound.
    pub(crate) fn within<F, T>(
        &self,
        bound: Duration,
        what: &'static str,
        call: impl FnOnce() -> F,
    ) -> impl Future<Output = Result<T>>
    where
        F: Future<Output = Result<T>>,
    {
        Attempt::new(self, bound, true, what, call)
    }

    /// As [`within`](Self::within), also while the breaker is open.
    pub(crate) fn bounded<F, T>(
        &self,
        bound: Duration,
        what: &'static str,
        call: impl FnOnce() -> F,
    ) -> impl Future<Output = Result<T>>
    where
        F: Future<Output = Result<T>>,
    {
        Attempt::new(self, bound, false, what, call)
    }

    /// Counts and traces a failure. An object that is too large for the store is none.
    pub(crate) fn note(&self, what: &'static str, error: &Error) {
        match error.kind() {
            ErrorKind::TooLarge => {
                count(&self.counts.refused);
                count(&self.counts.too_large);
                let tier = self.name;
                tracing::debug!(tier, operation = what, %error, "an object is too large for a tier");
                return;
            }
            ErrorKind::Full => count(&self.counts.refused),
            ErrorKind::Timeout => count(&self.counts.timeouts),
            _ => count(&self.counts.errors),
        }
        tracing::debug!(tier = self.name, operation = what, %error, "a tier failed");
    }
}

/// Whether an error of a look-up or of a body speaks of the object, and not of the tier: other
/// objects can be read there. The entry is then replaced or removed.
pub(crate) fn is_of_object(error: &Error) -> bool {
    !matches!(
        error.kind(),
        ErrorKind::Unavailable
            | ErrorKind::Timeout
            | ErrorKind::Full
            | ErrorKind::Closed
            | ErrorKind::Unsupported
    )
}

/// What a look-up found; `None` if the range does not fit the object, for which the tier is not to
/// blame.
pub(crate) fn unless_range(answer: Result<Lookup>) -> Result<Option<Lookup>> {
    match answer {
        Err(error) if error.is_invalid() => Ok(None),
        answer => answer.map(Some),
    }
}
