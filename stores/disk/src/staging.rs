//! What one writer has written, shared with the handles that read it back.
//
// The lock is a leaf: it is held for a copy into or out of a buffer, and no other is taken beneath
// it.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use larder_store::{Error, ErrorKind, Reply, Result, Staged};
use tokio::sync::Notify;

use crate::{
    clock, flusher,
    intake::Loan,
    medium::File,
    spill::{Filled, Found, Spill},
    volume::Volume,
};

/// The most that is read back at once.
const READ_MAX: usize = 256 << 10;
/// The most that is copied under the lock, so that the writer does not wait long.
const COPY_MAX: usize = 64 << 10;

pub(crate) struct Stage {
    pub(crate) volume: Arc<Volume>,
    state: Mutex<State>,
    /// The writer, while it is open, and those who read back.
    handles: AtomicUsize,
}

pub(crate) struct State {
    pub(crate) loan: Loan,
    /// Bytes that can be read back.
    acknowledged: u64,
    /// Those of them that count as staged.
    counted: u64,
    body: Body,
}

enum Body {
    Growing(Vec<u8>),
    Frozen(Bytes),
    Spilled(Box<Spill>),
}

impl Stage {
    pub(crate) fn new(volume: &Arc<Volume>) -> Self {
        Self {
            volume: Arc::clone(volume),
            state: Mutex::new(State {
                loan: Loan::new(&volume.intake.memory),
                acknowledged: 0,
                counted: 0,
                body: Body::Growing(Vec::new()),
            }),
            handles: AtomicUsize::new(0),
        }
    }

    /// Copies a chunk; `false` where there is no memory for it. The buffer grows by doubling, and
    /// not beyond `expected` bytes unless more than that comes: a declared length is a bound, never
    /// a reservation.
    pub(crate) fn append(&self, chunk: &[u8], expected: u64) -> Result<bool> {
        let mut state = self.lock();
        let State { loan, body, .. } = &mut *state;
        let Body::Growing(buffer) = body else {
            return Err(Error::invalid("the writer was committed"));
        };
        if !grow(buffer, chunk.len(), expected, loan)? {
            return Ok(false);
        }
        buffer.extend_from_slice(chunk);
        state.acknowledge(chunk.len() as u64, &self.volume);
        Ok(true)
    }

    /// Ends the growth and gives the bytes.
    fn freeze(&self) -> Bytes {
        let mut state = self.lock();
        if let Body::Growing(buffer) = &mut state.body {
            state.body = Body::Frozen(Bytes::from(std::mem::take(buffer)));
        }
        match &state.body {
            Body::Frozen(bytes) => bytes.clone(),
            _ => Bytes::new(),
        }
    }

    /// From now on the bytes go to a file, those that are there first.
    pub(crate) fn spill(&self, id: u64, progress: &Arc<Notify>) {
        let mut state = self.lock();
        let first = match &mut state.body {
            Body::Growing(buffer) => Bytes::from(std::mem::take(buffer)),
            _ => Bytes::new(),
        };
        let spill = Spill::new(id, progress, first, state.loan.bytes());
        state.body = Body::Spilled(Box::new(spill));
    }

    /// Takes from the chunk what there is room for; what is to be readable at once is acknowledged
    /// by that.
    pub(crate) fn fill(&self, chunk: &mut Bytes) -> Result<Filled> {
        let mut state = self.lock();
        let State { loan, body, .. } = &mut *state;
        match body {
            Body::Spilled(spill) => spill.fill(chunk, loan),
            _ => Err(Error::invalid("the writer was committed")),
        }
    }

    /// Makes so many bytes more readable.
    pub(crate) fn acknowledge(&self, count: u64) {
        self.lock().acknowledge(count, &self.volume);
    }

    /// Stops counting: the bytes count with their entry now.
    pub(crate) fn settle(&self) {
        let counted = std::mem::take(&mut self.lock().counted);
        self.volume.intake.memory.unstage(counted);
    }

    /// Looks at what goes to a file, or changes it; `None` where nothing does.
    pub(crate) fn spilled<T>(&self, look: impl FnOnce(&mut Spill, &mut Loan) -> T) -> Option<T> {
        let State { loan, body, .. } = &mut *self.lock();
        match body {
            Body::Spilled(spill) => Some(look(spill, loan)),
            _ => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, offset: u64, max: usize) -> Result<Place> {
        let state = self.lock();
        let left = state.acknowledged.saturating_sub(offset);
        if left == 0 || max == 0 {
            return Err(Error::invalid(format!(
                "cannot read {max} bytes at {offset} of {} staged bytes",
                state.acknowledged
            )));
        }
        let max = max.min(usize::try_from(left).unwrap_or(usize::MAX));
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        let found = match &state.body {
            Body::Frozen(bytes) => return Ok(Place::Memory(bytes.slice(at..at + max))),
            Body::Growing(buffer) => Found::Memory(&buffer[at..]),
            Body::Spilled(spill) => spill.find(offset),
        };
        match found {
            Found::Memory(bytes) => {
                let len = bytes.len().min(max).min(COPY_MAX);
                Ok(Place::Memory(Bytes::copy_from_slice(&bytes[..len])))
            }
            Found::File(file, left) => {
                let left = usize::try_from(left).unwrap_or(usize::MAX);
                Ok(Place::File(file, max.min(left).min(READ_MAX)))
            }
            Found::Nowhere => Err(lost(None)),
        }
    }
}

/// Where staged bytes are read.
enum Place {
    Memory(Bytes),
    File(Arc<File>, usize),
}

impl State {
    fn acknowledge(&mut self, count: u64, volume: &Volume) {
        self.acknowledged += count;
        self.counted += count;
        volume.intake.memory.stage(count);
    }
}

/// A stage whose bytes count as long as there is a handle, unless they count with an entry. Those
/// who write to the file have none.
pub(crate) struct Handle(Arc<Stage>);

impl Handle {
    pub(crate) fn new(stage: &Arc<Stage>) -> Self {
        stage.handles.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(stage))
    }

    pub(crate) fn stage(&self) -> &Arc<Stage> {
        &self.0
    }

    /// Ends the growth and gives the bytes. They are moved where nobody can read them back.
    pub(crate) fn freeze(&mut self) -> Bytes {
        if let Some(alone) = Arc::get_mut(&mut self.0) {
            let state = alone.state.get_mut();
            let state = state.unwrap_or_else(PoisonError::into_inner);
            if let Body::Growing(buffer) = &mut state.body {
                return Bytes::from(std::mem::take(buffer));
            }
        }
        self.0.freeze()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.0.handles.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.settle();
        }
    }
}

impl Staged for Handle {
    fn read(self: Arc<Self>, offset: u64, max: usize) -> Reply<'static, Bytes> {
        let (file, len) = match self.0.find(offset, max) {
            Ok(Place::Memory(bytes)) => return Reply::ready(Ok(bytes)),
            Ok(Place::File(file, len)) => (file, len),
            Err(error) => return Reply::ready(Err(error)),
        };
        let mut bytes = vec![0; len];
        match file.try_read_at(&mut bytes, offset) {
            Ok(true) => Reply::ready(Ok(bytes.into())),
            Ok(false) => {
                let volume = Arc::clone(&self.0.volume);
                clock::later(&self.0.volume.runtime, read(volume, file, offset, bytes))
            }
            Err(error) => {
                self.0.volume.counters.io_errors.add(1);
                Reply::ready(Err(lost(Some(error))))
            }
        }
    }
}

/// Fills the buffer from the file, in a thread that may wait for it.
pub(crate) async fn read(
    volume: Arc<Volume>,
    file: Arc<File>,
    offset: u64,
    mut bytes: Vec<u8>,
) -> Result<Bytes> {
    let permit = Arc::clone(&volume.cold).acquire_owned().await;
    let hop = volume.runtime.spawn_blocking(move || {
        let result = file.read_exact_at(&mut bytes, offset);
        drop(permit);
        result.map(|()| Bytes::from(bytes))
    });
    let read = hop.await.map_err(|_| lost(None))?;
    read.map_err(|error| {
        volume.counters.io_errors.add(1);
        lost(Some(error))
    })
}

fn lost(source: Option<std::io::Error>) -> Error {
    let message = "staged bytes cannot be read back";
    match source {
        Some(source) => flusher::io(message, source),
        None => Error::new(ErrorKind::Unavailable, message),
    }
}

/// Makes room for `count` more bytes; `false` where that is more than may be held, `Full` where the
/// system has no more.
fn grow(buffer: &mut Vec<u8>, count: usize, expected: u64, loan: &mut Loan) -> Result<bool> {
    if buffer.capacity() - buffer.len() >= count {
        return Ok(true);
    }
    let needed = buffer.len() + count;
    let expected = usize::try_from(expected).unwrap_or(usize::MAX);
    let doubled = buffer.capacity().saturating_mul(2);
    let target = needed.max(doubled.min(expected));
    if !loan.grow((target - buffer.capacity()) as u64) {
        return Ok(false);
    }
    let reserved = buffer.try_reserve_exact(target - buffer.len());
    reserved
        .map(|()| true)
        .map_err(|error| Error::with_source(ErrorKind::Full, "cannot stage more bytes", error))
}
