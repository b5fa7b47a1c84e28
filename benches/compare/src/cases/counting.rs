//! Cases that count allocations. That needs an allocator that counts, which is slow; so they have a
//! program of their own, `allocs`, which this one starts.

use std::{env, process::Stdio};

use anyhow::{Context as _, Result, ensure};
use tokio::process::Command;

use super::{Bench, disk, memory};
use crate::report::Report;

/// Has the other program, which is built beside this one, do those of the cases whose names begin
/// so, and takes its figures over.
pub async fn run(bench: &Bench, report: &mut Report, cases: &str) -> Result<()> {
    let program = env::current_exe()?.with_file_name("allocs");
    if !program.exists() {
        report.note(&format!(
            "{cases} left out: `cargo build --release` builds the program for it"
        ));
        return Ok(());
    }
    let options = &bench.options;
    let within = |prefix: &&String| prefix.starts_with(cases);
    let mut prefixes: Vec<&str> = options
        .prefixes
        .iter()
        .filter(within)
        .map(|p| &**p)
        .collect();
    if prefixes.is_empty() {
        prefixes.push(cases);
    }
    let mut command = Command::new(program);
    command.args(prefixes).arg("--json");
    command.arg("--rounds").arg(options.rounds.to_string());
    for peer in &options.peers {
        command.arg("--peer").arg(peer);
    }
    if let Some(dir) = &options.dir {
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

/// Does them, in that program.
pub async fn count(bench: &Bench, report: &mut Report) -> Result<()> {
    memory::allocs::count(bench, report).await?;
    disk::allocs::count(bench, report).await
}
