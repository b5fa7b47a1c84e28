#![doc = include_str!("../README.md")]

mod attempt;
mod behind;
mod breaker;
mod builder;
mod bus;
mod cache;
mod clock;
mod conditional;
mod counters;
mod engine;
mod fetch;
mod freshness;
mod lease;
mod pack;
mod policy;
mod read;
mod refresh;
mod request;
mod response;
mod runtime;
mod stores;
mod suspects;
mod sync;
mod tasks;
mod tier;
mod turns;
mod within;
mod write;

pub use breaker::Breaker;
pub use builder::Builder;
pub use cache::{Cache, InFlight, TierReport};
pub use clock::{Clock, ManualClock, SystemClock};
pub use conditional::IfNoneMatch;
pub use counters::{Counters, TierCounters};
pub use engine::OnAbandon;
pub use fetch::{Fetch, FetchContext, FetchWith, Fetched, NoFetch};
pub use policy::Policy;
pub use request::{Reading, Request};
pub use response::{Content, Response, Source, Stale, Status};
#[cfg(feature = "disk")]
pub use stores::{
    Admission, AfterPowerLoss, Disk, DiskBuilder, DiskFigures, Durability, Overload, PageCache,
};
#[cfg(feature = "memory")]
pub use stores::{Eviction, Memory, MemoryBuilder};
#[cfg(feature = "redis")]
pub use stores::{Redis, RedisBuilder};
pub use tier::{Promote, Tier};
pub use write::{CacheWriter, Written};

pub use larder_store::{
    Body, BoxError, ByteRange, Draft, EntityTag, Error, ErrorKind, Header, Key, KeyBuf, Metadata,
    Result, Store, StoreExt, Timestamp, Usage, Version,
};
