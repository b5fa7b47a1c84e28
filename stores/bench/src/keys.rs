//! The names of the keys.

use std::{fmt::Write as _, sync::Arc};

use larder_store::Key;

use crate::{Popularity, Trace};

/// The name of each key by its number. Those that are made up stand one after the other in one
/// text: a hundred million of them are no more than their bytes, and finding one is one step.
pub(crate) enum Keys {
    MadeUp { text: String, count: usize },
    Trace(Arc<Trace>),
}

/// Bytes of a key that is made up.
const WIDTH: usize = "objects/00000000".len();

impl Keys {
    pub(crate) fn of(popularity: &Popularity) -> Self {
        if let Popularity::Trace(trace) = popularity {
            return Self::Trace(Arc::clone(trace));
        }
        let count = popularity.keys();
        let mut text = String::with_capacity(count * WIDTH);
        for number in 0..count {
            // `Workload::check` allows no number of more than eight digits.
            let _ = write!(text, "objects/{number:08}");
        }
        Self::MadeUp { text, count }
    }

    pub(crate) fn count(&self) -> usize {
        match self {
            Self::MadeUp { count, .. } => *count,
            Self::Trace(trace) => trace.keys().len(),
        }
    }

    #[inline]
    pub(crate) fn name(&self, number: usize) -> larder_store::Result<Key<'_>> {
        Key::new(match self {
            Self::MadeUp { text, .. } => &text[number * WIDTH..(number + 1) * WIDTH],
            Self::Trace(trace) => &trace.keys()[number],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_keys_have_their_number() {
        let keys = Keys::of(&Popularity::Uniform { keys: 1_000 });
        assert_eq!(keys.count(), 1_000);
        assert_eq!(keys.name(0).unwrap().as_str(), "objects/00000000");
        assert_eq!(keys.name(999).unwrap().as_str(), "objects/00000999");
    }
}
