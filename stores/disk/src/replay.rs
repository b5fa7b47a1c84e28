//! Which of all the records that were found is the last of its hash.

use crate::{
    footer::FooterEntry,
    index::{Index, Place, STRIPES, Word},
    record::Kind,
};

/// The records that a start found and no snapshot accounts for.
pub(crate) struct Replay {
    /// What has a smaller number was taken into account when the snapshot was made.
    boundary: u64,
    /// By stripe, so that each is sorted and merged while it is in the processor's cache.
    stripes: Vec<Vec<Replayed>>,
}

#[derive(Clone, Copy)]
struct Replayed {
    hash: u64,
    sequence: u64,
    /// A [`Word`], or [`TOMBSTONE`].
    word: u64,
}

/// No word has all bits.
const TOMBSTONE: u64 = u64::MAX;

/// The record of a blob that won: it is to be read, as it alone names the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Commit {
    pub(crate) hash: u64,
    pub(crate) sequence: u64,
    pub(crate) word: Word,
}

impl Replay {
    pub(crate) fn new(boundary: u64) -> Self {
        Self {
            boundary,
            stripes: vec![Vec::new(); STRIPES],
        }
    }

    pub(crate) fn boundary(&self) -> u64 {
        self.boundary
    }

    /// Adds the records of the segment in this slot.
    pub(crate) fn add(&mut self, slot: u16, entries: &[FooterEntry]) {
        for entry in entries {
            if entry.sequence < self.boundary {
                continue;
            }
            let place = Place {
                slot,
                offset: entry.offset,
                size: entry.size,
            };
            let word = match entry.kind {
                Kind::Tombstone => TOMBSTONE,
                kind => Word::new(place, kind == Kind::Blob, entry.shadow).0,
            };
            self.stripes[Index::stripe_of(entry.hash)].push(Replayed {
                hash: entry.hash,
                sequence: entry.sequence,
                word,
            });
        }
    }

    /// Brings the index up to date, but for the blobs that are given back.
    pub(crate) fn merge(self, index: &Index) -> Vec<Commit> {
        let mut commits = Vec::new();
        // A snapshot without entries may still know of hashes that nothing voids.
        let begins = self.boundary == 0 && index.count().entries == 0;
        for (stripe, mut records) in self.stripes.into_iter().enumerate() {
            records.sort_unstable_by_key(|record| (record.hash, record.sequence));
            if begins {
                fill(index, stripe, &records, &mut commits);
            } else {
                update(index, &records, &mut commits);
            }
        }
        commits
    }
}

fn fill(index: &Index, stripe: usize, records: &[Replayed], commits: &mut Vec<Commit>) {
    let entries = last_of_each(records).filter_map(|(last, word)| {
        let word = word?;
        if word.is_blob() {
            commits.push(last.commit(word));
            return None;
        }
        Some((last.hash, word, None))
    });
    index.fill(stripe, records.len(), entries);
}

fn update(index: &Index, records: &[Replayed], commits: &mut Vec<Commit>) {
    for (last, word) in last_of_each(records) {
        let mut entry = index.write(last.hash);
        let old = entry.remove();
        let Some(mut word) = word else {
            entry.set_voided();
            continue;
        };
        if entry.is_unvoided() {
            word = word.with_shadow();
        }
        if let Some(old) = old {
            word = word.with_shadow().with_frequency(old.word.frequency());
        }
        if word.is_blob() {
            commits.push(last.commit(word));
        } else {
            entry.put(word, None);
        }
    }
}

/// Of the records of each hash the last, with its word if it is no tombstone.
fn last_of_each(records: &[Replayed]) -> impl Iterator<Item = (&Replayed, Option<Word>)> {
    let groups = records.chunk_by(|one, other| one.hash == other.hash);
    groups.filter_map(|group| {
        let (last, older) = group.split_last()?;
        // An older tombstone is kept for as long as what it voids is there.
        let shadows = older.iter().any(|record| record.word != TOMBSTONE);
        let word = (last.word != TOMBSTONE).then_some(Word(last.word));
        let word = word.map(|word| if shadows { word.with_shadow() } else { word });
        Some((last, word))
    })
}

impl Replayed {
    fn commit(&self, word: Word) -> Commit {
        Commit {
            hash: self.hash,
            sequence: self.sequence,
            word,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Count;

    fn entry(hash: u64, sequence: u64, kind: Kind) -> FooterEntry {
        FooterEntry {
            hash,
            sequence,
            offset: u32::try_from(sequence).unwrap(),
            size: 3,
            kind,
            shadow: false,
        }
    }

    fn merged(index: &Index, boundary: u64, entries: &[FooterEntry]) -> Vec<Commit> {
        let mut replay = Replay::new(boundary);
        for entry in entries {
            replay.add(1, std::slice::from_ref(entry));
        }
        replay.merge(index)
    }

    fn at(index: &Index, hash: u64) -> Option<(u32, bool)> {
        let word = index.read(hash).get(hash)?;
        Some((word.place().offset, word.is_shadow()))
    }

    #[test]
    fn what_nothing_voids_is_shadowed_by_what_comes() {
        let index = Index::new();
        for hash in 1..=3 {
            index.write(hash).set_unvoided();
        }
        let records = [entry(1, 12, Kind::Object), entry(2, 13, Kind::Tombstone)];
        merged(&index, 10, &records);
        assert_eq!(at(&index, 1), Some((12, true)));
        let is_unvoided = [1, 2, 3].map(|hash| index.read(hash).is_unvoided(hash));
        assert_eq!(is_unvoided, [false, false, true]);
    }

    #[test]
    fn the_last_of_a_hash_wins_wherever_it_was_found() {
        let index = Index::new();
        let records = [
            entry(1, 12, Kind::Object),
            entry(1, 10, Kind::Object),
            entry(2, 20, Kind::Tombstone),
            entry(2, 11, Kind::Object),
            entry(3, 13, Kind::Object),
            entry(4, 14, Kind::Tombstone),
            entry(4, 15, Kind::Object),
            entry(4, 14, Kind::Tombstone),
        ];
        assert_eq!(merged(&index, 0, &records), []);
        assert_eq!(at(&index, 1), Some((12, true)));
        assert_eq!(at(&index, 2), None);
        assert_eq!(at(&index, 3), Some((13, false)));
        assert_eq!(at(&index, 4), Some((15, false)));
        let (entries, live) = (3, 3 * 48);
        assert_eq!(index.count(), Count { entries, live });
    }

    #[test]
    fn what_the_snapshot_accounts_for_is_not_replayed() {
        let index = Index::new();
        let first: Vec<_> = (1..=5)
            .map(|hash| entry(hash, 50 + hash, Kind::Object))
            .collect();
        merged(&index, 0, &first);
        let second = [
            entry(1, 99, Kind::Tombstone),
            entry(2, 99, Kind::Object),
            entry(3, 100, Kind::Tombstone),
            entry(4, 101, Kind::Object),
            entry(6, 102, Kind::Blob),
        ];
        let commits = merged(&index, 100, &second);
        assert_eq!(at(&index, 1), Some((51, false)));
        assert_eq!(at(&index, 2), Some((52, false)));
        assert_eq!(at(&index, 3), None);
        assert_eq!(at(&index, 4), Some((101, true)));
        assert_eq!(at(&index, 5), Some((55, false)));
        let [commit] = commits[..] else {
            panic!("{commits:?}")
        };
        assert_eq!((commit.hash, commit.sequence), (6, 102));
        assert_eq!(at(&index, 6), None);
    }

    #[test]
    fn a_blob_that_replaces_takes_the_entry_out_until_it_is_named() {
        let index = Index::new();
        merged(&index, 0, &[entry(1, 10, Kind::Object)]);
        let commits = merged(&index, 11, &[entry(1, 12, Kind::Blob)]);
        assert_eq!(at(&index, 1), None);
        assert!(commits[0].word.is_shadow() && commits[0].word.is_blob());
    }
}
