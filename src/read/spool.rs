//! One source, readers at their own pace.
//!
//! The newest bytes stand in a window in memory. What leaves the window is read back from a
//! backing: bytes that a tier's writer has staged, or a spill file. The spool is told what
//! happened and says what to do next; it does no I/O, knows no runtime and wakes nobody itself.
//!
//! Invariants:
//! 1. The window is contiguous and ends at the newest byte: `start..end`.
//! 2. While the spool is not `closed`, every byte from 0 to `end` is in the window or backed, so
//!    that anyone may still join at any offset.
//! 3. Once it is closed, every byte that some reader has not passed is in the window or backed.
//! 4. A backing only grows at its end, and its bytes stay readable (clause 17 of the contract).
//! 5. `end` bytes are delivered to a reader before it is told of a failure, and a clean end is
//!    given only if the source ended.
//! 6. Deliberately absent: a limit by time. Waiting is the driver's business.

use std::{collections::VecDeque, sync::Arc, task::Waker};

use bytes::Bytes;
use larder_store::{Error, Result, Staged};
use slab::Slab;

/// What each chunk in the window costs beside its bytes, so that tiny chunks are bounded too.
const CHUNK_COST: u64 = 64;
/// What a source is expected to give at once, before it gave anything.
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

pub(crate) struct Spool {
    limits: SpoolLimits,
    window: VecDeque<Chunk>,
    /// What has left the window and is to be dropped outside of the lock: bytes may be the user's.
    gone: Vec<Bytes>,
    start: u64,
    end: u64,
    /// The cost of the window: its bytes and `CHUNK_COST` a chunk.
    held: u64,
    chunk_max: u64,
    backings: Vec<Backing>,
    spilled: u64,
    spill_broken: bool,
    /// Something did not fit behind the window.
    crowded: bool,
    closed: bool,
    outcome: Option<Result<()>>,
    readers: Slab<Reader>,
    progress: u64,
}

struct Chunk {
    offset: u64,
    bytes: Bytes,
}

struct Backing {
    from: u64,
    to: u64,
    bytes: Arc<dyn Staged>,
}

/// Someone who waits for the flight to open, or reads it.
#[derive(Default)]
struct Reader {
    /// Where it reads, once it has been placed.
    at: Option<Cursor>,
    cut: bool,
    waker: Option<Waker>,
}

struct Cursor {
    offset: u64,
    stop: Option<u64>,
}

/// What a reader gets.
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

/// What the driver has to do next.
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
            window: VecDeque::new(),
            gone: Vec::new(),
            start: 0,
            end: 0,
            held: 0,
            chunk_max: CHUNK_EXPECTED,
            backings: Vec::new(),
            spilled: 0,
            spill_broken: false,
            crowded: false,
            closed: false,
            outcome: None,
            readers: Slab::new(),
            progress: 0,
        }
    }

    // --- what readers do ---

    /// Adds someone who waits; it is placed later, or leaves.
    pub(crate) fn enter(&mut self) -> usize {
        self.progress += 1;
        self.readers.insert(Reader::default())
    }

    /// Places a waiter at its range. `false` when bytes it needs are gone.
    pub(crate) fn place(&mut self, id: usize, offset: u64, stop: Option<u64>) -> bool {
        if self.closed && !self.covers(offset, stop) {
            return false;
        }
        self.readers[id].at = Some(Cursor { offset, stop });
        self.progress += 1;
        true
    }

    /// Keeps a waiter's waker until the next change. Gives the one before it, which is foreign and
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

    /// Where nobody is there, nobody is to come any more. Says whether that is so.
    pub(crate) fn close_if_left(&mut self) -> bool {
        self.closed |= self.readers.is_empty();
        self.readers.is_empty()
    }

    /// The next bytes for a reader that was placed.
    pub(crate) fn read(&mut self, id: usize, waker: &Waker) -> Read {
        let reader = &mut self.readers[id];
        let Some(at) = &mut reader.at else {
            return Read::Wait;
        };
        if at.stop.is_some_and(|stop| at.offset >= stop) {
            return Read::End;
        }
        if reader.cut {
            return Read::Failed(held_up());
        }
        if at.offset >= self.end {
            return match &self.outcome {
                None => {
                    reader.waker = Some(waker.clone());
                    Read::Wait
                }
                Some(Ok(())) => Read::End,
                Some(Err(error)) => Read::Failed(error.clone()),
            };
        }
        let (offset, stop) = (at.offset, at.stop.unwrap_or(u64::MAX).min(self.end));
        if offset >= self.start {
            let bytes = slice(&self.window, offset, stop);
            at.offset += bytes.len() as u64;
            self.progress += 1;
            return Read::Chunk(bytes);
        }
        let Some(backing) = self.backing(offset) else {
            debug_assert!(
                false,
                "invariants 2 and 3: a byte that a reader needs is kept"
            );
            return Read::Failed(Error::corrupt("the flight lost bytes"));
        };
        let share = (BEHIND_TOTAL / self.readers.len().max(1)).clamp(BEHIND_MIN, BEHIND_MAX);
        let left = backing.to.min(stop) - offset;
        let max = usize::try_from(left).unwrap_or(share).min(share);
        Read::Behind(Arc::clone(&backing.bytes), offset, max)
    }

    /// A reader took so many bytes from a backing.
    pub(crate) fn advance(&mut self, id: usize, by: u64) {
        if let Some(at) = &mut self.readers[id].at {
            at.offset += by;
        }
        self.progress += 1;
    }

    /// A backing could not be read: it is forgotten, another may serve. `false` when none does.
    pub(crate) fn distrust(&mut self, id: usize, bad: &Arc<dyn Staged>) -> bool {
        self.backings
            .retain(|backing| !Arc::ptr_eq(&backing.bytes, bad));
        self.closed = true; // What only this backing had is gone.
        let offset = self.readers[id].at.as_ref().map_or(0, |at| at.offset);
        offset >= self.start || self.backing(offset).is_some()
    }

    // --- what the driver tells ---

    /// The source gave bytes.
    pub(crate) fn append(&mut self, bytes: Bytes) -> Wakers {
        let len = bytes.len() as u64;
        self.chunk_max = self.chunk_max.max(len);
        self.window.push_back(Chunk {
            offset: self.end,
            bytes,
        });
        self.end += len;
        self.held += len + CHUNK_COST;
        self.wake_all()
    }

    /// The source ended, or failed. The first outcome stays.
    pub(crate) fn finish(&mut self, outcome: Result<()>) -> Wakers {
        self.outcome.get_or_insert(outcome);
        self.wake_all()
    }

    /// Bytes from `from` on can be read back; [`backed`](Self::backed) tells how many.
    pub(crate) fn add_backing(&mut self, from: u64, bytes: Arc<dyn Staged>) -> usize {
        self.backings.push(Backing {
            from,
            to: from,
            bytes,
        });
        self.backings.len() - 1
    }

    /// A backing now reaches to this offset.
    pub(crate) fn backed(&mut self, staged: &Arc<dyn Staged>, to: u64) {
        let of = self
            .backings
            .iter_mut()
            .find(|backing| Arc::ptr_eq(&backing.bytes, staged));
        if let Some(backing) = of {
            backing.to = backing.to.max(to);
        }
    }

    /// Bytes of a [`Next::Spill`] were written.
    pub(crate) fn spilled(&mut self, file: &Arc<dyn Staged>, from: u64, len: u64) {
        if !self
            .backings
            .iter()
            .any(|backing| Arc::ptr_eq(&backing.bytes, file))
        {
            self.add_backing(from, Arc::clone(file));
        }
        self.spilled += len;
        self.backed(file, from + len);
    }

    /// The spill file cannot be written: the slowest reader sets the pace from here on.
    pub(crate) fn spill_failed(&mut self) {
        self.spill_broken = true;
    }

    /// What to do next. `ahead`: tiers take the source, so readers need not keep up.
    /// `pressure`: all of the window is to be released that can be.
    pub(crate) fn next(&mut self, ahead: bool, pressure: bool) -> Next {
        let room = self
            .limits
            .memory
            .saturating_sub(self.chunk_max + CHUNK_COST);
        let target = if pressure { 0 } else { room };
        self.shed(target);
        if self.held > target {
            if let Some(spill) = self.spill() {
                return spill;
            }
            // No room behind the window: nobody joins, the slowest sets the pace.
            self.crowded = true;
            self.closed = true;
            self.shed(target);
            if self.held > target {
                return Next::Wait;
            }
        }
        if ahead || self.is_wanted() {
            Next::Pull
        } else {
            Next::Wait
        }
    }

    /// Whether a reader was cut.
    pub(crate) fn is_cut(&self, id: usize) -> bool {
        self.readers[id].cut
    }

    /// What has left the window, to be dropped outside of the lock.
    pub(crate) fn take_gone(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.gone)
    }

    /// Cuts the readers that have bytes to read and do not. Says how many; where there are none,
    /// the flight is to end, and nobody is to join it any more.
    pub(crate) fn cut_blocked(&mut self) -> (usize, Wakers) {
        let end = self.end;
        let mut cut = 0;
        for (_, reader) in &mut self.readers {
            let blocked = reader.at.as_ref().is_none_or(|at| at.offset < end);
            if blocked && !reader.cut {
                reader.cut = true;
                cut += 1;
            }
        }
        self.closed |= cut == 0;
        (cut, self.wake_all())
    }

    // --- what can be asked ---

    /// The bytes that the source gave.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    pub(crate) fn outcome(&self) -> Option<&Result<()>> {
        self.outcome.as_ref()
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

    /// Bytes held in memory, and what the next chunk may bring.
    pub(crate) fn held(&self) -> u64 {
        self.held
    }

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

    /// Whether some reader has no more than half a window before it. One that waits for the length
    /// wants all there is.
    fn is_wanted(&self) -> bool {
        let ahead = self.limits.memory / 2;
        self.readers.iter().any(|(_, reader)| match &reader.at {
            None => true,
            Some(at) => {
                !reader.cut
                    && at.stop.is_none_or(|stop| stop > self.end)
                    && at.offset.saturating_add(ahead) >= self.end
            }
        })
    }

    /// Drops the oldest chunks until the window costs no more than `target`, as far as nobody
    /// loses by it.
    fn shed(&mut self, target: u64) {
        while self.held > target {
            let Some(front) = self.window.front() else {
                break;
            };
            let (from, to) = (front.offset, front.offset + front.bytes.len() as u64);
            let is_backed = self.backing(from).is_some_and(|backing| backing.to >= to);
            let is_needed = !self.closed || !self.is_passed(to);
            if !is_backed && is_needed {
                break;
            }
            self.held -= to - from + CHUNK_COST;
            self.start = to;
            self.gone
                .extend(self.window.pop_front().map(|chunk| chunk.bytes));
        }
    }

    /// Whether no reader needs what lies before `offset`. One that is not placed may need all.
    fn is_passed(&self, offset: u64) -> bool {
        let passed =
            |at: &Cursor| at.offset >= offset || at.stop.is_some_and(|stop| at.offset >= stop);
        let mut readers = self.readers.iter();
        readers.all(|(_, reader)| reader.cut || reader.at.as_ref().is_some_and(passed))
    }

    /// The part of the window that no backing holds, to be spilled, if it may be.
    fn spill(&self) -> Option<Next> {
        if self.spill_broken || self.closed {
            return None;
        }
        let backed = self
            .backings
            .iter()
            .filter(|backing| backing.from <= self.start);
        let from = backed
            .map(|backing| backing.to)
            .max()
            .unwrap_or(0)
            .max(self.start);
        let rest = self
            .window
            .iter()
            .filter(|chunk| chunk.offset + chunk.bytes.len() as u64 > from);
        let chunks: Vec<_> = rest
            .map(|chunk| {
                #[allow(clippy::cast_possible_truncation)] // Within the chunk.
                chunk
                    .bytes
                    .slice(from.saturating_sub(chunk.offset) as usize..)
            })
            .collect();
        let len: u64 = chunks.iter().map(|bytes| bytes.len() as u64).sum();
        (len > 0 && self.spilled + len <= self.limits.disk).then_some(Next::Spill(from, chunks))
    }

    /// Whether every byte from `offset` to the window, or to `stop`, can be read.
    fn covers(&self, mut offset: u64, stop: Option<u64>) -> bool {
        let need = stop.unwrap_or(u64::MAX).min(self.start);
        while offset < need {
            let Some(backing) = self.backing(offset) else {
                return false;
            };
            offset = backing.to;
        }
        true
    }

    /// A backing that has the byte at `offset`; the one that reaches farthest.
    fn backing(&self, offset: u64) -> Option<&Backing> {
        (self.backings.iter())
            .filter(|backing| backing.from <= offset && offset < backing.to)
            .max_by_key(|backing| backing.to)
    }
}

/// What a reader is told that was cut.
pub(crate) fn held_up() -> Error {
    Error::timeout("the reader held up its flight for too long")
}

/// The bytes of the window's chunk that holds `offset`, up to `stop`.
#[allow(clippy::cast_possible_truncation)] // Offsets within a chunk in memory.
fn slice(window: &VecDeque<Chunk>, offset: u64, stop: u64) -> Bytes {
    let after = window.partition_point(|chunk| chunk.offset <= offset);
    let chunk = &window[after - 1];
    let end = (stop - chunk.offset).min(chunk.bytes.len() as u64);
    chunk
        .bytes
        .slice((offset - chunk.offset) as usize..end as usize)
}

#[cfg(all(test, not(shuttle)))]
#[path = "spool_tests.rs"]
mod tests;
