//! The Redis store of the Larder cache: objects in chunks under a manifest, shared by processes.
#![allow(dead_code, unreachable_pub)] // Until all parts are there.

mod bus;
mod config;
mod link;
mod names;
mod store;

pub use store::Redis;
