//! Where every object stands: 16 bytes and a control byte each, in memory.
//
// Invariants:
// 1. A stripe is written under the stripe of `Fences` that its key belongs to, or by the keeper;
//    beneath it only the log's lock is taken, and no I/O is done.
// 2. An entry points into a segment that is in `Segments`: a segment is taken out of there after
//    the last entry that points to it.
// 3. A stripe's `live` changes together with the entry that it counts, under the stripe's lock.
//    There is no count of all: each write would take it away from the other cores.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use hashbrown::HashTable;

use crate::{blobs::Blob, record::UNIT};

/// Where a record stands: the slot of its segment, and in units of [`UNIT`] bytes its offset and
/// its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) slot: u16,
    pub(crate) offset: u32,
    pub(crate) size: u32,
}

impl Place {
    /// The first byte in the segment.
    pub(crate) fn start(self) -> u64 {
        u64::from(self.offset) * UNIT as u64
    }

    /// The bytes of the record.
    pub(crate) fn len(self) -> usize {
        self.size as usize * UNIT
    }
}

/// What is known of an object without reading: the packed form of an [`Entry`].
///
/// From the lowest bit: offset 26, size 17, slot 16, frequency 2, blob 1, shadow 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word(pub(crate) u64);

const OFFSET_BITS: u32 = 26;
const SIZE_BITS: u32 = 17;
const SLOT_AT: u32 = OFFSET_BITS + SIZE_BITS;
const FREQUENCY_AT: u32 = SLOT_AT + 16;
const BLOB: u64 = 1 << (FREQUENCY_AT + 2);
const SHADOW: u64 = 1 << (FREQUENCY_AT + 3);
const FREQUENCY: u64 = 3 << FREQUENCY_AT;
const PLACE: u64 = (1 << FREQUENCY_AT) - 1;

/// The longest segment, in bytes.
pub(crate) const SEGMENT_MAX: u64 = (1 << OFFSET_BITS) * UNIT as u64;
/// The most that [`Word::frequency`] counts to.
pub(crate) const FREQUENCY_MAX: u8 = 3;

impl Word {
    pub(crate) fn new(place: Place, blob: bool, shadow: bool) -> Self {
        debug_assert!(place.offset < 1 << OFFSET_BITS && place.size < 1 << SIZE_BITS);
        let place = u64::from(place.offset)
            | u64::from(place.size) << OFFSET_BITS
            | u64::from(place.slot) << SLOT_AT;
        Self(place | if blob { BLOB } else { 0 } | if shadow { SHADOW } else { 0 })
    }

    #[allow(clippy::cast_possible_truncation)] // Masked.
    pub(crate) fn place(self) -> Place {
        Place {
            slot: (self.0 >> SLOT_AT) as u16,
            offset: self.0 as u32 & ((1 << OFFSET_BITS) - 1),
            size: (self.0 >> OFFSET_BITS) as u32 & ((1 << SIZE_BITS) - 1),
        }
    }

    pub(crate) fn is_blob(self) -> bool {
        self.0 & BLOB != 0
    }

    /// Whether an older record of the same hash may still be on disk.
    pub(crate) fn is_shadow(self) -> bool {
        self.0 & SHADOW != 0
    }

    /// How often it was asked for since it was placed, up to [`FREQUENCY_MAX`].
    #[allow(clippy::cast_possible_truncation)] // Masked.
    pub(crate) fn frequency(self) -> u8 {
        ((self.0 & FREQUENCY) >> FREQUENCY_AT) as u8
    }

    #[must_use]
    pub(crate) fn with_shadow(self) -> Self {
        Self(self.0 | SHADOW)
    }

    #[must_use]
    pub(crate) fn with_frequency(self, frequency: u8) -> Self {
        let frequency = u64::from(frequency.min(FREQUENCY_MAX));
        Self(self.0 & !FREQUENCY | frequency << FREQUENCY_AT)
    }

    fn is_at(self, place: Place) -> bool {
        self.0 & PLACE == Self::new(place, false, false).0
    }
}

struct Entry {
    hash: u64,
    /// A [`Word`]; atomic so that a hit is counted under a shared lock.
    word: AtomicU64,
}

impl Entry {
    fn word(&self) -> Word {
        Word(self.word.load(Ordering::Relaxed))
    }
}

/// All objects, by the hash of their keys.
pub(crate) struct Index {
    stripes: Box<[RwLock<Stripe>]>,
}

/// What [`Index::count`] tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) entries: u64,
    /// In bytes.
    pub(crate) live: u64,
}

#[derive(Default)]
pub(crate) struct Stripe {
    table: HashTable<Entry>,
    /// The bytes of all records and blobs that an entry points to.
    live: u64,
    /// Beside the entries that are blobs.
    blobs: HashMap<u64, Arc<Blob>>,
    /// The sequence number after the last record of this stripe that undoes an older one: until it
    /// has reached the kernel, nothing that builds on it may be acknowledged.
    barrier: u64,
    /// Hashes without an entry of which a start may still find an older record: nothing that voids
    /// it could be written.
    unvoided: HashSet<u64>,
}

/// Entries are spread over so many stripes by their hash: see [`Index::stripe_of`].
pub(crate) const STRIPES: usize = 256;

/// The stripe of each value of twelve bits of a hash. The last stripes have twice as many as the
/// first: were all alike, their tables would double at the same time, and all be half empty.
static SHARES: [u8; 4096] = shares();

#[allow(clippy::cast_possible_truncation)] // There are 256 stripes.
const fn shares() -> [u8; 4096] {
    let mut shares = [0; 4096];
    let all = STRIPES * STRIPES + STRIPES * (STRIPES - 1) / 2;
    let mut stripe = 0;
    while stripe < STRIPES {
        // Stripe `n` has a share of 256 + n.
        let mut at = (stripe * STRIPES + stripe * stripe.saturating_sub(1) / 2) * 4096 / all;
        while at < 4096 {
            shares[at] = stripe as u8;
            at += 1;
        }
        stripe += 1;
    }
    shares
}

impl Index {
    pub(crate) fn new() -> Self {
        let stripes = (0..STRIPES).map(|_| RwLock::default()).collect();
        Self { stripes }
    }

    /// How many objects there are, and the bytes of all their records and blobs. Each stripe is
    /// counted in turn.
    pub(crate) fn count(&self) -> Count {
        let mut count = Count::default();
        for stripe in &self.stripes {
            let stripe = stripe.read().unwrap_or_else(PoisonError::into_inner);
            count.entries += stripe.table.len() as u64;
            count.live = count.live.wrapping_add(stripe.live);
        }
        count
    }

    pub(crate) fn read(&self, hash: u64) -> RwLockReadGuard<'_, Stripe> {
        let stripe = self.stripe(hash).read();
        stripe.unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self, hash: u64) -> Locked<'_> {
        let stripe = self.stripe(hash).write();
        Locked {
            stripe: stripe.unwrap_or_else(PoisonError::into_inner),
            hash,
        }
    }

    /// Each stripe's entries in turn, as they are at that moment.
    pub(crate) fn stripes(&self) -> impl Iterator<Item = Vec<(u64, Word, Option<Arc<Blob>>)>> {
        self.stripes.iter().map(|stripe| {
            let stripe = stripe.read().unwrap_or_else(PoisonError::into_inner);
            let all = stripe.table.iter();
            all.map(|entry| {
                let blob = stripe.blobs.get(&entry.hash).cloned();
                (entry.hash, entry.word(), blob)
            })
            .collect()
        })
    }

    /// Adds entries of one stripe, about `count`, none of which is there: for a start.
    pub(crate) fn fill(
        &self,
        stripe: usize,
        count: usize,
        entries: impl Iterator<Item = (u64, Word, Option<Arc<Blob>>)>,
    ) {
        let mut locked = self.stripes[stripe]
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let Stripe {
            table, blobs, live, ..
        } = &mut *locked;
        table.reserve(count, |entry| entry.hash);
        for (hash, word, blob) in entries {
            debug_assert_eq!(Self::stripe_of(hash), stripe);
            *live = live.wrapping_add(weight(word, blob.as_deref()));
            let word = AtomicU64::new(word.0);
            table.insert_unique(hash, Entry { hash, word }, |entry| entry.hash);
            if let Some(blob) = blob {
                blobs.insert(hash, blob);
            }
        }
    }

    /// Takes all entries out.
    pub(crate) fn clear(&self) {
        for stripe in &self.stripes {
            let mut stripe = stripe.write().unwrap_or_else(PoisonError::into_inner);
            let barrier = stripe.barrier;
            *stripe = Stripe {
                barrier,
                ..Stripe::default()
            };
        }
    }

    /// All blobs that an entry names.
    pub(crate) fn blobs(&self) -> Vec<Arc<Blob>> {
        let mut all = Vec::new();
        for stripe in &self.stripes {
            let stripe = stripe.read().unwrap_or_else(PoisonError::into_inner);
            all.extend(stripe.blobs.values().cloned());
        }
        all
    }

    /// The stripe that a hash belongs to: see [`SHARES`].
    pub(crate) fn stripe_of(hash: u64) -> usize {
        // Not the bits by which tables place.
        usize::from(SHARES[(hash >> 40) as usize % SHARES.len()])
    }

    fn stripe(&self, hash: u64) -> &RwLock<Stripe> {
        &self.stripes[Self::stripe_of(hash)]
    }
}

impl Stripe {
    pub(crate) fn get(&self, hash: u64) -> Option<Word> {
        self.find(hash).map(Entry::word)
    }

    pub(crate) fn blob(&self, hash: u64) -> Option<&Arc<Blob>> {
        self.blobs.get(&hash)
    }

    /// See [`Locked::is_unvoided`].
    pub(crate) fn is_unvoided(&self, hash: u64) -> bool {
        self.unvoided.contains(&hash)
    }

    /// Finds an entry and counts the hit.
    pub(crate) fn hit(&self, hash: u64) -> Option<Word> {
        let entry = self.find(hash)?;
        let word = entry.word();
        if word.frequency() < FREQUENCY_MAX {
            // A hit that is lost to another at the same moment is no loss.
            let counted = word.with_frequency(word.frequency() + 1);
            let order = Ordering::Relaxed;
            let _ = (entry.word).compare_exchange(word.0, counted.0, order, order);
        }
        Some(word)
    }

    fn find(&self, hash: u64) -> Option<&Entry> {
        self.table.find(hash, |entry| entry.hash == hash)
    }
}

/// A stripe that is locked for a change to one hash.
pub(crate) struct Locked<'a> {
    stripe: RwLockWriteGuard<'a, Stripe>,
    hash: u64,
}

impl Locked<'_> {
    pub(crate) fn get(&self) -> Option<Word> {
        self.stripe.get(self.hash)
    }

    /// The entry, if it is still the one at this place.
    pub(crate) fn at(&self, place: Place) -> Option<Word> {
        self.get().filter(|word| word.is_at(place))
    }

    pub(crate) fn blob(&self) -> Option<&Arc<Blob>> {
        self.stripe.blob(self.hash)
    }

    pub(crate) fn barrier(&self) -> u64 {
        self.stripe.barrier
    }

    /// Whether a start may still find a record of this hash, though it has no entry.
    pub(crate) fn is_unvoided(&self) -> bool {
        self.stripe.is_unvoided(self.hash)
    }

    /// Notes that what was there could not be voided; an entry says so by its shadow.
    pub(crate) fn set_unvoided(&mut self) {
        if let Some(entry) = self.stripe.find(self.hash) {
            let shadowing = entry.word().with_shadow();
            entry.word.store(shadowing.0, Ordering::Relaxed);
        } else {
            self.stripe.unvoided.insert(self.hash);
        }
    }

    /// Notes that it is voided now.
    pub(crate) fn set_voided(&mut self) {
        self.stripe.unvoided.remove(&self.hash);
    }

    pub(crate) fn raise_barrier(&mut self, sequence: u64) {
        self.stripe.barrier = self.stripe.barrier.max(sequence + 1);
    }

    /// Sets the entry; gives what was there.
    pub(crate) fn put(&mut self, word: Word, blob: Option<Arc<Blob>>) -> Option<Removed> {
        let old = self.remove();
        self.set_voided();
        let added = weight(word, blob.as_deref());
        self.stripe.live = self.stripe.live.wrapping_add(added);
        let entry = Entry {
            hash: self.hash,
            word: AtomicU64::new(word.0),
        };
        (self.stripe.table).insert_unique(self.hash, entry, |entry| entry.hash);
        if let Some(blob) = blob {
            self.stripe.blobs.insert(self.hash, blob);
        }
        old
    }

    /// Takes the entry out.
    pub(crate) fn remove(&mut self) -> Option<Removed> {
        let hash = self.hash;
        let found = (self.stripe.table).find_entry(hash, |entry| entry.hash == hash);
        let (entry, _) = found.ok()?.remove();
        let word = entry.word();
        let blob = if word.is_blob() {
            self.stripe.blobs.remove(&hash)
        } else {
            None
        };
        let freed = weight(word, blob.as_deref());
        self.stripe.live = self.stripe.live.wrapping_sub(freed);
        Some(Removed { word, blob })
    }
}

/// What was taken out of the index.
pub(crate) struct Removed {
    pub(crate) word: Word,
    pub(crate) blob: Option<Arc<Blob>>,
}

fn weight(word: Word, blob: Option<&Blob>) -> u64 {
    word.place().len() as u64 + blob.map_or(0, |blob| blob.len)
}
