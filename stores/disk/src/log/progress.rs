//! How far writing has come, and waiting for it.

use std::{collections::VecDeque, ops::Range, sync::PoisonError};

use larder_store::{Error, Result};

use super::{Chunk, Log, closed};

/// How far writing has come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    /// All records with a smaller number have reached the kernel, or failed.
    pub(super) flushed: u64,
    /// The latest failures.
    pub(super) failures: VecDeque<(Range<u64>, Error)>,
}

/// Failures that are remembered for those who wait.
const FAILURES_MAX: usize = 64;

impl Progress {
    pub(super) fn fail(&mut self, sequences: &Range<u64>, error: &Error) {
        if self.failures.len() == FAILURES_MAX {
            self.failures.pop_front();
        }
        self.failures.push_back((sequences.clone(), error.clone()));
    }
}

impl Log {
    /// Says that a chunk was written, and could not be synced.
    pub(crate) fn unsynced(&self, chunk: &Chunk, error: &Error) {
        self.progress
            .send_modify(|progress| progress.fail(&chunk.sequences, error));
    }

    /// Says that all that is below this number has been written, or has failed.
    pub(crate) fn reached(&self, boundary: u64) {
        self.progress.send_modify(|progress| {
            progress.flushed = progress.flushed.max(boundary);
        });
        drop(self.lock());
        self.moved.notify_all();
    }

    /// Whether a record has reached the kernel, or has failed to.
    pub(crate) fn is_settled(&self, sequence: u64) -> bool {
        self.progress.borrow().flushed > sequence
    }

    /// Waits until a record has reached the kernel (or the disk, by setting); the error of its
    /// write where that has failed.
    pub(crate) async fn settled(&self, sequence: u64) -> Result<()> {
        if !self.is_settled(sequence) {
            self.urge();
        }
        let mut progress = self.progress.subscribe();
        let reached = progress.wait_for(|progress| progress.flushed > sequence);
        let Ok(progress) = reached.await else {
            return Err(closed());
        };
        let failure = (progress.failures.iter()).find(|(range, _)| range.contains(&sequence));
        failure.map_or(Ok(()), |(_, error)| Err(error.clone()))
    }

    /// As [`settled`](Self::settled), for the store's own threads. Of [`ENDED`] it waits until
    /// nothing is written any more.
    pub(crate) fn settled_blocking(&self, sequence: u64) {
        self.urge();
        let mut state = self.lock();
        while !self.is_settled(sequence) {
            let waited = self.moved.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }
}
