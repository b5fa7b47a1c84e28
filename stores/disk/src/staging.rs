//! The bytes of an object while it is written, and for those who read them back meanwhile.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use bytes::{Bytes, BytesMut};
use larder_store::{Error, Reply, Result, Staged};

use crate::{flusher, medium::File, volume::Volume};

/// A file is written in pieces of so many bytes.
pub(crate) const PIECE: usize = 1 << 20;
/// The most that one read gives: it is a copy.
const READ_MAX: usize = 256 << 10;

/// What a writer and the handles to its bytes share.
//
// Invariants:
// 1. What is acknowledged is in `form`, and stays there until the last handle is gone; of a file
//    the handles keep the descriptor.
// 2. The bytes count as staged until they count with their entry, and otherwise as long as any
//    handle is there; what is in memory counts against the limit of all writers.
pub(crate) struct Stage {
    volume: Arc<Volume>,
    state: Mutex<State>,
}

struct State {
    form: Form,
    /// Bytes that are acknowledged.
    len: u64,
    /// Bytes that count as staged.
    counted: u64,
    /// Bytes that count against the limit of memory.
    held: u64,
}

enum Form {
    /// All of it, in memory.
    Small(BytesMut),
    /// The same, with nothing more to come.
    Whole(Bytes),
    Large(Large),
}

struct Large {
    file: Arc<File>,
    /// Bytes that are in the file.
    written: u64,
    /// What is being written behind them.
    writing: Bytes,
    /// What follows.
    filling: BytesMut,
}

impl Stage {
    pub(crate) fn new(volume: &Arc<Volume>) -> Self {
        Self {
            volume: Arc::clone(volume),
            state: Mutex::new(State {
                form: Form::Small(BytesMut::new()),
                len: 0,
                counted: 0,
                held: 0,
            }),
        }
    }

    pub(crate) fn len(&self) -> u64 {
        self.lock().len
    }

    /// Takes a chunk into memory; `false` where it does not fit `room` bytes, or all writers
    /// together hold too much.
    pub(crate) fn keep(&self, chunk: &[u8], room: u64) -> bool {
        let mut state = self.lock();
        let len = state.len + chunk.len() as u64;
        let Form::Small(bytes) = &mut state.form else {
            return false;
        };
        if len > room || !self.volume.staging.hold(chunk.len() as u64) {
            return false;
        }
        bytes.extend_from_slice(chunk);
        state.held += chunk.len() as u64;
        self.count(&mut state, chunk.len());
        true
    }

    /// Goes on in a file.
    pub(crate) fn spill(&self, file: Arc<File>) {
        let mut state = self.lock();
        if let Form::Small(bytes) = &mut state.form {
            let filling = std::mem::take(bytes);
            self.volume.staging.release(std::mem::take(&mut state.held));
            state.form = Form::Large(Large {
                file,
                written: 0,
                writing: Bytes::new(),
                filling,
            });
        }
    }

    /// Takes what fits of a chunk into the piece that is being filled; gives how much that was.
    pub(crate) fn fill(&self, chunk: &[u8]) -> usize {
        let mut state = self.lock();
        let Form::Large(large) = &mut state.form else {
            return 0;
        };
        let filling = &mut large.filling;
        let count = chunk.len().min(PIECE.saturating_sub(filling.len()));
        if filling.capacity() == 0 {
            filling.reserve(PIECE);
        }
        filling.extend_from_slice(&chunk[..count]);
        self.count(&mut state, count);
        count
    }

    /// Whether this many bytes more fit the piece that is being filled.
    pub(crate) fn has_room(&self, count: usize) -> bool {
        let state = self.lock();
        matches!(&state.form, Form::Large(large) if large.filling.len() + count <= PIECE)
    }

    /// Takes the filled piece out to be written, and where to; readers still find it.
    pub(crate) fn begin_piece(&self) -> Option<(Arc<File>, u64, Bytes)> {
        let mut state = self.lock();
        let Form::Large(large) = &mut state.form else {
            return None;
        };
        large.writing = std::mem::take(&mut large.filling).freeze();
        Some((
            Arc::clone(&large.file),
            large.written,
            large.writing.clone(),
        ))
    }

    /// Says that the piece is in the file; its memory is used again where nobody reads it.
    pub(crate) fn end_piece(&self) {
        let mut state = self.lock();
        if let Form::Large(large) = &mut state.form {
            large.written += large.writing.len() as u64;
            let written = std::mem::take(&mut large.writing);
            if large.filling.capacity() == 0
                && let Ok(mut again) = written.try_into_mut()
            {
                again.clear();
                large.filling = again;
            }
        }
    }

    /// The bytes of an object that stayed in memory; nothing more comes.
    pub(crate) fn whole(&self) -> Option<Bytes> {
        let mut state = self.lock();
        if let Form::Small(bytes) = &mut state.form {
            state.form = Form::Whole(std::mem::take(bytes).freeze());
        }
        match &state.form {
            Form::Whole(bytes) => Some(bytes.clone()),
            _ => None,
        }
    }

    /// Says that the bytes count with their entry now.
    pub(crate) fn settle(&self) {
        let mut state = self.lock();
        self.volume
            .counters
            .staged
            .sub(std::mem::take(&mut state.counted));
    }

    fn count(&self, state: &mut State, count: usize) {
        state.len += count as u64;
        state.counted += count as u64;
        self.volume.counters.staged.add(count as u64);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is in memory at this place, or where to read it.
    fn find(&self, offset: u64, max: usize) -> Result<Found> {
        let state = self.lock();
        if offset >= state.len || max == 0 {
            return Err(Error::invalid(format!(
                "cannot read {max} bytes at {offset} of {} staged bytes",
                state.len
            )));
        }
        let max = max.min(READ_MAX);
        #[allow(clippy::cast_possible_truncation)] // What is in memory has a place there.
        let copy = |bytes: &[u8], start: u64| {
            let from = (offset - start) as usize;
            Bytes::copy_from_slice(&bytes[from..bytes.len().min(from + max)])
        };
        Ok(match &state.form {
            Form::Small(bytes) => Found::Bytes(copy(bytes, 0)),
            Form::Whole(bytes) => Found::Bytes(copy(bytes, 0)),
            Form::Large(large) => {
                let filled = large.written + large.writing.len() as u64;
                if offset >= filled {
                    Found::Bytes(copy(&large.filling, filled))
                } else if offset >= large.written {
                    Found::Bytes(copy(&large.writing, large.written))
                } else {
                    let left = usize::try_from(large.written - offset).unwrap_or(max);
                    Found::File(Arc::clone(&large.file), max.min(left))
                }
            }
        })
    }
}

/// Where staged bytes are.
enum Found {
    Bytes(Bytes),
    /// In the file, so many.
    File(Arc<File>, usize),
}

impl Staged for Stage {
    fn read(self: Arc<Self>, offset: u64, max: usize) -> Reply<'static, Bytes> {
        let (file, len) = match self.find(offset, max) {
            Err(error) => return Reply::ready(Err(error)),
            Ok(Found::Bytes(bytes)) => return Reply::ready(Ok(bytes)),
            Ok(Found::File(file, len)) => (file, len),
        };
        let failed = |error| flusher::io("cannot read what was staged", error);
        let mut buffer = self.volume.buffers.take(len);
        match file.try_read_at(&mut buffer, offset) {
            Ok(true) => Reply::ready(Ok(buffer.freeze())),
            Err(error) => Reply::ready(Err(failed(error))),
            Ok(false) => Reply::later(async move {
                let volume = &self.volume;
                let permit = Arc::clone(&volume.cold).acquire_owned().await;
                let read = volume.runtime.spawn_blocking(move || {
                    let _permit = permit;
                    file.read_exact_at(&mut buffer, offset)
                        .map(|()| buffer.freeze())
                });
                read.await
                    .map_err(|_| crate::writer::gone())?
                    .map_err(failed)
            }),
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.settle();
        let held = self.lock().held;
        self.volume.staging.release(held);
    }
}

/// The memory of all writers together.
pub(crate) struct Staging {
    max: u64,
    held: AtomicU64,
}

impl Staging {
    pub(crate) fn new(max: u64) -> Self {
        let held = AtomicU64::new(0);
        Self { max, held }
    }

    fn hold(&self, bytes: u64) -> bool {
        let held = self.held.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if held > self.max {
            self.release(bytes);
            return false;
        }
        true
    }

    fn release(&self, bytes: u64) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }
}
