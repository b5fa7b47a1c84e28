//! A miss, from the call to the end of the last commit.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use larder::{Cache, Memory};
use tokio::time::Instant;

use crate::common::{fetch, runtime};

pub(crate) fn misses(criterion: &mut Criterion) {
    let runtime = runtime();
    let mut group = criterion.benchmark_group("miss");
    group.throughput(Throughput::Elements(1));
    let mut number = 0_u64;
    for tiers in 1..=2 {
        let cache = runtime.block_on(async {
            let mut builder = Cache::builder();
            for _ in 0..tiers {
                builder = builder.tier(Memory::new(64 << 20));
            }
            builder.build().expect("a cache")
        });
        // One after the other, to the end of the last commit.
        group.bench_function(format!("{tiers} memory tiers, 1 KiB"), |bencher| {
            bencher.iter_custom(|count| {
                let first = number;
                number += count;
                let keys: Vec<_> = (first..number)
                    .map(|number| format!("key {number}"))
                    .collect();
                runtime.block_on(async {
                    let began = Instant::now();
                    for key in &keys {
                        let request = cache.get_or_fetch(key, |_| fetch());
                        black_box(request.await.expect("an answer"));
                    }
                    while cache.in_flight().flights > 0 {
                        tokio::task::yield_now().await;
                    }
                    began.elapsed()
                })
            });
        });
    }
    group.finish();
}
