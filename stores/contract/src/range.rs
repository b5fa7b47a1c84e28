//! Which bytes of an object are asked for.

use std::ops::{Range, RangeFrom, RangeFull, RangeInclusive, RangeTo};

use crate::{Error, Result};

/// A part of an object, checked for sense when it is made and against a length when it is known.
///
/// A range that reaches past the end is an error, not a shorter answer, so that a caller never
/// mistakes a part for the whole; [`within`](Self::within) makes one that ends where the object does.
/// An empty range cannot be made. `0..` is the full range.
///
/// ```
/// use larder_store::ByteRange;
///
/// assert_eq!(ByteRange::try_from(2..4)?.resolve(10)?, 2..4);
/// assert_eq!(ByteRange::suffix(3)?.resolve(10)?, 7..10);
/// assert_eq!(ByteRange::within(8, 12)?.resolve(10)?, 8..10);
/// assert_eq!(ByteRange::FULL.resolve(0)?, 0..0);
/// assert!(ByteRange::try_from(8..12)?.resolve(10).unwrap_err().is_invalid());
/// # Ok::<(), larder_store::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ByteRange(Part);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Part {
    #[default]
    Full,
    From(u64),
    Bounded(u64, u64),
    Within(u64, u64),
    Suffix(u64),
}

impl ByteRange {
    /// All of it, and the only range of an empty object.
    pub const FULL: Self = Self(Part::Full);

    /// The last `len` bytes, or all of it where there are fewer; zero is `Invalid`.
    pub fn suffix(len: u64) -> Result<Self> {
        if len == 0 {
            return Err(Error::invalid("a suffix of zero bytes is no range"));
        }
        Ok(Self(Part::Suffix(len)))
    }

    /// The bytes from `start` up to `end`, which is not one of them, or up to the end of the object
    /// where that comes first, as HTTP reads a range of bytes (RFC 9110, section 14.1.2). HTTP's last
    /// position is inclusive: `bytes=0-99` is `within(0, 100)`.
    ///
    /// # Errors
    ///
    /// `Invalid` for an empty range. [`resolve`](Self::resolve), and a read, give `Invalid` only where
    /// the range begins at the end of the object or past it.
    ///
    /// ```
    /// # use larder_store::ByteRange;
    /// let range = ByteRange::within(2, 100)?;
    /// assert_eq!(range.resolve(10)?, 2..10);
    /// assert!(range.resolve(2).unwrap_err().is_invalid());
    /// # Ok::<(), larder_store::Error>(())
    /// ```
    pub fn within(start: u64, end: u64) -> Result<Self> {
        not_empty(start, end).map(|()| Self(Part::Within(start, end)))
    }

    /// Whether the range may end before the end that [`known`](Self::known) gives: the object's end
    /// clamps it, see [`within`](Self::within).
    pub fn is_clamped(self) -> bool {
        matches!(self.0, Part::Within(..))
    }

    /// Whether this is the full range.
    pub fn is_full(self) -> bool {
        self.0 == Part::Full
    }

    /// The first byte and, where it is bounded, the end, as far as they are known without the
    /// object's length; a suffix gives none. A range that [is clamped](Self::is_clamped) gives its
    /// largest end.
    pub fn known(self) -> Option<(u64, Option<u64>)> {
        match self.0 {
            Part::Full => Some((0, None)),
            Part::From(start) => Some((start, None)),
            Part::Bounded(start, end) | Part::Within(start, end) => Some((start, Some(end))),
            Part::Suffix(_) => None,
        }
    }

    /// The bytes of an object of this length that the range selects; `Invalid` past its end.
    pub fn resolve(self, len: u64) -> Result<Range<u64>> {
        let range = match self.0 {
            Part::Full => return Ok(0..len),
            Part::From(start) => start..len,
            Part::Within(start, end) if start < len => start..end.min(len),
            Part::Bounded(start, end) | Part::Within(start, end) => start..end,
            Part::Suffix(count) => len.saturating_sub(count)..len,
        };
        if range.start >= len || range.end > len {
            return Err(Error::invalid(format!(
                "the range {}..{} reaches past the end of {len} bytes",
                range.start, range.end
            )));
        }
        Ok(range)
    }

    fn bounded(start: u64, end: u64) -> Result<Self> {
        not_empty(start, end).map(|()| Self(Part::Bounded(start, end)))
    }
}

fn not_empty(start: u64, end: u64) -> Result<()> {
    if start >= end {
        return Err(Error::invalid(format!("the range {start}..{end} is empty")));
    }
    Ok(())
}

impl TryFrom<Range<u64>> for ByteRange {
    type Error = Error;

    fn try_from(range: Range<u64>) -> Result<Self> {
        Self::bounded(range.start, range.end)
    }
}

impl TryFrom<RangeInclusive<u64>> for ByteRange {
    type Error = Error;

    fn try_from(range: RangeInclusive<u64>) -> Result<Self> {
        let end = range
            .end()
            .checked_add(1)
            .ok_or_else(|| Error::invalid("the range overflows"))?;
        Self::bounded(*range.start(), end)
    }
}

impl TryFrom<RangeTo<u64>> for ByteRange {
    type Error = Error;

    fn try_from(range: RangeTo<u64>) -> Result<Self> {
        Self::bounded(0, range.end)
    }
}

impl From<RangeFrom<u64>> for ByteRange {
    fn from(range: RangeFrom<u64>) -> Self {
        Self(if range.start == 0 {
            Part::Full
        } else {
            Part::From(range.start)
        })
    }
}

impl From<RangeFull> for ByteRange {
    fn from(_: RangeFull) -> Self {
        Self::FULL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn past_the_end_is_invalid() {
        let at = |range: Range<u64>, len| ByteRange::try_from(range).unwrap().resolve(len);
        assert_eq!(at(0..10, 10).unwrap(), 0..10);
        assert!(at(0..11, 10).unwrap_err().is_invalid());
        assert!(at(10..11, 10).unwrap_err().is_invalid());
        assert!(ByteRange::from(10..).resolve(10).unwrap_err().is_invalid());
        assert_eq!(ByteRange::from(9..).resolve(10).unwrap(), 9..10);
    }

    #[test]
    fn an_empty_object_has_only_its_full_range() {
        assert_eq!(ByteRange::FULL.resolve(0).unwrap(), 0..0);
        assert_eq!(ByteRange::from(0..).resolve(0).unwrap(), 0..0);
        assert!(ByteRange::suffix(1).unwrap().resolve(0).is_err());
        assert!(ByteRange::try_from(..1).unwrap().resolve(0).is_err());
    }

    #[test]
    #[allow(clippy::reversed_empty_ranges)]
    fn senseless_ranges_cannot_be_made() {
        assert!(ByteRange::try_from(3..3).is_err());
        assert!(ByteRange::try_from(4..3).is_err());
        assert!(ByteRange::suffix(0).is_err());
        assert!(ByteRange::try_from(0..=u64::MAX).is_err());
        assert_eq!(ByteRange::suffix(99).unwrap().resolve(10).unwrap(), 0..10);
    }

    #[test]
    fn s104_a_clamped_range_ends_where_the_object_does() {
        let within = |start, end, len| ByteRange::within(start, end).unwrap().resolve(len);
        assert_eq!(within(2, 4, 10).unwrap(), 2..4);
        assert_eq!(within(2, 10, 10).unwrap(), 2..10);
        assert_eq!(within(9, 11, 10).unwrap(), 9..10);
        assert_eq!(within(0, u64::MAX, 10).unwrap(), 0..10);
        for (start, end, len) in [
            (10, 11, 10),
            (11, 12, 10),
            (0, 1, 0),
            (u64::MAX - 1, u64::MAX, 9),
        ] {
            let error = within(start, end, len).unwrap_err();
            assert!(error.is_invalid(), "{start}..{end} of {len}");
            assert!(
                error.to_string().contains(&format!("{start}..{end}")),
                "{error}"
            );
        }
        assert!(ByteRange::within(3, 3).unwrap_err().is_invalid());
        assert!(ByteRange::within(4, 3).unwrap_err().is_invalid());
    }
}
