//! Names of objects.

use std::{borrow::Borrow, fmt, ops::Deref, sync::Arc};

use crate::{Error, Result};

/// The name of an object, borrowed and checked: 1 to 4,096 bytes of UTF-8.
///
/// Keys are compared byte by byte; case, slashes, dots and control characters mean nothing.
///
/// ```
/// use larder_store::Key;
///
/// assert_eq!(Key::new("a/../b")?.as_str(), "a/../b");
/// assert!(Key::new("").unwrap_err().is_invalid());
/// # Ok::<(), larder_store::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key<'a>(&'a str);

/// An owned [`Key`]; cloning costs a reference count.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyBuf(Arc<str>);

impl<'a> Key<'a> {
    /// The most bytes a key may have.
    pub const LEN_MAX: usize = 4096;

    /// Checks a key: [`Invalid`](crate::ErrorKind::Invalid) when it is empty or too long.
    #[inline]
    pub fn new(key: &'a str) -> Result<Self> {
        match key.len() {
            0 => Err(Error::invalid("the key is empty")),
            1..=Self::LEN_MAX => Ok(Self(key)),
            len => Err(Error::invalid(format!(
                "the key has {len} bytes, at most {} are allowed",
                Self::LEN_MAX
            ))),
        }
    }

    /// The key's text.
    pub fn as_str(self) -> &'a str {
        self.0
    }

    /// An owned copy.
    pub fn to_buf(self) -> KeyBuf {
        KeyBuf(Arc::from(self.0))
    }
}

impl KeyBuf {
    /// Checks and copies a key, as [`Key::new`] does.
    pub fn new(key: &str) -> Result<Self> {
        Key::new(key).map(Key::to_buf)
    }

    /// The key, borrowed.
    pub fn as_key(&self) -> Key<'_> {
        Key(&self.0)
    }
}

impl AsRef<str> for Key<'_> {
    fn as_ref(&self) -> &str {
        self.0
    }
}

impl fmt::Debug for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.0, f)
    }
}

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Deref for KeyBuf {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for KeyBuf {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for KeyBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl fmt::Display for KeyBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_checked_in_bytes() {
        assert!(Key::new(&"k".repeat(4096)).is_ok());
        let error = Key::new(&"k".repeat(5000)).unwrap_err();
        assert!(error.is_invalid());
        assert_eq!(
            error.to_string(),
            "the key has 5000 bytes, at most 4096 are allowed"
        );
        assert!(
            Key::new(&"é".repeat(2049)).is_err(),
            "two bytes a character"
        );
    }
}
