//! The disk store of the Larder cache: small objects in a packed log, each large one in a file of
//! its own, warm after a kill.
//!
//! [`Disk`] implements [`Store`](larder_store::Store) and is made to be a cache's second tier.
//!
//! ```
//! use larder_disk::Disk;
//! use larder_store::{Draft, Store, StoreExt};
//!
//! # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
//! # let dir = tempfile::tempdir().unwrap();
//! # let path = dir.path();
//! let store = Disk::open(path, 64 << 20).await?;
//! store.write("greeting", "hello", Draft::new()).await?;
//! store.close().await?;
//!
//! let store = Disk::open(path, 64 << 20).await?;
//! assert_eq!(store.read("greeting", 1024).await?.unwrap(), "hello");
//! # store.close().await?;
//! # Ok::<(), larder_store::Error>(())
//! # }).unwrap();
//! ```
//!
//! # What counts
//!
//! The capacity is bytes of the disk: the log's segments, those that are kept ready, and the files of
//! large objects, each rounded up to whole blocks of the file system. Not counted are the two
//! snapshots of the index (16 bytes an object each), a few small files, and the at most 258 folders;
//! a folder goes soon after its last file. What is being written counts from its commit on. An object counts for its
//! record, padding included, and its file. Room is given back a segment at a time, so a store
//! holds a few segments less than its capacity; when it is opened with a smaller one it shrinks in
//! the background. In memory an object takes 17 to 39 bytes, and at most 4 more are kept of those
//! that were evicted.
//!
//! # What survives
//!
//! A process that is killed loses objects that were new in its last moments, and nothing else. The
//! store's thread begins to write a new object 5 ms after its commit, or earlier when there is more
//! to write. That is all that is promised: if the machine is so busy that the system lets the thread
//! wait, the object waits as long. [`Durability::Relaxed`] has figures. Replacements and deletes are
//! with the kernel before they are acknowledged, so what is older never comes back. For the loss of
//! power see [`Durability`] and [`AfterPowerLoss`].
//!
//! If the file of a segment is removed, emptied, cut off or renamed between two runs, no deleted or
//! older object comes back. Objects that the lost records may have voided are dropped. After a clean
//! close those are only the objects of that segment. After a kill they are all objects that are older
//! than the end of the segment, unless a snapshot was written since; if it had not ended they are
//! all. What is
//! damaged is found by its checksum, when it is read: it is a miss, or ends in
//! [`Corrupt`](larder_store::ErrorKind::Corrupt), and is dropped.
//!
//! # When the disk is full or fails
//!
//! The store shrinks; when that does not help it passes through: it refuses what is new as `Full`
//! (or `Unavailable`), goes on serving what it has, says so in [`Figures::passing_through`] and as
//! a `tracing` warning, and tries again every second. A delete that could not be written is an
//! error, and the object is absent until the store is opened again.
//!
//! On a disk that has less room than the capacity when the store is opened the segments are smaller,
//! down to 128 KiB. If there is no inode left the store removes large objects, which are files, to
//! make room for others; small objects go on.
//!
//! # When the folder goes
//!
//! The path is resolved once, when the store is opened. Each second the store looks whether the path
//! still leads to its folder, and whether `FORMAT` and `LOCK` are still the files that it has open.
//! If not, the store is out of service until it is opened again: it is empty, refuses sets, touches
//! and deletes as `Unavailable`, uses the disk no more and makes nothing again, and its close is
//! `Unavailable`. It says so in [`Figures::out_of_service`] and as a `tracing` warning. A folder
//! without `FORMAT` in which a store left all files is opened as an empty store; one with anything
//! else in it is refused. `lost+found` does not count.
//!
//! # Waiting
//!
//! What the system has in memory is read on the caller's thread, without waiting and in pieces of
//! at most 256 KiB; all else is read by tokio's blocking threads, a bounded number at once
//! ([`Builder::cold_reads_max`]). Nothing is written on a caller's thread. Three threads of the
//! store write, seal and make room.
//!
//! # Eviction
//!
//! S3-FIFO (Yang et al., *FIFO queues are all you need for cache eviction*, SOSP 2023) over whole
//! segments and large files: what is new is on probation in a tenth of the room, what was asked for
//! again is moved to the rest.
//!
//! # Files
//!
//! [`FORMAT.md`](https://docs.rs/crate/larder-disk/latest/source/FORMAT.md) describes every file,
//! well enough to write a reader; `cargo run -p larder-disk --example inspect -- DIR` lists and
//! checks a store.

mod account;
mod blob_job;
mod blob_reader;
mod blob_table;
mod blob_writer;
mod blobs;
mod blocks;
mod body;
mod budget;
mod buffer;
#[cfg(test)]
mod by_hand;
mod clock;
mod config;
mod evict;
#[cfg(test)]
mod faults;
mod fetch;
mod figures;
mod flusher;
mod footer;
mod ghost;
mod health;
mod index;
mod inspect;
mod intake;
mod keeper;
mod layout;
mod listing;
mod log;
mod manifest;
mod medium;
mod reader;
mod reclaim;
mod record;
mod recover;
mod reopen;
mod replay;
mod room;
mod scan;
mod sealer;
mod segment;
mod segment_header;
mod service;
mod small_file;
mod snapshot;
mod space;
mod spill;
mod staging;
mod store;
mod sums;
#[cfg(test)]
mod tests;
mod trail;
mod trailer;
mod triage;
mod unreadable;
mod varint;
mod victims;
mod volume;
mod writer;

pub use config::{Admission, AfterPowerLoss, Builder, Durability, Overload, PageCache};
pub use figures::Figures;
pub use inspect::{InspectedObject, InspectedSegment, Inspection, Problem, inspect};
pub use store::Disk;
