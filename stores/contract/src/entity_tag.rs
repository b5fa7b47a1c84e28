//! Validators in the form of RFC 9110.

use std::{fmt, sync::Arc};

use crate::{Error, Result};

/// An entity tag as RFC 9110, section 8.8.3, defines it: an opaque text, strong or weak.
///
/// ```
/// use larder_store::EntityTag;
///
/// let tag: EntityTag = "W/\"v1\"".parse()?;
/// assert!(tag.is_weak());
/// assert!(tag.matches(&EntityTag::strong("v1")?), "weak comparison, as If-None-Match wants it");
/// # Ok::<(), larder_store::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct EntityTag {
    opaque: Arc<str>,
    weak: bool,
}

impl EntityTag {
    /// A strong tag: same tag, same bytes. `Invalid` when the text holds a quote, a space or a
    /// control character.
    pub fn strong(opaque: impl AsRef<str>) -> Result<Self> {
        Self::new(opaque.as_ref(), false)
    }

    /// A weak tag: same tag, same meaning. `Invalid` as [`strong`](Self::strong) says.
    pub fn weak(opaque: impl AsRef<str>) -> Result<Self> {
        Self::new(opaque.as_ref(), true)
    }

    fn new(opaque: &str, weak: bool) -> Result<Self> {
        // RFC 9110: etagc = %x21 / %x23-7E / obs-text. Non-ASCII text is its UTF-8, all obs-text.
        if opaque
            .bytes()
            .any(|byte| byte <= b' ' || byte == b'"' || byte == 0x7f)
        {
            return Err(Error::invalid(
                "an entity tag holds no quotes, spaces or control characters",
            ));
        }
        Ok(Self {
            opaque: opaque.into(),
            weak,
        })
    }

    /// The text between the quotes.
    pub fn opaque(&self) -> &str {
        &self.opaque
    }

    /// Whether it is weak.
    pub fn is_weak(&self) -> bool {
        self.weak
    }

    /// The weak comparison of RFC 9110: the texts are equal, weak or not.
    pub fn matches(&self, other: &Self) -> bool {
        self.opaque == other.opaque
    }
}

impl std::str::FromStr for EntityTag {
    type Err = Error;

    /// Reads the form of a header: `"v1"` or `W/"v1"`.
    fn from_str(text: &str) -> Result<Self> {
        let (quoted, weak) = match text.strip_prefix("W/") {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        let opaque = quoted
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'))
            .ok_or_else(|| Error::invalid("an entity tag stands between double quotes"))?;
        Self::new(opaque, weak)
    }
}

impl fmt::Display for EntityTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}\"{}\"",
            if self.weak { "W/" } else { "" },
            self.opaque
        )
    }
}

impl fmt::Debug for EntityTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_the_header_form() {
        for text in ["\"\"", "\"a,b\"", "W/\"x\"", "\"é\""] {
            assert_eq!(text.parse::<EntityTag>().unwrap().to_string(), text);
        }
        for text in ["", "x", "\"", "\"a\"b\"", "w/\"x\"", "W/x", "\"a b\""] {
            assert!(
                text.parse::<EntityTag>().unwrap_err().is_invalid(),
                "{text}"
            );
        }
    }
}
