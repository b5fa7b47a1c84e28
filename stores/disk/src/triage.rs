//! Which of a segment's objects are written again when it goes: the hottest, within a budget.

use crate::index::FREQUENCY_MAX;

/// Bytes of objects by how often they were asked for.
pub(crate) type Census = [u64; FREQUENCY_MAX as usize + 1];

/// What may still be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Triage {
    /// Objects that were asked for this often are all kept.
    all_from: u8,
    /// Of those that were asked for once less, so many bytes.
    rest: u64,
}

impl Triage {
    /// A plan that keeps at most so many bytes. What was never asked for is not kept.
    pub(crate) fn new(census: &Census, budget: u64) -> Self {
        let mut plan = Self {
            all_from: FREQUENCY_MAX + 1,
            rest: budget,
        };
        for frequency in (1..=FREQUENCY_MAX).rev() {
            let Some(rest) = plan.rest.checked_sub(census[usize::from(frequency)]) else {
                break;
            };
            plan = Self {
                all_from: frequency,
                rest,
            };
        }
        plan
    }

    /// Whether an object that was counted is kept.
    pub(crate) fn keeps(&mut self, frequency: u8, bytes: u64) -> bool {
        if frequency == 0 {
            return false;
        }
        if frequency >= self.all_from {
            return true;
        }
        let fits = frequency + 1 == self.all_from && bytes <= self.rest;
        if fits {
            self.rest -= bytes;
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(objects: &[(u8, u64)], budget: u64) -> Vec<(u8, u64)> {
        let mut census = Census::default();
        for &(frequency, bytes) in objects {
            census[usize::from(frequency)] += bytes;
        }
        let mut triage = Triage::new(&census, budget);
        let keeps = |&(frequency, bytes): &(u8, u64)| triage.keeps(frequency, bytes);
        objects.iter().copied().filter(keeps).collect()
    }

    #[test]
    fn the_hottest_are_kept_within_the_budget() {
        let objects = [(1, 40), (3, 30), (0, 10), (2, 50), (3, 20), (1, 10), (2, 5)];
        assert_eq!(kept(&objects, 0), []);
        assert_eq!(kept(&objects, 49), [(3, 30)]);
        assert_eq!(kept(&objects, 55), [(3, 30), (3, 20), (2, 5)]);
        assert_eq!(
            kept(&objects, 115),
            [(3, 30), (2, 50), (3, 20), (1, 10), (2, 5)]
        );
        let hot: Vec<_> = objects.into_iter().filter(|object| object.0 > 0).collect();
        assert_eq!(kept(&objects, u64::MAX), hot);
    }
}
