//! Benchmarks a store from the command line.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool speaks to its user"
)]

mod options;

use std::{error::Error, fs, process::ExitCode, sync::Arc};

use indicatif::{ProgressBar, ProgressStyle};
use larder_bench::{
    Options as RunOptions, Progress, Report, Trace, compare, hit_ratio, open, plot, run,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

use crate::options::{Command, Compare, HitRatio, Run};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<std::alloc::System> = &INSTRUMENTED_SYSTEM;

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// Bad words, as opposed to a run that failed.
const USAGE_ERROR: u8 = 2;

#[tokio::main]
async fn main() -> ExitCode {
    let command = match options::parse() {
        Ok(command) => command,
        Err(error) => {
            eprintln!("larder-bench: {error}\n\n{}", options::USAGE);
            return ExitCode::from(USAGE_ERROR);
        }
    };
    let done = match command {
        Command::Help => {
            print!("{}", options::USAGE);
            Ok(())
        }
        Command::Run(options) => bench(*options).await,
        Command::Compare(options) => compare_files(&options),
        Command::HitRatio(options) => ratios(&options).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("larder-bench: {}", chain(&*error));
            ExitCode::FAILURE
        }
    }
}

async fn bench(options: Run) -> Result<()> {
    let mut reports = Vec::new();
    for round in 0..options.rounds {
        let store = open(&options.url).await?;
        let bar = if options.json {
            ProgressBar::hidden()
        } else {
            bar()
        };
        let shown = bar.clone();
        let progress: Progress = Arc::new(move |what, part| {
            shown.set_message(what);
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // From 0 to 100.
            shown.set_position((part.clamp(0.0, 1.0) * 100.0) as u64);
        });
        let settings = RunOptions {
            allocations: Some(|| ALLOCATOR.stats().allocations as u64),
            progress: Some(progress),
        };
        let report = run(Arc::new(Arc::clone(&store)), &options.workload, &settings).await;
        bar.finish_and_clear();
        store.close().await?;
        let report = report?;
        if options.json {
            println!("{}", serde_json::to_string(&report)?);
        } else {
            if options.rounds > 1 {
                println!("round {} of {}", round + 1, options.rounds);
            }
            print!("{report}");
        }
        reports.push(report);
    }
    if let Some(path) = &options.svg {
        plot(path, &reports)?;
    }
    Ok(())
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::new(100);
    if let Ok(style) = ProgressStyle::with_template("{msg:>8} [{bar:40}] {percent:>3} %") {
        bar.set_style(style);
    }
    bar
}

fn compare_files(options: &Compare) -> Result<()> {
    let (before, after) = (reports(&options.before)?, reports(&options.after)?);
    println!(
        "{} runs of {} on {} against {} runs of {} on {}",
        before.len(),
        before[0].workload,
        before[0].store,
        after.len(),
        after[0].workload,
        after[0].store,
    );
    for comparison in compare(&before, &after) {
        println!("{comparison}");
    }
    Ok(())
}

fn reports(path: &std::path::Path) -> Result<Vec<Report>> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let reports: Vec<Report> = lines
        .map(serde_json::from_str)
        .collect::<std::result::Result<_, _>>()
        .map_err(|error| format!("{}: {error}", path.display()))?;
    if reports.is_empty() {
        return Err(format!("{}: there is no report in it", path.display()).into());
    }
    Ok(reports)
}

async fn ratios(options: &HitRatio) -> Result<()> {
    let trace = Trace::open(&options.trace)
        .map_err(|error| format!("{}: {error}", options.trace.display()))?;
    let dir = tempfile::tempdir()?;
    let capacity = options.capacity;
    let folder = dir.path().display();
    let stores = [
        (
            "memory, S3-FIFO",
            format!("memory:?capacity={capacity}&policy=s3-fifo"),
        ),
        (
            "memory, W-TinyLFU",
            format!("memory:?capacity={capacity}&policy=tiny-lfu"),
        ),
        (
            "memory, LRU",
            format!("memory:?capacity={capacity}&policy=lru"),
        ),
        (
            "disk, S3-FIFO",
            format!("disk:{folder}/disk?capacity={capacity}"),
        ),
    ];
    if !options.json {
        let (requests, keys) = (trace.order().len(), trace.keys().len());
        println!("{requests} requests of {keys} keys, {capacity} bytes");
    }
    for (name, url) in stores {
        let store = open(&url).await?;
        let outcome = hit_ratio(&*store, &trace, options.default_size).await?;
        store.close().await?;
        let (ratio, bytes) = (outcome.ratio(), outcome.byte_ratio());
        if options.json {
            let line =
                serde_json::json!({"policy": name, "hit_ratio": ratio, "byte_hit_ratio": bytes});
            println!("{line}");
        } else {
            println!(
                "  {name:<20} {:>6.2} % of requests  {:>6.2} % of bytes",
                ratio * 100.0,
                bytes * 100.0
            );
        }
    }
    Ok(())
}

/// The error and its causes in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
