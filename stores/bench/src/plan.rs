//! The operations of a run, drawn before it begins, so that drawing costs it nothing.

use std::sync::Arc;

use rand::{RngExt, SeedableRng, rngs::StdRng};
use rand_distr::{Distribution, Zipf};

use crate::{Length, Mix, Popularity, Trace, Workload, keys::Keys, sizes::Lengths};

/// The keys with their lengths, and what is done with which of them, one operation after the other
/// without an end: what was drawn comes again.
pub(crate) struct Plan {
    pub(crate) keys: Keys,
    pub(crate) lengths: Lengths,
    order: Order,
    verbs: Vec<Verb>,
}

/// One operation: what is done with the key of this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Op {
    pub(crate) key: u32,
    pub(crate) verb: Verb,
}

impl Op {
    /// What a list holds before it is filled.
    pub(crate) const NONE: Self = Self {
        key: 0,
        verb: Verb::Read,
    };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Verb {
    Read,
    Write,
    Delete,
}

/// The keys as they are asked for.
enum Order {
    Drawn(Vec<u32>),
    InTurn(u32),
    Trace(Arc<Trace>),
}

/// Draws: at least so many, or as many as the run needs.
const DRAWS_MIN: u64 = 1 << 20;
/// Draws a key, so that nearly all come that would come.
const DRAWS_EACH: u64 = 4;
/// 64 MiB of them.
const DRAWS_MAX: u64 = 1 << 24;
/// Verbs that are drawn: a prime, so that keys which come again come with another one.
const VERBS: usize = 262_139;

impl Plan {
    pub(crate) fn draw(workload: &Workload) -> Result<Self, String> {
        workload.check()?;
        let mut random = StdRng::seed_from_u64(workload.seed);
        let lengths = Lengths::draw(workload, &mut random)?;
        let order = Order::draw(workload, &mut random)?;
        Ok(Self {
            keys: Keys::of(&workload.popularity),
            lengths,
            order,
            verbs: verbs(workload.mix, &mut random),
        })
    }

    /// Fills `ops` with those from number `first` on.
    pub(crate) fn operations(&self, first: u64, ops: &mut [Op]) {
        match &self.order {
            Order::Drawn(keys) => self.fill(first, ops, keys.len(), |at| keys[at]),
            // Within the number of keys, which is a `u32`.
            #[allow(clippy::cast_possible_truncation)]
            Order::InTurn(keys) => self.fill(first, ops, *keys as usize, |at| at as u32),
            Order::Trace(trace) => {
                let order = trace.order();
                self.fill(first, ops, order.len(), |at| order[at]);
            }
        }
    }

    fn fill(&self, first: u64, ops: &mut [Op], len: usize, key: impl Fn(usize) -> u32) {
        let (mut at, mut verb) = (within(first, len), within(first, self.verbs.len()));
        for op in ops {
            *op = Op {
                key: key(at),
                verb: self.verbs[verb],
            };
            at = if at + 1 == len { 0 } else { at + 1 };
            verb = if verb + 1 == self.verbs.len() {
                0
            } else {
                verb + 1
            };
        }
    }
}

#[allow(clippy::cast_possible_truncation)] // The remainder is below a length.
fn within(number: u64, len: usize) -> usize {
    (number % len as u64) as usize
}

impl Order {
    #[allow(clippy::cast_possible_truncation)] // `Workload::check` bounds the number of keys.
    fn draw(workload: &Workload, random: &mut StdRng) -> Result<Self, String> {
        let count = workload.popularity.keys();
        let draws = 0..draws(workload);
        Ok(match &workload.popularity {
            Popularity::Uniform { .. } => Self::Drawn(
                draws
                    .map(|_| random.random_range(0..count as u32))
                    .collect(),
            ),
            Popularity::Zipf { exponent, .. } => {
                #[allow(clippy::cast_precision_loss)] // As many keys fit in memory.
                let zipf = Zipf::new(count as f64, *exponent).map_err(|error| error.to_string())?;
                #[allow(clippy::cast_sign_loss)] // From 1 to `count`.
                let rank = |random: &mut StdRng| zipf.sample(random) as u64 - 1;
                let count = count as u64;
                Self::Drawn(draws.map(|_| scatter(rank(random), count) as u32).collect())
            }
            Popularity::Scan { .. } => Self::InTurn(count as u32),
            Popularity::Trace(trace) => Self::Trace(Arc::clone(trace)),
        })
    }
}

fn draws(workload: &Workload) -> u64 {
    let enough = (workload.popularity.keys() as u64 * DRAWS_EACH).clamp(DRAWS_MIN, DRAWS_MAX);
    match (workload.warm_up, workload.length) {
        (Length::Count(first), Length::Count(then)) => {
            enough.min(first.saturating_add(then)).max(1)
        }
        _ => enough,
    }
}

/// Spreads ranks over the keys, so that the popular ones are not neighbours.
fn scatter(rank: u64, keys: u64) -> u64 {
    /// A prime above any number of keys, so that no two ranks share a key.
    const STEP: u64 = 2_654_435_761;
    rank * STEP % keys
}

fn verbs(mix: Mix, random: &mut StdRng) -> Vec<Verb> {
    let sum = mix.reads + mix.writes + mix.deletes;
    let (reads, writes) = (mix.reads / sum, mix.writes / sum);
    let draw = |_| match random.random::<f64>() {
        at if at < reads => Verb::Read,
        at if at < reads + writes || mix.deletes == 0.0 => Verb::Write,
        _ => Verb::Delete,
    };
    (0..VERBS).map(draw).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(plan: &Plan, first: u64, count: usize) -> Vec<u32> {
        let mut ops = vec![Op::NONE; count];
        plan.operations(first, &mut ops);
        ops.iter().map(|op| op.key).collect()
    }

    #[test]
    fn a_scan_and_a_trace_begin_again_at_their_end() {
        let scan = Workload::scan().popularity(Popularity::Scan { keys: 3 });
        let plan = Plan::draw(&scan).unwrap();
        assert_eq!(keys(&plan, 2, 5), [2, 0, 1, 2, 0]);
        let trace = Arc::new(Trace::read("a\nb\na\nc\n".as_bytes()).unwrap());
        let plan = Plan::draw(&scan.popularity(Popularity::Trace(trace))).unwrap();
        assert_eq!(keys(&plan, 0, 6), [0, 1, 0, 2, 0, 1]);
        assert_eq!(keys(&plan, 4_000_000_003, 2), [2, 0], "far on");
    }

    #[test]
    fn ranks_are_spread_and_none_is_lost() {
        for count in [1_u64, 2, 97, 10_000] {
            let mut seen: Vec<u64> = (0..count).map(|rank| scatter(rank, count)).collect();
            seen.sort_unstable();
            assert!(seen.into_iter().eq(0..count), "{count}");
        }
    }

    #[test]
    fn the_popular_are_asked_for_as_often_as_zipf_has_it() {
        let zipf = Popularity::Zipf {
            keys: 1_000,
            exponent: 1.0,
        };
        let plan = Plan::draw(&Workload::read_mostly().popularity(zipf)).unwrap();
        let mut times = vec![0_u32; 1_000];
        for key in keys(&plan, 0, 100_000) {
            times[key as usize] += 1;
        }
        // The first has 1 / (1 + 1/2 + ... + 1/1000) = 13.36 % of all.
        let first = times[0];
        assert!((12_900..13_900).contains(&first), "{first}");
        assert_eq!(times.iter().max(), Some(&first));
    }

    #[test]
    fn verbs_come_in_their_parts() {
        let mut random = StdRng::seed_from_u64(1);
        let drawn = verbs(Mix::of(8.0, 1.0, 1.0), &mut random);
        let reads = drawn.iter().filter(|verb| **verb == Verb::Read).count();
        assert!(
            (VERBS * 79 / 100..VERBS * 81 / 100).contains(&reads),
            "{reads}"
        );
        let pure = verbs(Mix::of(0.3, 0.0, 0.0), &mut random);
        assert!(pure.iter().all(|verb| *verb == Verb::Read));
    }
}
