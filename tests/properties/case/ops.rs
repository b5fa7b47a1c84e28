//! What may happen, and in which surroundings.

use std::time::Duration;

use larder::{ByteRange, ErrorKind, Result};
use larder_conformance::{Fault, Op as StoreOp};

/// Objects have one of so many keys.
pub(crate) const KEYS: u8 = 3;

/// A run: the tiers, and what each task does, one thing after the other.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) tiers: Vec<TierKind>,
    pub(crate) settings: Settings,
    pub(crate) tasks: Vec<Vec<Op>>,
}

/// How the cache is built, beside its tiers.
#[allow(clippy::struct_excessive_bools)] // Switches, each for itself.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Settings {
    /// The last tier is written behind.
    pub(crate) behind: bool,
    /// The last tier is marked as shared.
    pub(crate) shared: bool,
    /// The window of a flight is the smallest, so that objects are larger than it.
    pub(crate) small_window: bool,
    /// No flight may spill to a file.
    pub(crate) no_spill: bool,
    /// A flight that everyone has left ends.
    pub(crate) abandon: bool,
    /// The first tier takes no absences.
    pub(crate) no_negatives: bool,
    /// A lower hit is copied upwards only when it is the second.
    pub(crate) second_hit: bool,
    /// Two caches share the last tier, which is their bus, and do every other task each.
    pub(crate) several: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum TierKind {
    /// Room for a few objects, so that it evicts.
    Small,
    Memory,
    /// The reference store, its bodies in chunks.
    Model,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    Get {
        key: u8,
        part: Part,
        patience: Patience,
    },
    Fetch {
        key: u8,
        len: Len,
        part: Part,
        patience: Patience,
        outcome: Outcome,
        no_store: bool,
    },
    Refresh {
        key: u8,
        len: Len,
        outcome: Outcome,
        no_store: bool,
    },
    Stat {
        key: u8,
    },
    Insert {
        key: u8,
        len: Len,
        patience: Patience,
    },
    /// Through a writer, with rests between the chunks.
    Write {
        key: u8,
        len: Len,
        declared: Declared,
        end: End,
    },
    Delete {
        key: u8,
        patience: Patience,
    },
    Clear,
    /// A tier drops a key, as an eviction would.
    Evict {
        tier: u8,
        key: u8,
    },
    /// A tier is given other objects, which push out what it has.
    Fill {
        tier: u8,
    },
    Fail {
        tier: u8,
        op: StoreOp,
        /// Strikes at this call from now.
        nth: u8,
        fault: Fault,
    },
    Advance {
        seconds: u8,
    },
    Rest {
        turns: u8,
    },
}

/// Whether the caller stays, leaves after so many polls, or rests so many milliseconds after each
/// chunk.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Patience {
    Stays,
    Leaves(u8),
    Lags(u8),
}

/// How large an object is, in steps that cross the windows and the limits.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Len {
    Empty,
    Small,
    /// Several chunks.
    Large,
    /// More than the small tier takes.
    Huge,
}

/// Which bytes are asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    Whole,
    From(u64),
    Between(u64, u64),
    Suffix(u64),
}

/// Parts of all kinds, at the edges of objects, chunks and windows.
pub(crate) const PARTS: [Part; 16] = [
    Part::From(0),
    Part::From(1),
    Part::From(39),
    Part::From(40),
    Part::From(39_999),
    Part::From(131_073),
    Part::Suffix(1),
    Part::Suffix(41),
    Part::Suffix(65_536),
    Part::Between(0, 1),
    Part::Between(7, 40),
    Part::Between(6_999, 7_001),
    Part::Between(10_999, 39_999),
    Part::Between(131_071, 131_073),
    Part::Between(0, 300_000),
    Part::Between(262_143, 300_001),
];

/// What the origin does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Whole,
    Stream,
    /// A stream that tells its length.
    Sized,
    /// After half of the body it fails.
    Breaks,
    /// It ends after half of the length that it told.
    Short,
    /// It goes on past the length that it told.
    Long,
    Fails,
    Panics,
    Absent,
    /// Not modified, where it was asked about a stale copy; else whole.
    Unchanged,
}

impl Outcome {
    pub(crate) const ALL: [Self; 10] = [
        Self::Whole,
        Self::Stream,
        Self::Sized,
        Self::Breaks,
        Self::Short,
        Self::Long,
        Self::Fails,
        Self::Panics,
        Self::Absent,
        Self::Unchanged,
    ];

    /// Whether the origin keeps to what it says.
    fn is_fair(self) -> bool {
        use Outcome::{Absent, Sized, Stream, Unchanged, Whole};
        matches!(self, Whole | Stream | Sized | Absent | Unchanged)
    }
}

/// The length that a writer declares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Declared {
    Nothing,
    Right,
    /// One more than is written.
    TooLong,
    /// One less.
    TooShort,
}

/// How a writer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Commit,
    Abort,
    Drop,
}

/// What a fault may strike.
pub(crate) const STORE_OPS: [StoreOp; 11] = [
    StoreOp::Get,
    StoreOp::Body,
    StoreOp::Set,
    StoreOp::Write,
    StoreOp::Commit,
    StoreOp::Abort,
    StoreOp::Delete,
    StoreOp::Stat,
    StoreOp::Fence,
    StoreOp::Touch,
    StoreOp::List,
];

/// What may go wrong there.
pub(crate) const FAULTS: [Fault; 13] = [
    Fault::Fail(ErrorKind::Unavailable),
    Fault::Fail(ErrorKind::Corrupt),
    Fault::Fail(ErrorKind::Full),
    Fault::Fail(ErrorKind::TooLarge),
    Fault::FailAfter(ErrorKind::Unavailable),
    Fault::Stall,
    Fault::StallAfter,
    Fault::Delay(Duration::from_millis(1)),
    Fault::Delay(Duration::from_millis(40)),
    Fault::Delay(Duration::from_secs(2)),
    Fault::Shorten(0),
    Fault::Shorten(5_000),
    Fault::Panic,
];

impl Len {
    pub(crate) const ALL: [Self; 4] = [Self::Empty, Self::Small, Self::Large, Self::Huge];

    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::Empty => 0,
            Self::Small => 40,
            Self::Large => 40_000,
            Self::Huge => 300_000,
        }
    }
}

impl Part {
    pub(crate) fn range(self) -> Result<ByteRange> {
        match self {
            Self::Whole => Ok(ByteRange::FULL),
            Self::From(start) => Ok(ByteRange::from(start..)),
            Self::Between(start, end) => ByteRange::try_from(start..end),
            Self::Suffix(len) => ByteRange::suffix(len),
        }
    }
}

impl Script {
    /// Whether nothing fails in it, so that no read may.
    pub(crate) fn is_fair(&self) -> bool {
        self.tasks.iter().flatten().all(|op| match op {
            Op::Fail { .. } => false,
            Op::Fetch { outcome, .. } | Op::Refresh { outcome, .. } => outcome.is_fair(),
            _ => true,
        })
    }
}
