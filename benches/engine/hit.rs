//! A memory hit beside the bare map under it.

use std::{hint::black_box, sync::Arc};

use bytes::Bytes;
use criterion::{Criterion, Throughput};
use futures_util::FutureExt;
use larder::{ByteRange, Cache, Draft, Key, Memory, Store, StoreExt};

use crate::common::{KEYS, LEN, fetch, keys, runtime};

pub(crate) fn hits(criterion: &mut Criterion) {
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
