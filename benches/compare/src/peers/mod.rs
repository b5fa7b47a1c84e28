//! Who is compared, behind one small trait.
//!
//! A case works on [`AnyPeer`], which dispatches without a box or a pointer, so that no peer pays
//! for the comparison. Stores that hold small objects are [`Peer`]s; what can also, or only, move
//! a large stream is a [`streams::Streamer`]. Caches in memory, which also fetch, are apart in
//! [`memory`].

mod any;
mod cacache;
mod file;
mod foyer;
mod larder;
pub mod memory;
mod objects;
mod opendal;
mod plain;
pub mod redis;
pub mod streams;

use std::{future::Future, path::Path};

use anyhow::Result;
use bytes::Bytes;

pub use any::{AnyPeer, Name};

use crate::data::Probe;

/// What a store is opened for.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Bytes that it may keep.
    pub capacity: u64,
}

/// A store, under test; most of them are on disk.
pub trait Peer: Sized + Send + Sync + 'static {
    /// Opens what is in the folder, which is empty the first time.
    fn open(folder: &Path, plan: Plan) -> impl Future<Output = Result<Self>> + Send;

    /// Stores a value; when this returns, the caller may forget it.
    fn put(&self, key: &str, value: Bytes) -> impl Future<Output = Result<()>> + Send;

    /// Reads all of a value into the probe; `false` when it is absent.
    fn get(&self, key: &str, probe: &mut Probe<'_>) -> impl Future<Output = Result<bool>> + Send;

    /// Waits until all that was put has been handed to the kernel.
    fn flush(&self) -> impl Future<Output = Result<()>> + Send;

    /// Closes it in good order.
    fn close(&self) -> impl Future<Output = Result<()>> + Send;
}
