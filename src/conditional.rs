//! The condition of a read, as RFC 9110 writes it in `If-None-Match`.

use larder_store::{EntityTag, Error, Header, Result};

/// Which objects the caller has already: a list of entity tags, or `*` for any.
///
/// ```
/// use larder::IfNoneMatch;
///
/// let header: IfNoneMatch = r#""v1", W/"a,b""#.parse()?;
/// let any: IfNoneMatch = "*".parse()?;
/// # let _ = (header, any);
/// # Ok::<(), larder::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IfNoneMatch(Tags);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Tags {
    Any,
    List(Vec<EntityTag>),
}

impl IfNoneMatch {
    /// Any object at all: `*`.
    pub const ANY: Self = Self(Tags::Any);

    /// Whether an object with this header need not be sent. What stands for an absence satisfies
    /// no validator, not even `*`.
    pub(crate) fn matches(&self, header: &Header) -> bool {
        if header.absent {
            return false;
        }
        match &self.0 {
            Tags::Any => true,
            Tags::List(tags) => header
                .etag
                .as_ref()
                .is_some_and(|tag| tags.iter().any(|other| tag.matches(other))),
        }
    }
}

impl From<EntityTag> for IfNoneMatch {
    fn from(tag: EntityTag) -> Self {
        Self(Tags::List(vec![tag]))
    }
}

impl FromIterator<EntityTag> for IfNoneMatch {
    fn from_iter<I: IntoIterator<Item = EntityTag>>(tags: I) -> Self {
        Self(Tags::List(tags.into_iter().collect()))
    }
}

impl std::str::FromStr for IfNoneMatch {
    type Err = Error;

    /// Reads the value of the header field; `Invalid` when it is not one.
    fn from_str(text: &str) -> Result<Self> {
        let mut rest = text.trim();
        if rest == "*" {
            return Ok(Self::ANY);
        }
        let mut tags = Vec::new();
        while !rest.is_empty() {
            // A comma may stand within the quotes, so the end of a tag is its second quote.
            let quote = rest.find('"').ok_or_else(|| malformed(text))?;
            let len = rest[quote + 1..].find('"').ok_or_else(|| malformed(text))?;
            let (tag, after) = rest.split_at(quote + len + 2);
            tags.push(tag.parse()?);
            rest = after.trim_start();
            if !rest.is_empty() {
                rest = rest.strip_prefix(',').ok_or_else(|| malformed(text))?;
                // RFC 9110, 5.6.1.2: empty elements of a list are passed over.
                rest = rest.trim_start_matches([',', ' ', '\t']);
            }
        }
        if tags.is_empty() {
            Err(malformed(text))
        } else {
            Ok(Self(Tags::List(tags)))
        }
    }
}

fn malformed(text: &str) -> Error {
    Error::invalid(format!("not a list of entity tags: {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(condition: &str, etag: &str) -> bool {
        let mut header = Header::default();
        header.etag = Some(etag.parse().expect("a tag"));
        condition
            .parse::<IfNoneMatch>()
            .expect("a condition")
            .matches(&header)
    }

    #[test]
    fn s44_lists_quotes_weakness_star_and_commas_within_quotes() {
        assert!(holds("\"a\"", "\"a\""));
        assert!(holds("\"x\", W/\"a\" ,\"y\"", "\"a\""));
        assert!(holds("\"a\"", "W/\"a\""));
        assert!(holds(" * ", "\"a\""));
        assert!(holds("\"b\",\"a,b\"", "\"a,b\""));
        assert!(
            holds("\"z\",, ,\"a\"", "\"a\""),
            "empty elements are passed over"
        );
        assert!(!holds("\"a,b\"", "\"a\""));
        assert!(!holds("\"a,b\"", "\"b\""));
        assert!(!holds("\"A\"", "\"a\""));
        assert!(
            !holds("\"*\"", "\"a\""),
            "a quoted star is a tag like any other"
        );
        for text in ["", "a", "\"a", "\"a\" \"b\"", "*, \"a\"", "W/", ","] {
            assert!(
                text.parse::<IfNoneMatch>().unwrap_err().is_invalid(),
                "{text}"
            );
        }
    }

    #[test]
    fn s38_an_absence_satisfies_no_validator() {
        let mut header = Header::default();
        header.absent = true;
        assert!(!IfNoneMatch::ANY.matches(&header));
    }
}
