//! The tables that hold the entries and choose who must go.
//!
//! An engine knows nothing of fences, expiry or writers. It promises three things: an entry that
//! weighs at most `entry_max` is admitted, the weights never sum up to more than the capacity
//! once [`Engine::settle`] has returned, and what it takes out it hands over, so that it is
//! dropped where no lock is held.
//!
//! `s3_fifo` is the default; `moka` comes with the feature of its name.

mod history;
mod lesson;
#[cfg(feature = "moka")]
mod moka;
mod s3_fifo;

use larder_store::KeyBuf;

use crate::{
    config::{Eviction, Limits},
    entry::Entry,
};

/// The engine chosen by the settings. An enum, not a trait object: a look-up is a direct call.
pub(crate) enum Engine {
    S3Fifo(s3_fifo::S3Fifo),
    #[cfg(feature = "moka")]
    Moka(moka::Moka),
}

/// What left an engine, to be dropped outside of all locks.
#[derive(Default)]
#[must_use]
pub(crate) struct Gone {
    pub(crate) entries: Vec<Entry>,
    /// How many of them had to make room; the others were replaced.
    pub(crate) evictions: u64,
}

macro_rules! each {
    ($engine:expr, $inner:ident => $call:expr) => {
        match $engine {
            Engine::S3Fifo($inner) => $call,
            #[cfg(feature = "moka")]
            Engine::Moka($inner) => $call,
        }
    };
}

impl Engine {
    pub(crate) fn new(policy: Eviction, limits: &Limits) -> Self {
        match policy {
            Eviction::S3Fifo => Self::S3Fifo(s3_fifo::S3Fifo::new(limits)),
            #[cfg(feature = "moka")]
            Eviction::TinyLfu | Eviction::Lru => Self::Moka(moka::Moka::new(policy, limits)),
        }
    }

    /// An entry, counted as used. Never allocates with `S3Fifo`.
    pub(crate) fn get(&self, key: &str) -> Option<Entry> {
        each!(self, engine => engine.get(key))
    }

    /// An entry. What is absent is not counted as asked for; what is there counts as used only
    /// where the engine knows no other way.
    pub(crate) fn peek(&self, key: &str) -> Option<Entry> {
        each!(self, engine => engine.peek(key))
    }

    /// Puts an entry in. To be called under the key's stripe.
    pub(crate) fn insert(&self, key: &KeyBuf, entry: Entry) -> Gone {
        each!(self, engine => engine.insert(key, entry))
    }

    /// Takes an entry out. To be called under the key's stripe.
    pub(crate) fn remove(&self, key: &str) -> Option<Entry> {
        each!(self, engine => engine.remove(key))
    }

    /// Does the work that an engine has put off. To be called outside of all stripes.
    pub(crate) fn settle(&self) -> Gone {
        each!(self, engine => engine.settle())
    }

    /// The keys of the entries that fit. Each lock is held for one entry at a time.
    pub(crate) fn keys(&self, fits: impl Fn(&str, &Entry) -> bool) -> Vec<KeyBuf> {
        each!(self, engine => engine.keys(fits))
    }

    /// Takes everything out.
    pub(crate) fn clear(&self) {
        each!(self, engine => engine.clear());
    }

    /// The number of entries and the sum of their weights.
    pub(crate) fn usage(&self) -> (u64, u64) {
        each!(self, engine => engine.usage())
    }
}
