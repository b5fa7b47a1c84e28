//! What stands in a segment that is to go.

use std::{collections::HashSet, io};

use bytes::Bytes;

use crate::{
    footer::{self, FooterEntry},
    health::SEGMENTS_MIN,
    index::Place,
    record::{Head, Kind, Record},
    scan,
    segment::{FooterPlace, Queue, Segment},
    triage::{Census, Triage},
    volume::Volume,
};

/// Of a main segment's bytes one in so many may be written again.
const MAIN_SHARE: u64 = 4;
/// A store of fewer segments moves no objects.
const TIGHT: u64 = SEGMENTS_MIN + 2;

/// A segment that is read for the last time.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) volume: &'a Volume,
    pub(super) segment: &'a Segment,
}

/// What counts of it, in the order of places.
pub(super) struct Contents {
    pub(super) live: Vec<Live>,
    pub(super) tombstones: Vec<FooterEntry>,
    /// Of hashes without an entry: until these are gone, a start finds nothing older of theirs.
    pub(super) unvoided: Vec<FooterEntry>,
    /// Decides about objects.
    pub(super) triage: Triage,
}

/// A record that an entry points to.
pub(super) struct Live {
    pub(super) hash: u64,
    pub(super) sequence: u64,
    pub(super) place: Place,
    pub(super) frequency: u8,
    pub(super) is_blob: bool,
}

impl Source<'_> {
    pub(super) fn contents(&self) -> io::Result<Contents> {
        let index = &self.volume.index;
        let (mut live, mut tombstones, mut unvoided) = (Vec::new(), Vec::new(), Vec::new());
        let mut census = Census::default();
        for entry in self.entries()? {
            if entry.kind == Kind::Tombstone {
                tombstones.push(entry);
                continue;
            }
            let place = self.place(&entry);
            let stripe = index.read(entry.hash);
            let word = stripe.get(entry.hash);
            let Some(word) = word.filter(|word| word.place() == place) else {
                if stripe.is_unvoided(entry.hash) {
                    unvoided.push(entry);
                }
                continue;
            };
            drop(stripe);
            let frequency = word.frequency();
            if !word.is_blob() {
                census[usize::from(frequency)] += place.len() as u64;
            }
            live.push(Live {
                hash: entry.hash,
                sequence: entry.sequence,
                place,
                frequency,
                is_blob: word.is_blob(),
            });
        }
        let triage = Triage::new(&census, self.budget());
        Ok(Contents {
            live,
            tombstones,
            unvoided,
            triage,
        })
    }

    /// The bytes of objects that may be written again.
    fn budget(&self) -> u64 {
        let segment_size = self.volume.settings.segment_size;
        let is_tight = self.volume.room.limit() < TIGHT * segment_size;
        if is_tight || self.volume.log.is_down() {
            // What is moved would take the room that is to be made; or each copy would fail alone.
            return 0;
        }
        match self.segment.queue {
            Queue::Probation => segment_size,
            Queue::Main => self.segment.end() / MAIN_SHARE,
        }
    }

    /// The segment's records: by its footer, or where that is damaged by its records and by the
    /// index, which knows all that count. A failure to read is no damage: the tombstones that are
    /// there would be lost.
    fn entries(&self) -> io::Result<Vec<FooterEntry>> {
        let segment = self.segment;
        match segment.footer() {
            FooterPlace::Memory(footer) => return Ok(footer.entries.clone()),
            FooterPlace::Active => {}
            FooterPlace::File => {
                if let Some(footer) = footer::read(&segment.file, segment.seed, false)? {
                    return Ok(footer.entries);
                }
            }
        }
        tracing::warn!(segment = segment.id, "the list of a segment is damaged");
        let limit = segment.flushed().min(segment.file.len()?);
        let found = scan::records(&segment.file, segment.seed, limit)?;
        let mut entries = found.footer.entries;
        let known: HashSet<_> = entries.iter().map(|entry| entry.offset).collect();
        let kind = |is_blob| if is_blob { Kind::Blob } else { Kind::Object };
        for (hash, word, _) in self.volume.index.stripes().flatten() {
            let place = word.place();
            if place.slot == segment.slot && !known.contains(&place.offset) {
                entries.push(FooterEntry {
                    hash,
                    // It may shadow anything.
                    sequence: u64::MAX,
                    offset: place.offset,
                    size: place.size,
                    kind: kind(word.is_blob()),
                    shadow: word.is_shadow(),
                });
            }
        }
        Ok(entries)
    }

    pub(super) fn place(&self, entry: &FooterEntry) -> Place {
        Place {
            slot: self.segment.slot,
            offset: entry.offset,
            size: entry.size,
        }
    }

    /// Reads an object's record to be written again; `None` where it is not whole, or has expired.
    pub(super) fn object(&self, live: &Live) -> Option<Record> {
        let bytes = self.read(live.place).ok()?;
        let seed = self.segment.seed;
        let record = Record::again(&bytes, seed).filter(|record| record.hash() == live.hash);
        let metadata = Head::parse(&bytes, seed).and_then(|head| head.metadata());
        let (Some(record), Some(metadata)) = (record, metadata) else {
            self.volume.counters.corrupt.add(1);
            return None;
        };
        let now = (self.volume.settings.clock)();
        (!metadata.is_expired(now)).then_some(record)
    }

    pub(super) fn read(&self, place: Place) -> io::Result<Bytes> {
        if place.start() + place.len() as u64 > self.segment.flushed() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut bytes = vec![0; place.len()];
        let read = self.segment.file.read_exact_at(&mut bytes, place.start());
        if read.is_err() {
            self.volume.counters.io_errors.add(1);
        }
        read.map(|()| bytes.into())
    }
}
