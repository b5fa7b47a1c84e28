//! `disk/allocs/{100B,4KiB,64KiB,1MiB}`: allocations for each hit, of all threads together.
//!
//! Counting them needs an allocator that counts, which is slow; so this case has a program of its
//! own, `allocs`, and the other one starts it.

use std::{env, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, ensure};
use tokio::process::Command;

use super::SIZES;
use crate::{
    allocations,
    cases::{Bench, in_turn},
    keys::KeyBuffer,
    peers::Name,
    report::Report,
    workload::{self, Load, read_one},
};

const CAPACITY: u64 = 1 << 30;
const KEYS: u64 = 64;
const READS: u64 = 1_000;
const LIMIT: Duration = Duration::from_mins(1);

/// Has the other program, which is built beside this one, do it, and takes its figures over.
pub(super) async fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    let program = env::current_exe()?.with_file_name("allocs");
    if !program.exists() {
        report.note("disk/allocs left out: `cargo build --release` builds the program for it");
        return Ok(());
    }
    let mut command = Command::new(program);
    command.args(&bench.options.prefixes).arg("--json");
    command
        .arg("--rounds")
        .arg(bench.options.rounds.to_string());
    for peer in &bench.options.peers {
        command.arg("--peer").arg(peer);
    }
    if let Some(dir) = &bench.options.dir {
        command.arg("--dir").arg(dir);
    }
    let output = command.stderr(Stdio::inherit()).output().await?;
    ensure!(
        output.status.success(),
        "the program `allocs` ended with {}",
        output.status
    );
    for line in String::from_utf8(output.stdout)?.lines() {
        let figure: serde_json::Value = serde_json::from_str(line)?;
        let text = |name: &str| {
            figure[name]
                .as_str()
                .with_context(|| format!("{name} in {line}"))
        };
        let value = figure["value"].as_f64().context("a value")?;
        report.record(text("case")?, text("peer")?, value, text("unit")?);
    }
    Ok(())
}

/// Counts them; the allocator of this program counts.
pub async fn count(bench: &Bench, report: &mut Report) -> Result<()> {
    for (size, len) in SIZES {
        let case = format!("disk/allocs/{size}");
        if !bench.options.wants(&case) {
            continue;
        }
        let peers = bench.peers(&Name::ALL);
        for round in 0..bench.options.rounds {
            for &name in in_turn(&peers, round) {
                let each = count_one(bench, name, len).await?;
                report.record(&case, name.as_str(), each, "count");
            }
        }
    }
    Ok(())
}

async fn count_one(bench: &Bench, name: Name, len: usize) -> Result<f64> {
    let open = bench.open(name, CAPACITY).await?;
    let load = Load {
        keys: KEYS,
        len,
        tasks: 1,
    };
    workload::fill(&open.peer, &bench.values, load, LIMIT).await?;
    open.peer.flush().await?;
    let (peer, values) = (open.peer.clone(), bench.values.clone());
    let counted = tokio::spawn(async move {
        let mut buffer = KeyBuffer::new();
        let mut before = 0;
        for turn in 0..2 * READS {
            if turn == READS {
                before = allocations::count(); // The first half was to warm up.
            }
            read_one(&peer, &values, &mut buffer, turn % KEYS, len).await?;
        }
        anyhow::Ok(allocations::count() - before)
    });
    let counted = counted.await??;
    open.discard().await?;
    Ok(counted as f64 / READS as f64)
}
