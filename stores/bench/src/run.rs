//! A run and its phases: what goes on before, beside and after the operations.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use larder_store::Store;
use tokio::{
    sync::Barrier,
    task::{JoinError, JoinSet},
    time::Instant,
};

use crate::{
    Error, Length, Report, Workload,
    due::Due,
    measure::{Resources, Tally},
    plan::{Plan, Verb},
    target::Target,
    task::{Source, Task},
};

/// What [`run`] tells while it goes on, and what it may ask.
#[derive(Clone, Default)]
pub struct Options {
    /// Counts the allocations of the process so far, where somebody does.
    pub allocations: Option<fn() -> u64>,
    /// Is told what goes on, and how much of it is done: from 0 to 1.
    pub progress: Option<Progress>,
}

/// See [`Options::progress`].
pub type Progress = Arc<dyn Fn(&'static str, f64) + Send + Sync>;

/// Runs a workload against a store and measures it.
///
/// First every key is written, if the workload says so; then comes the warm-up; then what counts.
/// It needs a runtime with time, and better one of several threads.
///
/// In a closed loop a store that is fast is timed at every 61st operation only, so that reading the
/// clock does not weigh on what is measured, if the warm-up showed it to be fast and there are
/// enough of them; throughput counts all. In an open loop each operation is timed from the moment at which it was due, so that the wait behind a slow one is not hidden.
/// The report says how many were timed.
///
/// Objects that the store refuses for their size or for want of room are counted, not errors.
///
/// Errors: [`Error::Workload`] for settings that make no sense, and [`Error::Store`] for the first
/// error of the store and for its panics.
///
/// Cancel safety: dropped, it stops at each task's next wait or within a millisecond.
pub async fn run<S: Store + ?Sized>(
    store: Arc<S>,
    workload: &Workload,
    options: &Options,
) -> Result<Report, Error> {
    if let Some(progress) = &options.progress {
        progress("plan", 0.0);
    }
    let plan = Plan::draw(workload).map_err(Error::Workload)?;
    let bench = Bench {
        target: Arc::new(Target::new(store, plan, workload.mix.fill)),
        workload,
        options,
    };
    if workload.preload {
        bench.preload().await?;
    }
    let pace = |what, length, first, every| Phase {
        what,
        length,
        source: Source::Plan { first },
        rate: workload.rate,
        every,
    };
    let warm_up = bench.phase(pace("warm-up", workload.warm_up, 0, 1)).await?;
    let every = sampling(workload, &warm_up.tally);
    let before = Resources::now(options.allocations);
    let done = pace("run", workload.length, warm_up.next, every);
    let done = bench.phase(done).await?;
    let used = before.until_now(options.allocations);
    let usage = bench.target.store.usage();
    let tally = &done.tally;
    Ok(Report {
        store: bench.target.store.kind().to_owned(),
        workload: workload.name.clone(),
        tasks: workload.tasks,
        rate: workload.rate,
        overdue: done.overdue,
        seconds: done.time.as_secs_f64(),
        reads: tally.reads,
        hits: tally.hits,
        writes: tally.writes,
        deletes: tally.deletes,
        refused: tally.refused,
        bytes_read: tally.bytes_read,
        bytes_written: tally.bytes_written,
        elsewhere: usage.elsewhere,
        entries: usage.entries,
        live: usage.live,
        stored: usage.stored,
        evictions: usage.evictions,
        cpu_seconds: used.cpu.as_secs_f64(),
        allocations: used.allocations,
        peak_memory: used.peak_memory,
        timed_every: every,
        read_latency: tally.latency(Verb::Read),
        write_latency: tally.latency(Verb::Write),
        latency: tally.latency_of_all(),
    })
}

/// How many operations there are to one that is timed, as the warm-up has it.
fn sampling(workload: &Workload, warm_up: &Tally) -> u64 {
    let median = warm_up
        .latency_of_all()
        .and_then(|latency| latency.percentile(50.0));
    // Few operations are timed each: a percentile needs some.
    let few = matches!(workload.length, Length::Count(count) if count < SAMPLED * 1_000);
    match median {
        _ if few => 1,
        Some(median) if median < FAST && workload.rate.is_none() => SAMPLED,
        _ => 1,
    }
}

struct Bench<'a, S: ?Sized> {
    target: Arc<Target<S>>,
    workload: &'a Workload,
    options: &'a Options,
}

/// A stretch of operations.
struct Phase {
    what: &'static str,
    length: Length,
    source: Source,
    /// Of an open loop.
    rate: Option<f64>,
    /// How many operations there are to one that is timed.
    every: u64,
}

/// What came of it.
struct Done {
    tally: Tally,
    time: Duration,
    /// Operations that were due and had not begun at its end.
    overdue: u64,
    /// The number of the operation that comes next.
    next: u64,
}

/// Below this an operation is too fast to be timed each time, in nanoseconds.
const FAST: u64 = 5_000;
/// A prime, so that what is timed is not always the first of its step.
const SAMPLED: u64 = 61;

impl<S: Store + ?Sized> Bench<'_, S> {
    async fn preload(&self) -> Result<(), Error> {
        let phase = Phase {
            what: "preload",
            length: Length::Count(self.target.plan.keys.count() as u64),
            source: Source::EachKey,
            rate: None,
            every: 1,
        };
        self.phase(phase).await.map(drop)
    }

    /// All tasks, until the length is reached.
    async fn phase(&self, phase: Phase) -> Result<Done, Error> {
        if let Some(progress) = &self.options.progress {
            progress(phase.what, 0.0);
        }
        let tasks = self.workload.tasks;
        let barrier = Arc::new(Barrier::new(tasks + 1));
        let due = phase
            .rate
            .map(|rate| Arc::new(Due::new(rate, phase.length, tasks)));
        let taken = Arc::new(AtomicU64::new(0));
        let mut running = JoinSet::new();
        for _ in 0..tasks {
            let task = Task {
                target: Arc::clone(&self.target),
                length: phase.length,
                source: phase.source,
                every: phase.every,
                due: due.clone(),
                taken: Arc::clone(&taken),
                tasks,
            };
            let barrier = Arc::clone(&barrier);
            running.spawn(async move {
                barrier.wait().await;
                task.run().await
            });
        }
        barrier.wait().await;
        let start = Instant::now();
        let pace_maker = due.as_ref().map(Due::start).transpose();
        let pace_maker = pace_maker.map_err(|error| failure("no thread keeps the pace", error))?;
        let progress = || match &due {
            Some(due) => due.begun(),
            // Tasks take more than there are when they come to the end.
            None => match phase.length {
                Length::Count(count) => taken.load(Ordering::Relaxed).min(count),
                Length::Duration(_) => taken.load(Ordering::Relaxed),
            },
        };
        let tally = self.wait(&phase, &mut running, start, progress).await?;
        let time = start.elapsed();
        drop(pace_maker);
        Ok(Done {
            tally,
            time,
            overdue: due.as_ref().map_or(0, |due| due.overdue()),
            next: phase.source.after(progress()),
        })
    }

    /// Waits for the tasks, and tells how far they are.
    async fn wait(
        &self,
        phase: &Phase,
        running: &mut JoinSet<larder_store::Result<Tally>>,
        start: Instant,
        done: impl Fn() -> u64,
    ) -> Result<Tally, Error> {
        let mut all = Tally::default();
        let mut tick = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                biased;
                ended = running.join_next() => match ended {
                    Some(Ok(tally)) => all.merge(&tally?),
                    Some(Err(error)) => return Err(panicked(error)),
                    None => return Ok(all),
                },
                _ = tick.tick() => if let Some(progress) = &self.options.progress {
                    progress(phase.what, part(phase.length, done(), start.elapsed()));
                },
            }
        }
    }
}

/// How often progress is told.
const TICK: Duration = Duration::from_millis(100);

#[allow(clippy::cast_precision_loss)] // For the eye.
fn part(length: Length, done: u64, time: Duration) -> f64 {
    match length {
        Length::Count(0) => 1.0,
        Length::Count(count) => (done as f64 / count as f64).min(1.0),
        Length::Duration(whole) => (time.as_secs_f64() / whole.as_secs_f64().max(1e-9)).min(1.0),
    }
}

fn panicked(error: JoinError) -> Error {
    failure("a task of the benchmark panicked", error)
}

fn failure(message: &'static str, source: impl Into<larder_store::BoxError>) -> Error {
    let kind = larder_store::ErrorKind::Other;
    Error::Store(larder_store::Error::with_source(kind, message, source))
}
