//! Reclaiming a segment: what deserves it is written again, the rest goes with the file.
//
// Invariants:
// 1. The file goes when nothing depends on it any more: all that was written again has reached the
//    disk, and so have the tombstones of what shadows older records.
// 2. Entries that are not moved go after the file: a delete in between finds one and writes its
//    tombstone. Those that are moved count as shadows until the file is gone.
// 3. It may end early at any record: then the file stays, and nothing is lost but time. A copy that
//    did not reach its file is undone by the thread that writes: see `Room::origin`.

mod contents;

use std::{
    collections::{HashMap, HashSet},
    io,
    path::Path,
    sync::Arc,
};

use larder_store::ErrorKind;

use self::contents::{Contents, Live, Source};

use crate::{
    config::Durability,
    footer::FooterEntry,
    index::{FREQUENCY_MAX, Place, Removed, Word},
    keeper::{Keeper, Made, Outcome},
    log::{Appended, How, Refusal},
    manifest::End,
    medium::File,
    record::{Head, Record},
    segment::{Queue, Segment},
    triage::Triage,
    volume::Volume,
};

/// Of any segment's bytes one in so many may be records of blobs that are written again: else they
/// would go round for ever.
const BLOB_SHARE: u64 = 2;
/// After so many bytes it waits until they are written.
const UNSETTLED_MAX: usize = 4 << 20;
/// After so many records others get their turn.
const SERVE_EVERY: usize = 4096;
/// Segments that may be made beyond the limit; what cannot be written then is evicted, or ...
const BEYOND_MAX: u32 = 1;
/// ... keeps the segment where it is, if it must not be lost.
const BEYOND_MAX_FOR_TOMBSTONES: u32 = 2;

/// A segment that is being reclaimed.
struct Reclaim<'k, 'v> {
    keeper: &'k mut Keeper<'v>,
    volume: &'v Volume,
    victim: &'k Arc<Segment>,
    /// No other segment has a record with a smaller number.
    oldest_elsewhere: u64,
    /// The other segments.
    others: HashSet<u64>,
    moved: Vec<Moved>,
    /// What goes with the file.
    gone: Vec<(u64, Place)>,
    /// Where something was appended, up to where.
    targets: HashMap<u64, (Arc<Segment>, u64)>,
    unsettled: usize,
    beyond: u32,
}

struct Moved {
    hash: u64,
    place: Place,
    was_shadow: bool,
}

/// What became of a record that was to be written again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Done,
    /// Nothing points to it any more.
    Dead,
    /// It cannot be, and is evicted.
    Evicted,
}

type Step<T> = Result<T, Outcome>;

/// Takes a sealed segment away.
pub(crate) fn run(keeper: &mut Keeper<'_>, victim: &Arc<Segment>) -> Outcome {
    let volume = keeper.volume;
    volume.room.ghost().fit(volume.index.count().entries);
    let others = volume.segments.all();
    let others = || others.iter().filter(|other| other.id != victim.id);
    let numbers = others().map(|other| other.min_sequence());
    let mut reclaim = Reclaim {
        oldest_elsewhere: numbers.min().unwrap_or(u64::MAX),
        others: others().map(|other| other.id).collect(),
        keeper,
        volume,
        victim,
        moved: Vec::new(),
        gone: Vec::new(),
        targets: HashMap::new(),
        unsettled: 0,
        beyond: 0,
    };
    let ended = reclaim.write().and_then(|()| reclaim.remove());
    if ended.is_err() {
        reclaim.settle();
    }
    volume.room.clear_origins();
    match ended {
        Ok(()) => {
            reclaim.finish();
            Outcome::Progress
        }
        Err(outcome) => outcome,
    }
}

impl Reclaim<'_, '_> {
    /// Writes again what is to be kept, and tombstones for what is not and shadows something.
    fn write(&mut self) -> Step<()> {
        let Contents {
            live,
            tombstones,
            unvoided,
            mut triage,
        } = self.source().contents().map_err(|error| {
            tracing::warn!(%error, segment = self.victim.id, "cannot read a segment");
            self.volume.counters.io_errors.add(1);
            Outcome::Blocked
        })?;
        let mut blobs = Triage::new(&[u64::MAX; 4], self.victim.end() / BLOB_SHARE);
        for (at, live) in live.iter().enumerate() {
            self.pause(at)?;
            let bytes = live.place.len() as u64;
            let keeps = if live.is_blob {
                // All count the same: whether a blob goes is for its own line to decide.
                blobs.keeps(FREQUENCY_MAX, bytes)
            } else {
                triage.keeps(live.frequency, bytes)
            };
            let mut fate = Fate::Evicted;
            if keeps {
                fate = self.copy(live)?;
            }
            if fate == Fate::Evicted {
                self.void(live.hash, live.sequence, Some(live.place))?;
                self.gone.push((live.hash, live.place));
            }
        }
        for (at, dead) in unvoided.iter().enumerate() {
            self.pause(at)?;
            self.void(dead.hash, dead.sequence, None)?;
        }
        for (at, tombstone) in tombstones.iter().enumerate() {
            self.pause(at)?;
            self.carry(tombstone)?;
        }
        Ok(())
    }

    fn source(&self) -> Source<'_> {
        Source {
            volume: self.volume,
            segment: self.victim,
        }
    }

    /// Lets others have their turn, and the written bytes reach their files.
    fn pause(&mut self, at: usize) -> Step<()> {
        if self.volume.room.is_stopped() {
            return Err(Outcome::Stopped);
        }
        if self.unsettled > UNSETTLED_MAX {
            self.settle();
            self.keeper.serve();
        } else if at % SERVE_EVERY == SERVE_EVERY - 1 {
            self.keeper.serve();
        }
        Ok(())
    }

    /// Writes an object again, if it is still there, whole, and not expired.
    fn copy(&mut self, live: &Live) -> Step<Fate> {
        let Volume {
            index,
            log,
            segments,
            room,
            counters,
            settings,
            ..
        } = self.volume;
        let Some(record) = self.source().object(live) else {
            return Ok(Fate::Evicted);
        };
        let size = record.size();
        if size as u64 > settings.segment_size / 16 * 15 {
            // It is from a time when segments were longer.
            return Ok(Fate::Evicted);
        }
        loop {
            let mut entry = index.write(live.hash);
            let Some(word) = entry.at(live.place) else {
                return Ok(Fate::Dead);
            };
            let how = How {
                // What it is a copy of is still there, and may be for long if this ends early.
                shadow: true,
                // An object belongs to the main queue; a blob stands in a line of its own.
                anywhere: word.is_blob(),
                ..How::kept()
            };
            match log.append(segments, &record, how) {
                Ok(appended) => {
                    let place = appended.place;
                    room.note_origin(place, word.with_shadow());
                    let copy = Word::new(place, word.is_blob(), true);
                    let blob = entry.blob().cloned();
                    entry.put(copy.with_frequency(self.frequency(word)), blob);
                    drop(entry);
                    counters.moved.add(size as u64);
                    self.moved.push(Moved {
                        hash: live.hash,
                        place,
                        was_shadow: word.is_shadow(),
                    });
                    self.appended(appended);
                    return Ok(Fate::Done);
                }
                Err(refusal) => {
                    drop(entry);
                    if !self.may_retry(&refusal, BEYOND_MAX)? {
                        return Ok(Fate::Evicted);
                    }
                }
            }
        }
    }

    /// What an object's frequency is after it has been moved.
    fn frequency(&self, word: Word) -> u8 {
        match self.victim.queue {
            // That of a blob counts for its own line.
            _ if word.is_blob() => word.frequency(),
            Queue::Probation => 0,
            Queue::Main => word.frequency().saturating_sub(1),
        }
    }

    /// Makes sure that when this record goes no older one comes back. The entry that points to it
    /// stays, for as long as its file; without one, nobody could void what is older before.
    fn void(&mut self, hash: u64, sequence: u64, place: Option<Place>) -> Step<()> {
        let Volume {
            index,
            log,
            segments,
            counters,
            ..
        } = self.volume;
        if self.oldest_elsewhere >= sequence {
            return Ok(());
        }
        let tombstone = Record::tombstone(hash, 0);
        loop {
            let mut entry = index.write(hash);
            let is_needed = match place {
                Some(place) => entry.at(place).is_some_and(Word::is_shadow),
                None => entry.is_unvoided(),
            };
            if !is_needed {
                return Ok(());
            }
            let appended = log.append(segments, &tombstone, How::kept());
            if let (None, Ok(appended)) = (place, &appended) {
                entry.set_voided();
                entry.raise_barrier(appended.sequence);
            }
            drop(entry);
            match appended {
                Ok(appended) => {
                    counters.written.add(tombstone.size() as u64);
                    self.appended(appended);
                    return Ok(());
                }
                Err(refusal) => self.must_retry(&refusal)?,
            }
        }
    }

    /// Writes a tombstone again that is still needed, under its own number: it voids what is older
    /// than itself, and nothing else.
    fn carry(&mut self, entry: &FooterEntry) -> Step<()> {
        if self.oldest_elsewhere >= entry.sequence {
            return Ok(());
        }
        let source = self.source();
        let bytes = match source.read(source.place(entry)) {
            Ok(bytes) => bytes,
            // It was never written, or the file is cut off.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(_) => return Err(Outcome::Blocked),
        };
        let seed = self.victim.seed;
        let victim = Head::parse(&bytes, seed).and_then(|head| head.victim());
        let found = victim.zip(Record::again(&bytes, seed));
        // One that is damaged counts all the same: a start goes by the segment's list.
        let (victim, record) = found.unwrap_or_else(|| (0, Record::tombstone(entry.hash, 0)));
        if victim != 0 && !self.others.contains(&victim) {
            return Ok(());
        }
        let how = How {
            sequence: Some(entry.sequence),
            ..How::kept()
        };
        let Volume { log, segments, .. } = self.volume;
        loop {
            match log.append(segments, &record, how) {
                Ok(appended) => {
                    self.volume.counters.moved.add(record.size() as u64);
                    self.appended(appended);
                    return Ok(());
                }
                Err(refusal) => self.must_retry(&refusal)?,
            }
        }
    }

    fn appended(&mut self, appended: Appended) {
        let place = appended.place;
        self.unsettled += place.len();
        if let Some(segment) = self.volume.segments.get(place.slot) {
            let end = place.start() + place.len() as u64;
            self.targets.insert(segment.id, (segment, end));
        }
    }

    fn must_retry(&mut self, refusal: &Refusal) -> Step<()> {
        if self.may_retry(refusal, BEYOND_MAX_FOR_TOMBSTONES)? {
            return Ok(());
        }
        Err(Outcome::Blocked)
    }

    /// Whether to try again to append, where there was no segment to append to.
    fn may_retry(&mut self, refusal: &Refusal, beyond_max: u32) -> Step<bool> {
        match refusal {
            Refusal::Error(error) => match error.kind() {
                ErrorKind::Closed => Err(Outcome::Stopped),
                ErrorKind::Full => Ok(false),
                _ => Err(Outcome::Blocked),
            },
            Refusal::Wait if self.volume.log.spares() > 0 => Ok(true),
            Refusal::Wait if self.keeper.make_spare(false) == Made::Yes => Ok(true),
            Refusal::Wait if self.beyond >= beyond_max => Ok(false),
            Refusal::Wait => {
                self.beyond += 1;
                Ok(self.keeper.make_spare(true) == Made::Yes)
            }
        }
    }

    /// Waits until all that was appended has reached its file, or has failed to.
    fn settle(&mut self) {
        if self.unsettled > 0 {
            let log = &self.volume.log;
            log.settled_blocking(log.draw());
            self.unsettled = 0;
        }
    }

    /// Removes the file, once all that was written instead of it is on the disk.
    fn remove(&mut self) -> Step<()> {
        self.settle();
        for (segment, end) in self.targets.values() {
            if segment.flushed() < *end {
                return Err(Outcome::Blocked);
            }
        }
        let targets = self.targets.values().map(|(segment, _)| &segment.file);
        let synced = targets.map(File::sync_data);
        synced.collect::<io::Result<()>>().map_err(|error| {
            self.keeper.failed(error);
            Outcome::Blocked
        })?;
        self.remove_file().map_err(|error| {
            self.keeper.stays(error);
            Outcome::Blocked
        })
    }

    fn remove_file(&self) -> io::Result<()> {
        let Volume {
            medium,
            settings,
            manifest,
            log,
            counters,
            ..
        } = self.volume;
        let Segment { id, .. } = **self.victim;
        if let Err(error) = manifest.removed(medium, id) {
            // It has to go all the same: that makes room. A start after a kill would miss it.
            counters.io_errors.add(1);
            tracing::warn!(%error, segment = id, "cannot note that a segment goes");
        }
        let removed = medium.remove(&self.victim.path());
        if removed.is_err() {
            let end = End {
                bound: log.next_sequence(),
                at: self.victim.end(),
            };
            // A start would not miss it otherwise.
            let _ = manifest.ended(medium, id, end);
        }
        removed?;
        if settings.durability == Durability::OnCommit {
            // A delete that finds nothing here writes nothing, and is acknowledged at once.
            return medium.sync_dir(Path::new("seg"));
        }
        Ok(())
    }

    /// Drops the entries of what went with the file, and gives its room back.
    fn finish(self) {
        let Volume {
            room,
            index,
            segments,
            counters,
            ..
        } = self.volume;
        for (hash, place) in self.gone {
            let mut entry = index.write(hash);
            if entry.at(place).is_none() {
                continue;
            }
            let removed = entry.remove();
            drop(entry);
            counters.evictions.add(1);
            if self.victim.queue == Queue::Probation {
                room.ghost().insert(hash);
            }
            if let Some(Removed {
                blob: Some(blob), ..
            }) = removed
            {
                room.unlink(blob, 0);
            }
        }
        for moved in self.moved.iter().filter(|moved| !moved.was_shadow) {
            let mut entry = index.write(moved.hash);
            if let Some(word) = entry.at(moved.place) {
                let plain = Word::new(moved.place, word.is_blob(), false);
                let blob = entry.blob().cloned();
                entry.put(plain.with_frequency(word.frequency()), blob);
            }
        }
        room.victims(|victims| victims.remove_segment(self.victim));
        segments.remove(self.victim.slot);
        self.victim.set_removed();
        room.resize(self.victim.allocated(), 0);
        room.freed_inode();
    }
}
