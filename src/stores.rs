//! The stores that come with Larder, each behind its feature.

#[cfg(feature = "memory")]
pub use larder_memory::{Builder as MemoryBuilder, Eviction, Memory};
