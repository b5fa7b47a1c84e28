//! Settings: how much a store may hold, of what size, and who must go first.

use std::{fmt, sync::Arc};

use larder_store::{Error, Header, Key, METADATA_LEN_MAX, Result, Timestamp};

use crate::{
    Memory,
    clock::{Clock, wall},
};

/// Who must go when room is needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Eviction {
    /// S3-FIFO: what is asked for once goes first, what came back stays. Resists scans and loops,
    /// and is by far the fastest. The default.
    #[default]
    S3Fifo,
    /// W-TinyLFU: whatever is asked for more often stays. A new object may be turned away at once,
    /// which counts as its eviction; its commit is `Done` all the same. Needs the feature `moka`.
    #[cfg(feature = "moka")]
    TinyLfu,
    /// Least recently used goes first. Needs the feature `moka`.
    #[cfg(feature = "moka")]
    Lru,
}

impl Eviction {
    /// What every entry counts for beside its key, its metadata and its body, in bytes: its slots
    /// in the tables, the reference counts, its place in the order of expiry, the allocator's
    /// share. 416 for S3-FIFO, 600 for the policies of the feature `moka`; a test measures that
    /// entries take no more.
    pub const fn entry_overhead(self) -> u64 {
        match self {
            Self::S3Fifo => 416,
            #[cfg(feature = "moka")]
            Self::TinyLfu | Self::Lru => 600,
        }
    }

    /// What an object without a body counts for at least.
    const fn bare(self) -> u64 {
        self.entry_overhead() + Header::FIXED_SIZE as u64 + 1
    }
}

/// Settings of a [`Memory`] store; [`Memory::builder`] makes one.
///
/// All sizes are bytes. An object counts for its key, its metadata
/// ([`Header::size`](larder_store::Header::size)), its body, and [`Eviction::entry_overhead`].
///
/// ```
/// use larder_memory::{Eviction, Memory};
///
/// let store = Memory::builder(64 << 20)
///     .object_max(1 << 20)
///     .policy(Eviction::S3Fifo)
///     .build()?;
/// assert!(Memory::builder(0).build().unwrap_err().is_invalid());
/// # Ok::<(), larder_store::Error>(())
/// ```
#[must_use]
pub struct Builder {
    capacity: u64,
    object_max: Option<u64>,
    staging_max: Option<u64>,
    policy: Eviction,
    clock: Clock,
}

/// The limits in force, all in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) capacity: u64,
    /// The longest body.
    pub(crate) object_max: u64,
    /// The most that one entry can weigh: the longest body with the longest key and the most
    /// metadata, where the capacity allows that.
    pub(crate) entry_max: u64,
    pub(crate) staging_max: u64,
    /// What each entry counts for beside what is in it.
    pub(crate) overhead: u64,
}

/// The most that key and metadata count for together.
const BESIDE_MAX: u64 = (Key::LEN_MAX + METADATA_LEN_MAX) as u64;

/// The engines reckon with floating point here and there; up to this it is exact.
const CAPACITY_MAX: u64 = 1 << 50;

impl Builder {
    pub(crate) fn new(capacity: u64) -> Self {
        Self {
            capacity,
            object_max: None,
            staging_max: None,
            policy: Eviction::default(),
            clock: wall(),
        }
    }

    /// The longest body of an object, in bytes; what is longer is refused as `TooLarge`, and a cache
    /// over the store serves it from elsewhere each time ([`object_max`](larder_store::Store::object_max) reports the limit).
    ///
    /// One of exactly this length always fits, unless its key and metadata make it heavier than
    /// the whole capacity; then, too, it is `TooLarge`. Default: an eighth of the capacity, at
    /// least 128 KiB and at most 16 MiB, and never more than the capacity has room for. The larger
    /// this is against the capacity, the fewer shards the store has. So a store of 1 GiB takes bodies
    /// up to 16 MiB unless this says otherwise.
    pub fn object_max(mut self, bytes: u64) -> Self {
        self.object_max = Some(bytes);
        self
    }

    /// The most that all open writers together may count for; what goes beyond fails its writer as
    /// `Full`. It comes on top of the capacity. A buffer that grows may take up to twice what is
    /// written to it.
    ///
    /// Default: half of the capacity, and at least what the largest object counts for.
    pub fn staging_max(mut self, bytes: u64) -> Self {
        self.staging_max = Some(bytes);
        self
    }

    /// Who must go when room is needed. Default: [`Eviction::S3Fifo`].
    pub fn policy(mut self, policy: Eviction) -> Self {
        self.policy = policy;
        self
    }

    /// The clock by which objects expire ([`Header::expires_at`]). Default: that of the system.
    ///
    /// It is called with no lock held, and must not block.
    pub fn clock(mut self, clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Builds the store.
    ///
    /// `Invalid` when the capacity is too small for any object or absurdly large, when an object of
    /// `object_max` does not fit the capacity, when the largest object does not fit `staging_max`,
    /// or when it counts for 4 GiB or more and the policy is one of the feature `moka`.
    pub fn build(self) -> Result<Memory> {
        let limits = self.limits()?;
        Ok(Memory::open(self.policy, limits, self.clock))
    }

    fn limits(&self) -> Result<Limits> {
        let capacity = self.capacity;
        let bare = self.policy.bare();
        let least = bare + 1;
        if !(least..=CAPACITY_MAX).contains(&capacity) {
            return Err(Error::invalid(format!(
                "a capacity of {capacity} bytes is not between {least} and {CAPACITY_MAX}"
            )));
        }
        let room = capacity - bare;
        let share = (capacity / 8).clamp(128 << 10, 16 << 20);
        let object_max = self.object_max.unwrap_or(share.min(room));
        if !(1..=room).contains(&object_max) {
            return Err(Error::invalid(format!(
                "an object_max of {object_max} bytes is not between 1 and {room}, for which a \
                 capacity of {capacity} has room"
            )));
        }
        let entry_max = (object_max + bare + BESIDE_MAX).min(capacity);
        if self.policy != Eviction::S3Fifo && u32::try_from(entry_max).is_err() {
            return Err(Error::invalid(format!(
                "an object_max of {object_max} bytes is above the 4 GiB of this policy"
            )));
        }
        let staging_max = self.staging_max.unwrap_or((capacity / 2).max(entry_max));
        if staging_max < entry_max {
            return Err(Error::invalid(format!(
                "a staging_max of {staging_max} bytes is below the {entry_max} of the largest object"
            )));
        }
        Ok(Limits {
            capacity,
            object_max,
            entry_max,
            staging_max,
            overhead: self.policy.entry_overhead(),
        })
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("capacity", &self.capacity)
            .field("object_max", &self.object_max)
            .field("staging_max", &self.staging_max)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_as_documented() {
        let of = |capacity| {
            let limits = Builder::new(capacity).limits().unwrap();
            (limits.object_max, limits.staging_max)
        };
        assert_eq!(of(64 << 20), (8 << 20, 32 << 20));
        assert_eq!(of(10 << 30), (16 << 20, 5 << 30));
        assert_eq!(of(512 << 10), (128 << 10, 256 << 10));
        assert_eq!(of(4 << 10), ((4 << 10) - 513, 4 << 10));
    }

    #[test]
    fn senseless_settings_are_invalid() {
        let refused = |builder: Builder| builder.build().unwrap_err().is_invalid();
        assert!(refused(Builder::new(0)));
        assert!(refused(Builder::new(513)));
        assert!(refused(Builder::new(u64::MAX)));
        assert!(refused(Builder::new(1 << 20).object_max(0)));
        assert!(refused(Builder::new(1 << 20).object_max((1 << 20) - 512)));
        assert!(refused(Builder::new(1 << 20).staging_max(0)));
        assert!(
            Builder::new(514).build().is_ok(),
            "as `Memory::new` documents"
        );
        #[cfg(feature = "moka")]
        assert!(refused(
            Builder::new(16 << 30)
                .object_max(4 << 30)
                .policy(Eviction::Lru)
        ));
    }
}
