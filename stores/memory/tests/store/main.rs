//! The store through the contract, where its own limits and its own policy show.

#![allow(clippy::unwrap_used)] // The helpers below are tests, too.

mod accounting;
mod eviction;
mod expiry;
mod handle;
mod limits;
mod ratio;
mod staged;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use larder_memory::{Builder, Eviction, Memory};
use larder_store::{Draft, Error, Key, Store, StoreExt, Timestamp, Writer};

/// What an object without header values counts for, beside its key and its body.
const BARE: u64 = Eviction::S3Fifo.entry_overhead() + 96;

fn key(text: &str) -> Key<'_> {
    Key::new(text).unwrap()
}

fn policies() -> Vec<Eviction> {
    vec![
        Eviction::S3Fifo,
        #[cfg(feature = "moka")]
        Eviction::TinyLfu,
        #[cfg(feature = "moka")]
        Eviction::Lru,
    ]
}

async fn set(store: &Memory, name: &str, len: usize) -> Result<(), Error> {
    let commit = store.write(name, vec![7; len], Draft::new()).await?;
    assert!(commit.is_done());
    Ok(())
}

async fn is_there(store: &Memory, name: &str) -> bool {
    store.exists(name).await.unwrap()
}

async fn open(store: &Memory, name: &str, draft: Draft) -> Box<dyn Writer> {
    store.set_with_writer(key(name), draft).await.unwrap()
}

/// A clock that a test moves, and a store that asks it.
fn clocked(builder: Builder) -> (Memory, Arc<AtomicU64>) {
    let now = Arc::new(AtomicU64::new(1_000));
    let clock = Arc::clone(&now);
    let builder = builder.clock(move || Timestamp::from_millis(clock.load(Ordering::Relaxed)));
    (builder.build().unwrap(), now)
}

fn expiring(at: u64) -> Draft {
    Draft::new().with(|header| header.expires_at = Some(Timestamp::from_millis(at)))
}

/// `SplitMix64`, so that a failure comes again.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }
}
