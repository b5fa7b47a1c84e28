//! One of the tasks that do the operations.
//
// Invariants:
// 1. An operation's number is taken once, by one task: `taken` counts those of a closed loop,
//    `Due` those of an open one. So a count is exact, and a trace is replayed in its order.
// 2. A task never runs for much longer than `TURN` without giving others theirs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use larder_store::{Result, Store};
use tokio::time::Instant;

use crate::{
    Length,
    due::Due,
    measure::Tally,
    plan::{Op, Plan, Verb},
    target::{Target, Timing},
};

pub(crate) struct Task<S: ?Sized> {
    pub(crate) target: Arc<Target<S>>,
    pub(crate) length: Length,
    pub(crate) source: Source,
    /// How many operations there are to one that is timed.
    pub(crate) every: u64,
    /// In an open loop, what says when.
    pub(crate) due: Option<Arc<Due>>,
    /// Operations that the tasks of a closed loop took, all together; beyond the end it goes on.
    pub(crate) taken: Arc<AtomicU64>,
    pub(crate) tasks: usize,
}

/// Which operations.
#[derive(Clone, Copy)]
pub(crate) enum Source {
    /// The plan's, from this number on.
    Plan { first: u64 },
    /// A write of each key.
    EachKey,
}

/// The most operations that a task takes at once.
const STEP: usize = 64;
/// How long a task goes on before others have their turn.
const TURN: Duration = Duration::from_micros(500);

impl<S: Store + ?Sized> Task<S> {
    pub(crate) async fn run(self) -> Result<Tally> {
        match &self.due {
            None => self.closed().await,
            Some(due) => self.open(due).await,
        }
    }

    /// One operation as soon as the one before has ended.
    async fn closed(&self) -> Result<Tally> {
        let mut tally = Tally::default();
        let start = Instant::now();
        let (step, mut turn) = (self.step(), start);
        let mut ops = [Op::NONE; STEP];
        let mut timing = Timing::OneIn {
            every: self.every,
            before: 0,
        };
        loop {
            // A store that is always ready must not keep the others from their turn.
            let now = Instant::now();
            if now - turn > TURN {
                tokio::task::yield_now().await;
                turn = Instant::now();
            }
            let ops = self.take(&mut ops[..step], now - start);
            if ops.is_empty() {
                return Ok(tally);
            }
            self.target.all(ops, &mut timing, &mut tally).await?;
        }
    }

    /// One operation whenever one is due.
    async fn open(&self, due: &Due) -> Result<Tally> {
        let mut tally = Tally::default();
        let mut op = [Op::NONE];
        while let Some((number, moment)) = due.next().await {
            self.source.operations(&self.target.plan, number, &mut op);
            let mut timing = Timing::From(moment);
            self.target.all(&op, &mut timing, &mut tally).await?;
        }
        Ok(tally)
    }

    /// The next operations, none at the end.
    fn take<'o>(&self, ops: &'o mut [Op], time: Duration) -> &'o [Op] {
        let end = match self.length {
            Length::Duration(whole) if time >= whole => 0,
            Length::Duration(_) => u64::MAX,
            Length::Count(count) => count,
        };
        if self.taken.load(Ordering::Relaxed) >= end {
            return &[];
        }
        let first = self.taken.fetch_add(ops.len() as u64, Ordering::Relaxed);
        let left = usize::try_from(end.saturating_sub(first)).unwrap_or(usize::MAX);
        let count = left.min(ops.len());
        let ops = &mut ops[..count];
        self.source.operations(&self.target.plan, first, ops);
        ops
    }

    /// How many operations a task takes at once: where they are slow or few, one.
    fn step(&self) -> usize {
        match self.length {
            Length::Count(count) => {
                let share = count / (self.tasks as u64 * 16);
                usize::try_from(share).unwrap_or(STEP).clamp(1, STEP)
            }
            Length::Duration(_) if self.every > 1 => STEP,
            Length::Duration(_) => 1,
        }
    }
}

impl Source {
    fn operations(self, plan: &Plan, number: u64, ops: &mut [Op]) {
        match self {
            Self::Plan { first } => plan.operations(first.wrapping_add(number), ops),
            Self::EachKey => {
                for (key, op) in (number..).zip(ops) {
                    *op = Op {
                        // Within the number of keys, which is a `u32`.
                        #[allow(clippy::cast_possible_truncation)]
                        key: key as u32,
                        verb: Verb::Write,
                    };
                }
            }
        }
    }

    /// The number of the plan's operation that comes after so many.
    pub(crate) fn after(self, count: u64) -> u64 {
        match self {
            Self::Plan { first } => first.wrapping_add(count),
            Self::EachKey => 0,
        }
    }
}
