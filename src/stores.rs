//! The stores that come with Larder, each behind its feature.

#[cfg(feature = "disk")]
pub use larder_disk::{
    Admission, AfterPowerLoss, Builder as DiskBuilder, Disk, Durability, Figures as DiskFigures,
    Overload, PageCache,
};
#[cfg(feature = "memory")]
pub use larder_memory::{Builder as MemoryBuilder, Eviction, Memory};
#[cfg(feature = "redis")]
pub use larder_redis::{Builder as RedisBuilder, Redis};
