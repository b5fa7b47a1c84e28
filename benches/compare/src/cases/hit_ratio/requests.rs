//! Requests that are made up.

use std::fmt::Write as _;

use anyhow::Result;
use larder_bench::Trace;
use rand::{RngExt as _, SeedableRng, rngs::SmallRng};
use rand_distr::Zipf;

/// How keys follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Zipf,
    Scan,
    Loop,
    Mix,
    Recent,
}

const EXPONENT: f64 = 0.9;
const LEN_MEAN: u64 = 8_000;
/// Requests of one kind before those of another.
const TURN: u64 = 10_000;
/// The share of the keys that never came before, where the latest are asked for.
const NEW: f64 = 0.3;
/// Keys of a loop and of a scan are apart from those of the zipf law.
const LOOPED: u64 = 1 << 32;
const SCANNED: u64 = 1 << 33;

impl Kind {
    pub(super) const ALL: [Self; 5] = [Self::Zipf, Self::Scan, Self::Loop, Self::Mix, Self::Recent];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Zipf => "zipf",
            Self::Scan => "scan",
            Self::Loop => "loop",
            Self::Mix => "mix",
            Self::Recent => "recent",
        }
    }

    /// Which kind a request is of, by its number.
    fn at(self, number: u64) -> Self {
        let turn = number / TURN % 3;
        match (self, turn) {
            (Self::Mix, 0) | (Self::Scan, 0 | 1) => Self::Zipf,
            (Self::Mix, 1) => Self::Loop,
            (Self::Mix, _) => Self::Scan,
            (kind, _) => kind,
        }
    }
}

pub(super) fn generate(kind: Kind, count: u64, capacity: u64, seed: u64) -> Result<Trace> {
    let fit = (capacity / LEN_MEAN).max(1);
    let zipf = Zipf::new(10.0 * fit as f64, EXPONENT)?;
    let mut random = SmallRng::seed_from_u64(seed);
    let (mut looped, mut scanned) = (0, 0);
    let mut text = String::new();
    for number in 0..count {
        let key = match kind.at(number) {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // A whole number.
            Kind::Zipf => random.sample(zipf) as u64,
            Kind::Loop => {
                looped = (looped + 1) % (fit * 3 / 2).max(2);
                LOOPED + looped
            }
            Kind::Recent if scanned > 0 && random.random_bool(1.0 - NEW) => {
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // As above.
                let back = random.sample(zipf) as u64;
                SCANNED + scanned - (back - 1).min(scanned - 1)
            }
            Kind::Scan | Kind::Mix | Kind::Recent => {
                scanned += 1;
                SCANNED + scanned
            }
        };
        writeln!(text, "{key},{}", len_of(key))?;
    }
    Ok(Trace::read(text.as_bytes())?)
}

/// From 512 bytes to 15.5 KiB, whatever the rank.
fn len_of(key: u64) -> u64 {
    512 + (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % 15_360
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_comes_back_and_a_scan_does_not() {
        let keys = |kind| generate(kind, 60_000, 8_000 * 100, 1).map(|trace| trace.keys().len());
        assert_eq!(keys(Kind::Loop).ok(), Some(150));
        let scan = keys(Kind::Scan).unwrap_or(0);
        assert!((20_000..21_001).contains(&scan), "{scan}");
    }

    #[test]
    fn the_latest_are_asked_for_most() -> Result<()> {
        let trace = generate(Kind::Recent, 60_000, 8_000 * 1_000, 1)?;
        let new = trace.keys().len();
        assert!((17_000..19_000).contains(&new), "{new}");
        // Keys are numbered as they come, so the latest has the greatest number.
        let (mut latest, mut near, mut again) = (0, 0, 0);
        for &key in trace.order() {
            if key > latest {
                latest = key;
            } else {
                again += 1;
                near += u32::from(latest - key < 100);
            }
        }
        assert!(near * 10 > again * 4, "{near} of {again}");
        Ok(())
    }
}
