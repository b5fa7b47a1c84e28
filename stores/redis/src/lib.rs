//! The Redis store of the Larder cache: objects in chunks under a manifest, shared by processes.

mod body;
mod bus;
mod chunk;
mod config;
mod fence;
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
