//! What the keeper and the sealer ask of the room, and tell it.

use std::{
    sync::{Arc, Condvar, MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};

use larder_store::Error;
use tokio::time::Instant;

use super::{Grant, Room, State, Waiter, full};
use crate::{
    account::SPARES,
    blobs::Blob,
    clock,
    ghost::Ghost,
    health::Health,
    index::{Place, Word},
    segment::Segment,
    victims::{Victim, Victims, Want},
};

/// What the sealer does next.
pub(crate) enum Task {
    Seal(Arc<Segment>),
    Sync,
    End,
}

/// What the keeper does.
impl Room {
    /// Notes that a record at this place is a copy; should it not reach its file, the entry is to
    /// point to the original again. The entry's stripe is locked.
    pub(crate) fn note_origin(&self, place: Place, original: Word) {
        self.origins().insert(place, original);
    }

    pub(crate) fn clear_origins(&self) {
        self.origins().clear();
    }

    pub(crate) fn ghost(&self) -> &Ghost {
        &self.0.ghost
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.lock().stopped
    }

    /// Sleeps until there is something to look at, or until then.
    pub(crate) fn keeper_sleep(&self, until: Option<Instant>) {
        let mut state = self.lock();
        while !state.woken && !state.stopped {
            let now = clock::now();
            let next = [until, state.health.next()].into_iter().flatten().min();
            state = match next {
                Some(next) if next <= now => break,
                Some(next) => wait_until(&self.0.keeper, state, next - now),
                None => {
                    let waited = self.0.keeper.wait(state);
                    waited.unwrap_or_else(PoisonError::into_inner)
                }
            };
        }
        state.woken = false;
    }

    pub(crate) fn keeper_ended(&self) {
        self.lock().keeper_ended = true;
        self.0.sealer.notify_one();
    }

    /// Looks at the state of the disk, or changes it.
    pub(crate) fn health<T>(&self, look: impl FnOnce(&mut Health) -> T) -> T {
        let mut state = self.lock();
        let seen = look(&mut state.health);
        self.note_health(&state.health);
        seen
    }

    /// Looks at what may be evicted, or changes it.
    pub(crate) fn victims<T>(&self, look: impl FnOnce(&mut Victims) -> T) -> T {
        look(&mut self.lock().victims)
    }

    /// Counts one more segment; `false` where that would be too many. `beyond` the limit it may go
    /// when the keeper cannot make room otherwise.
    pub(crate) fn take_segment(&self, beyond: bool) -> bool {
        let mut state = self.lock();
        let limit = state.health.limit();
        let takes = beyond || state.account.has_segment(limit);
        if takes {
            state.account.take_segment();
        }
        takes
    }

    /// Takes note that a segment's file has another length, zero where it is gone.
    pub(crate) fn resize(&self, from: u64, to: u64) {
        self.lock().account.resize(from, to);
    }

    /// What has to be evicted, with so many spares.
    pub(crate) fn want(&self, spares: usize) -> Option<Want> {
        let mut state = self.lock();
        if spares >= SPARES {
            state.is_pressed = false;
        }
        if state.stopped || state.health.is_failing() {
            return None;
        }
        let spares = state.spares_worth(spares);
        let limit = state.health.limit();
        let shortage = state.account.shortage(limit, spares);
        shortage.or_else(|| {
            let bytes = state.waiters.front()?.bytes;
            state.account.obstacle(bytes, limit, spares)
        })
    }

    /// Whether some blob has room and is about to be published.
    pub(crate) fn is_landing(&self) -> bool {
        self.lock().account.is_landing()
    }

    pub(crate) fn choose(&self, want: Want) -> Option<Victim> {
        let mut state = self.lock();
        let limit = state.health.limit();
        state.victims.choose(limit, want)
    }

    /// As [`choose`](Self::choose), while files are to go since no more can be made: those of
    /// blobs first, since these are what takes many.
    pub(crate) fn choose_for_inodes(&self) -> Option<Victim> {
        let mut state = self.lock();
        let (want, _) = state.inodes_wanted?;
        if state.stopped || state.health.is_failing() {
            return None;
        }
        let limit = state.health.limit();
        let victim = state.victims.choose(limit, Want::Blob);
        let victim = victim.or_else(|| state.victims.choose(limit, want));
        if victim.is_none() {
            self.0.want_inodes(&mut state, None);
        }
        victim
    }

    /// Says that a segment's file is gone.
    pub(crate) fn freed_inode(&self) {
        self.0.freed_inode(&mut self.lock());
    }

    /// Whether room is on its way, or victims are, with nothing more to be done about it.
    pub(crate) fn is_under_way(&self) -> bool {
        let state = self.lock();
        state.sealing > 0 || !state.unlinks.is_empty()
    }

    /// Lets in who waits, in order, as far as there is room.
    pub(crate) fn grant(&self, spares: usize) {
        let mut granted = Vec::new();
        let mut state = self.lock();
        let spares = state.spares_worth(spares);
        while let Some(waiter) = state.waiters.front() {
            let (bytes, limit) = (waiter.bytes, state.health.limit());
            let is_gone = waiter.tell.is_closed();
            if !is_gone {
                if state.account.obstacle(bytes, limit, spares).is_some() {
                    break;
                }
                state.account.admit(bytes);
            }
            granted.extend(state.waiters.pop_front().filter(|_| !is_gone));
        }
        drop(state);
        for Waiter { bytes, tell } in granted {
            let shared = Arc::clone(&self.0);
            // Where nobody takes it, its drop gives it back.
            let _ = tell.send(Ok(Grant { shared, bytes }));
        }
    }

    /// Turns away who waits first; `false` where nobody does.
    pub(crate) fn refuse_first(&self) -> bool {
        let waiter = self.lock().waiters.pop_front();
        waiter.is_some_and(|waiter| {
            let _ = waiter.tell.send(Err(full()));
            true
        })
    }

    /// Turns away all who wait.
    pub(crate) fn refuse_all(&self, error: &Error) {
        let waiters = std::mem::take(&mut self.lock().waiters);
        for waiter in waiters {
            let _ = waiter.tell.send(Err(error.clone()));
        }
    }

    /// Takes the blob that was to be unlinked first.
    pub(crate) fn next_unlink(&self) -> Option<(Arc<Blob>, u64)> {
        self.lock().unlinks.pop_front()
    }

    /// Not yet.
    pub(crate) fn postpone_unlink(&self, blob: Arc<Blob>, after: u64) {
        self.lock().unlinks.push_back((blob, after));
    }

    pub(crate) fn unlinks(&self) -> usize {
        self.lock().unlinks.len()
    }

    /// Says that a blob's file is gone.
    pub(crate) fn unlinked(&self, blob: &Blob) {
        let mut state = self.lock();
        state.account.free_blob(blob.room());
        self.0.freed_inode(&mut state);
    }
}

/// What the sealer does.
impl Room {
    /// Waits for something to do.
    pub(crate) fn next_task(&self) -> Task {
        let mut state = self.lock();
        loop {
            let now = clock::now();
            if state.sync_at.is_some_and(|at| at <= now) {
                state.sync_at = None;
                self.0.dirty.store(false, Ordering::Release);
                return Task::Sync;
            }
            if let Some(segment) = state.seals.pop_front() {
                return Task::Seal(segment);
            }
            if state.stopped {
                return Task::End;
            }
            state = match state.sync_at {
                Some(at) => wait_until(&self.0.sealer, state, at - now),
                None => {
                    let waited = self.0.sealer.wait(state);
                    waited.unwrap_or_else(PoisonError::into_inner)
                }
            };
        }
    }

    /// Says that a segment has its final form: it may be evicted from now on. Before, so many bytes
    /// were expected of it.
    pub(crate) fn sealed(&self, segment: Arc<Segment>, expected: u64) {
        let mut state = self.lock();
        state.sealing = state.sealing.saturating_sub(1);
        state.victims.arrived(segment.queue, expected);
        state.victims.add_segment(segment);
        self.0.wake(&mut state);
    }

    /// Waits until the keeper has ended.
    pub(crate) fn await_keeper(&self) {
        let mut state = self.lock();
        while !state.keeper_ended {
            let waited = self.0.sealer.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn wait_until<'a>(
    condition: &Condvar,
    state: MutexGuard<'a, State>,
    pause: Duration,
) -> MutexGuard<'a, State> {
    let waited = condition.wait_timeout(state, pause);
    waited.unwrap_or_else(PoisonError::into_inner).0
}
