//! What a clause asks of the store that it is given.

/// The limits of a store that is to be made for a clause.
///
/// A store that cannot have exactly these rounds up, and says so in its
/// [`usage`](larder_store::Usage::capacity). One whose objects are counted
/// [elsewhere](larder_store::Usage::elsewhere) has no use for the capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Setup {
    /// The most bytes that the store may hold: keys, metadata and bodies.
    pub capacity: u64,
    /// The longest body that the store takes, exactly.
    pub object_max: u64,
}

impl Setup {
    /// These limits, in bytes.
    pub const fn new(capacity: u64, object_max: u64) -> Self {
        Self {
            capacity,
            object_max,
        }
    }
}

impl Default for Setup {
    /// 16 MiB, of which one object may have 2 MiB.
    fn default() -> Self {
        Self::new(16 << 20, 2 << 20)
    }
}
