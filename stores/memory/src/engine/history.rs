//! Who left lately: it tells which of those that come back are worth keeping.
//!
//! S3-FIFO remembers as many keys as it keeps objects, and lets whatever comes back of them into
//! its main queue. How many objects there will be is not known beforehand, and a memory that is too
//! long is worse than one that is too short: of a loop that is longer than the store everything
//! comes back, and drives out what would have been hit. So the memory follows the number of
//! entries, and what comes back is let in by what was learned: see [`Lesson`].
//!
//! A history is a table of fingerprints in sets of four, in which the oldest give way. It can
//! mistake one key for another, which at worst lets in an object too many.

use super::lesson::Lesson;

/// What a history makes of a key: where its slots are, and how it is known again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark(u64);

/// Which queue an entry left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Queue {
    /// What came for the first time, and was not asked for again.
    Probation,
    Main,
}

/// The history of a part of the keys.
pub(super) struct History {
    /// Fingerprint, queue and time of each; zero is free. A power of two, once there is any.
    slots: Vec<u64>,
    slots_max: usize,
    /// Victims of probation.
    time: u64,
    lesson: Lesson,
}

/// Slots in which a key may be.
const WAYS: usize = 4;

/// Slots for each entry, unless that is more than `slots_max`.
const SLOTS_PER_ENTRY: u64 = 4;

const TIME_BITS: u32 = 40;
const TIME_MASK: u64 = (1 << TIME_BITS) - 1;
const MAIN: u64 = 1 << TIME_BITS;
const PRINT_MASK: u64 = !(TIME_MASK | MAIN);

impl History {
    /// A history of at most this many slots of 8 bytes, and always of a few.
    pub(super) fn new(slots_max: usize) -> Self {
        let below = (slots_max / 2 + 1).next_power_of_two();
        Self {
            slots: Vec::new(),
            slots_max: below.max(WAYS * 4),
            time: 0,
            lesson: Lesson::default(),
        }
    }

    /// Notes that an entry is put in, and tells whether it is worth keeping for what is known of
    /// its key and its weight.
    pub(super) fn enter(&mut self, mark: Mark, weight: u64) -> bool {
        self.lesson.enter(weight);
        let Some(slot) = self.find(mark) else {
            return self.lesson.admits_new();
        };
        let found = std::mem::take(&mut self.slots[slot]);
        let age = self.time.wrapping_sub(found) & TIME_MASK;
        let left = if found & MAIN == 0 {
            Queue::Probation
        } else {
            Queue::Main
        };
        self.lesson.admits(left, age, weight)
    }

    /// Notes that an entry was replaced or removed.
    pub(super) fn forget(&mut self, weight: u64) {
        self.lesson.leave(weight);
    }

    /// Notes that an entry had to make room.
    pub(super) fn evict(&mut self, mark: Mark, weight: u64, from: Queue) {
        self.lesson.leave(weight);
        self.lesson.evict(from);
        let queue = match from {
            Queue::Probation => {
                self.time = (self.time + 1) & TIME_MASK;
                0
            }
            Queue::Main => MAIN,
        };
        self.grow();
        let slot = self.find(mark).unwrap_or_else(|| self.oldest(mark));
        self.slots[slot] = mark.print() | queue | self.time;
    }

    /// Notes that all entries are gone.
    pub(super) fn clear(&mut self) {
        *self = Self::new(self.slots_max);
    }

    fn set(&self, mark: Mark) -> std::ops::Range<usize> {
        let sets = self.slots.len() / WAYS;
        #[allow(clippy::cast_possible_truncation)] // The low bits are what is wanted.
        let start = (mark.0 as usize & sets.wrapping_sub(1)) * WAYS;
        start..start + WAYS
    }

    fn find(&self, mark: Mark) -> Option<usize> {
        if self.slots.is_empty() {
            return None;
        }
        let is =
            |slot: &usize| self.slots[*slot] != 0 && self.slots[*slot] & PRINT_MASK == mark.print();
        self.set(mark).find(is)
    }

    /// The slot of a key's set that is free, or was written the longest time ago.
    fn oldest(&self, mark: Mark) -> usize {
        let age = |slot: &usize| match self.slots[*slot] {
            0 => u64::MAX,
            at => self.time.wrapping_sub(at) & TIME_MASK,
        };
        self.set(mark).max_by_key(age).expect("a set has slots")
    }

    /// Doubles the table until it does for the entries. Each half gets all that was noted, since
    /// its keys may belong to either; what is not looked for there grows old.
    fn grow(&mut self) {
        if self.slots.is_empty() {
            self.slots = vec![0; WAYS * 4];
        }
        while self.slots.len() < self.slots_max
            && (self.slots.len() as u64) < self.lesson.entries() * SLOTS_PER_ENTRY
        {
            self.slots.extend_from_within(..);
        }
    }
}

impl Mark {
    /// Of a hash of 64 bits: the lowest choose the set, the highest are the fingerprint.
    pub(super) fn new(hash: u64) -> Self {
        Self(hash)
    }

    /// Which of `parts`, a power of two of at most 256, a key belongs to. By bits that choose
    /// neither its set nor are its fingerprint, up to a table of four billion slots.
    pub(super) fn part(self, parts: usize) -> usize {
        #[allow(clippy::cast_possible_truncation)] // Nine bits.
        let bits = (self.0 >> 32 & 0x1ff) as usize;
        bits & (parts - 1)
    }

    fn print(self) -> u64 {
        self.0 & PRINT_MASK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of every entry.
    const WEIGHT: u64 = 100;

    fn mark(number: u64) -> Mark {
        Mark::new(number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    /// A history of 1,000 entries.
    fn full() -> History {
        let mut history = History::new(1 << 20);
        for number in 0..1_000 {
            assert!(!history.enter(mark(number), WEIGHT));
        }
        history
    }

    /// Puts new entries in; one leaves probation for each.
    fn pass(history: &mut History, from: u64, count: u64) {
        for number in from..from + count {
            history.evict(mark(number), WEIGHT, Queue::Probation);
            history.enter(mark(1_000_000 + number), WEIGHT);
        }
    }

    #[test]
    fn what_comes_back_in_the_window_is_let_in() {
        let mut history = full();
        pass(&mut history, 0, 3_900);
        assert!(history.enter(mark(3_800), WEIGHT), "soon");
        assert!(history.enter(mark(100), WEIGHT), "late");
        assert!(!history.enter(mark(100), WEIGHT), "a second time");
        assert!(!history.enter(mark(900_000), WEIGHT), "never seen");
        pass(&mut history, 10_000, 500);
        assert!(!history.enter(mark(50), WEIGHT), "after the window");
    }

    #[test]
    fn the_table_grows_with_the_entries_and_up_to_its_limit() {
        let mut history = History::new(3_000);
        assert_eq!(history.slots.len(), 0, "nothing has left");
        for number in 0..10 {
            history.enter(mark(number), WEIGHT);
        }
        history.evict(mark(5), WEIGHT, Queue::Probation);
        let before = history.slots.len();
        for number in 10..100_000 {
            history.enter(mark(number), WEIGHT);
        }
        history.evict(mark(6), WEIGHT, Queue::Probation);
        assert!(before < 100 && history.slots.len() == 2_048);
        assert!(history.enter(mark(5), WEIGHT), "kept while the table grew");
        history.clear();
        assert!(history.slots.is_empty() && !history.enter(mark(6), WEIGHT));
    }

    #[test]
    fn the_oldest_give_way() {
        let mut history = History::new(0);
        for number in 0..1_000 {
            history.enter(mark(number), WEIGHT);
        }
        for number in 0..1_000 {
            history.evict(mark(number), WEIGHT, Queue::Probation);
            history.enter(mark(5_000 + number), WEIGHT);
        }
        assert_eq!(history.slots.len(), 16);
        let back = (0..1_000).filter(|number| history.enter(mark(*number), WEIGHT));
        let back: Vec<_> = back.collect();
        assert!((8..=16).contains(&back.len()), "{back:?}");
        assert!(back.iter().all(|number| *number > 900), "{back:?}");
    }
}
