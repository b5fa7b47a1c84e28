//! An open store: how objects are published, found and taken away.
//
// Invariants:
// 1. Locks are taken in this order, and none across I/O or an await: a key's stripe of `fences`, a
//    stripe of `index`, the log's. A look-up takes the second alone, and `segments` beneath it.
// 2. A record gets its place and its entry under one lock of its stripe: whoever sees the log's end
//    sees, through that stripe, the entry.
// 3. What undoes an older record is acknowledged after it has reached the kernel: see
//    `Stripe::barrier`.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use larder_store::{Commit, Error, ErrorKind, Fence, Fences, Key, Metadata, Result};
use siphasher::sip::SipHasher13;
use tokio::{runtime::Handle, sync::Semaphore};

use crate::{
    blobs::{Blob, Emptied},
    buffer::Buffers,
    clock::{self, Worker},
    config::{Durability, Overload, Settings},
    figures::Counters,
    index::{Index, Place, Removed, Word},
    intake::Intake,
    layout::Folder,
    log::{Appended, Chunk, How, Log, Refusal, closed},
    manifest::Manifest,
    medium::Medium,
    record::{Header, Kind, Record},
    room::Room,
    segment::{Queue, Segment, Segments},
};

/// The state that handles, writers, bodies and threads share.
pub(crate) struct Volume {
    pub(crate) settings: Settings,
    pub(crate) medium: Medium,
    /// Holds the lock that keeps other processes out.
    pub(crate) folder: Folder,
    pub(crate) hasher: SipHasher13,
    pub(crate) fences: Fences,
    pub(crate) index: Index,
    pub(crate) segments: Segments,
    pub(crate) manifest: Manifest,
    pub(crate) log: Log,
    pub(crate) room: Room,
    pub(crate) buffers: Buffers,
    pub(crate) intake: Intake,
    pub(crate) counters: Counters,
    pub(crate) emptied: Emptied,
    pub(crate) runtime: Handle,
    /// A permit for each read that may wait for the disk.
    pub(crate) cold: Arc<Semaphore>,
    pub(crate) closed: AtomicBool,
}

/// Where an object was found.
pub(crate) struct Located {
    pub(crate) place: Place,
    pub(crate) segment: Arc<Segment>,
    pub(crate) blob: Option<Arc<Blob>>,
}

/// An object to be published.
pub(crate) struct Publication<'a> {
    pub(crate) key: Key<'a>,
    pub(crate) record: &'a Record,
    pub(crate) blob: Option<&'a Arc<Blob>>,
    pub(crate) fence: Option<&'a Fence>,
    /// Only in the place of this very record: it is a touch.
    pub(crate) instead: Option<Place>,
}

/// How an attempt at a change ended.
pub(crate) enum Change {
    /// It took effect.
    Done,
    /// It took effect; to be acknowledged when this record is settled.
    Settling(u64),
    /// The fence did not hold, or what was to be touched is gone.
    Superseded,
    /// It would have to wait, and must not; nothing was changed.
    Later,
}

/// Whether an attempt may end in [`Change::Settling`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    Immediate,
    Patient,
}

impl Volume {
    pub(crate) fn hash(&self, key: Key<'_>) -> u64 {
        self.hasher.hash(key.as_str().as_bytes())
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(closed());
        }
        Ok(())
    }

    /// Finds an object, and counts the hit.
    pub(crate) fn locate(&self, hash: u64) -> Option<Located> {
        let stripe = self.index.read(hash);
        let word = stripe.hit(hash)?;
        let place = word.place();
        let blob = stripe.blob(hash).cloned();
        if blob.as_ref().is_some_and(|blob| blob.is_gone()) {
            // Its file is removed, and its entry is about to be.
            return None;
        }
        Some(Located {
            place,
            segment: self.segments.get(place.slot)?,
            blob,
        })
    }

    /// Whether the entry is still the one at this place.
    pub(crate) fn is_at(&self, hash: u64, place: Place) -> bool {
        let word = self.index.read(hash).get(hash);
        word.is_some_and(|word| word.place() == place)
    }

    /// Makes an object visible, or says why not.
    ///
    /// Cancel safety: it takes effect in one step, after which only its acknowledgement is waited
    /// for.
    pub(crate) async fn publish(&self, publication: Publication<'_>) -> Result<Commit> {
        let done = Commit::Done(None);
        loop {
            let room = self.log.room();
            let mut room = std::pin::pin!(room);
            room.as_mut().enable();
            match self.try_publish(&publication, Patience::Patient) {
                Ok(Change::Done | Change::Later) => return Ok(done),
                Ok(Change::Settling(sequence)) => {
                    let settled = self.held(self.log.settled(sequence)).await;
                    settled.map_err(|error| self.refuse(error))?;
                    return Ok(done);
                }
                Ok(Change::Superseded) => return Ok(Commit::Superseded),
                Err(Refusal::Wait) => self.wait_for_room(room).await?,
                Err(Refusal::Error(error)) => return Err(self.refuse(error)),
            }
        }
    }

    async fn wait_for_room(&self, room: impl Future<Output = ()>) -> Result<()> {
        self.check_open()?;
        self.room.wake();
        if self.settings.overload == Overload::Refuse {
            let error = Error::new(ErrorKind::Full, "the disk does not keep up");
            return Err(self.refuse(error));
        }
        self.held(room).await;
        Ok(())
    }

    /// Waits for what a thread of the store does.
    pub(crate) async fn held<T>(&self, wait: impl Future<Output = T>) -> T {
        clock::held(self.runtime.clone(), Worker::Thread, wait).await
    }

    pub(crate) fn refuse(&self, error: Error) -> Error {
        self.counters.refused.add(1);
        error
    }

    /// One attempt to publish.
    pub(crate) fn try_publish(
        &self,
        publication: &Publication<'_>,
        patience: Patience,
    ) -> Result<Change, Refusal> {
        let record = publication.record;
        let hash = record.hash();
        let mut stripe = self.fences.lock(publication.key);
        if publication.fence.is_some_and(|fence| !stripe.holds(fence)) {
            return Ok(Change::Superseded);
        }
        let mut entry = self.index.write(hash);
        if self.closed.load(Ordering::Acquire) {
            return Err(Refusal::Error(closed()));
        }
        let old = entry.get();
        if publication
            .instead
            .is_some_and(|place| entry.at(place).is_none())
        {
            return Ok(Change::Superseded);
        }
        let shadow = old.is_some() || entry.is_unvoided();
        let undoes = shadow || !self.is_settled(entry.barrier());
        let waits = undoes || self.settings.durability == Durability::OnCommit;
        if waits && patience == Patience::Immediate {
            return Ok(Change::Later);
        }
        let was_evicted = old.is_none() && self.room.was_evicted(hash);
        let queue = if was_evicted {
            Queue::Main
        } else {
            Queue::Probation
        };
        let how = How {
            shadow,
            ..How::new(queue)
        };
        let Appended { sequence, place } = self.log.append(&self.segments, record, how)?;
        let frequency = old.map_or(0, Word::frequency);
        let word = Word::new(place, publication.blob.is_some(), how.shadow);
        let blob = publication.blob.cloned();
        let removed = entry.put(word.with_frequency(frequency), blob);
        if let Some(blob) = publication.blob
            && publication.instead.is_none()
        {
            // Under the lock, so that whoever replaces it finds it in its place.
            self.room.add_blob(Arc::clone(blob));
        }
        if undoes {
            entry.raise_barrier(sequence);
        }
        stripe.invalidate();
        drop(entry);
        drop(stripe);
        self.counters.written.add(place.len() as u64);
        self.retire(removed, publication.blob, sequence);
        Ok(if waits {
            Change::Settling(sequence)
        } else {
            Change::Done
        })
    }

    /// What was replaced: its file goes when what replaced it is settled.
    fn retire(&self, removed: Option<Removed>, kept: Option<&Arc<Blob>>, sequence: u64) {
        if let Some(blob) = removed.and_then(|removed| removed.blob)
            && kept.is_none_or(|kept| kept.id != blob.id)
        {
            self.room.unlink(blob, sequence);
        }
    }

    fn is_settled(&self, barrier: u64) -> bool {
        barrier
            .checked_sub(1)
            .is_none_or(|last| self.log.is_settled(last))
    }

    /// Takes an object away, and ends the fences of its key.
    ///
    /// Cancel safety: as [`publish`](Self::publish).
    pub(crate) async fn delete(&self, key: Key<'_>, fence: Option<&Fence>) -> Result<Commit> {
        loop {
            let room = self.log.room();
            let mut room = std::pin::pin!(room);
            room.as_mut().enable();
            match self.try_delete(key, fence, Patience::Patient) {
                Ok(Change::Done | Change::Later) => return Ok(Commit::Done(None)),
                Ok(Change::Settling(sequence)) => {
                    self.held(self.log.settled(sequence)).await?;
                    return Ok(Commit::Done(None));
                }
                Ok(Change::Superseded) => return Ok(Commit::Superseded),
                Err(Refusal::Wait) => {
                    self.check_open()?;
                    self.room.wake();
                    self.held(room).await;
                }
                Err(Refusal::Error(error)) => return Err(error),
            }
        }
    }

    /// One attempt to delete. Where no tombstone can be written the object is gone all the same,
    /// until the store is opened again: hence the error, which the next delete tries to mend.
    pub(crate) fn try_delete(
        &self,
        key: Key<'_>,
        fence: Option<&Fence>,
        patience: Patience,
    ) -> Result<Change, Refusal> {
        let hash = self.hash(key);
        let mut stripe = self.fences.lock(key);
        if fence.is_some_and(|fence| !stripe.holds(fence)) {
            return Ok(Change::Superseded);
        }
        let mut entry = self.index.write(hash);
        if self.closed.load(Ordering::Acquire) {
            return Err(Refusal::Error(closed()));
        }
        self.check_service().map_err(Refusal::Error)?;
        let barrier = entry.barrier();
        let unsettled = !self.is_settled(barrier);
        let word = entry.get();
        if word.is_none() && !entry.is_unvoided() {
            if unsettled && patience == Patience::Immediate {
                return Ok(Change::Later);
            }
            stripe.invalidate();
            return Ok(if unsettled {
                Change::Settling(barrier - 1)
            } else {
                Change::Done
            });
        }
        if patience == Patience::Immediate {
            return Ok(Change::Later);
        }
        let appended = self.append_tombstone(hash, word, false);
        if matches!(appended, Err(Refusal::Wait)) {
            return Err(Refusal::Wait);
        }
        let removed = entry.remove();
        stripe.invalidate();
        match appended {
            Ok(Appended { sequence, .. }) => {
                entry.set_voided();
                entry.raise_barrier(sequence);
            }
            Err(_) => entry.set_unvoided(),
        }
        drop(entry);
        drop(stripe);
        let settles = appended.as_ref().map_or(0, |appended| appended.sequence);
        self.retire(removed, None, settles);
        appended.map(|Appended { sequence, .. }| Change::Settling(sequence))
    }

    /// Voids what an entry points to, and all that it may shadow; without one, whatever there may be.
    /// The entry's stripe is locked.
    fn append_tombstone(
        &self,
        hash: u64,
        word: Option<Word>,
        privileged: bool,
    ) -> Result<Appended, Refusal> {
        let alone = word.filter(|word| !word.is_shadow());
        let victim = alone.and_then(|word| self.segments.get(word.place().slot));
        let victim = victim.map_or(0, |segment| segment.id);
        let how = How {
            privileged,
            ..How::new(Queue::Probation)
        };
        let record = Record::tombstone(hash, victim);
        let appended = self.log.append(&self.segments, &record, how)?;
        self.counters.written.add(record.size() as u64);
        Ok(appended)
    }

    /// Drops an entry that has expired or is damaged, if it is still the one at this place. Where
    /// it shadows an older record and that cannot be voided, the older one is found again after a
    /// restart, unless it is deleted before; it is as expired, or as old, as it was.
    pub(crate) fn forget(&self, hash: u64, place: Place) -> bool {
        let mut entry = self.index.write(hash);
        let Some(word) = entry.at(place) else {
            return false;
        };
        let tombstone = if word.is_shadow() {
            self.append_tombstone(hash, Some(word), false).ok()
        } else {
            None
        };
        let removed = entry.remove();
        if let Some(Appended { sequence, .. }) = tombstone {
            entry.raise_barrier(sequence);
        } else if word.is_shadow() {
            entry.set_unvoided();
        }
        drop(entry);
        let settles = tombstone.map_or(0, |appended| appended.sequence);
        self.retire(removed, None, settles);
        true
    }

    /// Drops the entries of records that could not be written. Unless the file `is_cut` off before
    /// them, a start may find some of them all the same.
    pub(crate) fn lost(&self, chunk: &Chunk, is_cut: bool) {
        let mut rest = &chunk.bytes[..];
        let mut offset = chunk.offset;
        if offset == 0 {
            let header = crate::segment::SEGMENT_HEADER_LEN.min(rest.len());
            rest = &rest[header..];
            offset += header as u64;
        }
        while let Some(header) = Header::parse(rest, chunk.segment.seed) {
            let size = header.size();
            #[allow(clippy::cast_possible_truncation)] // As it was when it was appended.
            let place = Place {
                slot: chunk.segment.slot,
                offset: (offset / crate::record::UNIT as u64) as u32,
                size: (size / crate::record::UNIT) as u32,
            };
            if header.kind == Kind::Tombstone {
                self.index.write(header.hash).set_unvoided();
            } else {
                self.lose(header.hash, place, is_cut);
            }
            let Some(next) = rest.get(size..) else { break };
            rest = next;
            offset += size as u64;
        }
    }

    fn lose(&self, hash: u64, place: Place, is_cut: bool) {
        let mut entry = self.index.write(hash);
        let Some(word) = entry.at(place) else {
            return;
        };
        if let Some(original) = self.room.origin(place) {
            // It is a copy, and what it was made from is still there.
            let blob = entry.blob().cloned();
            entry.put(original, blob);
            return;
        }
        let removed = entry.remove();
        if word.is_shadow() || !is_cut {
            entry.set_unvoided();
        }
        drop(entry);
        self.counters.lost.add(1);
        self.retire(removed, None, 0);
    }

    /// What an answer is made of, once the object is published.
    pub(crate) fn done(metadata: Metadata) -> Commit {
        Commit::Done(Some(Arc::new(metadata)))
    }
}
