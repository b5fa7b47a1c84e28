//! The file `FORMAT`, three lines of text:
//!
//! ```text
//! larder-disk 2
//! 0123456789abcdef0123456789abcdef
//! 89abcdef
//! ```
//!
//! the name and version of the format, the store's id, and the CRC-32C of the two lines before. A
//! later version may have other lines after the first.

use std::{
    fmt::{self, Write},
    hash::{BuildHasher, Hasher, RandomState},
};

const NAME: &str = "larder-disk ";
const VERSION: &str = "2";
/// The version before: `OPEN` held the boot id alone, and all else was the same.
const VERSION_BEFORE: &str = "1";

/// A store's format, of one of the versions that are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    pub(crate) store_id: [u8; 16],
    /// Whether it is the version before the current one.
    pub(crate) is_outdated: bool,
}

/// Why a `FORMAT` is not this store's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Problem {
    Version(String),
    Damaged,
}

impl Format {
    /// The format of a new store.
    pub(crate) fn draw() -> Self {
        let mut store_id = [0; 16];
        for half in store_id.chunks_exact_mut(8) {
            // Each has keys of its own, which the standard library draws at random.
            let random = RandomState::new().build_hasher().finish();
            half.copy_from_slice(&random.to_le_bytes());
        }
        Self::current(store_id)
    }

    /// The current format of this store.
    pub(crate) fn current(store_id: [u8; 16]) -> Self {
        Self {
            store_id,
            is_outdated: false,
        }
    }

    pub(crate) fn text(&self) -> String {
        let version = if self.is_outdated {
            VERSION_BEFORE
        } else {
            VERSION
        };
        let mut text = format!("{NAME}{version}\n");
        for byte in self.store_id {
            // A string takes all that is written.
            let _ = write!(text, "{byte:02x}");
        }
        text.push('\n');
        let crc = crc32c::crc32c(text.as_bytes());
        let _ = writeln!(text, "{crc:08x}");
        text
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Problem> {
        let text = std::str::from_utf8(bytes).map_err(|_| Problem::Damaged)?;
        let (first, rest) = text.split_once('\n').ok_or(Problem::Damaged)?;
        let version = first.strip_prefix(NAME).ok_or(Problem::Damaged)?;
        let is_outdated = version == VERSION_BEFORE;
        if version != VERSION && !is_outdated {
            let number = !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit());
            return Err(if number && version.len() <= 9 {
                Problem::Version(version.to_owned())
            } else {
                Problem::Damaged
            });
        }
        let id = rest.get(..32).ok_or(Problem::Damaged)?;
        let id = u128::from_str_radix(id, 16).map_err(|_| Problem::Damaged)?;
        let format = Self {
            store_id: id.to_be_bytes(),
            is_outdated,
        };
        // There is one way to write it.
        (format.text() == text)
            .then_some(format)
            .ok_or(Problem::Damaged)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => write!(
                f,
                "its format has the version {version}, this program knows {VERSION_BEFORE} and {VERSION}"
            ),
            Self::Damaged => f.write_str("its FORMAT is damaged, or not of a store of this kind"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_read_as_it_was_written() {
        let format = Format::draw();
        assert_eq!(Format::parse(format.text().as_bytes()), Ok(format));
        assert_ne!(format, Format::draw());
    }

    #[test]
    fn a_version_that_is_not_known_is_named() {
        let later = Format::parse(b"larder-disk 3\nwhatever\n");
        assert_eq!(later, Err(Problem::Version("3".into())));
        let message = later.unwrap_err().to_string();
        assert!(message.contains("version 3"), "{message}");
    }

    #[test]
    fn the_version_before_is_known() {
        let text = "larder-disk 1\n0123456789abcdef0123456789abcdef\n";
        let text = format!("{text}{:08x}\n", crc32c::crc32c(text.as_bytes()));
        let format = Format::parse(text.as_bytes()).unwrap();
        assert!(format.is_outdated);
        assert_eq!(format.text(), text);
        assert!(
            Format::current(format.store_id)
                .text()
                .contains(&text[14..46])
        );
    }

    #[test]
    fn s57_a_damaged_format_is_refused() {
        let text = Format::draw().text();
        for len in 0..text.len() {
            assert!(Format::parse(&text.as_bytes()[..len]).is_err(), "{len}");
        }
        for bit in 0..text.len() * 8 {
            let mut bytes = text.clone().into_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Format::parse(&bytes).is_err(), "bit {bit}");
        }
        for foreign in [&b""[..], b"\n", b"SQLite format 3\0", &[0xff; 4096]] {
            assert_eq!(Format::parse(foreign), Err(Problem::Damaged));
        }
    }
}
