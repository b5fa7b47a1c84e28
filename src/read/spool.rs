//! One source, readers at their own pace.
//!
//! The newest bytes stand in a window in memory. A reader that lags behind the window reads from a
//! backing: bytes that a tier's writer has staged, or a spill file. Where no reader needs a byte any
//! more, the window drops it. The flight's task reports to the spool what happened, and the spool
//! decides what comes next. It does no I/O, knows no runtime and wakes nobody itself.
//!
//! Invariants:
//! 1. The window is contiguous and ends at the newest byte.
//! 2. While the spool is not `closed`, every byte from 0 to `end` is in the window or backed, so
//!    that a newcomer may join at any offset.
//! 3. Every byte that a present reader still needs is in the window or backed, until a backing
//!    fails. A reader that has no place needs every byte. A reader of the end needs the last bytes
//!    of those that came.
//! 4. Dropping a byte that is not backed closes the spool.
//! 5. A byte is spilled only if a present reader needs it and lags: the tiers, or another reader
//!    that has passed it, want more than fits into the window. Also if memory is short.
//! 6. A backing only grows at its end, and its bytes stay readable (clause 17 of the contract). The
//!    spill file's begins again where nobody needs what lies before.
//! 7. A reader gets all `end` bytes before it learns of a failure, and a clean end only if the
//!    source ended.
//! 8. Whenever the flight waits for its readers, a reader that waits for more bytes to answer gets
//!    to answer with those that came. So the two never wait for each other.
//! 9. Deliberately absent: a limit by time. Waiting is the driver's business.

use std::{sync::Arc, task::Waker};

use bytes::Bytes;
use larder_store::{ByteRange, Error, Result, Staged};
use slab::Slab;

use super::{
    place::{Cursor, Place, Reader, Sought, held_up, past_the_end, suffix, too_long},
    window::{CHUNK_COST, Window},
};

/// Expected length of a chunk, in bytes, before the source gave one.
pub(crate) const CHUNK_EXPECTED: u64 = 64 << 10;
/// All laggards together read about this much at a time from the backings.
const BEHIND_TOTAL: usize = 4 << 20;
const BEHIND_MIN: usize = 16 << 10;
const BEHIND_MAX: usize = 64 << 10;

/// Limits of one spool, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SpoolLimits {
    /// The window in memory.
    pub(crate) memory: u64,
    /// The spill file; zero means none.
    pub(crate) disk: u64,
}

#[allow(clippy::struct_excessive_bools)] // Each is a fact of its own.
pub(crate) struct Spool {
    limits: SpoolLimits,
    window: Window,
    /// Bytes that left the window. The caller drops them outside of the lock: they may be the user's.
    gone: Vec<Bytes>,
    /// Readers to wake outside of the lock.
    due: Vec<Waker>,
    chunk_max: u64,
    backings: Vec<Backing>,
    /// All tiers that stage the bytes have said so.
    is_staged: bool,
    spilled: u64,
    /// The spill file failed, or is full.
    spill_ended: bool,
    /// Something did not fit behind the window.
    crowded: bool,
    closed: bool,
    /// The flight waits for its readers.
    waits: bool,
    /// A backing failed, and bytes with it.
    lost: bool,
    outcome: Option<Result<()>>,
    readers: Slab<Reader>,
    progress: u64,
}

struct Backing {
    from: u64,
    to: u64,
    bytes: Arc<dyn Staged>,
}

/// The answer to a reader that asks for bytes.
#[derive(Debug)]
pub(crate) enum Read {
    /// The next bytes; the reader has advanced past them.
    Chunk(Bytes),
    /// The next bytes stand here, at this offset, at most so many; [`Spool::advance`] follows.
    Behind(Arc<dyn Staged>, u64, usize),
    /// Nothing yet; the waker is kept.
    Wait,
    /// The end: of the range, or of the source.
    End,
    /// The flight failed, or this reader was cut.
    Failed(Error),
}

/// The next step of the flight's task.
#[derive(Debug)]
pub(crate) enum Next {
    /// Ask the source for more.
    Pull,
    /// Write these bytes, which begin at this offset, to the spill file; [`Spool::spilled`] follows.
    Spill(u64, Vec<Bytes>),
    /// Wait until a reader has moved.
    Wait,
}

/// Readers and waiters to wake, once the lock is released; the usual one without an allocation.
#[must_use]
#[derive(Default)]
pub(crate) struct Wakers {
    first: Option<Waker>,
    rest: Vec<Waker>,
}

impl Wakers {
    pub(crate) fn wake(self) {
        self.first
            .into_iter()
            .chain(self.rest)
            .for_each(Waker::wake);
    }
}

impl Spool {
    pub(crate) fn new(limits: SpoolLimits) -> Self {
        Self {
            limits,
            window: Window::default(),
            gone: Vec::new(),
            due: Vec::new(),
            chunk_max: CHUNK_EXPECTED,
            backings: Vec::new(),
            is_staged: false,
            spilled: 0,
            spill_ended: false,
            crowded: false,
            closed: false,
            waits: false,
            lost: false,
            outcome: None,
            readers: Slab::new(),
            progress: 0,
        }
    }

    // --- what readers do ---

    /// Adds a reader. It takes a place later, or leaves.
    pub(crate) fn enter(&mut self) -> usize {
        self.progress += 1;
        self.readers.insert(Reader::default())
    }

    /// Places a reader at bytes that the object has. `false` when some of them are gone.
    pub(crate) fn place(&mut self, id: usize, offset: u64, stop: Option<u64>) -> bool {
        let at = Cursor {
            offset,
            stop,
            asked: None,
        };
        self.settle(id, Place::At(at), offset, stop)
    }

    /// Places a reader at its range of an object whose length nobody knows: [`sought`](Self::sought)
    /// follows. `false` when some of the bytes are gone.
    pub(crate) fn seek(&mut self, id: usize, range: ByteRange) -> bool {
        let Some((offset, stop)) = range.known() else {
            let len = suffix(range);
            let is_hopeless = self.is_staged && self.backings.is_empty() && !self.can_spill();
            if len > self.limits.memory && is_hopeless {
                self.readers[id].cut = Some(too_long(len));
                return true;
            }
            let offset = self.end().saturating_sub(len);
            return self.settle(id, Place::Tail(len), offset, None);
        };
        let at = Cursor {
            offset,
            stop,
            asked: (!range.is_clamped()).then_some(offset),
        };
        self.settle(id, Place::At(at), offset, stop)
    }

    /// The range of a reader that sought it, once that can be answered: when enough of it came, when
    /// the flight waits for its readers, or at the end of the source. `None` while the reader waits.
    pub(crate) fn sought(&mut self, id: usize, range: ByteRange) -> Option<Result<Sought>> {
        let (end, half) = (self.end(), self.limits.memory / 2);
        let reader = &mut self.readers[id];
        if let Some(error) = &reader.cut {
            return Some(Err(error.clone()));
        }
        if let Some(Ok(())) = self.outcome {
            let part = match range.resolve(end) {
                Ok(part) => part,
                Err(error) => return Some(Err(error)),
            };
            if let Place::Tail(_) = reader.at {
                reader.at = Place::At(Cursor {
                    offset: part.start,
                    stop: Some(part.end),
                    asked: None,
                });
            }
            return Some(Ok(Sought {
                start: part.start,
                end: Some(part.end),
                len: Some(end),
            }));
        }
        if let Some((start, stop)) = range.known() {
            let enough = match stop {
                _ if range.is_full() => 0,
                None => start.saturating_add(1),
                Some(stop) => stop.min(start.saturating_add(half)),
            };
            // Before a failure of the source, which comes after the bytes.
            if end >= enough || (self.waits && end > start) {
                // The object may still end within a range that its end clamps.
                let is_certain = |stop: &u64| !range.is_clamped() || *stop <= end;
                return Some(Ok(Sought {
                    start,
                    end: stop.filter(is_certain),
                    len: None,
                }));
            }
        }
        match &self.outcome {
            Some(Err(error)) => Some(Err(error.clone())),
            _ => None,
        }
    }

    fn settle(&mut self, id: usize, at: Place, offset: u64, stop: Option<u64>) -> bool {
        let window = self.window.start();
        if self.closed && !self.is_backed(offset, stop.unwrap_or(window).min(window)) {
            return false;
        }
        self.readers[id].at = at;
        self.progress += 1;
        true
    }

    /// Keeps a reader's waker until the next change. Gives the one before it, which is foreign and
    /// to be dropped outside of the lock.
    #[must_use]
    pub(crate) fn wait(&mut self, id: usize, waker: &Waker) -> Option<Waker> {
        self.readers[id].waker.replace(waker.clone())
    }

    /// Gives a reader's waker back, to be dropped outside of the lock.
    #[must_use]
    pub(crate) fn take_waker(&mut self, id: usize) -> Option<Waker> {
        self.readers[id].waker.take()
    }

    /// Its waker, too, is to be dropped outside of the lock.
    #[must_use]
    pub(crate) fn leave(&mut self, id: usize) -> Option<Waker> {
        self.progress += 1;
        self.readers.remove(id).waker
    }

    /// Closes the spool if every reader has left. Reports whether that is so.
    pub(crate) fn close_if_left(&mut self) -> bool {
        self.closed |= self.readers.is_empty();
        self.readers.is_empty()
    }

    /// The next bytes for a reader that was placed.
    pub(crate) fn read(&mut self, id: usize, waker: &Waker) -> Read {
        let end = self.end();
        let reader = &mut self.readers[id];
        let Place::At(at) = &mut reader.at else {
            return Read::Wait;
        };
        if at.is_done() {
            return Read::End;
        }
        if let Some(error) = &reader.cut {
            return Read::Failed(error.clone());
        }
        if at.offset >= end {
            return match (&self.outcome, at.asked, at.stop) {
                (None, ..) => {
                    reader.waker = Some(waker.clone());
                    Read::Wait
                }
                (Some(Ok(())), Some(from), Some(stop)) => {
                    Read::Failed(past_the_end(from, stop, end))
                }
                (Some(Ok(())), ..) => Read::End,
                (Some(Err(error)), ..) => Read::Failed(error.clone()),
            };
        }
        let (offset, stop) = (at.offset, at.stop.unwrap_or(u64::MAX).min(end));
        if let Some(bytes) = self.window.slice(offset, stop) {
            at.offset += bytes.len() as u64;
            self.progress += 1;
            return Read::Chunk(bytes);
        }
        let Some(backing) = self.backing(offset) else {
            debug_assert!(self.lost, "invariant 3: a byte that a reader needs is kept");
            return Read::Failed(Error::corrupt("the flight lost bytes"));
        };
        let share = (BEHIND_TOTAL / self.readers.len().max(1)).clamp(BEHIND_MIN, BEHIND_MAX);
        let left = backing.to.min(stop) - offset;
        let max = usize::try_from(left).unwrap_or(share).min(share);
        Read::Behind(Arc::clone(&backing.bytes), offset, max)
    }

    /// A reader took so many bytes from a backing.
    pub(crate) fn advance(&mut self, id: usize, by: u64) {
        if let Place::At(at) = &mut self.readers[id].at {
            at.offset += by;
        }
        self.progress += 1;
    }

    /// Forgets a backing that could not be read. `false` when nothing else has the reader's bytes.
    pub(crate) fn distrust(&mut self, id: usize, bad: &Arc<dyn Staged>) -> bool {
        self.backings
            .retain(|backing| !Arc::ptr_eq(&backing.bytes, bad));
        // Bytes that only this backing had are gone.
        (self.closed, self.lost) = (true, true);
        let offset = match self.readers[id].at {
            Place::At(at) => at.offset,
            Place::Unknown | Place::Tail(_) => 0,
        };
        offset >= self.window.start() || self.backing(offset).is_some()
    }

    // --- what the flight's task reports ---

    /// The source gave bytes.
    pub(crate) fn append(&mut self, bytes: &Bytes) -> Wakers {
        self.chunk_max = self.chunk_max.max(bytes.len() as u64);
        self.window.push(bytes);
        self.wake_all()
    }

    /// The source ended, or failed. The first outcome stays.
    pub(crate) fn finish(&mut self, outcome: Result<()>) -> Wakers {
        self.outcome.get_or_insert(outcome);
        self.wake_all()
    }

    /// A tier's writer stages the bytes from `from` on; [`backed`](Self::backed) reports how many.
    pub(crate) fn add_backing(&mut self, from: u64, bytes: Arc<dyn Staged>) {
        let to = from;
        self.backings.push(Backing { from, to, bytes });
    }

    /// All backings of the tiers were added.
    pub(crate) fn staged(&mut self) -> Wakers {
        self.is_staged = true;
        if self.backings.is_empty() && !self.can_spill() {
            self.cut_long_tails();
        }
        self.take_due()
    }

    /// A backing now reaches to this offset.
    pub(crate) fn backed(&mut self, staged: &Arc<dyn Staged>, to: u64) {
        if let Some(backing) = self.backing_of(staged) {
            backing.to = backing.to.max(to);
        }
    }

    /// Bytes of a [`Next::Spill`] were written.
    pub(crate) fn spilled(&mut self, file: &Arc<dyn Staged>, from: u64, len: u64) {
        self.spilled += len;
        let to = from + len;
        match self.backing_of(file) {
            Some(backing) if backing.to == from => backing.to = to,
            // All readers have passed the bytes between, or those would have been spilled.
            Some(backing) => (backing.from, backing.to) = (from, to),
            None => {
                let bytes = Arc::clone(file);
                self.backings.push(Backing { from, to, bytes });
            }
        }
    }

    /// The spill file cannot be written: the slowest reader sets the pace from here on.
    pub(crate) fn spill_failed(&mut self) {
        self.spill_ended = true;
    }

    /// The next step. `ahead`: tiers take the source, so readers need not keep up.
    /// `pressure`: memory is short, so all of the window leaves that can.
    pub(crate) fn next(&mut self, ahead: bool, pressure: bool) -> Next {
        let next = self.decide(ahead, pressure);
        self.waits = matches!(next, Next::Wait);
        if self.waits {
            // Those that have bytes and wait for more before they answer: see invariant 8.
            let end = self.end();
            for (_, reader) in &mut self.readers {
                if matches!(reader.at, Place::At(at) if at.offset < end) {
                    self.due.extend(reader.waker.take());
                }
            }
        }
        next
    }

    fn decide(&mut self, ahead: bool, pressure: bool) -> Next {
        let room = self
            .limits
            .memory
            .saturating_sub(self.chunk_max + CHUNK_COST);
        let target = if pressure { 0 } else { room };
        if self.outcome.is_none() && !self.can_spill() && !self.is_backed_to_the_end() {
            self.cut_long_tails();
        }
        self.shed(target);
        if self.held() > target && (pressure || self.has_laggard(ahead)) {
            if let Some(spill) = self.spill() {
                return spill;
            }
            // No room behind the window: nobody joins, the slowest sets the pace.
            (self.crowded, self.closed) = (true, true);
            self.cut_long_tails();
            self.shed(target);
        }
        if self.held() > target {
            if self.is_held_up() {
                return Next::Wait;
            }
            // Readers of the end keep it above its target.
            self.window.compact();
        }
        if ahead || self.is_wanted() {
            Next::Pull
        } else {
            Next::Wait
        }
    }

    /// Takes bytes that left the window and readers that are due. The caller drops and wakes them
    /// outside of the lock.
    pub(crate) fn take_gone(&mut self) -> (Vec<Bytes>, Wakers) {
        (std::mem::take(&mut self.gone), self.take_due())
    }

    /// Cuts the readers that have bytes to read and do not read them. Gives their number. If there
    /// are none, the flight has to end, and nobody joins it any more.
    pub(crate) fn cut_blocked(&mut self) -> (usize, Wakers) {
        let end = self.end();
        let mut cut = 0;
        for (_, reader) in &mut self.readers {
            let is_blocked = match reader.at {
                Place::Unknown => true,
                Place::Tail(_) => false,
                Place::At(at) => at.offset < end && !at.is_done(),
            };
            if is_blocked && reader.cut.is_none() {
                reader.cut = Some(held_up());
                cut += 1;
            }
        }
        self.closed |= cut == 0;
        (cut, self.wake_all())
    }

    // --- what can be asked ---

    /// The number of bytes that the source gave.
    pub(crate) fn end(&self) -> u64 {
        self.window.end()
    }

    /// Whether a newcomer can still read everything.
    pub(crate) fn is_joinable(&self) -> bool {
        !self.closed
    }

    /// Whether something had to stay in the window because the spill file failed or is full.
    pub(crate) fn is_crowded(&self) -> bool {
        self.crowded
    }

    pub(crate) fn readers(&self) -> usize {
        self.readers.len()
    }

    /// What the window costs: its bytes, and [`CHUNK_COST`] a chunk.
    pub(crate) fn held(&self) -> u64 {
        self.window.cost()
    }

    /// The most bytes that the next chunk may bring.
    pub(crate) fn chunk_max(&self) -> u64 {
        self.chunk_max
    }

    /// Changes whenever a reader moves, comes or leaves.
    pub(crate) fn progress(&self) -> u64 {
        self.progress
    }

    pub(crate) fn wake_all(&mut self) -> Wakers {
        let mut wakers = self
            .readers
            .iter_mut()
            .filter_map(|(_, reader)| reader.waker.take());
        Wakers {
            first: wakers.next(),
            rest: wakers.collect(),
        }
    }

    // --- leaves ---

    fn take_due(&mut self) -> Wakers {
        Wakers {
            first: None,
            rest: std::mem::take(&mut self.due),
        }
    }

    /// Whether some reader wants more than came.
    fn is_wanted(&self) -> bool {
        let (end, memory) = (self.end(), self.limits.memory);
        let mut readers = self.readers.iter();
        readers.any(|(_, reader)| reader.wants_more(end, memory))
    }

    /// Whether a reader needs the front of the window while others go on: the tiers, or a reader
    /// that does not need it. Readers of the end differ: they want all there is, and the window
    /// keeps a short end.
    fn has_laggard(&mut self, ahead: bool) -> bool {
        let Some((_, front)) = self.window.front() else {
            return false;
        };
        let (end, memory) = (self.end(), self.limits.memory);
        let (mut lags, mut goes_on) = (false, ahead);
        for (_, reader) in &self.readers {
            let has_passed = reader.has_passed(front, end);
            lags |= !has_passed && !reader.is_short_tail(memory);
            let is_free = has_passed || matches!(reader.at, Place::Tail(_));
            goes_on |= is_free && reader.wants_more(end, memory);
        }
        lags && goes_on
    }

    /// Whether a reader needs the front of the window that could read it now.
    fn is_held_up(&mut self) -> bool {
        let Some((_, front)) = self.window.front() else {
            return false;
        };
        let end = self.end();
        let mut readers = self.readers.iter();
        readers.any(|(_, reader)| {
            !matches!(reader.at, Place::Tail(_)) && !reader.has_passed(front, end)
        })
    }

    /// Drops the oldest chunks until the window costs no more than `target`, as far as no present
    /// reader loses by it.
    fn shed(&mut self, target: u64) {
        while self.held() > target {
            let Some((from, to)) = self.window.front() else {
                break;
            };
            if !self.is_backed(from, to) {
                let end = self.end();
                let mut readers = self.readers.iter();
                if !readers.all(|(_, reader)| reader.has_passed(to, end)) {
                    break;
                }
                self.closed = true;
            }
            self.gone.extend(self.window.pop());
        }
    }

    fn can_spill(&self) -> bool {
        !self.spill_ended && self.limits.disk > 0
    }

    /// The part of the window that no backing holds, to be spilled, if there is room for it.
    fn spill(&mut self) -> Option<Next> {
        if !self.can_spill() {
            return None;
        }
        let (mut from, end) = (self.window.start(), self.end());
        while let Some(backing) = self.backing(from) {
            from = backing.to;
        }
        if self.spilled.saturating_add(end.saturating_sub(from)) > self.limits.disk {
            self.spill_ended = true;
            return None;
        }
        (from < end).then(|| Next::Spill(from, self.window.since(from)))
    }

    /// Cuts those that want more of the end than a window holds, where nothing else can hold it.
    fn cut_long_tails(&mut self) {
        for (_, reader) in &mut self.readers {
            if let Place::Tail(len) = reader.at
                && len > self.limits.memory
                && reader.cut.is_none()
            {
                reader.cut = Some(too_long(len));
                self.due.extend(reader.waker.take());
            }
        }
    }

    /// Whether a backing has all that came: so it is whenever a tier has taken it.
    fn is_backed_to_the_end(&self) -> bool {
        let end = self.end();
        self.backings.iter().any(|backing| backing.to >= end)
    }

    /// Whether the backings have every byte from `from` to `to`.
    fn is_backed(&self, mut from: u64, to: u64) -> bool {
        while from < to {
            let Some(backing) = self.backing(from) else {
                return false;
            };
            from = backing.to;
        }
        true
    }

    /// A backing that has the byte at `offset`; the one that reaches farthest.
    fn backing(&self, offset: u64) -> Option<&Backing> {
        (self.backings.iter())
            .filter(|backing| backing.from <= offset && offset < backing.to)
            .max_by_key(|backing| backing.to)
    }

    fn backing_of(&mut self, bytes: &Arc<dyn Staged>) -> Option<&mut Backing> {
        let is_it = |backing: &&mut Backing| Arc::ptr_eq(&backing.bytes, bytes);
        self.backings.iter_mut().find(is_it)
    }
}

#[cfg(all(test, not(shuttle)))]
#[path = "spool_tests.rs"]
mod tests;
