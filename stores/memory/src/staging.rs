//! What open writers hold: their buffers, and the account of them all.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use larder_store::{Error, ErrorKind, Reply, Result, Staged};

/// The account of all open writers.
pub(crate) struct Staging {
    max: u64,
    /// Counted against `max`: the bytes, and what each writer takes beside them.
    taken: AtomicU64,
    /// The bytes alone, as they are reported.
    bytes: AtomicU64,
}

impl Staging {
    pub(crate) fn new(max: u64) -> Self {
        Self {
            max,
            taken: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    /// The bytes that are staged.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn take(&self, count: u64) -> Result<()> {
        self.taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| {
                taken.checked_add(count).filter(|sum| *sum <= self.max)
            })
            .map(drop)
            .map_err(|taken| {
                Error::new(
                    ErrorKind::Full,
                    format!(
                        "open writers count for {taken} bytes, {count} more would exceed {}",
                        self.max
                    ),
                )
            })
    }

    fn give_back(&self, count: u64) {
        self.taken.fetch_sub(count, Ordering::Relaxed);
    }
}

/// What one writer has written, shared with the handles that read it back.
///
/// The lock is a leaf: it is held for a copy into or out of the buffer, and no other is taken
/// beneath it.
pub(crate) struct Stage {
    account: Arc<Staging>,
    state: Mutex<State>,
}

struct State {
    buffer: Buffer,
    /// The bytes that are counted.
    bytes: u64,
    /// What is counted beside them.
    beside: u64,
}

enum Buffer {
    Growing(Vec<u8>),
    Frozen(Bytes),
}

/// The most that is copied out of a growing buffer at once, so that its writer does not wait long.
const COPY_MAX: usize = 64 << 10;

impl Stage {
    /// A stage that counts for `beside` bytes before anything is written; `Full` where there is no
    /// room for that.
    pub(crate) fn new(account: &Arc<Staging>, beside: u64) -> Result<Self> {
        account.take(beside)?;
        Ok(Self {
            account: Arc::clone(account),
            state: Mutex::new(State {
                buffer: Buffer::Growing(Vec::new()),
                bytes: 0,
                beside,
            }),
        })
    }

    /// Copies a chunk. The buffer grows by doubling, and not beyond `expected` bytes unless more
    /// than that comes: a declared length is a bound, never a reservation.
    pub(crate) fn append(&self, chunk: &[u8], expected: u64) -> Result<()> {
        let count = chunk.len() as u64;
        self.account.take(count)?;
        let mut state = self.lock();
        let grown = match &mut state.buffer {
            Buffer::Growing(buffer) => grow(buffer, chunk.len(), expected).map(|()| {
                buffer.extend_from_slice(chunk);
            }),
            Buffer::Frozen(_) => Err(Error::invalid("the writer was committed")),
        };
        if let Err(error) = grown {
            self.account.give_back(count);
            return Err(error);
        }
        state.bytes += count;
        self.account.bytes.fetch_add(count, Ordering::Relaxed);
        Ok(())
    }

    pub(crate) fn len(&self) -> u64 {
        self.lock().buffer.as_slice().len() as u64
    }

    /// Ends the growth and gives the bytes, which take no more room than they need.
    pub(crate) fn freeze(&self) -> Bytes {
        let mut state = self.lock();
        if let Buffer::Growing(buffer) = &mut state.buffer {
            let mut buffer = std::mem::take(buffer);
            buffer.shrink_to_fit();
            state.buffer = Buffer::Frozen(Bytes::from(buffer));
        }
        match &state.buffer {
            // The first clone of bytes that were a vector allocates the reference count. It is
            // made here, so that a hit need not.
            Buffer::Frozen(bytes) => bytes.clone(),
            Buffer::Growing(_) => Bytes::new(),
        }
    }

    /// Stops counting: the bytes count with their entry now.
    pub(crate) fn settle(&self) {
        let mut state = self.lock();
        let (bytes, beside) = (state.bytes, state.beside);
        (state.bytes, state.beside) = (0, 0);
        self.account.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.account.give_back(bytes + beside);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_at(&self, offset: u64, max: usize) -> Result<Bytes> {
        let state = self.lock();
        let written = state.buffer.as_slice();
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        if start >= written.len() || max == 0 {
            return Err(Error::invalid(format!(
                "cannot read {max} bytes at {offset} of {} staged bytes",
                written.len()
            )));
        }
        let len = max.min(written.len() - start);
        Ok(match &state.buffer {
            Buffer::Frozen(bytes) => bytes.slice(start..start + len),
            Buffer::Growing(buffer) => {
                Bytes::copy_from_slice(&buffer[start..start + len.min(COPY_MAX)])
            }
        })
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.settle();
    }
}

impl Staged for Stage {
    fn read(self: Arc<Self>, offset: u64, max: usize) -> Reply<'static, Bytes> {
        Reply::ready(self.read_at(offset, max))
    }
}

impl Buffer {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Growing(buffer) => buffer,
            Self::Frozen(bytes) => bytes,
        }
    }
}

/// Makes room for `count` more bytes; `Full` where the system has none.
fn grow(buffer: &mut Vec<u8>, count: usize, expected: u64) -> Result<()> {
    if buffer.capacity() - buffer.len() >= count {
        return Ok(());
    }
    let needed = buffer.len() + count;
    let expected = usize::try_from(expected).unwrap_or(usize::MAX);
    let doubled = buffer.capacity().saturating_mul(2);
    let target = if needed <= expected {
        needed.max(doubled.min(expected))
    } else {
        // More than was declared, which the commit will refuse; until then each byte still must
        // not cost a copy of all.
        needed.max(doubled)
    };
    buffer
        .try_reserve_exact(target - buffer.len())
        .map_err(|error| Error::with_source(ErrorKind::Full, "cannot stage more bytes", error))
}
