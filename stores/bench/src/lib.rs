//! Benchmarks any store of the Larder cache.
//!
//! [`run`] does a [`Workload`] against a [`Store`](larder_store::Store), any store, and gives a
//! [`Report`]: throughput, latency by percentile, hit ratio, processor time and memory.
//!
//! ```
//! use std::sync::Arc;
//!
//! use larder_bench::{Length, Options, Popularity, Workload, run};
//! use larder_memory::Memory;
//!
//! # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
//! // Put your own store here.
//! let store = Arc::new(Memory::new(64 << 20));
//! let workload = Workload::read_mostly()
//!     .popularity(Popularity::Zipf { keys: 100, exponent: 0.9 })
//!     .warm_up(Length::Count(100))
//!     .length(Length::Count(1_000));
//! let report = run(store, &workload, &Options::default()).await?;
//! assert_eq!(report.hit_ratio(), Some(1.0));
//! println!("{report}");
//! # Ok::<(), larder_bench::Error>(())
//! # }).unwrap();
//! ```
//!
//! The program of the same name does it from the command line, for stores that have a URL:
//!
//! ```text
//! cargo run --release -p larder-bench -- 'memory:?capacity=64MiB' --workload read-mostly
//! cargo run --release -p larder-bench -- 'disk:./cache?capacity=1GiB' --tasks 16 --svg disk.svg
//! ```

mod compare;
mod due;
mod error;
mod hit_ratio;
mod keys;
mod measure;
mod null;
mod open;
mod plan;
mod plot;
mod report;
mod run;
mod sizes;
mod target;
mod task;
mod trace;
mod units;
mod workload;

pub use compare::{Comparison, compare};
pub use error::Error;
pub use hit_ratio::{Outcome, hit_ratio};
pub use null::Null;
pub use open::open;
pub use plot::plot;
pub use report::{Latency, PERCENTILES, Report};
pub use run::{Options, Progress, run};
pub use trace::Trace;
pub use units::{parse_duration, parse_size};
pub use workload::{Length, Mix, Popularity, Sizes, Workload};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
