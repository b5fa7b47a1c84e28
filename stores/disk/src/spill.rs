//! What a writer has beyond its memory: bytes on their way into a file, and the file.
//
// Invariants:
// 1. The bytes from `flushed` on are in `queue` and then in `filling`, without a gap; those before
//    are in the file.
// 2. While `working` there is one job, which alone touches the file's content and `sums` and takes
//    out of `queue`. Everybody else only adds. Between two of its turns `sums` are those of the
//    bytes before `flushed`.
// 3. After `abandoned` nothing is written any more, and what is in memory stays for who reads it
//    back. The job that is there, or else one more, removes the file.

use std::{collections::VecDeque, sync::Arc};

use bytes::{Bytes, BytesMut};
use larder_store::{Error, Result};
use tokio::sync::Notify;

use crate::{intake::Loan, medium::File, sums::Sums};

/// So much is written at once.
pub(crate) const PIECE: usize = 512 << 10;
/// A chunk as long as this is written as it came: to copy it costs almost as much as to write it.
/// What it is a part of stays in memory until then.
const DIRECT_MIN: usize = 128 << 10;
/// A writer has at most so many pieces in memory.
const PIECES_MAX: usize = 4;
/// So much of a chunk is written as it is where there is no memory for a piece.
const OWED_MAX: usize = 1 << 20;

#[derive(Default)]
pub(crate) struct Spill {
    id: u64,
    /// Tells the writer, who alone waits, that a job has come further.
    progress: Arc<Notify>,
    pub(crate) file: Option<Arc<File>>,
    /// The bytes in the file.
    flushed: u64,
    /// Their checksums. Whoever writes a piece computes them: a moment later the kernel copies it,
    /// and finds it in the processor's cache.
    pub(crate) sums: Sums,
    queue: VecDeque<Piece>,
    filling: BytesMut,
    /// A buffer that was written, to be filled again.
    spare: Option<BytesMut>,
    working: bool,
    error: Option<Error>,
    abandoned: bool,
    /// The bytes that the store has admitted for the file.
    pub(crate) admitted: u64,
}

struct Piece {
    bytes: Bytes,
    /// What is lent for it.
    lent: u64,
}

/// How much of a chunk was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filled {
    /// All; it will be written some time.
    All,
    /// All, but there is no memory for it: it is to be written before it is acknowledged.
    Owed,
    /// Not all: there is no room for the rest before something is written.
    Partly,
}

/// What a job does next.
pub(crate) enum Turn {
    Create(u64),
    Write {
        file: Arc<File>,
        bytes: Bytes,
        offset: u64,
    },
    Remove(u64),
    /// Nothing: it has ended.
    End,
}

impl Spill {
    /// `first` are the bytes that were gathered, `lent` the memory that they take.
    pub(crate) fn new(id: u64, progress: &Arc<Notify>, first: Bytes, lent: u64) -> Self {
        let mut queue = VecDeque::with_capacity(PIECES_MAX);
        if !first.is_empty() {
            queue.push_back(Piece { bytes: first, lent });
        }
        Self {
            id,
            progress: Arc::clone(progress),
            queue,
            ..Self::default()
        }
    }

    /// Takes from the chunk what there is room for.
    pub(crate) fn fill(&mut self, chunk: &mut Bytes, loan: &mut Loan) -> Result<Filled> {
        self.check()?;
        while !chunk.is_empty() {
            if self.filling.is_empty() && chunk.len() >= DIRECT_MIN {
                let len = chunk.len().min(PIECE);
                let has_place = self.queue.len() < PIECES_MAX;
                if has_place && loan.grow_modestly(len as u64) {
                    let bytes = chunk.split_to(len);
                    let lent = len as u64;
                    self.queue.push_back(Piece { bytes, lent });
                    continue;
                }
                if !self.queue.is_empty() {
                    return Ok(Filled::Partly);
                }
            }
            if self.filling.capacity() == 0 && !self.take_buffer(loan) {
                if !self.queue.is_empty() {
                    return Ok(Filled::Partly);
                }
                let bytes = chunk.split_to(chunk.len().min(OWED_MAX));
                self.queue.push_back(Piece { bytes, lent: 0 });
                let is_all = chunk.is_empty();
                return Ok(if is_all { Filled::Owed } else { Filled::Partly });
            }
            let count = chunk.len().min(PIECE - self.filling.len());
            self.filling.extend_from_slice(&chunk.split_to(count));
            if self.filling.len() == PIECE {
                self.flush();
            }
        }
        Ok(Filled::All)
    }

    fn take_buffer(&mut self, loan: &mut Loan) -> bool {
        if let Some(spare) = self.spare.take() {
            self.filling = spare;
            return true;
        }
        let has_place = self.queue.len() + 1 < PIECES_MAX;
        let is_there = has_place && loan.grow_modestly(PIECE as u64);
        if is_there {
            self.filling = BytesMut::with_capacity(PIECE);
        }
        is_there
    }

    /// Has what is being filled written as it is.
    fn flush(&mut self) {
        if !self.filling.is_empty() {
            let bytes = std::mem::take(&mut self.filling).freeze();
            let lent = PIECE as u64;
            self.queue.push_back(Piece { bytes, lent });
        }
    }

    /// Has all that is there written.
    pub(crate) fn finish(&mut self) -> Result<()> {
        self.check()?;
        self.flush();
        Ok(())
    }

    /// Has this written behind all that was.
    pub(crate) fn add_table(&mut self, table: Bytes) {
        self.queue.push_back(Piece {
            bytes: table,
            lent: 0,
        });
    }

    /// The error that ended the writing, if any has.
    pub(crate) fn check(&self) -> Result<()> {
        self.error.clone().map_or(Ok(()), Err)
    }

    /// Whether all that was to be written is in the file.
    pub(crate) fn is_drained(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether it is time to wake the writer: for each piece by itself it would sleep and wake as
    /// often as pieces are written.
    pub(crate) fn has_place(&self) -> bool {
        self.queue.len() <= PIECES_MAX / 4
    }

    /// Whether there is something to do, and nobody does it.
    pub(crate) fn is_idle(&self) -> bool {
        let writes = !self.queue.is_empty() && self.error.is_none();
        !self.working && writes && !self.abandoned
    }

    /// Whether the one who asks is to begin a job that writes.
    pub(crate) fn begin(&mut self) -> bool {
        let begins = self.is_idle();
        self.working |= begins;
        begins
    }

    /// Gives up; whether the one who asks is to begin the job that removes the file.
    pub(crate) fn abandon(&mut self) -> bool {
        if std::mem::replace(&mut self.abandoned, true) {
            return false;
        }
        let has_traces = self.file.is_some() || self.admitted > 0;
        let begins = !self.working && has_traces;
        self.working |= begins;
        begins
    }

    /// Whether it was given up, and nothing is left of it on the disk.
    pub(crate) fn is_gone(&self) -> bool {
        self.abandoned && !self.working
    }

    /// The number of the file, if it was given up.
    pub(crate) fn abandoned(&self) -> Option<u64> {
        self.abandoned.then_some(self.id)
    }

    pub(crate) fn progress(&self) -> Arc<Notify> {
        Arc::clone(&self.progress)
    }

    /// What the job does next. `yields`: it is to end where others wait for its place.
    pub(crate) fn turn(&mut self, yields: bool) -> Turn {
        let id = self.id;
        if self.abandoned {
            return Turn::Remove(id);
        }
        let next = self
            .queue
            .front()
            .filter(|_| self.error.is_none() && !yields);
        let turn = match (next, &self.file) {
            (None, _) => Turn::End,
            (Some(_), None) => Turn::Create(id),
            (Some(piece), Some(file)) => Turn::Write {
                file: Arc::clone(file),
                bytes: piece.bytes.clone(),
                offset: self.flushed,
            },
        };
        self.working = !matches!(turn, Turn::End);
        turn
    }

    /// Says that the piece that was to be written is in the file. What it gives is to be dropped
    /// without the lock: it may be a caller's.
    pub(crate) fn wrote(&mut self, loan: &mut Loan) -> Option<Bytes> {
        let piece = self.queue.pop_front()?;
        self.flushed += piece.bytes.len() as u64;
        if piece.lent != PIECE as u64 || self.spare.is_some() {
            loan.shrink(piece.lent);
            return Some(piece.bytes);
        }
        match piece.bytes.try_into_mut() {
            Ok(mut buffer) if buffer.capacity() >= PIECE => {
                buffer.clear();
                self.spare = Some(buffer);
                None
            }
            other => {
                loan.shrink(piece.lent);
                Some(other.map_or_else(|bytes| bytes, BytesMut::freeze))
            }
        }
    }

    /// Ends the writing with an error.
    pub(crate) fn fail(&mut self, error: Error) {
        self.error.get_or_insert(error);
    }

    /// Says that the job has ended.
    pub(crate) fn end(&mut self) {
        self.working = false;
    }

    /// Where a byte of what was written is to be read.
    pub(crate) fn find(&self, offset: u64) -> Found<'_> {
        if offset < self.flushed {
            return match &self.file {
                Some(file) => Found::File(Arc::clone(file), self.flushed - offset),
                None => Found::Nowhere,
            };
        }
        let mut start = self.flushed;
        let pieces = self.queue.iter().map(|piece| &piece.bytes[..]);
        for bytes in pieces.chain([&self.filling[..]]) {
            let at = usize::try_from(offset - start).unwrap_or(usize::MAX);
            if let Some(found) = bytes.get(at..).filter(|found| !found.is_empty()) {
                return Found::Memory(found);
            }
            start += bytes.len() as u64;
        }
        Found::Nowhere
    }
}

/// Where staged bytes are.
pub(crate) enum Found<'a> {
    /// In the file, with so many more behind them.
    File(Arc<File>, u64),
    Memory(&'a [u8]),
    Nowhere,
}

#[cfg(test)]
mod tests;
