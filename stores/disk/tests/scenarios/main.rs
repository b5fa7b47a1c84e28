//! The store through its public face: the scenarios that only a store on a disk can fail, by number.

#![allow(clippy::unwrap_used)] // The helpers below are tests, too.
#![allow(clippy::print_stdout)] // A test that fails shows what it printed: its seed.

#[path = "../common/mod.rs"]
mod common;

mod accounting;
mod blocks;
mod bodies;
mod burst;
mod damage;
mod eviction;
mod expiry;
mod full;
mod leftovers;
mod limits;
mod listing;
mod lost;
mod moved;
mod names;
mod refused;
mod restart;
mod runtime;
mod small_disk;
mod stuck;

use common::{Scratch, set};
use larder_disk::{Builder, Disk};

const KIB: usize = 1 << 10;
const MIB: u64 = 1 << 20;

/// A store of this capacity in a folder of its own, which must be kept as long.
async fn new(capacity: u64) -> (Scratch, Disk) {
    let folder = Scratch::new();
    let store = Disk::open(folder.store(), capacity).await.unwrap();
    (folder, store)
}

/// As [`new`], with settings, and in memory.
async fn with(capacity: u64, settings: impl FnOnce(Builder) -> Builder) -> (Scratch, Disk) {
    let folder = Scratch::in_memory();
    let builder = settings(Disk::builder(folder.store(), capacity));
    (folder, builder.open().await.unwrap())
}

/// One object for each way in which a store keeps them: in the log, there with a table of
/// checksums, and in a file of its own.
const KINDS: [(&str, usize); 3] = [("small", 900), ("tabled", 200 * KIB), ("large", 1500 * KIB)];

async fn set_each_kind(store: &Disk, version: u64) {
    for (name, len) in KINDS {
        set(store, name, version, len).await;
    }
}
