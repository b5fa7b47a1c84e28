//! Why there is no report.

use std::fmt;

/// Why a run gave no report.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Error {
    /// The workload makes no sense; the text says what of it.
    Workload(String),
    /// The store failed, or panicked.
    Store(larder_store::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workload(why) => f.write_str(why),
            Self::Store(_) => f.write_str("the store failed"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Workload(_) => None,
            Self::Store(error) => Some(error),
        }
    }
}

impl From<larder_store::Error> for Error {
    fn from(error: larder_store::Error) -> Self {
        Self::Store(error)
    }
}
