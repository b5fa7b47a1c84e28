//! What may happen, and in which surroundings.

use std::time::Duration;

use larder::{ByteRange, ErrorKind, Result};
use larder_conformance::{Fault, Op as StoreOp};

/// Objects have one of so many keys.
pub(crate) const KEYS: u8 = 3;

/// Bytes of the smallest window that a flight may have.
pub(crate) const WINDOW: u64 = 128 << 10;

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
    /// Whether a flight may spill to a file.
    pub(crate) spill: Spill,
    /// A flight that everyone has left ends.
    pub(crate) abandon: bool,
    /// The first tier takes no absences.
    pub(crate) no_negatives: bool,
    /// A lower hit is copied upwards only when it is the second.
    pub(crate) second_hit: bool,
    /// Two caches share the last tier, which is their bus, and do every other task each.
    pub(crate) several: bool,
}

/// Where a flight may put the bytes that do not fit into its window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Spill {
    #[default]
    Allowed,
    /// The settings forbid it.
    Forbidden,
    /// The folder does not exist: each flight learns that when it first wants to spill.
    Unwritable,
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
        ask: Ask,
    },
    Fetch {
        order: Order,
        ask: Ask,
    },
    Refresh {
        order: Order,
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
    /// The wall clock jumps; no timer sees it.
    Advance {
        seconds: u8,
    },
    /// Time passes, for the wall clock and for all timers. What is under way goes on meanwhile.
    Pass {
        seconds: u8,
    },
    Rest {
        turns: u8,
    },
}

/// What a read asks for, and how its caller behaves.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ask {
    pub(crate) part: Part,
    pub(crate) patience: Patience,
    pub(crate) accepts: Accepts,
}

/// What an origin is told to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order {
    pub(crate) key: u8,
    pub(crate) len: Len,
    pub(crate) outcome: Outcome,
    pub(crate) no_store: bool,
    pub(crate) pace: Pace,
}

/// How old an object may be, beside the cache's lifetimes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Accepts {
    #[default]
    Usual,
    /// Also a stale one, without a fetcher.
    Stale,
    /// At most so many seconds.
    Young(u8),
}

/// How fast the origin is. No wait is as long as a time-out, so that none is a failure. The wall
/// clock moves on four times as far as the timers, so that a body outlives its lifetimes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    AtOnce,
    /// Others have their turn between the chunks.
    Yields,
    /// So many seconds pass before the answer.
    Late(u8),
    /// So many seconds pass after each of the first three chunks.
    Slow(u8),
}

impl Pace {
    /// A wait of 25 s outlives the freshness, and two of them the windows too.
    pub(crate) const ALL: [Self; 5] = [
        Self::AtOnce,
        Self::Yields,
        Self::Slow(25),
        Self::Slow(7),
        Self::Late(25),
    ];
}

/// Whether the caller stays, leaves after so many polls, rests so many milliseconds after each
/// chunk, or so many seconds after the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Patience {
    #[default]
    Stays,
    Leaves(u8),
    Lags(u8),
    Pauses(u8),
}

impl Patience {
    /// The same, where it lags, with one long rest: shorter than any time-out.
    pub(crate) fn long(self) -> Self {
        match self {
            Self::Lags(rest) => Self::Pauses(1 + 2 * rest),
            other => other,
        }
    }
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
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Part {
    #[default]
    Whole,
    From(u64),
    Between(u64, u64),
    Within(u64, u64),
    Suffix(u64),
}

/// Parts of all kinds, at the edges of objects, chunks and windows.
pub(crate) const PARTS: [Part; 18] = [
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
    Part::Within(7, 300_001),
    Part::Within(39_999, 131_073),
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
    /// The same, further from the object's edge by the smallest window.
    pub(crate) fn beyond_the_window(self) -> Self {
        match self {
            Self::Whole => Self::Whole,
            Self::From(start) => Self::From(start + WINDOW),
            Self::Between(start, end) => Self::Between(start + WINDOW, end + WINDOW),
            Self::Within(start, end) => Self::Within(start + WINDOW, end + WINDOW),
            Self::Suffix(len) => Self::Suffix(len + WINDOW),
        }
    }

    pub(crate) fn range(self) -> Result<ByteRange> {
        match self {
            Self::Whole => Ok(ByteRange::FULL),
            Self::From(start) => Ok(ByteRange::from(start..)),
            Self::Between(start, end) => ByteRange::try_from(start..end),
            Self::Within(start, end) => ByteRange::within(start, end),
            Self::Suffix(len) => ByteRange::suffix(len),
        }
    }
}

impl Script {
    /// Whether nothing fails in it, so that no read may.
    pub(crate) fn is_fair(&self) -> bool {
        self.tasks.iter().flatten().all(|op| match op {
            Op::Fail { .. } => false,
            Op::Fetch { order, .. } | Op::Refresh { order } => order.outcome.is_fair(),
            _ => true,
        })
    }
}
