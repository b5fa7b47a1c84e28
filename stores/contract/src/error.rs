//! What can go wrong in a store.

use std::{borrow::Cow, error::Error as StdError, fmt, sync::Arc};

/// Any error, owned, as it is handed from task to task.
pub type BoxError = Box<dyn StdError + Send + Sync + 'static>;

/// What a store's operation gives.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation failed.
///
/// Cloning costs a reference count, so that all who wait for one operation can share its error.
/// [`kind`](Self::kind) says how a caller may react; [`source`](StdError::source) leads to the
/// cause.
///
/// ```
/// use larder_store::{Error, ErrorKind};
///
/// let error = Error::new(ErrorKind::Timeout, "the server did not answer");
/// assert!(error.is_timeout());
/// assert_eq!(error.to_string(), "the server did not answer");
/// ```
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: ErrorKind,
    message: Cow<'static, str>,
    source: Option<BoxError>,
}

/// What a caller can do about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The medium or the server cannot be reached; later it may.
    Unavailable,
    /// A bound on time was passed; whether the operation took effect is unknown.
    Timeout,
    /// Stored bytes are short or altered. The entry is gone, the next read is a miss.
    Corrupt,
    /// The arguments can never work: a key, a range, a setting.
    Invalid,
    /// The object is above the store's limit.
    TooLarge,
    /// There is no room now.
    Full,
    /// The store or the cache was closed.
    Closed,
    /// This store has no such capability.
    Unsupported,
    /// Anything else.
    Other,
}

impl Error {
    /// An error of this kind; the message is lowercase and says what, and where.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Arc::new(Inner {
            kind,
            message: message.into(),
            source: None,
        }))
    }

    /// An error of this kind that was caused by another.
    pub fn with_source(
        kind: ErrorKind,
        message: impl Into<Cow<'static, str>>,
        source: impl Into<BoxError>,
    ) -> Self {
        Self(Arc::new(Inner {
            kind,
            message: message.into(),
            source: Some(source.into()),
        }))
    }

    /// How a caller may react.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The first error of type `E` down the chain of sources.
    pub fn find_source<E: StdError + 'static>(&self) -> Option<&E> {
        let mut next = self.source();
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref::<E>() {
                return Some(found);
            }
            next = error.source();
        }
        None
    }

    /// Whether the medium or the server cannot be reached.
    pub fn is_unavailable(&self) -> bool {
        self.kind() == ErrorKind::Unavailable
    }

    /// Whether a bound on time was passed.
    pub fn is_timeout(&self) -> bool {
        self.kind() == ErrorKind::Timeout
    }

    /// Whether stored bytes are short or altered.
    pub fn is_corrupt(&self) -> bool {
        self.kind() == ErrorKind::Corrupt
    }

    /// Whether the arguments can never work.
    pub fn is_invalid(&self) -> bool {
        self.kind() == ErrorKind::Invalid
    }

    /// Whether the object is above a limit.
    pub fn is_too_large(&self) -> bool {
        self.kind() == ErrorKind::TooLarge
    }

    /// Whether there is no room now.
    pub fn is_full(&self) -> bool {
        self.kind() == ErrorKind::Full
    }

    /// Whether the store or the cache was closed.
    pub fn is_closed(&self) -> bool {
        self.kind() == ErrorKind::Closed
    }

    /// Whether a capability is missing.
    pub fn is_unsupported(&self) -> bool {
        self.kind() == ErrorKind::Unsupported
    }

    /// [`ErrorKind::Invalid`].
    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// [`ErrorKind::Corrupt`].
    pub fn corrupt(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Corrupt, message)
    }

    /// [`ErrorKind::TooLarge`].
    pub fn too_large(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::TooLarge, message)
    }

    /// [`ErrorKind::Timeout`].
    pub fn timeout(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Timeout, message)
    }

    /// [`ErrorKind::Closed`], said of this thing.
    pub fn closed(what: &str) -> Self {
        Self::new(ErrorKind::Closed, format!("{what} is closed"))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Error");
        debug
            .field("kind", &self.0.kind)
            .field("message", &self.0.message);
        if let Some(source) = &self.0.source {
            debug.field("source", source);
        }
        debug.finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0
            .source
            .as_deref()
            .map(|source| source as &(dyn StdError + 'static))
    }
}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        let kind = match error.kind() {
            ErrorKind::Timeout => std::io::ErrorKind::TimedOut,
            ErrorKind::Corrupt => std::io::ErrorKind::InvalidData,
            ErrorKind::Invalid => std::io::ErrorKind::InvalidInput,
            ErrorKind::TooLarge => std::io::ErrorKind::FileTooLarge,
            ErrorKind::Full => std::io::ErrorKind::StorageFull,
            ErrorKind::Unsupported => std::io::ErrorKind::Unsupported,
            ErrorKind::Unavailable | ErrorKind::Closed | ErrorKind::Other => {
                std::io::ErrorKind::Other
            }
        };
        Self::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_shares_the_cause() {
        let cause = std::io::Error::other("disk on fire");
        let error = Error::with_source(ErrorKind::Unavailable, "cannot read", cause);
        let shared = error.clone();
        let found = shared.find_source::<std::io::Error>().unwrap();
        assert_eq!(found.to_string(), "disk on fire");
        assert!(error.is_unavailable() && !error.is_timeout());
    }
}
