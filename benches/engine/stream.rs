//! One flight of a long object that no tier takes, to some readers.

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput};
use futures_util::{future::join_all, stream};
use larder::{Cache, Error, Fetched, Memory, Tier};

use crate::common::runtime;

const CHUNK: usize = 64 << 10;
const CHUNKS: usize = 512;

pub(crate) fn streams(criterion: &mut Criterion) {
    let runtime = runtime();
    let mut group = criterion.benchmark_group("stream");
    group.throughput(Throughput::Bytes((CHUNK * CHUNKS) as u64));
    group.sample_size(20);
    let chunk = Bytes::from(vec![7; CHUNK]);
    for readers in [1, 10] {
        let tier = Tier::new(Memory::new(1 << 20)).object_max(0);
        let cache = runtime.block_on(async { Cache::builder().tier(tier).build() });
        let cache = cache.expect("a cache");
        let read = async || {
            let chunk = chunk.clone();
            let fetch = async |_| {
                let chunks = (0..CHUNKS).map(move |_| Ok::<_, Error>(chunk.clone()));
                Ok::<_, Error>(Fetched::stream(None, stream::iter(chunks)))
            };
            let response = cache.get_or_fetch("k", fetch).await.expect("an answer");
            let mut body = response.into_body().expect("a body");
            let mut len = 0;
            while let Some(chunk) = body.chunk().await.expect("a chunk") {
                len += chunk.len();
            }
            assert_eq!(len, CHUNK * CHUNKS);
        };
        group.bench_function(BenchmarkId::new("readers", readers), |bencher| {
            bencher.iter(|| {
                runtime.block_on(async {
                    join_all((0..readers).map(|_| read())).await;
                    while cache.in_flight().flights > 0 {
                        tokio::task::yield_now().await;
                    }
                });
            });
        });
    }
    group.finish();
}
