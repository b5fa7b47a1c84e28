//! What is done to a peer: filled, read at random for a while, checked.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tokio::{
    task::{JoinSet, yield_now},
    time::Instant,
};

use crate::{
    data::Values,
    keys::KeyBuffer,
    measure::{Spent, Stopwatch},
    peers::AnyPeer,
};

/// Operations between two looks at the clock. Each task also yields then: one whose operations are
/// always ready would otherwise keep its worker, and tasks would run one after the other.
const BATCH: u64 = 16;
/// The same where one task reads: a yield wakes another worker, at the cost of many reads in memory.
const BATCH_ALONE: u64 = 1_024;

/// What a peer is filled with.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Keys, numbered from 0.
    pub keys: u64,
    /// Bytes of each value.
    pub len: usize,
    /// Tasks that share the keys.
    pub tasks: u64,
}

/// How far each task came.
#[derive(Clone, Debug)]
pub struct Filled(Vec<u64>);

impl Filled {
    /// Keys that were put.
    pub fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The same keys, one in `every`, told for each of the tasks.
    fn numbers(&self, task: u64, every: u64) -> impl Iterator<Item = u64> + use<> {
        let tasks = self.0.len() as u64;
        let count = usize::try_from(task).map_or(0, |task| self.0[task]);
        let step = usize::try_from(every).unwrap_or(1);
        (0..count)
            .step_by(step)
            .map(move |turn| turn * tasks + task)
    }
}

/// Puts all keys, or those that can be put within the limit.
pub async fn fill(
    peer: &Arc<AnyPeer>,
    values: &Values,
    load: Load,
    limit: Duration,
) -> Result<Filled> {
    let deadline = Instant::now() + limit;
    let mut tasks = JoinSet::new();
    for task in 0..load.tasks {
        let (peer, values) = (peer.clone(), values.clone());
        tasks.spawn(async move {
            let mut buffer = KeyBuffer::new();
            let numbers = (task..load.keys).step_by(usize::try_from(load.tasks)?);
            let mut count = 0;
            for number in numbers {
                if count % BATCH == 0 && Instant::now() >= deadline {
                    break;
                }
                let value = values.value(number, load.len);
                peer.put(buffer.key(number), value).await?;
                count += 1;
                if count % BATCH == 0 {
                    yield_now().await;
                }
            }
            anyhow::Ok((task, count))
        });
    }
    let mut counts = vec![0; usize::try_from(load.tasks)?];
    while let Some(done) = tasks.join_next().await {
        let (task, count) = done??;
        counts[usize::try_from(task)?] = count;
    }
    Ok(Filled(counts))
}

/// Reads what was put, one key in `every`, and tells the share that came back and is right.
pub async fn verify(
    peer: &Arc<AnyPeer>,
    values: &Values,
    filled: &Filled,
    len: usize,
    every: u64,
) -> Result<f64> {
    let mut tasks = JoinSet::new();
    for task in 0..filled.0.len() as u64 {
        let (peer, values) = (peer.clone(), values.clone());
        let numbers = filled.numbers(task, every);
        tasks.spawn(async move {
            let mut buffer = KeyBuffer::new();
            let (mut right, mut asked) = (0_u64, 0_u64);
            for number in numbers {
                let mut probe = values.probe(number, len);
                let found = peer.get(buffer.key(number), &mut probe).await?;
                let name = peer.name().as_str();
                ensure!(
                    !found || probe.is_right(),
                    "{name} gave wrong bytes for {number}"
                );
                right += u64::from(found);
                asked += 1;
            }
            anyhow::Ok((right, asked))
        });
    }
    let (mut right, mut asked) = (0, 0);
    while let Some(done) = tasks.join_next().await {
        let done = done??;
        right += done.0;
        asked += done.1;
    }
    ensure!(asked > 0, "nothing was put");
    Ok(right as f64 / asked as f64)
}

/// Reads random keys, all of which are there, for a while, and tells how many and what it took.
pub async fn read(
    peer: &Arc<AnyPeer>,
    values: &Values,
    load: Load,
    time: Duration,
) -> Result<(u64, Spent)> {
    read_by(BATCH, peer, values, load, time).await
}

/// The same by one task, in whose time nothing else stands.
pub async fn read_alone(
    peer: &Arc<AnyPeer>,
    values: &Values,
    load: Load,
    time: Duration,
) -> Result<(u64, Spent)> {
    let load = Load { tasks: 1, ..load };
    read_by(BATCH_ALONE, peer, values, load, time).await
}

async fn read_by(
    batch: u64,
    peer: &Arc<AnyPeer>,
    values: &Values,
    load: Load,
    time: Duration,
) -> Result<(u64, Spent)> {
    let watch = Stopwatch::start();
    let deadline = Instant::now() + time;
    let mut tasks = JoinSet::new();
    for task in 0..load.tasks {
        let (peer, values) = (peer.clone(), values.clone());
        tasks.spawn(async move {
            let mut random = SmallRng::seed_from_u64(task);
            let mut buffer = KeyBuffer::new();
            let mut count = 0;
            while count == 0 || Instant::now() < deadline {
                for _ in 0..batch {
                    let number = random.random_range(0..load.keys);
                    read_one(&peer, &values, &mut buffer, number, load.len).await?;
                }
                count += batch;
                yield_now().await;
            }
            anyhow::Ok(count)
        });
    }
    let mut count = 0;
    while let Some(done) = tasks.join_next().await {
        count += done??;
    }
    Ok((count, watch.spent()))
}

/// Reads a key that is there.
pub async fn read_one(
    peer: &AnyPeer,
    values: &Values,
    buffer: &mut KeyBuffer,
    number: u64,
    len: usize,
) -> Result<()> {
    let mut probe = values.probe(number, len);
    let found = peer.get(buffer.key(number), &mut probe).await;
    let found = found.with_context(|| format!("{} reading {number}", peer.name().as_str()))?;
    ensure!(
        found && probe.is_right(),
        "{} {} for {number}",
        peer.name().as_str(),
        if found {
            "gave wrong bytes"
        } else {
            "found nothing"
        }
    );
    Ok(())
}
