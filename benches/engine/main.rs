//! The engine over memory stores: `cargo bench --bench engine`, or with a name, such as `-- hit`.
#![allow(missing_docs)] // What criterion's macros make.

mod common;
mod contention;
mod hit;
mod miss;
mod promote;
mod stream;

use criterion::{criterion_group, criterion_main};

criterion_group!(
    benches,
    hit::hits,
    miss::misses,
    promote::promotions,
    stream::streams,
    contention::contentions,
);
criterion_main!(benches);
