//! A hit in the second tier that is copied to the first.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput};
use larder::{Cache, Draft, Key, Memory, Store, StoreExt};

use crate::common::runtime;

pub(crate) fn promotions(criterion: &mut Criterion) {
    let runtime = runtime();
    let mut group = criterion.benchmark_group("promote");
    for len in [1 << 10, 64 << 10, 1 << 20] {
        let (upper, lower) = (Memory::new(64 << 20), Memory::new(64 << 20));
        let tiers = Cache::builder().tier(upper.clone()).tier(lower.clone());
        let cache = runtime.block_on(async {
            let written = lower.write("k", Bytes::from(vec![7; len]), Draft::new());
            assert!(written.await.expect("written").is_done());
            tiers.build().expect("a cache")
        });
        let key = Key::new("k").expect("a key");
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(BenchmarkId::from_parameter(len), |bencher| {
            bencher.iter(|| {
                runtime.block_on(async {
                    black_box(cache.get("k").await.expect("an answer"));
                    while cache.in_flight().flights > 0 {
                        tokio::task::yield_now().await;
                    }
                    let deleted = upper.delete(key, None).await.expect("deleted");
                    assert!(deleted.is_done());
                });
            });
        });
    }
    group.finish();
}
