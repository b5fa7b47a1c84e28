//! What a store holds.

/// What a store holds at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Objects that a reader can find, or that are expired and not yet removed.
    pub entries: u64,
    /// Bytes of those objects: keys, metadata and bodies.
    pub live: u64,
    /// Bytes taken on the medium, with padding and with what waits to be reclaimed.
    pub stored: u64,
    /// Bytes that open writers have staged, and those of aborted ones while a handle to them lives.
    pub staged: u64,
    /// The most `live` may be, where there is a limit.
    pub capacity: Option<u64>,
    /// Objects removed to make room, since the store was opened.
    pub evictions: u64,
    /// The store cannot tell `entries`, `live`, `stored` and `evictions`, which are zero: they are
    /// counted elsewhere, by a server that others use as well. `staged` is told all the same.
    pub elsewhere: bool,
}
