//! The operations of a run, drawn before it begins, so that drawing costs it nothing.

use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use rand_distr::{Distribution, LogNormal, Zipf};

use crate::{Mix, Popularity, Sizes, Workload};

/// The keys with their sizes, and what each task does with them.
pub(crate) struct Plan {
    pub(crate) keys: Vec<String>,
    pub(crate) sizes: Vec<u64>,
    /// For each task; it begins again at its end.
    pub(crate) tasks: Vec<Vec<Op>>,
}

/// One operation: the number of a key, and in the two highest bits what is done with it.
#[derive(Clone, Copy)]
pub(crate) struct Op(u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Read,
    Write,
    Delete,
}

/// Operations that are drawn for all tasks together.
const OPS: usize = 1 << 20;

impl Op {
    #[allow(clippy::cast_possible_truncation)] // `Workload::check` bounds the number of keys.
    fn new(key: usize, verb: Verb) -> Self {
        Self(key as u32 | (verb as u32) << 30)
    }

    pub(crate) fn key(self) -> usize {
        (self.0 & ((1 << 30) - 1)) as usize
    }

    pub(crate) fn verb(self) -> Verb {
        match self.0 >> 30 {
            0 => Verb::Read,
            1 => Verb::Write,
            _ => Verb::Delete,
        }
    }
}

impl Plan {
    pub(crate) fn draw(workload: &Workload) -> Result<Self, String> {
        workload.check()?;
        let mut random = StdRng::seed_from_u64(workload.seed);
        let keys = keys(&workload.popularity);
        let sizes = sizes(workload, &mut random)?;
        let each = OPS.div_ceil(workload.tasks);
        let tasks = (0..workload.tasks)
            .map(|task| ops(workload, task, each, &mut random))
            .collect::<Result<_, _>>()?;
        Ok(Self { keys, sizes, tasks })
    }
}

fn keys(popularity: &Popularity) -> Vec<String> {
    match popularity {
        Popularity::Trace(trace) => trace.keys().to_vec(),
        _ => (0..popularity.keys())
            .map(|number| format!("objects/{number:08}"))
            .collect(),
    }
}

fn sizes(workload: &Workload, random: &mut StdRng) -> Result<Vec<u64>, String> {
    let count = workload.popularity.keys();
    Ok(match workload.sizes {
        Sizes::Fixed(size) => vec![size; count],
        Sizes::LogNormal { median, sigma, max } => {
            let lengths = log_normal(median, sigma)?;
            (0..count).map(|_| draw(&lengths, max, random)).collect()
        }
        Sizes::ProdLike => {
            let kinds = [
                (4 << 10, 256 << 10),
                (64 << 10, 1 << 20),
                (1 << 20, 16 << 20),
            ];
            let kinds = kinds.map(|(median, max)| log_normal(median, 1.0).map(|kind| (kind, max)));
            let [small, middle, large] = kinds;
            let (small, middle, large) = (small?, middle?, large?);
            (0..count)
                .map(|_| {
                    let (lengths, max) = match random.random_range(0..100) {
                        0 => &large,
                        1..10 => &middle,
                        _ => &small,
                    };
                    draw(lengths, *max, random)
                })
                .collect()
        }
        Sizes::Trace(default) => match &workload.popularity {
            Popularity::Trace(trace) => {
                let sizes = trace.sizes().iter();
                sizes.map(|size| size.unwrap_or(default)).collect()
            }
            _ => return Err("sizes can be taken from a trace only where keys are, too".into()),
        },
    })
}

#[allow(clippy::cast_precision_loss)] // Lengths are far below 2^52.
fn log_normal(median: u64, sigma: f64) -> Result<LogNormal<f64>, String> {
    LogNormal::new((median.max(1) as f64).ln(), sigma).map_err(|error| error.to_string())
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // It is positive, and cut off.
fn draw(lengths: &LogNormal<f64>, max: u64, random: &mut impl Rng) -> u64 {
    (lengths.sample(random) as u64).min(max)
}

fn ops(
    workload: &Workload,
    task: usize,
    count: usize,
    random: &mut StdRng,
) -> Result<Vec<Op>, String> {
    let keys = workload.popularity.keys();
    let mut pick: Box<dyn FnMut(&mut StdRng) -> usize> = match &workload.popularity {
        Popularity::Uniform { .. } => Box::new(move |random| random.random_range(0..keys)),
        Popularity::Zipf { exponent, .. } => {
            #[allow(clippy::cast_precision_loss)] // As many keys fit in memory.
            let zipf = Zipf::new(keys as f64, *exponent).map_err(|error| error.to_string())?;
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // From 1 to `keys`.
            Box::new(move |random| scatter(zipf.sample(random) as usize - 1, keys))
        }
        Popularity::Scan { .. } => {
            // Tasks share the sequence: each takes its part of it.
            let mut next = keys / workload.tasks * task;
            Box::new(move |_| {
                next += 1;
                (next - 1) % keys
            })
        }
        Popularity::Trace(trace) => {
            let order = trace.order().to_vec();
            let (mut next, step) = (task, workload.tasks);
            Box::new(move |_| {
                let key = order[next % order.len()];
                next += step;
                key as usize
            })
        }
    };
    let count = match workload.popularity {
        Popularity::Scan { keys } => count.max(keys.div_ceil(workload.tasks)),
        Popularity::Trace(ref trace) => trace.order().len().div_ceil(workload.tasks),
        _ => count,
    };
    let mut verbs = verbs(workload.mix);
    Ok((0..count)
        .map(|_| Op::new(pick(random), verbs(random)))
        .collect())
}

/// Spreads ranks over the keys, so that the popular ones are not neighbours.
fn scatter(rank: usize, keys: usize) -> usize {
    const STEP: usize = 2_654_435_761;
    if keys.is_multiple_of(STEP) {
        rank
    } else {
        rank.wrapping_mul(STEP) % keys
    }
}

fn verbs(mix: Mix) -> impl FnMut(&mut StdRng) -> Verb {
    let sum = mix.reads + mix.writes + mix.deletes;
    let (reads, writes) = (mix.reads / sum, mix.writes / sum);
    move |random| {
        let at: f64 = random.random();
        if at < reads {
            Verb::Read
        } else if at < reads + writes {
            Verb::Write
        } else {
            Verb::Delete
        }
    }
}
