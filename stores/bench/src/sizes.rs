//! How long each object is.

use rand::{Rng, RngExt, rngs::StdRng};
use rand_distr::{Distribution, LogNormal};

use crate::{Popularity, Sizes, Workload};

/// The length of each object, by the number of its key.
pub(crate) enum Lengths {
    Same(u64),
    Each(Vec<u64>),
}

impl Lengths {
    pub(crate) fn draw(workload: &Workload, random: &mut StdRng) -> Result<Self, String> {
        let count = workload.popularity.keys();
        Ok(match workload.sizes {
            Sizes::Fixed(size) => Self::Same(size),
            Sizes::LogNormal { median, sigma, max } => {
                let lengths = log_normal(median, sigma)?;
                Self::Each((0..count).map(|_| one(&lengths, max, random)).collect())
            }
            Sizes::ProdLike => Self::Each(prod_like(count, random)?),
            Sizes::Trace(default) => match &workload.popularity {
                Popularity::Trace(trace) => {
                    let sizes = trace.sizes().iter();
                    Self::Each(sizes.map(|size| size.unwrap_or(default)).collect())
                }
                _ => return Err("sizes can be taken from a trace only where keys are, too".into()),
            },
        })
    }

    pub(crate) fn of(&self, number: usize) -> u64 {
        match self {
            Self::Same(size) => *size,
            Self::Each(sizes) => sizes[number],
        }
    }

    pub(crate) fn max(&self) -> u64 {
        match self {
            Self::Same(size) => *size,
            Self::Each(sizes) => sizes.iter().copied().max().unwrap_or(0),
        }
    }
}

fn prod_like(count: usize, random: &mut StdRng) -> Result<Vec<u64>, String> {
    let small = log_normal(4 << 10, 1.0)?;
    let middle = log_normal(64 << 10, 1.0)?;
    let large = log_normal(1 << 20, 1.0)?;
    let sizes = (0..count).map(|_| match random.random_range(0..100) {
        0 => one(&large, 16 << 20, random),
        1..10 => one(&middle, 1 << 20, random),
        _ => one(&small, 256 << 10, random),
    });
    Ok(sizes.collect())
}

#[allow(clippy::cast_precision_loss)] // Lengths are far below 2^52.
fn log_normal(median: u64, sigma: f64) -> Result<LogNormal<f64>, String> {
    if !(sigma >= 0.0 && sigma.is_finite()) {
        return Err(format!("a sigma of {sigma} is not from zero up"));
    }
    LogNormal::new((median.max(1) as f64).ln(), sigma).map_err(|error| error.to_string())
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // It is positive, and cut off.
fn one(lengths: &LogNormal<f64>, max: u64, random: &mut impl Rng) -> u64 {
    (lengths.sample(random) as u64).min(max)
}
