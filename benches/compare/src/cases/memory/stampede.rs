//! `memory/stampede/{cpu,wall,fetches}`: 10,000 tasks ask for one cold key.
//!
//! Milliseconds for all of them, from the first task's spawn to the last one's end, and how often
//! the origin was asked. The origin answers 5 ms after the last caller has come, however long that
//! took, so that all of them wait for one answer. After a warm-up several such keys in each round,
//! each of which is a sample.
//!
//! Callers are spawned and not released by a barrier: that can leave the task which it woke last
//! in its worker's own slot, where no other worker takes it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Result, ensure};
use bytes::Bytes;

use super::{Open, miss};
use crate::{
    cases::{Bench, in_turn},
    measure::{Spent, Stopwatch},
    peers::memory::{MemoryCache, each_memory},
    report::Report,
};

const CALLERS: usize = 10_000;
/// Stampedes in a round, one a key.
const KEYS: usize = 5;
const LEN: usize = 4 << 10;
static VALUE: [u8; LEN] = [7; LEN];
/// What the origin takes once all have come.
const ORIGIN: Duration = Duration::from_millis(5);
/// How often the origin looks whether they have.
const TICK: Duration = Duration::from_millis(1);

pub(super) async fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    let callers = usize::try_from(bench.options.scaled(CALLERS as u64))?;
    let mut peers = Vec::new();
    for name in super::peers(bench) {
        let open = super::open(bench, name, miss::room(CALLERS)).await?;
        each_memory!(&open.peer, peer => stampede(peer, "warm-up", callers).await?);
        peers.push(open);
    }
    for round in 0..bench.options.rounds {
        for Open { name, peer, .. } in in_turn(&peers, round) {
            for number in 0..KEYS {
                let key = format!("stampede/{round}/{number}");
                let (spent, fetches) =
                    each_memory!(peer, peer => stampede(peer, &key, callers).await?);
                let mut record = |what: &str, value, unit| {
                    report.record(
                        &format!("memory/stampede/{what}"),
                        name.as_str(),
                        value,
                        unit,
                    );
                };
                record("cpu", spent.cpu_each(1) / 1e6, "ms");
                record("wall", spent.wall_each(1) / 1e6, "ms");
                record("fetches", fetches as f64, "count");
            }
        }
    }
    for open in peers {
        open.discard().await?;
    }
    Ok(())
}

/// How many have come, and how often the origin was asked.
#[derive(Default)]
struct Counts {
    came: AtomicUsize,
    fetches: AtomicUsize,
}

async fn stampede<P: MemoryCache>(
    peer: &Arc<P>,
    key: &str,
    callers: usize,
) -> Result<(Spent, usize)> {
    let counts = Arc::new(Counts::default());
    let (peer, key, shared) = (Arc::clone(peer), Arc::<str>::from(key), Arc::clone(&counts));
    // In a task, as everything else: the thread that waits for it is not one of the workers.
    let done = tokio::spawn(async move {
        let watch = Stopwatch::start();
        let call = |_| {
            tokio::spawn(call(
                Arc::clone(&peer),
                Arc::clone(&key),
                Arc::clone(&shared),
                callers,
            ))
        };
        let running: Vec<_> = (0..callers).map(call).collect();
        for caller in running {
            let len = caller.await??;
            ensure!(len == LEN, "{len} bytes");
        }
        Ok(watch.spent())
    });
    let spent = done.await??;
    Ok((spent, counts.fetches.load(Ordering::Relaxed)))
}

async fn call<P: MemoryCache>(
    peer: Arc<P>,
    key: Arc<str>,
    counts: Arc<Counts>,
    callers: usize,
) -> Result<usize> {
    counts.came.fetch_add(1, Ordering::Relaxed);
    let origin = async move {
        counts.fetches.fetch_add(1, Ordering::Relaxed);
        while counts.came.load(Ordering::Relaxed) < callers {
            tokio::time::sleep(TICK).await;
        }
        tokio::time::sleep(ORIGIN).await;
        Bytes::from_static(&VALUE)
    };
    peer.read_through(&key, origin).await
}
