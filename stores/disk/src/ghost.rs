//! Fingerprints of what was evicted lately: what is asked for again although it went goes straight
//! to the main queue. The ghost queue of S3-FIFO (Yang and others, "FIFO queues are all you need
//! for cache eviction", SOSP 2023), as a table instead of a queue.
//
// Invariants:
// 1. A cell that is not zero holds a fingerprint, never zero, and the tick at which it was set.
// 2. Anybody may set and test cells at any time. Two that meet may undo or miss each other, which
//    costs a place in the wrong queue.

use std::sync::{
    PoisonError, RwLock,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

/// Cells that a hash may be in.
const WAYS: usize = 8;
const CELLS_MIN: usize = 1 << 10;
const CELLS_MAX: usize = 1 << 24;
/// What is older than so many ticks is forgotten; in that time each cell could be set once.
const AGE_MAX: u16 = 256;

/// The table: four bytes a cell, at most as many cells as the store has objects.
pub(crate) struct Ghost {
    cells: RwLock<Box<[AtomicU32]>>,
    /// Hashes that were ever inserted.
    inserted: AtomicU64,
}

impl Ghost {
    pub(crate) fn new() -> Self {
        Self {
            cells: RwLock::new(empty(CELLS_MIN)),
            inserted: AtomicU64::new(0),
        }
    }

    /// Whether this hash was inserted lately. One in about 8,000 others is taken for it.
    pub(crate) fn contains(&self, hash: u64) -> bool {
        if self.inserted.load(Ordering::Relaxed) == 0 {
            // Without the lock, which each write of a store that is not full would take.
            return false;
        }
        let cells = self.cells.read().unwrap_or_else(PoisonError::into_inner);
        let now = self.tick(cells.len());
        let fingerprint = fingerprint(hash);
        cells[set(hash, cells.len())].iter().any(|cell| {
            let (found, tick) = unpack(cell.load(Ordering::Relaxed));
            found == fingerprint && now.wrapping_sub(tick) < AGE_MAX
        })
    }

    /// Notes an eviction; of the hashes that share its cells the oldest is forgotten.
    pub(crate) fn insert(&self, hash: u64) {
        let cells = self.cells.read().unwrap_or_else(PoisonError::into_inner);
        let now = self.tick(cells.len());
        self.inserted.fetch_add(1, Ordering::Relaxed);
        let fingerprint = fingerprint(hash);
        let worth = |cell: &&AtomicU32| {
            let (found, tick) = unpack(cell.load(Ordering::Relaxed));
            // Its own cell is the best, then one that is free, then the oldest.
            match found {
                0 => u32::from(u16::MAX) + 1,
                found if found == fingerprint => u32::MAX,
                _ => u32::from(now.wrapping_sub(tick)),
            }
        };
        let cell = cells[set(hash, cells.len())].iter().max_by_key(worth);
        if let Some(cell) = cell {
            cell.store(pack(fingerprint, now), Ordering::Relaxed);
        }
    }

    /// Grows to what a store of so many objects deserves; it never shrinks.
    pub(crate) fn fit(&self, entries: u64) {
        let len = |cells: &[AtomicU32]| cells.len();
        let old = len(&self.cells.read().unwrap_or_else(PoisonError::into_inner));
        if old >= CELLS_MAX || entries < 2 * old as u64 {
            return;
        }
        let mut cells = self.cells.write().unwrap_or_else(PoisonError::into_inner);
        while cells.len() < CELLS_MAX && entries >= 2 * cells.len() as u64 {
            *cells = self.doubled(&cells);
        }
    }

    /// A hash's set in the table of twice the length is one of two, and a fingerprint does not tell
    /// which: it goes to both, and the wrong one is forgotten with age.
    fn doubled(&self, old: &[AtomicU32]) -> Box<[AtomicU32]> {
        let new = empty(old.len() * 2);
        let (then, now) = (self.tick(old.len()), self.tick(new.len()));
        for (at, cell) in old.iter().enumerate() {
            let (fingerprint, tick) = unpack(cell.load(Ordering::Relaxed));
            let age = then.wrapping_sub(tick);
            if fingerprint != 0 && age < AGE_MAX {
                let cell = pack(fingerprint, now.wrapping_sub(age / 2));
                new[at].store(cell, Ordering::Relaxed);
                new[at + old.len()].store(cell, Ordering::Relaxed);
            }
        }
        new
    }

    #[allow(clippy::cast_possible_truncation)] // It wraps; ages are differences.
    fn tick(&self, cells: usize) -> u16 {
        let ticks_every = (cells / usize::from(AGE_MAX)).max(1) as u64;
        (self.inserted.load(Ordering::Relaxed) / ticks_every) as u16
    }
}

fn empty(cells: usize) -> Box<[AtomicU32]> {
    (0..cells).map(|_| AtomicU32::new(0)).collect()
}

#[allow(clippy::cast_possible_truncation)] // Some bits are as good as others.
fn set(hash: u64, cells: usize) -> std::ops::Range<usize> {
    let start = (hash >> 16) as usize % (cells / WAYS) * WAYS;
    start..start + WAYS
}

#[allow(clippy::cast_possible_truncation)] // The bits that do not choose the set.
fn fingerprint(hash: u64) -> u16 {
    (hash as u16).max(1)
}

fn pack(fingerprint: u16, tick: u16) -> u32 {
    u32::from(fingerprint) << 16 | u32::from(tick)
}

#[allow(clippy::cast_possible_truncation)] // Halves.
fn unpack(cell: u32) -> (u16, u16) {
    ((cell >> 16) as u16, cell as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spreads small numbers as the keyed hash does.
    fn hash(number: u64) -> u64 {
        let mixed = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    }

    fn known(ghost: &Ghost, numbers: std::ops::Range<u64>) -> usize {
        numbers.filter(|&at| ghost.contains(hash(at))).count()
    }

    #[test]
    fn what_went_lately_is_known_and_little_else() {
        let ghost = Ghost::new();
        assert_eq!(known(&ghost, 0..10_000), 0);
        (0..300).for_each(|at| ghost.insert(hash(at)));
        assert!(known(&ghost, 0..300) >= 295);
        assert!(known(&ghost, 1_000..11_000) <= 10);
    }

    #[test]
    fn what_went_long_ago_is_forgotten() {
        let ghost = Ghost::new();
        (0..1_000_000).for_each(|at| ghost.insert(hash(at)));
        assert!(known(&ghost, 0..990_000) < 500);
        assert!(known(&ghost, 999_700..1_000_000) >= 290);
    }

    #[test]
    fn it_grows_with_the_store_and_forgets_nothing_by_that() {
        let ghost = Ghost::new();
        (0..300).for_each(|at| ghost.insert(hash(at)));
        ghost.fit(1_000);
        assert_eq!(ghost.cells.read().unwrap().len(), CELLS_MIN);
        ghost.fit(9_000);
        assert_eq!(ghost.cells.read().unwrap().len(), 8 << 10);
        assert!(known(&ghost, 0..300) >= 295);
        assert!(known(&ghost, 1_000..11_000) <= 20);
        (300..6_000).for_each(|at| ghost.insert(hash(at)));
        assert!(known(&ghost, 4_000..6_000) >= 1_900);
    }
}
