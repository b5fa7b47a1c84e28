//! Appending: records go to a buffer in memory, and a thread of its own writes them out.
//
// Invariants:
// 1. Sequence numbers are given under the lock, so in each queue they grow with the place. Only a
//    tombstone that is carried forward keeps the number that it had.
// 2. A record stands in one chunk. A chunk is readable here until the segment says that it is
//    flushed, and then in the file.
// 3. Whatever has a number below `Progress::flushed` has reached the kernel, or its number is in
//    `Progress::failures`.
// 4. No file is touched under the lock.

mod active;
mod progress;
mod view;

use std::{
    collections::VecDeque,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use larder_store::{Error, ErrorKind, Result};
use tokio::sync::{Notify, watch};

pub(crate) use self::active::Chunk;
use self::{active::Active, progress::Progress};
use crate::{
    footer::{ENTRY_LEN, Footer},
    index::Place,
    medium::File,
    record::{Kind, Record},
    segment::{FooterPlace, Parts, Queue, SEGMENT_HEADER_LEN, Segment, Segments},
    segment_header,
};

/// A buffer is written out when it has so many bytes ...
const FLUSH_LEN: usize = 1 << 20;
/// ... or when nothing was done about it for so long.
const FLUSH_IDLE: Duration = Duration::from_millis(5);
/// Above so many bytes that wait to be written, appending waits.
const BUFFERED_MAX: usize = 8 << 20;
/// So many buffers are kept to be filled again.
const FREE_MAX: usize = 3;
/// A segment lists at most so many records.
const ENTRIES_MAX: usize = 1 << 20;
/// For so long nothing is appended after a write failed.
pub(crate) const DOWN_TIME: Duration = Duration::from_secs(1);

/// A number that is settled when the log has been stopped, and all is written.
pub(crate) const ENDED: u64 = u64::MAX - 1;

/// Where records are appended.
pub(crate) struct Log {
    state: Mutex<State>,
    /// Wakes the thread that writes.
    wake: Condvar,
    /// Wakes the store's other threads when the progress has changed.
    moved: Condvar,
    progress: watch::Sender<Progress>,
    /// Tells those who wait for room that there may be some.
    room: Notify,
    sequence: Sequence,
    settings: Settings,
}

/// The next number, on a cache line of its own: versions are drawn while others append.
#[repr(align(64))]
struct Sequence(AtomicU64);

#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) store_id: [u8; 16],
    pub(crate) segment_size: u64,
    /// Whether a flush ends with a sync.
    pub(crate) sync: bool,
    pub(crate) detached: Arc<AtomicU64>,
}

struct State {
    actives: [Option<Active>; 2],
    /// Taken out of the actives and not yet in the file, in order.
    chunks: VecDeque<Arc<Chunk>>,
    spares: Vec<Spare>,
    /// Buffers that were written, to be filled again.
    free: Vec<Vec<u8>>,
    /// Bytes in the actives' buffers and in chunks.
    buffered: usize,
    /// Somebody waits for what is in the buffers.
    urgent: bool,
    /// Why nothing can be appended for now.
    down: Option<Error>,
    stopped: bool,
}

/// A file that is ready to become a segment.
pub(crate) struct Spare {
    pub(crate) id: u64,
    pub(crate) file: File,
    pub(crate) allocated: u64,
}

/// A record that has its place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Appended {
    pub(crate) sequence: u64,
    pub(crate) place: Place,
}

/// Why a record was not appended.
#[derive(Clone, Debug)]
pub(crate) enum Refusal {
    /// There will be room: see [`Log::room`].
    Wait,
    Error(Error),
}

/// How a record is appended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct How {
    pub(crate) queue: Queue,
    pub(crate) shadow: bool,
    /// The number of a tombstone that is carried forward.
    pub(crate) sequence: Option<u64>,
    /// Whether it may take the last spare segment: the keeper, who makes them, must never wait.
    pub(crate) privileged: bool,
    /// Whether the other queue will do as well, before a new segment is begun.
    pub(crate) anywhere: bool,
}

impl How {
    pub(crate) fn new(queue: Queue) -> Self {
        Self {
            queue,
            shadow: false,
            sequence: None,
            privileged: false,
            anywhere: false,
        }
    }

    /// How the keeper appends what must not be lost, and takes little room.
    pub(crate) fn kept() -> Self {
        Self {
            privileged: true,
            anywhere: true,
            ..Self::new(Queue::Main)
        }
    }
}

/// What one turn of the writing thread has to do.
pub(crate) struct Turn {
    pub(crate) chunks: Vec<Arc<Chunk>>,
    /// What is below has reached the kernel when these are written.
    pub(crate) boundary: u64,
    pub(crate) stop: bool,
}

impl Log {
    /// A log whose next record gets this sequence number.
    pub(crate) fn new(settings: Settings, next_sequence: u64) -> Self {
        let progress = Progress {
            flushed: next_sequence,
            failures: VecDeque::new(),
        };
        Self {
            state: Mutex::new(State {
                actives: [None, None],
                chunks: VecDeque::new(),
                spares: Vec::new(),
                free: Vec::new(),
                buffered: 0,
                urgent: false,
                down: None,
                stopped: false,
            }),
            wake: Condvar::new(),
            moved: Condvar::new(),
            progress: watch::Sender::new(progress),
            room: Notify::new(),
            sequence: Sequence(AtomicU64::new(next_sequence)),
            settings,
        }
    }

    /// Draws a number that no other record, version or file has.
    pub(crate) fn draw(&self) -> u64 {
        self.sequence.0.fetch_add(1, Ordering::Relaxed)
    }

    /// The number that will be drawn next.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.sequence.0.load(Ordering::Relaxed)
    }

    /// Gives a record its place. It is readable at once, and written soon.
    pub(crate) fn append(
        &self,
        segments: &Segments,
        record: &Record,
        how: How,
    ) -> Result<Appended, Refusal> {
        let mut state = self.lock();
        if state.stopped {
            return Err(Refusal::Error(closed()));
        }
        // On a full disk the keeper goes on: what it appends makes room, in files that have theirs.
        if let Some(down) = &state.down
            && !(how.privileged && down.is_full())
        {
            return Err(Refusal::Error(down.clone()));
        }
        let is_tombstone = record.kind() == Kind::Tombstone;
        if state.buffered >= BUFFERED_MAX && !is_tombstone && !how.privileged {
            self.wake.notify_one();
            return Err(Refusal::Wait);
        }
        let fits = |queue: Queue| {
            let active = state.actives[queue as usize].as_ref();
            active.is_some_and(|active| self.fits(active, record, is_tombstone))
        };
        let mut how = how;
        if !fits(how.queue) {
            let other = how.queue.other();
            if how.anywhere && fits(other) {
                how.queue = other;
            } else {
                self.roll(&mut state, segments, how)?;
            }
        }
        let sequence = how.sequence.unwrap_or_else(|| self.draw());
        // It was there, or `roll` has put it there.
        let Some(active) = state.actives[how.queue as usize].as_mut() else {
            return Err(Refusal::Wait);
        };
        let place = active.push(record, sequence, how.shadow);
        if how.sequence.is_some() {
            // The numbers of a chunk tell those who wait for them; nobody waits for this one.
        } else if active.first == u64::MAX {
            active.first = sequence;
        }
        let due = active.buffer.len() >= FLUSH_LEN;
        let first = state.buffered == 0;
        state.buffered += record.size();
        if due || first {
            state.urgent |= due;
            self.wake.notify_one();
        }
        Ok(Appended { sequence, place })
    }

    /// Whether a record goes into this segment. Some room is kept for tombstones, so that there is
    /// a place for deletes when no new segment can be had.
    fn fits(&self, active: &Active, record: &Record, is_tombstone: bool) -> bool {
        let size = self.settings.segment_size;
        let kept = if is_tombstone {
            0
        } else {
            (size / 64).min(64 << 10)
        };
        // The footer has to fit behind the records.
        let footer = (active.footer.len() + ENTRY_LEN + 2 + record.key().len()) as u64;
        active.end + record.size() as u64 + footer + kept <= size
            && active.footer.entries.len() < ENTRIES_MAX
    }

    /// Seals the active segment of a queue and begins the next.
    fn roll(&self, state: &mut State, segments: &Segments, how: How) -> Result<(), Refusal> {
        let queue = how.queue;
        if state.spares.len() <= usize::from(!how.privileged) {
            return Err(Refusal::Wait);
        }
        let Some(spare) = state.spares.pop() else {
            return Err(Refusal::Wait);
        };
        let seed = segment_header::seed(&self.settings.store_id, spare.id);
        let header = segment_header::write(&self.settings.store_id, spare.id, queue);
        let (id, allocated) = (spare.id, spare.allocated);
        let segment = segments.add(|slot| {
            Segment::new(Parts {
                id,
                slot,
                queue,
                seed,
                file: spare.file,
                allocated,
                flushed: 0,
                end: 0,
                min_sequence: u64::MAX,
                footer: FooterPlace::Active,
                detached: Arc::clone(&self.settings.detached),
            })
        });
        let Some(segment) = segment else {
            let error = Error::new(ErrorKind::Full, "there are too many segments");
            return Err(Refusal::Error(error));
        };
        let next = Active {
            segment,
            end: header.len() as u64,
            buffer: header,
            first: u64::MAX,
            footer: Footer::default(),
        };
        state.buffered += SEGMENT_HEADER_LEN;
        let sealed = state.actives[queue as usize].replace(next);
        if let Some(sealed) = sealed {
            self.seal(state, sealed);
        }
        self.wake.notify_one();
        Ok(())
    }

    /// Ends a segment: what is left of it goes to the thread that writes.
    fn seal(&self, state: &mut State, mut active: Active) {
        active.segment.set_end(active.end);
        let footer = std::mem::take(&mut active.footer);
        active
            .segment
            .set_footer(FooterPlace::Memory(Arc::new(footer)));
        let next = self.next_sequence();
        let last = active.chunk(next, true, Vec::new());
        state.chunks.push_back(Arc::new(last));
    }

    /// Ends the active segment of a queue before it is full, so that it can be evicted; `false`
    /// where there is none that holds anything.
    pub(crate) fn retire_active(&self, queue: Queue) -> bool {
        let mut state = self.lock();
        let active = state.actives[queue as usize].as_ref();
        if active.is_none_or(|active| active.footer.entries.is_empty()) {
            return false;
        }
        if let Some(active) = state.actives[queue as usize].take() {
            self.seal(&mut state, active);
        }
        drop(state);
        self.wake.notify_one();
        true
    }

    /// Waits for something to write, and takes it: called by the thread that writes.
    pub(crate) fn turn(&self) -> Turn {
        let mut state = self.lock();
        loop {
            if state.urgent || state.stopped || !state.chunks.is_empty() {
                break;
            }
            let waits = state.buffered > 0;
            state = if waits {
                let waited = self.wake.wait_timeout(state, FLUSH_IDLE);
                let (state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
                if timeout.timed_out() {
                    let mut state = state;
                    state.urgent = true;
                    state
                } else {
                    state
                }
            } else {
                let waited = self.wake.wait(state);
                waited.unwrap_or_else(PoisonError::into_inner)
            };
        }
        state.urgent = false;
        let boundary = self.next_sequence();
        for queue in 0..state.actives.len() {
            let State {
                actives,
                chunks,
                free,
                ..
            } = &mut *state;
            if let Some(active) = &mut actives[queue]
                && !active.buffer.is_empty()
            {
                let next = free.pop().unwrap_or_default();
                chunks.push_back(Arc::new(active.chunk(boundary, false, next)));
            }
        }
        Turn {
            chunks: state.chunks.iter().cloned().collect(),
            boundary,
            stop: state.stopped,
        }
    }

    /// Says that a chunk was written, or has failed; it is gone from here.
    pub(crate) fn wrote(&self, chunk: &Arc<Chunk>, result: &Result<()>) {
        if result.is_ok() {
            let end = chunk.offset + chunk.bytes.len() as u64;
            chunk.segment.set_flushed(end);
        }
        let mut state = self.lock();
        state.chunks.retain(|other| !Arc::ptr_eq(other, chunk));
        state.buffered -= chunk.bytes.len();
        drop(state);
        self.room.notify_waiters();
        if let Err(error) = result {
            self.progress
                .send_modify(|progress| progress.fail(&chunk.sequences, error));
        }
    }

    /// Takes the buffers of chunks that were written, to fill them again.
    pub(crate) fn recycle(&self, chunks: Vec<Arc<Chunk>>) {
        // Their segments are let go before the lock is taken: that may close a file.
        let chunks = chunks.into_iter().filter_map(Arc::into_inner);
        let buffers: Vec<_> = chunks.map(|chunk| chunk.bytes).collect();
        let mut state = self.lock();
        for mut bytes in buffers {
            if state.free.len() < FREE_MAX && bytes.capacity() <= 2 * FLUSH_LEN {
                bytes.clear();
                state.free.push(bytes);
            }
        }
    }

    /// Ends the active segment that a failed chunk belongs to, so that nothing follows a hole.
    pub(crate) fn abandon(&self, segment: &Segment) -> Vec<Arc<Chunk>> {
        let mut state = self.lock();
        for queue in 0..state.actives.len() {
            let found = state.actives[queue].as_ref();
            if found.is_some_and(|active| active.segment.id == segment.id)
                && let Some(active) = state.actives[queue].take()
            {
                self.seal(&mut state, active);
            }
        }
        let of_it = |chunk: &&Arc<Chunk>| chunk.segment.id == segment.id;
        state.chunks.iter().filter(of_it).cloned().collect()
    }

    fn urge(&self) {
        self.lock().urgent = true;
        self.wake.notify_one();
    }

    /// A future that is there when there may be room; to be made before the attempt.
    pub(crate) fn room(&self) -> tokio::sync::futures::Notified<'_> {
        self.room.notified()
    }

    /// Wakes those who wait for room.
    pub(crate) fn retry(&self) {
        self.room.notify_waiters();
    }

    pub(crate) fn add_spare(&self, spare: Spare) {
        self.lock().spares.push(spare);
        self.retry();
    }

    pub(crate) fn spares(&self) -> usize {
        self.lock().spares.len()
    }

    pub(crate) fn take_spares(&self) -> Vec<Spare> {
        std::mem::take(&mut self.lock().spares)
    }

    /// Nothing can be appended for this reason, or it can again.
    pub(crate) fn set_down(&self, reason: Option<Error>) {
        self.lock().down = reason;
        self.retry();
    }

    pub(crate) fn is_down(&self) -> bool {
        self.lock().down.is_some()
    }

    /// Nothing is appended any more; the thread that writes is to end after what is there.
    pub(crate) fn stop(&self) {
        let mut state = self.lock();
        state.stopped = true;
        for queue in 0..state.actives.len() {
            if let Some(active) = state.actives[queue].take() {
                self.seal(&mut state, active);
            }
        }
        drop(state);
        self.wake.notify_all();
        self.retry();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn syncs(&self) -> bool {
        self.settings.sync
    }
}

pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the store is closed")
}
