//! The memory store of the Larder cache: whole objects, weighed in bytes, a hit a reference count.
//!
//! [`Memory`] implements [`Store`](larder_store::Store) and is made to be a cache's first tier.
//!
//! ```
//! use larder_memory::Memory;
//! use larder_store::{Draft, Store, StoreExt};
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let store = Memory::new(64 << 20);
//! store.write("greeting", "hello", Draft::new()).await?;
//! assert_eq!(store.read("greeting", 1024).await?.unwrap(), "hello");
//! assert_eq!(store.usage().entries, 1);
//! # Ok::<(), larder_store::Error>(())
//! # }).unwrap();
//! ```
//!
//! # What counts
//!
//! The capacity is bytes, and it is a cap. An object counts for its key, its metadata, its body and
//! [`Eviction::entry_overhead`], which stands for what the tables take; an object that stands for
//! "absent", and one that has expired, count like any other until they are gone. Beside the
//! capacity there are the buffers of open writers ([`Builder::staging_max`]), the bodies that readers still hold
//! after their object is gone, and what is remembered of keys that were evicted lately: a
//! sixty-fourth of the capacity at most, or 8 KiB where that is more.
//!
//! # Limits
//!
//! An object that is longer than [`Builder::object_max`] is refused as `TooLarge` as soon as that
//! is known, and evicts nothing. One of exactly that length always fits.
//!
//! # Expiry
//!
//! An object with an `expires_at` is absent from then on. It is removed when it is asked for, and
//! otherwise by later commits, which each take away a few. There is no background task.
//!
//! # Staged bytes
//!
//! A writer keeps its bytes in one buffer of its own. Handles from
//! [`Writer::staged`](larder_store::Writer::staged) read them back while they are written, and
//! share the body once it is committed. After a commit they count with the entry, and no more when
//! it is evicted, as with every open body. Where the writer was dropped, aborted or superseded they
//! count as staged until the last handle is gone.
//!
//! # Waiting
//!
//! Nothing here waits: every reply is ready when the call returns. Locks are held for a look-up or
//! for moving pointers, never while memory is given back.
//!
//! # Leases and the bus
//!
//! [`Lease`](larder_store::Lease) and [`Bus`](larder_store::Bus) reach whoever shares the store:
//! several caches of one process. Their limits are told where [`Memory`] implements them.
//!
//! # Features
//!
//! `moka` adds the policies `Eviction::TinyLfu` and `Eviction::Lru`, by the crate of that name.
//! With them the cap holds whenever no commit is under way; a commit under way may exceed it by
//! its own object. Memory of an evicted object may be given back a little later, and a hit may
//! allocate.

mod bus;
mod clock;
mod config;
mod engine;
mod entry;
mod expiry;
mod lease;
mod shelf;
mod staging;
mod store;
mod writer;

pub use config::{Builder, Eviction};
pub use store::Memory;
