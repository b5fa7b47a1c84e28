//! Doing the operations of a plan, and taking the time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use larder_store::{ByteRange, Commit, Draft, Key, Lookup, Result, Store};
use tokio::{sync::Barrier, task::JoinSet, time::Instant};

use crate::{
    Length, Report, Workload,
    due::Due,
    measure::{Resources, Tally, Usage},
    plan::{Op, Plan, Verb},
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
/// In a closed loop a store that is fast is timed at every 16th operation only, so that reading
/// the clock does not weigh on what is measured; throughput counts all. In an open loop each
/// operation is timed from the moment at which it was due, so that the wait behind a slow one is
/// not hidden.
///
/// Errors: settings that make no sense, and the first error of the store.
pub async fn run<S: Store>(
    store: Arc<S>,
    workload: &Workload,
    options: &Options,
) -> Result<Report, BenchError> {
    let plan = Plan::draw(workload).map_err(BenchError::Workload)?;
    let bench = Arc::new(Bench {
        body: Bytes::from(noise(
            plan.sizes.iter().copied().max().unwrap_or(0).min(PIECE),
        )),
        store,
        places: (0..workload.tasks).map(|_| AtomicU64::new(0)).collect(),
        plan,
        fill: workload.mix.fill,
        done: AtomicU64::new(0),
        over: AtomicBool::new(false),
    });
    let say = |what, part| {
        if let Some(progress) = &options.progress {
            progress(what, part);
        }
    };
    if workload.preload {
        for number in 0..bench.plan.keys.len() {
            if number.is_multiple_of(64) {
                #[allow(clippy::cast_precision_loss)] // For the eye.
                say("preload", number as f64 / bench.plan.keys.len() as f64);
            }
            bench.write(number, &mut Tally::default()).await?;
        }
    }
    let every = bench.sampling(workload).await?;
    bench
        .phase("warm-up", workload, workload.warm_up, every, options)
        .await?;
    let before = Resources::now(options.allocations);
    let (tally, time) = bench
        .phase("run", workload, workload.length, every, options)
        .await?;
    let used = before.until_now(options.allocations);
    Ok(report(workload, &*bench.store, &tally, time, &used))
}

/// Why there is no report.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum BenchError {
    /// The workload makes no sense.
    Workload(String),
    /// The store failed.
    Store(larder_store::Error),
}

impl std::fmt::Display for BenchError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Workload(why) => f.write_str(why),
            Self::Store(_) => f.write_str("the store failed"),
        }
    }
}

impl std::error::Error for BenchError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Workload(_) => None,
            Self::Store(error) => Some(error),
        }
    }
}

impl From<larder_store::Error> for BenchError {
    fn from(error: larder_store::Error) -> Self {
        Self::Store(error)
    }
}

/// What the tasks share.
struct Bench<S> {
    store: Arc<S>,
    plan: Plan,
    /// How far each task has come in its operations, over all phases.
    places: Vec<AtomicU64>,
    fill: bool,
    /// A piece of every body.
    body: Bytes,
    /// Operations done, reckoned in steps.
    done: AtomicU64,
    over: AtomicBool,
}

/// The longest chunk that is written.
const PIECE: u64 = 256 << 10;
/// Operations between two looks at the clock and at the others.
const STEP: u64 = 64;
/// Below this an operation is too fast to be timed each time.
const FAST: Duration = Duration::from_micros(5);
const SAMPLED: u64 = 16;

impl<S: Store> Bench<S> {
    /// How many operations there are to one that is timed.
    async fn sampling(&self, workload: &Workload) -> Result<u64> {
        if workload.rate.is_some() {
            return Ok(1);
        }
        let ops = &self.plan.tasks[0];
        let mut tally = Tally::default();
        let count = 256.min(ops.len());
        let start = Instant::now();
        for op in &ops[..count] {
            self.one(*op, &mut tally).await?;
            if start.elapsed() > Duration::from_millis(200) {
                return Ok(1);
            }
        }
        let each = start.elapsed() / u32::try_from(count).unwrap_or(1);
        Ok(if each < FAST { SAMPLED } else { 1 })
    }

    /// All tasks, until the length is reached.
    async fn phase(
        self: &Arc<Self>,
        what: &'static str,
        workload: &Workload,
        length: Length,
        every: u64,
        options: &Options,
    ) -> Result<(Tally, Duration)> {
        self.done.store(0, Ordering::Relaxed);
        self.over.store(false, Ordering::Relaxed);
        let barrier = Arc::new(Barrier::new(workload.tasks + 1));
        let due = workload.rate.map(|_| Arc::new(Due::default()));
        let mut tasks = JoinSet::new();
        for task in 0..workload.tasks {
            let pace = Pace {
                length,
                every,
                due: due.clone(),
                task,
                tasks: workload.tasks,
            };
            let (bench, barrier) = (Arc::clone(self), Arc::clone(&barrier));
            tasks.spawn(async move {
                barrier.wait().await;
                bench.task(pace).await
            });
        }
        barrier.wait().await;
        let start = Instant::now();
        let pace_maker = due
            .zip(workload.rate)
            .map(|(due, rate)| due.start(rate, length));
        let mut all = Tally::default();
        let mut tick = tokio::time::interval(Duration::from_millis(100));
        loop {
            tokio::select! {
                biased;
                ended = tasks.join_next() => match ended {
                    Some(Ok(tally)) => all.merge(&tally?),
                    Some(Err(error)) => {
                        let message = "a task of the benchmark panicked";
                        let kind = larder_store::ErrorKind::Other;
                        return Err(larder_store::Error::with_source(kind, message, error));
                    }
                    None => {
                        // It ends by itself, when nobody waits for it any more.
                        drop(pace_maker);
                        return Ok((all, start.elapsed()));
                    }
                },
                _ = tick.tick() => if let Some(progress) = &options.progress {
                    progress(what, self.part(length, start.elapsed()));
                },
            }
        }
    }

    #[allow(clippy::cast_precision_loss)] // For the eye.
    fn part(&self, length: Length, time: Duration) -> f64 {
        match length {
            Length::Count(0) => 1.0,
            Length::Count(count) => self.done.load(Ordering::Relaxed) as f64 / count as f64,
            Length::Duration(whole) => time.as_secs_f64() / whole.as_secs_f64().max(1e-9),
        }
    }

    /// One task's share.
    async fn task(&self, pace: Pace) -> Result<Tally> {
        let ops = &self.plan.tasks[pace.task];
        let mut tally = Tally::default();
        let start = Instant::now();
        let place = &self.places[pace.task];
        #[allow(clippy::cast_possible_truncation)] // Operations are numbered within memory.
        let begun = place.load(Ordering::Relaxed) as usize;
        let mut next = ops.iter().copied().cycle().skip(begun % ops.len());
        let mut number = 0_u64;
        'all: loop {
            if self.is_over(pace.length, start) {
                break;
            }
            // Tasks take their operations in steps, or one by one where there are few.
            let step = pace.step();
            self.done.fetch_add(step, Ordering::Relaxed);
            for _ in 0..step {
                let Some(op) = next.next() else { break 'all };
                let due = match &pace.due {
                    None => None,
                    Some(due) => match due.next().await {
                        None => break 'all,
                        due => due,
                    },
                };
                if number.is_multiple_of(pace.every) {
                    let began = due.unwrap_or_else(Instant::now);
                    let verb = self.one(op, &mut tally).await?;
                    tally.time(verb, began.elapsed());
                } else {
                    self.one(op, &mut tally).await?;
                }
                number += 1;
            }
            if number.is_multiple_of(1024) {
                // A store that is always ready must not keep the others from their turn.
                tokio::task::yield_now().await;
            }
        }
        place.fetch_add(number, Ordering::Relaxed);
        Ok(tally)
    }

    fn is_over(&self, length: Length, start: Instant) -> bool {
        match length {
            Length::Count(count) => self.done.load(Ordering::Relaxed) >= count,
            Length::Duration(whole) => start.elapsed() >= whole,
        }
    }

    /// One operation.
    async fn one(&self, op: Op, tally: &mut Tally) -> Result<Verb> {
        let key = Key::new(&self.plan.keys[op.key()])?;
        match op.verb() {
            Verb::Read => {
                tally.reads += 1;
                match self.store.get_stream(key, ByteRange::FULL).await? {
                    Lookup::Hit(mut object) => {
                        tally.hits += 1;
                        while let Some(chunk) = object.body.chunk().await? {
                            tally.bytes_read += chunk.len() as u64;
                        }
                    }
                    Lookup::Miss(fence) => {
                        drop(fence);
                        if self.fill {
                            self.write(op.key(), tally).await?;
                        }
                    }
                }
            }
            Verb::Write => {
                tally.writes += 1;
                self.write(op.key(), tally).await?;
            }
            Verb::Delete => {
                tally.deletes += 1;
                let _: Commit = self.store.delete(key, None).await?;
            }
        }
        Ok(op.verb())
    }

    /// Sets an object; what the store refuses, for its size or for want of room, is counted.
    async fn write(&self, number: usize, tally: &mut Tally) -> Result<()> {
        let key = Key::new(&self.plan.keys[number])?;
        let size = self.plan.sizes[number];
        match self.set(key, size).await {
            Err(error) if error.is_too_large() || error.is_full() => tally.refused += 1,
            set => {
                set?;
                tally.bytes_written += size;
            }
        }
        Ok(())
    }

    async fn set(&self, key: Key<'_>, size: u64) -> Result<()> {
        let mut writer = self
            .store
            .set_with_writer(key, Draft::new().len(size))
            .await?;
        let mut left = size;
        while left > 0 {
            let piece = left.min(self.body.len() as u64);
            #[allow(clippy::cast_possible_truncation)] // At most the body's length.
            writer.write(self.body.slice(..piece as usize)).await?;
            left -= piece;
        }
        let _: Commit = writer.commit().await?;
        Ok(())
    }
}

/// When a task begins its operations.
#[derive(Clone)]
struct Pace {
    length: Length,
    every: u64,
    /// In an open loop, what says when.
    due: Option<Arc<Due>>,
    task: usize,
    tasks: usize,
}

impl Pace {
    /// How many operations a task takes at a time.
    fn step(&self) -> u64 {
        match self.length {
            _ if self.due.is_some() => 1,
            Length::Count(count) => (count / (self.tasks as u64 * 16)).clamp(1, STEP),
            Length::Duration(_) if self.every > 1 => STEP,
            Length::Duration(_) => 1,
        }
    }
}

/// Bytes that do not compress.
fn noise(len: u64) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[0]
        })
        .collect()
}

fn report(
    workload: &Workload,
    store: &dyn Store,
    tally: &Tally,
    time: Duration,
    used: &Usage,
) -> Report {
    let usage = store.usage();
    Report {
        store: store.kind().to_owned(),
        workload: workload.name.clone(),
        tasks: workload.tasks,
        rate: workload.rate,
        seconds: time.as_secs_f64(),
        reads: tally.reads,
        hits: tally.hits,
        writes: tally.writes,
        deletes: tally.deletes,
        refused: tally.refused,
        bytes_read: tally.bytes_read,
        bytes_written: tally.bytes_written,
        entries: usage.entries,
        live: usage.live,
        stored: usage.stored,
        evictions: usage.evictions,
        cpu_seconds: used.cpu.as_secs_f64(),
        allocations: used.allocations,
        peak_memory: used.peak_memory,
        read_latency: tally.latency(Verb::Read),
        write_latency: tally.latency(Verb::Write),
        latency: tally.latency_of_all(),
    }
}
