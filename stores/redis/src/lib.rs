//! The Redis store of the Larder cache: one store that many processes share, in a Redis or Valkey
//! server or a Redis Cluster.
//!
//! [`Redis`] implements [`Store`](larder_store::Store) and is made to be a cache's last tier.
//!
//! ```no_run
//! use larder_redis::Redis;
//! use larder_store::{Draft, Store, StoreExt};
//!
//! # async fn demo() -> Result<(), larder_store::Error> {
//! let store = Redis::connect("redis://127.0.0.1/").await?;
//! store.write("greeting", "hello", Draft::new()).await?;
//! assert_eq!(store.read("greeting", 1024).await?.unwrap(), "hello");
//! store.close().await?;
//! # Ok(())
//! # }
//! ```
//!
//! It can also touch metadata, list keys, give out [leases](larder_store::Lease) and be the
//! [bus](larder_store::Bus) on which processes tell each other what is not to be served any more.
//!
//! # Objects
//!
//! A body of at most [`chunk_size`](Builder::chunk_size) is kept with its metadata in one value: a
//! hit is one `GET`. A longer one is in chunks; a reader asks for them a few at a time, and stays
//! on the version that it opened. What is read is checked against CRC-32C, also when it is a small
//! part of a chunk. What is altered or incomplete, because somebody else wrote there or the server
//! evicted a part, is a miss where it is found in time, or ends the body in
//! [`Corrupt`](larder_store::ErrorKind::Corrupt); either way it is removed. [`stat`] does not look
//! at bodies: of an object whose chunks are lost it still tells.
//!
//! A miss takes a second round trip. In it the server makes sure that nothing was stored meanwhile,
//! and takes the fence.
//!
//! [`stat`]: larder_store::Store::stat
//!
//! # What holds, and what does not
//!
//! Whatever changes an object is one script, and so one step of the server: it checks the fence,
//! publishes or removes, and ends all fences of the key. It is never sent twice. When its answer is
//! lost it has taken effect or not, and nobody knows: the error is `Timeout` or `Unavailable`.
//!
//! A commit carries a deadline, in the time of the server: when it arrives after its writer has
//! given it up, because the network held it, it changes nothing. So it does not come back over what
//! others have deleted since. This needs the command `TIME`, and a server whose clock is not set
//! back meanwhile; in a cluster, clocks that agree while a slot moves. A writer that is dropped
//! before its time-out does not shorten the deadline.
//!
//! A fence is a name in the server that expires ([`fence_ttl`](Builder::fence_ttl)). A server that
//! loses it, by eviction, a restart or a failover, makes the fence one that does not hold. What a
//! primary acknowledged and then lost in a failover is lost: a delete among it leaves the object
//! as the replica had it, until it is written, deleted or expires.
//!
//! Everything that is not a committed object expires by itself: what open writers have staged,
//! fences, leases, the chunks of what was replaced. The server needs no sweeping.
//!
//! # Room
//!
//! The server decides how much it holds and what it evicts (`maxmemory`, `maxmemory-policy`; one of
//! the `allkeys` policies suits a cache). With `noeviction` a full server makes writes fail as
//! `Full`, and look-ups that miss as well, since they cannot leave a fence; what is there can be
//! read and deleted. [`usage`](larder_store::Store::usage) tells only what this process has staged.
//!
//! # Waiting
//!
//! Every wait for the server ends with [`response_timeout`](Builder::response_timeout). Commands of
//! one key go over one connection in order. A lost connection is made anew in the background;
//! meanwhile operations fail as `Unavailable`.
//!
//! # Features
//!
//! `tls` for `rediss://` URLs, `cluster` for `Redis::cluster`.

mod body;
mod bus;
mod chunk;
mod config;
mod fence;
mod home;
mod lease;
mod link;
mod list;
mod manifest;
mod names;
mod nonce;
mod reader;
mod script;
mod shared;
mod staging;
mod store;
mod touch;
mod writer;

pub use config::Builder;
pub use store::Redis;

/// For the fuzz targets; not a part of the interface.
#[doc(hidden)]
pub mod fuzzing {
    /// Takes these bytes for a manifest.
    pub fn manifest(value: &[u8]) {
        crate::manifest::check_any(value);
    }
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
