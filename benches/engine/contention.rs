//! Hits by as many threads as there are processors, on one key and on many.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput};
use larder::{Cache, Draft, Memory, StoreExt};
use tokio::time::Instant;

use crate::common::{KEYS, LEN, fetch, keys};

pub(crate) fn contentions(criterion: &mut Criterion) {
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .expect("a runtime");
    let memory = Memory::new(64 << 20);
    let cache = runtime.block_on(async {
        for key in keys() {
            let written = memory.write(&key, vec![7; LEN], Draft::new());
            assert!(written.await.expect("written").is_done());
        }
        Cache::builder().tier(memory).build().expect("a cache")
    });
    let mut group = criterion.benchmark_group("contention");
    // Of all threads together: where nothing is in the way it is a hit's time by their number.
    group.throughput(Throughput::Elements(1));
    for (name, count) in [("one key", 1), ("many keys", KEYS)] {
        group.bench_function(BenchmarkId::new(name, threads), |bencher| {
            bencher.iter_custom(|hits| {
                let reading = |thread: usize| {
                    let (cache, keys) = (cache.clone(), keys());
                    let share = hits / threads as u64 + 1;
                    runtime.spawn(async move {
                        let first = thread * 331;
                        for key in keys[..count]
                            .iter()
                            .cycle()
                            .skip(first % count)
                            .zip(0..share)
                        {
                            black_box(cache.get_or_fetch(key.0, |_| fetch()).await.expect("a hit"));
                        }
                    })
                };
                let began = Instant::now();
                let tasks: Vec<_> = (0..threads).map(reading).collect();
                runtime.block_on(async {
                    for task in tasks {
                        task.await.expect("no panic");
                    }
                });
                began.elapsed()
            });
        });
    }
    group.finish();
}
