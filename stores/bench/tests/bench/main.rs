//! The program from end to end, and the library against a store of somebody else's.

#![allow(clippy::unwrap_used)] // The helpers below are tests, too.

mod command;
mod hit_ratio;
mod library;
#[cfg(feature = "redis")]
mod redis;
mod words;

use std::{
    path::Path,
    process::{Command, Output},
};

use larder_bench::Report;

/// Runs the program to its end.
fn bench(words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_larder-bench"));
    command.args(words).output().unwrap()
}

/// Runs it, sees that it succeeds, and gives what it printed.
fn output(words: &[&str]) -> String {
    let output = bench(words);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// The reports of a run with `--json`.
fn reports(words: &[&str]) -> Vec<Report> {
    let text = output(&[words, &["--json"]].concat());
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn disk(folder: &Path) -> String {
    format!("disk:{}?capacity=64MiB", folder.display())
}

fn entries(folder: &Path) -> usize {
    std::fs::read_dir(folder).map_or(0, Iterator::count)
}
