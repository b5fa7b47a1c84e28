//! What is learned from who leaves and comes back: how much of what enters is worth the main queue
//! at once.
//!
//! 1. While the main queue's victims are not missed, it holds too much, and whatever comes back is
//!    let in; when most of them are missed, hardly anything is.
//! 2. Where only a part is let in, it is the light ones first: they bring as many hits for less
//!    room. As of a loop that is longer than the store, which light ones fill after a while.
//! 3. When many victims of probation come back at once, what is new is asked for again soon, and
//!    probation is too short for it: then new ones are let in as well, as an LRU does.

use super::history::Queue;

/// Ages are counted in victims of probation, and compared with the number of entries.
#[derive(Default)]
pub(super) struct Lesson {
    entries: u64,
    /// The sum of their weights.
    weight: u64,
    /// Victims of the main queue of late, and how many of them were asked for again.
    main: Tally,
    /// Victims of probation of late, and how many of them were asked for again at once.
    probation: Tally,
    /// The sums of the shares of those that came back and of those that are new, not yet spent on
    /// letting one in.
    known_credit: f64,
    new_credit: f64,
}

/// How many of late, of whom how many came back.
#[derive(Default)]
struct Tally {
    left: f64,
    back: f64,
}

/// After as many victims of probation as this many times the entries, nothing is remembered.
const WINDOW: f64 = 4.0;

/// Up to this part of the entries, what comes back does so soon.
const SOON: f64 = 0.5;

/// Up to this part of the entries, a victim of probation comes back at once: it would have been hit
/// if probation were a little longer.
const AT_ONCE: f64 = 0.1;

/// The part of the main queue's victims that is missed: up to the first all that come back are let
/// in, from the second on [`SHARE_MIN`] of them; for those that come back soon, and for the others.
const MISSED_SOON: (f64, f64) = (0.7, 0.9);
const MISSED_LATE: (f64, f64) = (0.1, 0.3);

/// What is let in at least of those that come back and are of the mean weight, so that there is
/// always something to learn from.
const SHARE_MIN: f64 = 0.01;

/// The part of probation's victims that comes back at once: up to the first nothing that is new is
/// let in, from the second on all of it. Of a Zipf law with 0.9 some 3 % come back, of a scan 1.
const AT_ONCE_NEW: (f64, f64) = (0.06, 0.12);

/// Victims of the main queue after which older ones count half, as a part of the entries.
const MAIN_SPAN: f64 = 0.25;

/// Victims of probation after which older ones count half: as many as there are entries, but not
/// so few that the rest would be chance.
const PROBATION_SPAN_MIN: f64 = 1_000.0;

/// The least that a share is told from, as a part of the span.
const SPAN_MIN: f64 = 0.125;

#[allow(clippy::cast_precision_loss)] // Shares, not accounts.
impl Lesson {
    pub(super) fn entries(&self) -> u64 {
        self.entries
    }

    /// Notes that an entry is put in.
    pub(super) fn enter(&mut self, weight: u64) {
        self.entries += 1;
        self.weight = self.weight.saturating_add(weight);
    }

    /// Notes that an entry is gone.
    pub(super) fn leave(&mut self, weight: u64) {
        self.entries = self.entries.saturating_sub(1);
        self.weight = self.weight.saturating_sub(weight);
    }

    /// Notes that an entry had to make room.
    pub(super) fn evict(&mut self, from: Queue) {
        match from {
            Queue::Main => self.main.leave(self.main_span()),
            Queue::Probation => self.probation.leave(self.probation_span()),
        }
    }

    fn main_span(&self) -> f64 {
        self.entries as f64 * MAIN_SPAN
    }

    fn probation_span(&self) -> f64 {
        (self.entries as f64).max(PROBATION_SPAN_MIN)
    }

    /// Whether a new one is let in.
    pub(super) fn admits_new(&mut self) -> bool {
        let (low, high) = AT_ONCE_NEW;
        let at_once = self.probation.share(self.probation_span());
        if at_once <= low {
            return false; // Of most requests: the rest need not be reckoned.
        }
        let share = ((at_once - low) / (high - low)).min(1.0);
        let share = share * SHARE_MIN.powf(self.reluctance(MISSED_SOON));
        spend(&mut self.new_credit, share)
    }

    /// Whether one that comes back after `age` is let in. Called once for each that does.
    pub(super) fn admits(&mut self, left: Queue, age: u64, weight: u64) -> bool {
        let age = age as f64 / self.entries.max(1) as f64;
        if age > WINDOW {
            return self.admits_new();
        }
        match left {
            Queue::Main => {
                self.main.back += 1.0;
                return false;
            }
            Queue::Probation if age <= AT_ONCE => self.probation.back += 1.0,
            Queue::Probation => {}
        }
        let missed = if age <= SOON {
            MISSED_SOON
        } else {
            MISSED_LATE
        };
        let mean = self.weight as f64 / self.entries.max(1) as f64;
        let heaviness = weight as f64 / mean.max(1.0);
        let share = SHARE_MIN.powf(self.reluctance(missed) * heaviness * heaviness);
        spend(&mut self.known_credit, share)
    }

    /// From 0 to 1, by how many victims of the main queue are missed.
    fn reluctance(&self, (low, high): (f64, f64)) -> f64 {
        let missed = self.main.share(self.main_span());
        ((missed - low) / (high - low)).clamp(0.0, 1.0)
    }
}

impl Tally {
    fn leave(&mut self, span: f64) {
        self.left += 1.0;
        if self.left > span {
            self.left /= 2.0;
            self.back /= 2.0;
        }
    }

    fn share(&self, span: f64) -> f64 {
        self.back / self.left.max(span * SPAN_MIN).max(1.0)
    }
}

/// Adds a share, and takes one as soon as there is.
fn spend(credit: &mut f64, share: f64) -> bool {
    *credit += share;
    let enough = *credit >= 1.0;
    if enough {
        *credit -= 1.0;
    }
    enough
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is learned with 1,000 entries of 100 bytes, when of 100 that leave a queue so many come
    /// back, and again.
    fn lesson(main: u64, probation: u64) -> Lesson {
        let mut lesson = Lesson::default();
        for _ in 0..1_000 {
            lesson.enter(100);
        }
        for number in 0..10_000 {
            lesson.evict(Queue::Main);
            if number % 100 < main {
                lesson.admits(Queue::Main, 10, 100);
            }
            lesson.evict(Queue::Probation);
            if number % 100 < probation {
                lesson.admits(Queue::Probation, 10, 100);
            }
        }
        lesson
    }

    /// How many of a thousand are let in.
    fn back(lesson: &mut Lesson, age: u64, weight: u64) -> usize {
        let admits = |_: &i32| lesson.admits(Queue::Probation, age, weight);
        (0..1_000).filter(admits).count()
    }

    #[test]
    fn the_main_queues_victims_teach_what_is_let_in() {
        assert!(back(&mut lesson(0, 0), 200, 100) >= 999);
        assert!(back(&mut lesson(0, 0), 2_000, 100) >= 999);
        assert!(back(&mut lesson(50, 0), 200, 100) >= 999, "soon");
        assert!(back(&mut lesson(50, 0), 2_000, 100) <= 11, "late");
        assert!(back(&mut lesson(100, 0), 200, 100) <= 11, "soon");
    }

    #[test]
    fn the_light_are_let_in_first() {
        let of = |weight| back(&mut lesson(100, 0), 2_000, weight);
        assert!(of(10) >= 900 && (200..500).contains(&of(50)) && of(200) == 0);
        let all = |weight| back(&mut lesson(0, 0), 2_000, weight);
        assert!(all(10) >= 999 && all(200) >= 999, "where all are let in");
    }

    #[test]
    fn what_is_new_is_let_in_where_such_comes_back_at_once() {
        let of = |main, probation| {
            let mut lesson = lesson(main, probation);
            (0..1_000).filter(|_| lesson.admits_new()).count()
        };
        assert_eq!(of(0, 5), 0);
        assert!((200..800).contains(&of(0, 9)));
        assert!(of(0, 20) >= 999);
        assert!(of(100, 20) <= 11, "the main queue has no room for it");
    }

    /// Of 500 that leave the probation of a small part, 4 % come back, and all of them in a row.
    #[test]
    fn a_few_that_come_back_by_chance_let_nothing_new_in() {
        let mut lesson = Lesson::default();
        (0..60).for_each(|_| lesson.enter(100));
        for number in 0..500 {
            lesson.evict(Queue::Probation);
            if number >= 480 {
                lesson.admits(Queue::Probation, 1, 100);
            }
            assert!(!lesson.admits_new(), "{number}");
        }
    }
}
