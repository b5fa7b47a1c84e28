//! Many small gets or sets.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};
use tokio::{task::JoinSet, time::Instant};

use super::{Host, clients};
use crate::{
    cases::{Bench, in_turn, record_times},
    data::Values,
    keys::KeyBuffer,
    measure::{Spent, Stopwatch},
    peers::redis::{Client, Name},
    report::Report,
};

const SIZES: [(&str, usize); 3] = [("1KiB", 1 << 10), ("64KiB", 64 << 10), ("1MiB", 1 << 20)];
const TASKS: [u64; 3] = [1, 16, 64];
/// Bytes of values, at most, and keys, at most.
const BYTES_MAX: u64 = 64 << 20;
const KEYS_MAX: u64 = 1_000;

/// What is done.
#[derive(Clone, Copy, Debug)]
pub(super) enum Verb {
    Get,
    Set,
}

/// On what.
#[derive(Clone)]
struct Load {
    values: Values,
    verb: Verb,
    keys: u64,
    len: usize,
    tasks: u64,
    time: Duration,
}

pub(super) async fn run(
    bench: &Bench,
    report: &mut Report,
    verb: Verb,
    names: &[Name],
) -> Result<()> {
    let host = Host::start().await?;
    for (size, len) in SIZES {
        let case = format!("redis/{}/{size}", verb.as_str());
        if !bench.options.wants(&case) {
            continue;
        }
        let load = Load {
            values: bench.values.clone(),
            verb,
            keys: (BYTES_MAX / len as u64).min(KEYS_MAX),
            len,
            tasks: 1,
            time: Duration::from_millis(if bench.options.quick { 20 } else { 200 }),
        };
        run_size(bench, report, &case, &host, load, names).await?;
        host.flush().await?;
        report.print();
    }
    Ok(())
}

async fn run_size(
    bench: &Bench,
    report: &mut Report,
    case: &str,
    host: &Host,
    mut load: Load,
    names: &[Name],
) -> Result<()> {
    let mut open = Vec::new();
    for name in clients(bench, names) {
        let client = name.connect(&host.url()).await;
        let client = client.with_context(|| format!("connecting {}", name.as_str()))?;
        fill(&client, &load).await?;
        open.push((name, Arc::new(client)));
    }
    for tasks in TASKS {
        let case = format!("{case}/{tasks}tasks");
        if !bench.options.wants(&case) {
            continue;
        }
        load.tasks = tasks;
        for round in 0..bench.options.rounds {
            for (name, client) in in_turn(&open, round) {
                let before = host.cpu().await?;
                let driven = drive(client, &load).await;
                let (count, spent) =
                    driven.with_context(|| format!("{case} of {}", name.as_str()))?;
                let served = (host.cpu().await? - before) * 1e9 / count as f64;
                record_times(report, &case, name.as_str(), spent, count);
                report.record(&format!("{case}/server"), name.as_str(), served, "ns");
            }
        }
    }
    for (name, client) in &open {
        let checked = check(client, &load).await;
        checked.with_context(|| format!("what {} has at the end", name.as_str()))?;
    }
    Ok(())
}

async fn fill(client: &Client, load: &Load) -> Result<()> {
    let mut key = KeyBuffer::new();
    for number in 0..load.keys {
        let value = load.values.value(number, load.len);
        client.prepare(&mut key, number, value).await?;
    }
    check(client, load).await
}

async fn check(client: &Client, load: &Load) -> Result<()> {
    let mut key = KeyBuffer::new();
    for number in 0..load.keys {
        get(client, load, &mut key, number).await?;
    }
    Ok(())
}

async fn get(client: &Client, load: &Load, key: &mut KeyBuffer, number: u64) -> Result<()> {
    let mut probe = load.values.probe(number, load.len);
    let found = client.get(key, number, &mut probe).await?;
    ensure!(found, "{number} is absent");
    ensure!(probe.is_right(), "wrong bytes for {number}");
    Ok(())
}

/// For a while; tells how many it were, and what it took.
async fn drive(client: &Arc<Client>, load: &Load) -> Result<(u64, Spent)> {
    let watch = Stopwatch::start();
    let deadline = Instant::now() + load.time;
    let mut running = JoinSet::new();
    for task in 0..load.tasks {
        let (client, load) = (Arc::clone(client), load.clone());
        running.spawn(async move {
            let mut random = SmallRng::seed_from_u64(task);
            let mut key = KeyBuffer::new();
            let mut count = 0;
            while count == 0 || Instant::now() < deadline {
                let number = random.random_range(0..load.keys);
                match load.verb {
                    Verb::Get => get(&client, &load, &mut key, number).await?,
                    Verb::Set => {
                        let value = load.values.value(number, load.len);
                        client.set(&mut key, number, value).await?;
                    }
                }
                count += 1;
            }
            anyhow::Ok(count)
        });
    }
    let mut count = 0;
    while let Some(done) = running.join_next().await {
        count += done??;
    }
    Ok((count, watch.spent()))
}

impl Verb {
    fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Set => "set",
        }
    }
}
