//! A memory hit beside the bare map under it, and a miss.
//!
//! `cargo bench --bench read`
#![allow(missing_docs)] // What criterion's macros make.

use std::{hint::black_box, sync::Arc};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures_util::{
    FutureExt,
    future::{Ready, ready},
};
use larder::{ByteRange, Cache, Draft, Error, Fetched, Key, Memory, Store, StoreExt};
use tokio::{
    runtime::{Builder, Runtime},
    time::Instant,
};

const KEYS: usize = 1_000;
const LEN: usize = 1_024;

fn runtime() -> Runtime {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

fn keys() -> Vec<String> {
    (0..KEYS)
        .map(|number| format!("docs/section/{number}.html"))
        .collect()
}

fn fetch() -> Ready<Result<Fetched, Error>> {
    ready(Ok(Fetched::bytes(Bytes::from_static(&[7; LEN]))))
}

fn hits(criterion: &mut Criterion) {
    let (runtime, keys) = (runtime(), keys());
    let mut group = criterion.benchmark_group("memory hit");
    group.throughput(Throughput::Elements(1));

    let bare = quick_cache::sync::Cache::<Arc<str>, Bytes>::new(2 * KEYS);
    for key in &keys {
        bare.insert(key.as_str().into(), Bytes::from_static(&[7; LEN]));
    }
    let mut next = keys.iter().cycle();
    group.bench_function("bare quick_cache", |bencher| {
        bencher.iter(|| black_box(bare.get(next.next().expect("endless").as_str())));
    });

    let memory = Memory::new(64 << 20);
    let store: &dyn Store = &memory;
    for key in &keys {
        let written = store.write(key, Bytes::from_static(&[7; LEN]), Draft::new());
        assert!(runtime.block_on(written).expect("written").is_done());
    }
    group.bench_function("the store", |bencher| {
        bencher.iter(|| {
            let key = Key::new(next.next().expect("endless")).expect("a key");
            black_box(store.get_stream(key, ByteRange::FULL).now_or_never())
        });
    });

    let _entered = runtime.enter();
    let cache = Cache::builder()
        .tier(memory.clone())
        .build()
        .expect("a cache");
    group.bench_function("the cache", |bencher| {
        bencher.iter(|| {
            let key = next.next().expect("endless");
            black_box(
                cache
                    .get_or_fetch(key, |_| fetch())
                    .into_future()
                    .now_or_never(),
            )
        });
    });
    group.finish();
}

fn misses(criterion: &mut Criterion) {
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

criterion_group!(benches, hits, misses);
criterion_main!(benches);
