//! The thread that makes room: it keeps spare segments, lets blobs in, evicts, and removes files.
//
// Invariants:
// 1. It never waits for somebody who may wait for it: only for the thread that writes, and for
//    what it is told by.
// 2. It waits for nothing while there is something that it could do, and does nothing again at once
//    that has just failed.

mod spares;

use std::{io, sync::Arc, time::Duration};

use larder_store::{Error, ErrorKind};
use tokio::time::Instant;

pub(crate) use self::spares::Made;
use crate::{
    account::SPARES,
    blobs::Blob,
    clock, evict, flusher,
    health::Health,
    log::{DOWN_TIME, ENDED, closed},
    reclaim,
    segment::{self, FooterPlace, Queue, Segment},
    victims::{Victim, Want},
    volume::Volume,
};

/// Files that are removed before something else gets its turn.
const UNLINKS_MAX: usize = 32;
/// How long a file waits, when it may not yet be removed, for the next look.
const UNLINK_PAUSE: Duration = Duration::from_millis(10);
/// After so long what could not be evicted is tried again.
const BLOCKED_TIME: Duration = DOWN_TIME;
/// So often, before who waits for it is turned away.
const BLOCKED_TRIES: u32 = 3;
/// For so long what is about to be committed is waited for: then it can go for what waits.
const COMMIT_TIME: Duration = Duration::from_secs(1);
/// Pause between two looks at whether the folder is still the store's.
pub(crate) const LOOK_PAUSE: Duration = Duration::from_secs(1);
/// For so long at most files are removed when the store is closed; a start removes the others.
const LEAVE_TIME: Duration = Duration::from_secs(2);

/// Works until the room is stopped.
pub(crate) fn run(volume: &Arc<Volume>) {
    let ended = Ended(volume);
    let mut keeper = Keeper {
        volume,
        is_announced: false,
        look_at: clock::now() + LOOK_PAUSE,
        unblock_at: None,
        unlink_at: None,
        refuse_at: None,
        held: Vec::new(),
    };
    while !volume.room.is_stopped() {
        if !keeper.turn() {
            volume.room.keeper_sleep(keeper.next());
        }
    }
    keeper.leave();
    drop(ended);
}

/// Puts in line what was found at the start. Before the threads begin: the sealer hands over what it
/// has sealed, and nothing may be there twice.
pub(crate) fn adopt(volume: &Volume) {
    let Volume {
        room,
        index,
        segments,
        ..
    } = volume;
    // The others are on their way to the sealer.
    for segment in segments.all() {
        if matches!(segment.footer(), FooterPlace::File) {
            room.victims(|victims| victims.add_segment(segment));
        }
    }
    // All blobs are in probation; those whose record was moved had to do with the main log.
    let mut blobs = index.blobs();
    blobs.sort_unstable_by_key(|blob| blob.id);
    for blob in blobs {
        let word = index.read(blob.hash).get(blob.hash);
        let segment = word.and_then(|word| segments.get(word.place().slot));
        if segment.is_some_and(|segment| segment.queue == Queue::Main) {
            let stamp = blob.id;
            room.victims(|victims| victims.place(blob, Queue::Main, stamp));
        }
    }
}

/// Tells the sealer, however the keeper ends.
struct Ended<'a>(&'a Volume);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.room.keeper_ended();
    }
}

/// What the keeper knows beside what is in [`Room`](crate::room::Room).
pub(crate) struct Keeper<'a> {
    pub(crate) volume: &'a Volume,
    /// Whether the log was told that nothing can be stored.
    is_announced: bool,
    /// When to look at the folder again.
    look_at: Instant,
    /// When to try again what could not be evicted.
    unblock_at: Option<Instant>,
    /// When to look again at files that are to be removed.
    unlink_at: Option<Instant>,
    /// When those who wait are turned away, though others are about to commit what they may go for.
    refuse_at: Option<Instant>,
    /// Blobs that cannot be evicted for now.
    held: Vec<(Arc<Blob>, Queue)>,
}

/// How an eviction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// There is more room, or another order.
    Progress,
    /// This cannot go for now.
    Blocked,
    /// The store is closed.
    Stopped,
}

impl Keeper<'_> {
    /// Does a little of everything; `false` where there is nothing to do for now.
    fn turn(&mut self) -> bool {
        self.look_at_health();
        let served = self.serve();
        let Volume { room, log, .. } = self.volume;
        match room.want(log.spares()) {
            Some(want) => self.evict(want) || served,
            None => {
                self.refuse_at = None;
                self.free_inodes() || served
            }
        }
    }

    /// Lets something go for the sake of its file; `false` where there is no need, or nothing.
    fn free_inodes(&mut self) -> bool {
        let room = &self.volume.room;
        match room.choose_for_inodes() {
            Some(Victim::Segment(segment)) => {
                let outcome = self.reclaim(&segment);
                outcome == Outcome::Progress
            }
            Some(Victim::Blob(blob)) => evict::blob(self, &blob) == Outcome::Progress,
            None => false,
        }
    }

    fn reclaim(&mut self, segment: &Arc<Segment>) -> Outcome {
        let outcome = reclaim::run(self, segment);
        if outcome == Outcome::Blocked {
            let room = &self.volume.room;
            room.victims(|victims| victims.block(segment));
        }
        outcome
    }

    /// When there is something to do though nobody says so.
    fn next(&self) -> Option<Instant> {
        let waits = self.volume.room.unlinks() > 0;
        let unlink_at = self.unlink_at.filter(|_| waits);
        let look_at = (!self.volume.medium.is_retired()).then_some(self.look_at);
        let times = [self.unblock_at, unlink_at, self.refuse_at, look_at];
        times.into_iter().flatten().min()
    }

    /// All that is quickly done; also between the steps of what is not. `true` where there is more
    /// of it.
    pub(crate) fn serve(&mut self) -> bool {
        self.look_at_folder();
        let more = self.unlink();
        while self.volume.log.spares() < SPARES
            && self.volume.room.health(|health| health.down().is_none())
            && self.make_spare(false) == Made::Yes
        {}
        self.volume.room.grant(self.volume.log.spares());
        more
    }

    fn look_at_folder(&mut self) {
        let now = clock::now();
        if self.look_at <= now && self.volume.look_at_folder() {
            self.look_at = now + LOOK_PAUSE;
            self.remove_empty_folders();
        }
    }

    fn remove_empty_folders(&self) {
        let Volume {
            medium, emptied, ..
        } = self.volume;
        for folder in emptied.take() {
            medium.remove_if_empty(&folder);
        }
    }

    fn look_at_health(&mut self) {
        let Volume { room, log, .. } = self.volume;
        let now = clock::now();
        if self.unblock_at.is_some_and(|at| at <= now) {
            self.unblock();
        }
        let down = room.health(|health| health.down().cloned());
        if let Some(error) = down
            && !self.is_announced
        {
            self.is_announced = true;
            log.set_down(Some(error));
            let message = "nothing can be stored for now";
            room.refuse_all(&Error::new(ErrorKind::Full, message));
        }
        if room.health(|health| health.is_probe_due(now)) && self.probe() {
            room.health(Health::recovered);
            self.is_announced = false;
            log.set_down(None);
            self.unblock();
        }
        room.health(|health| health.grow(now));
    }

    /// Takes note of a failure of the file system.
    pub(crate) fn failed(&self, error: io::Error) {
        self.volume.counters.io_errors.add(1);
        let error = flusher::io("cannot write to the store's folder", error);
        self.volume.room.failed(&error);
    }

    /// Takes note that a file could not be removed. Whatever the system calls it, that is no want of
    /// room: a smaller store would not help.
    pub(crate) fn stays(&self, error: io::Error) {
        self.volume.counters.io_errors.add(1);
        let message = "cannot remove a file of the store";
        let error = Error::with_source(ErrorKind::Unavailable, message, error);
        self.volume.room.failed(&error);
    }

    /// Removes some files whose time has come; `true` where there are more.
    fn unlink(&mut self) -> bool {
        let Volume { room, log, .. } = self.volume;
        let now = clock::now();
        if self.unlink_at.is_some_and(|at| at > now) {
            return false;
        }
        self.unlink_at = None;
        let mut removed = 0;
        for _ in 0..room.unlinks().min(UNLINKS_MAX) {
            let Some((blob, after)) = room.next_unlink() else {
                break;
            };
            if after != 0 && !log.is_settled(after) {
                room.postpone_unlink(blob, after);
            } else if self.remove(&blob) {
                removed += 1;
            } else {
                room.postpone_unlink(blob, 0);
                self.unlink_at = Some(now + BLOCKED_TIME);
                return false;
            }
        }
        let more = room.unlinks() > 0;
        if more && removed == 0 {
            self.unlink_at = Some(now + UNLINK_PAUSE);
        }
        more && removed > 0
    }

    /// Removes a blob's file, which then counts no more.
    pub(crate) fn remove(&self, blob: &Blob) -> bool {
        match self.volume.medium.remove(&blob.path()) {
            Ok(()) => {
                self.volume.emptied.note(blob.id);
                self.volume.room.unlinked(blob);
                true
            }
            Err(error) => {
                self.stays(error);
                false
            }
        }
    }

    /// Lets something go; `false` where nothing can be done but wait.
    fn evict(&mut self, want: Want) -> bool {
        let room = &self.volume.room;
        // Before the look, since what comes after it is not among what was looked at.
        let (was_under_way, was_landing) = (room.is_under_way(), room.is_landing());
        let outcome = match room.choose(want) {
            Some(Victim::Segment(segment)) => self.reclaim(&segment),
            Some(Victim::Blob(blob)) => evict::blob(self, &blob),
            None if was_under_way => return false,
            None => return self.find_victims(want, was_landing),
        };
        if outcome == Outcome::Blocked {
            let at = clock::now() + BLOCKED_TIME;
            self.unblock_at.get_or_insert(at);
        } else {
            self.refuse_at = None;
        }
        outcome != Outcome::Stopped
    }

    /// There is nothing to evict. Either there soon will be, or the log gives what it appends to,
    /// or who waits cannot be served.
    fn find_victims(&mut self, want: Want, was_landing: bool) -> bool {
        let Volume { room, log, .. } = self.volume;
        if room.is_under_way() {
            self.refuse_at = None;
            return false;
        }
        let retires = |queue| log.retire_active(queue);
        if want == Want::Anything && [Queue::Main, Queue::Probation].into_iter().any(retires) {
            // Then it is with the sealer.
            log.settled_blocking(log.draw());
            return true;
        }
        let now = clock::now();
        // What cannot go now may go when it is tried again; but not for ever.
        let patience = match self.unblock_at {
            Some(_) => Some(BLOCKED_TIME * BLOCKED_TRIES),
            None => (was_landing || room.is_landing()).then_some(COMMIT_TIME),
        };
        if let Some(patience) = patience
            && *self.refuse_at.get_or_insert(now + patience) > now
        {
            return false;
        }
        let is_refused = room.refuse_first();
        if !is_refused {
            self.refuse_at = None;
        }
        is_refused
    }

    /// Passes a blob over for a while.
    pub(crate) fn hold(&mut self, blob: &Arc<Blob>, queue: Queue) {
        self.held.push((Arc::clone(blob), queue));
    }

    fn unblock(&mut self) {
        let Volume { room, log, .. } = self.volume;
        self.unblock_at = None;
        room.victims(|victims| {
            victims.unblock();
            for (blob, queue) in self.held.drain(..) {
                victims.place(blob, queue, log.draw());
            }
        });
    }

    /// Turns away who waits, and removes what is of no use later.
    fn leave(&mut self) {
        let Volume {
            room, log, medium, ..
        } = self.volume;
        room.refuse_all(&closed());
        log.settled_blocking(ENDED);
        if medium.is_retired() {
            return;
        }
        let until = clock::now() + LEAVE_TIME;
        while let Some((blob, _)) = room.next_unlink() {
            if !self.remove(&blob) || clock::now() > until {
                break;
            }
        }
        self.remove_empty_folders();
        for spare in log.take_spares() {
            if let Err(error) = medium.remove(&segment::path(spare.id)) {
                self.failed(error);
            } else {
                room.resize(spare.allocated, 0);
            }
        }
    }
}

#[cfg(test)]
mod tests;
