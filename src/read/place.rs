//! One reader of a spool: where it reads, what it still needs, and why it gets nothing more.

use std::task::Waker;

use larder_store::{ByteRange, Error};

/// A caller that waits for the flight to open, or reads it.
#[derive(Default)]
pub(super) struct Reader {
    pub(super) at: Place,
    /// Why it gets nothing more, if so.
    pub(super) cut: Option<Error>,
    pub(super) waker: Option<Waker>,
}

/// Where a reader reads.
#[derive(Clone, Copy, Default)]
pub(super) enum Place {
    /// It has not said where.
    #[default]
    Unknown,
    /// The last so many bytes, once the source has ended.
    Tail(u64),
    At(Cursor),
}

/// A range of an object whose length nobody knew, as far as it is known now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sought {
    pub(crate) start: u64,
    pub(crate) end: Option<u64>,
    /// The length of the whole object.
    pub(crate) len: Option<u64>,
}

#[derive(Clone, Copy)]
pub(super) struct Cursor {
    pub(super) offset: u64,
    pub(super) stop: Option<u64>,
    /// Where its range began, if the object must reach to `stop` and nobody knew whether it does.
    pub(super) asked: Option<u64>,
}

impl Reader {
    /// Whether it needs no byte before `offset`, where `end` bytes came.
    pub(super) fn has_passed(&self, offset: u64, end: u64) -> bool {
        self.cut.is_some()
            || match self.at {
                Place::Unknown => false,
                Place::Tail(len) => end.saturating_sub(len) >= offset,
                Place::At(at) => at.offset >= offset || at.is_done(),
            }
    }

    /// Whether it wants more than the `end` bytes that came. A reader in its place wants no more
    /// than half a window before it.
    pub(super) fn wants_more(&self, end: u64, memory: u64) -> bool {
        self.cut.is_none()
            && match self.at {
                Place::Unknown | Place::Tail(_) => true,
                Place::At(at) => {
                    at.stop.is_none_or(|stop| stop > end)
                        && at.offset.saturating_add(memory / 2) >= end
                }
            }
    }

    /// Whether it waits for the last bytes, and these fit into a window.
    pub(super) fn is_short_tail(&self, memory: u64) -> bool {
        matches!(self.at, Place::Tail(len) if len <= memory)
    }
}

impl Cursor {
    pub(super) fn is_done(&self) -> bool {
        self.stop.is_some_and(|stop| self.offset >= stop)
    }
}

/// The error of a reader that was cut.
pub(super) fn held_up() -> Error {
    Error::timeout("the reader held up its flight for too long")
}

/// The error of a reader that wants more of the end than anything can keep.
pub(super) fn too_long(len: u64) -> Error {
    Error::too_large(format!(
        "the last {len} bytes of an object of unknown length fit neither into spool_memory nor \
         anywhere else"
    ))
}

/// The error of a range past the end, for a reader that had its answer before anyone knew that the
/// object ends within the range.
pub(super) fn past_the_end(from: u64, stop: u64, len: u64) -> Error {
    let resolved = ByteRange::try_from(from..stop).and_then(|range| range.resolve(len));
    let message = "the range reaches past the end";
    resolved.err().unwrap_or_else(|| Error::invalid(message))
}

/// How many bytes of the end a suffix asks for.
pub(super) fn suffix(range: ByteRange) -> u64 {
    range
        .resolve(u64::MAX)
        .map_or(u64::MAX, |part| part.end - part.start)
}
