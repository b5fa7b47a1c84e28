//! What the benchmark itself costs: `cargo run --release -p larder-bench --example overhead`.
//!
//! The same reads of the same keys once through `run`, and once in the barest loop that there is,
//! of the null store and of the memory store. The difference is the benchmark's own; it is told as
//! a part of a hit in memory, the fastest thing that it is made to measure.
//!
//! Times are the least of many short rounds. On a busy machine count instructions instead: with
//! the words `null|memory bare|run READS` it does one loop and prints nothing, for callgrind.
#![allow(clippy::print_stdout)] // It is what it is for.

use std::{hint::black_box, sync::Arc};

use larder_bench::{Error, Length, Mix, Null, Options, Popularity, Workload, run};
use larder_memory::Memory;
use larder_store::{ByteRange, Draft, Key, Lookup, Store, StoreExt};
use tokio::time::Instant;

const KEYS: usize = 1_000;
const READS: u64 = 500_000;
const ROUNDS: usize = 20;

#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn main() -> Result<(), Error> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let memory = Memory::new(64 << 20);
    for number in 0..KEYS {
        let key = format!("objects/{number:08}");
        let _ = memory.write(&key, vec![7; 100], Draft::new()).await?;
    }
    let stores: [(&str, Arc<dyn Store>); 2] = [
        ("null", Arc::new(Null::new(100)?)),
        ("memory", Arc::new(memory)),
    ];
    if let [name, how, reads] = words.as_slice() {
        let found = stores.into_iter().find(|(known, _)| known == name);
        let store = found.expect("null or memory").1;
        let reads = reads.parse().expect("a number of reads");
        let nanos = match how.as_str() {
            "bare" => bare_loop(&store, reads).await?,
            _ => benchmark(&store, reads).await?,
        };
        black_box(nanos);
        return Ok(());
    }
    let mut figures = Vec::new();
    for (name, store) in &stores {
        let (mut bare, mut through) = (f64::INFINITY, f64::INFINITY);
        for _ in 0..ROUNDS {
            // What others do on the machine only adds.
            bare = bare.min(bare_loop(store, READS).await?);
            through = through.min(benchmark(store, READS).await?);
        }
        println!("{name:<8} {bare:6.1} ns a hit in a bare loop, {through:6.1} ns through `run`");
        figures.push((*name, bare, through));
    }
    let (_, hit, _) = figures[1];
    for (name, bare, through) in figures {
        let own = through - bare;
        let part = own / hit * 100.0;
        println!("the benchmark's own, by {name}: {own:.1} ns, {part:.1} % of a hit in memory");
    }
    Ok(())
}

/// Nanoseconds a hit, keys in turn, nothing counted but bytes.
async fn bare_loop(store: &Arc<dyn Store>, reads: u64) -> Result<f64, Error> {
    let keys: Vec<_> = (0..KEYS)
        .map(|number| format!("objects/{number:08}"))
        .collect();
    let store = Arc::clone(store);
    let loops = tokio::spawn(async move {
        let start = Instant::now();
        let mut bytes = 0;
        for key in keys
            .iter()
            .cycle()
            .take(usize::try_from(reads).unwrap_or(usize::MAX))
        {
            let found = store.get_stream(Key::new(key)?, ByteRange::FULL).await?;
            if let Lookup::Hit(mut object) = found {
                while let Some(chunk) = object.body.chunk().await? {
                    bytes += chunk.len();
                }
            }
        }
        black_box(bytes);
        Ok(each(start.elapsed().as_secs_f64(), reads))
    });
    loops.await.expect("it does not panic")
}

/// Nanoseconds a hit, as a report has it.
async fn benchmark(store: &Arc<dyn Store>, count: u64) -> Result<f64, Error> {
    let mut workload = Workload::read_mostly()
        .popularity(Popularity::Scan { keys: KEYS })
        .warm_up(Length::Count(256))
        .length(Length::Count(count));
    workload.mix = Mix::of(1.0, 0.0, 0.0);
    workload.preload = false;
    let report = run(Arc::clone(store), &workload, &Options::default()).await?;
    Ok(each(report.seconds, count))
}

#[allow(clippy::cast_precision_loss)] // A figure for people.
fn each(seconds: f64, count: u64) -> f64 {
    seconds * 1e9 / count as f64
}
