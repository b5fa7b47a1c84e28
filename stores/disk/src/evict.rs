//! Evicting blobs: their bytes go with their files, so that nothing is written again.

use std::sync::Arc;

use crate::{
    blobs::{Blob, Standing},
    config::Durability,
    index::Removed,
    keeper::{Keeper, Made, Outcome},
    log::{How, Refusal},
    record::Record,
    segment::Queue,
    volume::Volume,
};

/// Decides about a blob that was taken out of its line: it is removed, or gets another place.
pub(crate) fn blob(keeper: &mut Keeper<'_>, blob: &Arc<Blob>) -> Outcome {
    let volume = keeper.volume;
    let Volume {
        room, index, log, ..
    } = volume;
    let Standing::In(queue) = blob.standing() else {
        return Outcome::Progress;
    };
    let mut entry = index.write(blob.hash);
    let is_named = entry.blob().is_some_and(|named| named.id == blob.id);
    let Some(word) = entry.get().filter(|_| is_named) else {
        // It was replaced or deleted: who did that has it removed.
        return Outcome::Progress;
    };
    if let Some(left) = word.frequency().checked_sub(1) {
        let frequency = match queue {
            Queue::Probation => 0,
            Queue::Main => left,
        };
        entry.put(word.with_frequency(frequency), Some(Arc::clone(blob)));
        drop(entry);
        let stamp = log.draw();
        room.victims(|victims| victims.place(Arc::clone(blob), Queue::Main, stamp));
        return Outcome::Progress;
    }
    drop(entry);
    let outcome = if word.is_shadow() || volume.settings.durability == Durability::OnCommit {
        evict_by_record(keeper, blob)
    } else {
        evict_by_removal(keeper, blob);
        Outcome::Progress
    };
    if outcome == Outcome::Blocked {
        keeper.hold(blob, queue);
    } else if queue == Queue::Probation {
        room.ghost().insert(blob.hash);
    }
    outcome
}

/// Its file goes first: were it the entry, a delete could be acknowledged in between that a start
/// would know nothing of.
fn evict_by_removal(keeper: &Keeper<'_>, blob: &Arc<Blob>) {
    let Volume {
        room,
        index,
        counters,
        ..
    } = keeper.volume;
    if !room.victims(|victims| victims.dismiss(blob)) {
        return;
    }
    let is_removed = keeper.remove(blob);
    if !is_removed {
        room.postpone_unlink(Arc::clone(blob), 0);
    }
    let mut entry = index.write(blob.hash);
    if entry.blob().is_some_and(|named| named.id == blob.id) {
        entry.remove();
        if !is_removed {
            entry.set_unvoided();
        }
        counters.evictions.add(1);
    }
}

/// A tombstone voids its record, and older ones with it; the file goes when that is settled.
fn evict_by_record(keeper: &mut Keeper<'_>, blob: &Arc<Blob>) -> Outcome {
    let volume = keeper.volume;
    let Volume {
        room,
        index,
        log,
        segments,
        counters,
        ..
    } = volume;
    let mut entry = index.write(blob.hash);
    if entry.blob().is_none_or(|named| named.id != blob.id) {
        return Outcome::Progress;
    }
    let tombstone = Record::tombstone(blob.hash, 0);
    let sequence = match log.append(segments, &tombstone, How::kept()) {
        Ok(appended) => appended.sequence,
        Err(Refusal::Wait) => {
            drop(entry);
            // The file is repaid by the blob's.
            return match keeper.make_spare(true) {
                Made::Yes => evict_by_record(keeper, blob),
                Made::NoRoom | Made::Failed => Outcome::Blocked,
            };
        }
        Err(Refusal::Error(_)) => return Outcome::Blocked,
    };
    entry.raise_barrier(sequence);
    let removed = entry.remove();
    drop(entry);
    counters.evictions.add(1);
    counters.written.add(tombstone.size() as u64);
    if let Some(Removed {
        blob: Some(blob), ..
    }) = removed
    {
        room.unlink(blob, sequence);
    }
    Outcome::Progress
}
