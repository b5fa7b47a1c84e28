//! Who publishes, and which of its messages are missing.

use std::{collections::HashMap, time::Duration};

use larder_store::{Message, Notice};
use tokio::time::Instant;

/// More publishers than this cannot be followed: whatever the others say ends the generation.
const PUBLISHERS_MAX: usize = 4096;

/// Of one publisher, more than this cannot be waited for.
const MISSING_MAX: usize = 64;

/// The publishers that are heard, and how far.
#[derive(Default)]
pub(super) struct Publishers {
    known: HashMap<u64, Heard>,
    /// Something is missing that nothing can make good.
    doubt: bool,
}

struct Heard {
    epoch: u64,
    /// The greatest number that came; all below came as well, but for those missing.
    high: u64,
    missing: Vec<u64>,
    at: Instant,
}

impl Publishers {
    /// Notes a message; says whether one is missing before it.
    ///
    /// Who is not known is expected to begin with its first message: what it said before was not
    /// heard. A message that comes again, or late, is none that is missing any more.
    pub(super) fn hear(&mut self, message: &Message, now: Instant) -> bool {
        let Message {
            publisher,
            epoch,
            sequence,
            ..
        } = *message;
        if self.known.len() >= PUBLISHERS_MAX && !self.known.contains_key(&publisher) {
            self.doubt = true;
            return true;
        }
        let begins = || Heard {
            epoch,
            high: 0,
            missing: Vec::new(),
            at: now,
        };
        let heard = self.known.entry(publisher).or_insert_with(begins);
        heard.at = now;
        if epoch > heard.epoch {
            // What else it said in the last epoch nobody knows.
            *heard = begins();
            self.doubt = true;
        }
        if epoch == heard.epoch && !heard.note(sequence) {
            self.doubt = true;
        }
        let lacks = !heard.missing.is_empty();
        if matches!(message.notice, Notice::Leave) {
            self.known.remove(&publisher);
            self.doubt |= lacks;
        }
        self.doubt || lacks
    }

    /// Whether something is missing yet.
    pub(super) fn lack(&self) -> bool {
        self.doubt || self.known.values().any(|heard| !heard.missing.is_empty())
    }

    /// A generation began: what was missing is made good.
    pub(super) fn settle(&mut self) {
        self.doubt = false;
        for heard in self.known.values_mut() {
            heard.missing.clear();
        }
    }

    /// Forgets who has said nothing for so long; says whether there was one. When it speaks again
    /// it is one that is not known.
    pub(super) fn silent(&mut self, now: Instant, limit: Duration) -> bool {
        let before = self.known.len();
        self.known
            .retain(|_, heard| now.duration_since(heard.at) <= limit);
        self.known.len() < before
    }
}

impl Heard {
    /// Notes a number; `false` when too many are missing before it.
    fn note(&mut self, sequence: u64) -> bool {
        if sequence <= self.high {
            self.missing.retain(|&missing| missing != sequence);
            return true;
        }
        let skipped = self.high + 1..sequence;
        self.high = sequence;
        let room = MISSING_MAX - self.missing.len();
        if skipped.end - skipped.start > room as u64 {
            return false;
        }
        self.missing.extend(skipped);
        true
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn beat(publisher: u64, sequence: u64) -> Message {
        Message {
            publisher,
            epoch: 1,
            sequence,
            notice: Notice::Beat,
        }
    }

    /// Hears these numbers of one publisher; says after which something is missing.
    fn lacking(numbers: &[u64]) -> Vec<bool> {
        let mut publishers = Publishers::default();
        let now = Instant::now();
        let hear = |&number| publishers.hear(&beat(7, number), now);
        numbers.iter().map(hear).collect()
    }

    #[test]
    fn s67_a_number_is_missing_until_it_comes() {
        assert_eq!(lacking(&[1, 2, 3]), [false; 3]);
        assert_eq!(lacking(&[1, 3, 2, 4]), [false, true, false, false]);
        assert_eq!(lacking(&[1, 4, 3, 3, 2]), [false, true, true, true, false]);
        assert_eq!(lacking(&[1, 1, 2, 1, 2]), [false; 5], "repeated");
        assert_eq!(lacking(&[2, 1]), [true, false], "its first came second");
        assert_eq!(lacking(&[5, 6]), [true; 2], "it had said something before");
        assert_eq!(
            lacking(&[u64::MAX, 1, 1]),
            [true; 3],
            "too many to wait for"
        );
    }

    #[test]
    fn s67_what_was_missing_is_made_good_once() {
        let (mut publishers, now) = (Publishers::default(), Instant::now());
        assert!(publishers.hear(&beat(7, 1000), now) && publishers.lack());
        publishers.settle();
        assert!(!publishers.lack() && !publishers.hear(&beat(7, 1001), now));
        assert!(publishers.hear(&beat(7, 1003), now));
        publishers.settle();
        assert!(!publishers.lack());
    }

    #[test]
    fn s67_an_epoch_that_begins_ends_one_of_which_nobody_knows_the_end() {
        let (mut publishers, now) = (Publishers::default(), Instant::now());
        let anew = Message {
            epoch: 2,
            ..beat(7, 1)
        };
        assert!(!publishers.hear(&beat(7, 1), now));
        assert!(publishers.hear(&anew, now));
        publishers.settle();
        assert!(
            !publishers.hear(&beat(7, 9), now),
            "late, of the epoch before"
        );
    }

    #[test]
    fn s67_who_leaves_is_not_missed_and_who_falls_silent_is() {
        let (mut publishers, now) = (Publishers::default(), Instant::now());
        let leave = |sequence| Message {
            notice: Notice::Leave,
            ..beat(8, sequence)
        };
        assert!(!publishers.hear(&beat(7, 1), now) && !publishers.hear(&leave(1), now));
        assert!(!publishers.silent(now + SECOND, SECOND));
        assert!(publishers.silent(now + 2 * SECOND, SECOND));
        assert!(!publishers.silent(now + 4 * SECOND, SECOND), "told once");
        assert!(
            publishers.hear(&beat(7, 2), now),
            "it is not known any more"
        );
        publishers.settle();
        assert!(!publishers.hear(&beat(9, 1), now));
        assert!(publishers.hear(
            &Message {
                publisher: 9,
                ..leave(3)
            },
            now
        ));
    }

    #[test]
    fn more_publishers_than_can_be_followed_are_never_believed() {
        let (mut publishers, now) = (Publishers::default(), Instant::now());
        for publisher in 0..PUBLISHERS_MAX as u64 {
            assert!(!publishers.hear(&beat(publisher, 1), now));
        }
        for sequence in 1..4 {
            assert!(publishers.hear(&beat(u64::MAX, sequence), now));
            publishers.settle();
        }
        assert_eq!(publishers.known.len(), PUBLISHERS_MAX);
        assert!(!publishers.hear(&beat(0, 2), now));
    }
}
