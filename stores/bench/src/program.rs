//! What each command does, and what it prints.

use std::{
    error::Error,
    fs,
    io::{self, Write as _},
    path::Path,
    sync::Arc,
};

use indicatif::{ProgressBar, ProgressStyle};
use larder_bench::{
    Options as RunOptions, Progress, Report, Trace, compare, hit_ratio, open, plot, run as bench,
};

use crate::{
    ALLOCATOR,
    options::{Command, Compare, HitRatio, Run, USAGE},
    scratch::Scratch,
};

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

pub(crate) async fn run(command: Command) -> Result<()> {
    match command {
        Command::Help => say(USAGE),
        Command::Run(options) => rounds(*options).await,
        Command::Compare(options) => compare_files(&options),
        Command::HitRatio(options) => ratios(&options).await,
    }
}

async fn rounds(options: Run) -> Result<()> {
    let mut reports = Vec::new();
    for round in 0..options.rounds {
        let report = round_of(&options).await?;
        if options.json {
            say(&format!("{}\n", serde_json::to_string(&report)?))?;
        } else {
            if options.rounds > 1 {
                say(&format!("round {} of {}\n", round + 1, options.rounds))?;
            }
            say(&report.to_string())?;
        }
        reports.push(report);
    }
    if let Some(path) = &options.svg {
        plot(path, &reports).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

async fn round_of(options: &Run) -> Result<Report> {
    let (url, _scratch) = match (options.fresh, options.url.split_once(':')) {
        (true, Some(("disk", rest))) => {
            let (folder, settings) = rest.split_once('?').unwrap_or((rest, ""));
            let scratch =
                Scratch::within(Path::new(folder)).map_err(|error| format!("{folder}: {error}"))?;
            let path = scratch.path().display();
            (format!("disk:{path}?{settings}"), Some(scratch))
        }
        _ => (options.url.clone(), None),
    };
    let store = open(&url).await?;
    let bar = bar();
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
    let report = bench(Arc::clone(&store), &options.workload, &settings).await;
    bar.finish_and_clear();
    let closed = store.close().await;
    let report = report?;
    closed?;
    Ok(report)
}

/// On standard error, and only where that is a terminal.
fn bar() -> ProgressBar {
    let bar = ProgressBar::new(100);
    if let Ok(style) = ProgressStyle::with_template("{msg:>8} [{bar:40}] {percent:>3} %") {
        bar.set_style(style);
    }
    bar
}

fn compare_files(options: &Compare) -> Result<()> {
    let (before, after) = (reports(&options.before)?, reports(&options.after)?);
    let (first, second) = (&before[0], &after[0]);
    say(&format!(
        "{} runs of {} on {} against {} runs of {} on {}\n",
        before.len(),
        first.workload,
        first.store,
        after.len(),
        second.workload,
        second.store,
    ))?;
    let same = |report: &Report| report.workload == first.workload && report.rate == first.rate;
    let tasks = |report: &Report| report.tasks == first.tasks;
    if !before
        .iter()
        .chain(&after)
        .all(|one| same(one) && tasks(one))
    {
        say("note: not all of them did the same work\n")?;
    }
    if before.len().min(after.len()) < 3 {
        say("note: with less than three runs each, nothing can be told from noise\n")?;
    }
    for comparison in compare(&before, &after) {
        say(&format!("{comparison}\n"))?;
    }
    Ok(())
}

fn reports(path: &Path) -> Result<Vec<Report>> {
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
    let scratch = Scratch::new()?;
    let (capacity, folder) = (options.capacity, scratch.path().display());
    let memory = |policy| format!("memory:?capacity={capacity}&policy={policy}");
    let stores = [
        ("memory, S3-FIFO", memory("s3-fifo")),
        ("memory, W-TinyLFU", memory("tiny-lfu")),
        ("memory, LRU", memory("lru")),
        (
            "disk, S3-FIFO",
            format!("disk:{folder}/disk?capacity={capacity}"),
        ),
    ];
    if !options.json {
        let (requests, keys) = (trace.order().len(), trace.keys().len());
        say(&format!(
            "{requests} requests of {keys} keys, capacity {capacity} bytes\n"
        ))?;
    }
    for (name, url) in stores {
        let store = open(&url)
            .await
            .map_err(|error| format!("{name}: {}", chain(&*error)))?;
        let outcome = hit_ratio(&*store, &trace, options.default_size).await;
        let outcome = outcome.map_err(|error| format!("{name}: {}", chain(&error)))?;
        store.close().await?;
        let (ratio, bytes) = (outcome.ratio(), outcome.byte_ratio());
        let refused = outcome.refused;
        if options.json {
            let line = serde_json::json!({
                "policy": name, "capacity": capacity, "requests": outcome.requests,
                "hit_ratio": ratio, "byte_hit_ratio": bytes, "refused": refused,
            });
            say(&format!("{line}\n"))?;
        } else {
            let (ratio, bytes) = (ratio * 100.0, bytes * 100.0);
            say(&format!(
                "  {name:<20} {ratio:>6.2} % of requests  {bytes:>6.2} % of bytes  \
                 {refused:>8} refused\n"
            ))?;
        }
    }
    Ok(())
}

/// Unlike `print!`, which panics when nobody reads it.
fn say(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

pub(crate) fn is_broken_pipe(error: &(dyn Error + 'static)) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// The error and its causes in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
