//! `disk/evict/...`: a read-through of ten times more data than the store may keep. Keys by a zipf
//! law of exponent 0.9, values of 512 B to 15.5 KiB, by key; what is missing is put.
//!
//! The first half of the requests warms the store up; of the second half:
//! - `hits`: the share that was found.
//! - `wall`, `cpu`: time for each request, the put of a missing value included.
//! - `written`, `device`: bytes handed to the kernel, and made dirty in its page cache, for each
//!   byte of key and value put (write amplification). A page that is written again before the
//!   kernel took it to the device is dirty once, so `device` is a lower bound.
//! - `space`: bytes in allocated blocks over the capacity, at the end.
//!
//! Stores of files do not evict and are not here. foyer rounds entries up to 4 KiB and pays for it
//! with hits; values are of many sizes, so that it pays neither the least nor the most.

use anyhow::{Result, ensure};
use rand::{RngExt as _, SeedableRng, rngs::SmallRng};
use rand_distr::Zipf;

use crate::{
    cases::{Bench, Open, in_turn, record_times},
    data::Values,
    folder,
    keys::KeyBuffer,
    measure::{self, Stopwatch},
    peers::{AnyPeer, Name},
    report::Report,
};

const CAPACITY: u64 = 256 << 20;
const LEN_MEAN: u64 = 8_000;
const KEYS: u64 = 10 * CAPACITY / LEN_MEAN;
const EXPONENT: f64 = 0.9;
const REQUESTS: u64 = 800_000;

/// What came of some requests.
#[derive(Default)]
struct Passed {
    hits: u64,
    bytes_put: u64,
}

pub(super) async fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    let peers = bench.peers(&Name::INDEXED);
    for round in 0..bench.options.rounds {
        let trace = trace(bench.options.scaled(REQUESTS), round as u64)?;
        for &name in in_turn(&peers, round) {
            evict(bench, report, name, &trace).await?;
        }
    }
    Ok(())
}

/// The same requests for all peers of a round.
fn trace(requests: u64, seed: u64) -> Result<Vec<u64>> {
    let zipf = Zipf::new(KEYS as f64, EXPONENT)?;
    let random = SmallRng::seed_from_u64(seed);
    let ranks = random.sample_iter(zipf).take(usize::try_from(requests)?);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Ranks are whole numbers.
    Ok(ranks.map(|rank: f64| rank as u64).collect())
}

/// From 512 bytes to 15.5 KiB, whatever the rank.
fn len_of(number: u64) -> usize {
    let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    512 + usize::try_from(spread % (15_360)).unwrap_or(0)
}

async fn evict(bench: &Bench, report: &mut Report, name: Name, trace: &[u64]) -> Result<()> {
    let open = bench.open(name, CAPACITY).await?;
    bench.folder.settle()?;
    let (warm_up, measured) = trace.split_at(trace.len() / 2);
    // In a task, as everything else: the thread that waits for it is not one of the workers.
    let (values, measured) = (bench.values.clone(), measured.to_vec());
    let (peer, first) = (open.peer.clone(), warm_up.to_vec());
    tokio::spawn(async move { pass(&peer, &values, &first).await }).await??;
    open.peer.flush().await?;

    let requests = measured.len() as u64;
    let (peer, values) = (open.peer.clone(), bench.values.clone());
    let before = measure::written();
    let watch = Stopwatch::start();
    let passed = tokio::spawn(async move { pass(&peer, &values, &measured).await }).await??;
    let spent = watch.spent();
    open.peer.flush().await?;
    let after = measure::written();

    let Open { peer, folder } = &open;
    let mut record = |what: &str, value, unit| {
        report.record(
            &format!("disk/evict/{what}"),
            peer.name().as_str(),
            value,
            unit,
        );
    };
    let put = passed.bytes_put.max(1) as f64;
    record("hits", passed.hits as f64 * 100.0 / requests as f64, "%");
    record(
        "written",
        (after.to_kernel - before.to_kernel) as f64 / put,
        "x",
    );
    record(
        "device",
        (after.to_device - before.to_device) as f64 / put,
        "x",
    );
    record(
        "space",
        folder::allocated(folder)? as f64 / CAPACITY as f64,
        "x",
    );
    record_times(report, "disk/evict", name.as_str(), spent, requests);
    open.discard().await
}

async fn pass(peer: &AnyPeer, values: &Values, numbers: &[u64]) -> Result<Passed> {
    let mut buffer = KeyBuffer::new();
    let mut passed = Passed::default();
    for &number in numbers {
        let len = len_of(number);
        let mut probe = values.probe(number, len);
        let key = buffer.key(number);
        if peer.get(key, &mut probe).await? {
            ensure!(probe.is_right(), "wrong bytes for {number}");
            passed.hits += 1;
        } else {
            peer.put(key, values.value(number, len)).await?;
            passed.bytes_put += (len + key.len()) as u64;
        }
    }
    Ok(passed)
}
