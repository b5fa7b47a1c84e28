//! Buffers that are used again: what was read stands in one of them until its reader drops it.

use std::{
    cell::Cell,
    ops::{Deref, DerefMut},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;

/// Buffers of a few lengths, kept for the next read. They were set to zero when they were made,
/// and never are again: whoever takes one fills it before it shows it to anyone.
#[derive(Clone)]
pub(crate) struct Buffers(Arc<Pool>);

struct Pool {
    /// For each of [`LENGTHS`], those that nobody has.
    free: [Mutex<Vec<Box<[u8]>>>; LENGTHS.len()],
    /// The bytes of all that are free.
    kept: AtomicUsize,
}

/// Each has room for a value of a round length and what stands before it.
const LENGTHS: [usize; 6] = [
    18 << 10,
    36 << 10,
    72 << 10,
    136 << 10,
    272 << 10,
    1088 << 10,
];
/// So many bytes are kept for the next read; what comes back beyond that is freed.
const KEPT_MAX: usize = 8 << 20;
/// A shorter buffer is made for its reader, and freed: there it costs no more.
const POOLED_MIN: usize = 8 << 10;

/// Bytes to be filled, and then given away by [`freeze`](Self::freeze).
pub(crate) struct Buffer {
    bytes: Box<[u8]>,
    len: usize,
    pool: Option<(Arc<Pool>, usize)>,
}

impl Buffers {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Pool {
            free: Default::default(),
            kept: AtomicUsize::new(0),
        }))
    }

    /// A buffer of this length, with anything in it.
    pub(crate) fn take(&self, len: usize) -> Buffer {
        let class = LENGTHS.iter().position(|&class| len <= class);
        let Some(class) = class.filter(|_| len >= POOLED_MIN) else {
            return Buffer {
                bytes: vec![0; len].into(),
                len,
                pool: None,
            };
        };
        let free = self.0.shelf(class).pop();
        let bytes = match free {
            Some(bytes) => {
                self.0.kept.fetch_sub(bytes.len(), Ordering::Relaxed);
                bytes
            }
            None => vec![0; LENGTHS[class]].into(),
        };
        Buffer {
            bytes,
            len,
            pool: Some((Arc::clone(&self.0), class)),
        }
    }
}

impl Pool {
    fn shelf(&self, class: usize) -> MutexGuard<'_, Vec<Box<[u8]>>> {
        let shelf = self.free[class].lock();
        shelf.unwrap_or_else(PoisonError::into_inner)
    }

    fn put_back(&self, class: usize, bytes: Box<[u8]>) {
        let before = self.kept.fetch_add(bytes.len(), Ordering::Relaxed);
        if before + bytes.len() > KEPT_MAX {
            self.kept.fetch_sub(bytes.len(), Ordering::Relaxed);
            return;
        }
        self.shelf(class).push(bytes);
    }
}

impl Buffer {
    /// What was filled in, to be shared. The buffer goes back when the last of it is dropped.
    pub(crate) fn freeze(self) -> Bytes {
        if self.len == 0 {
            return Bytes::new();
        }
        Bytes::from_owner(self)
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.len]
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some((pool, class)) = self.pool.take() {
            pool.put_back(class, std::mem::take(&mut self.bytes));
        }
    }
}

/// The most that [`with_scratch`] lends.
pub(crate) const SCRATCH_LEN: usize = POOLED_MIN;

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Lends this thread's bytes, with anything in them, to whoever copies out of them what is to
/// stay: for something short that costs less than a buffer.
pub(crate) fn with_scratch<T>(len: usize, lend: impl FnOnce(&mut [u8]) -> T) -> T {
    // Taken out meanwhile, so that a loan within a loan is only slower.
    let mut scratch = SCRATCH.try_with(Cell::take).unwrap_or_default();
    if scratch.is_empty() {
        scratch.resize(SCRATCH_LEN, 0);
    }
    let result = lend(&mut scratch[..len]);
    // A thread that is ending keeps nothing.
    let _ = SCRATCH.try_with(|cell| cell.set(scratch));
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(buffers: &Buffers) -> usize {
        buffers.0.kept.load(Ordering::Relaxed)
    }

    #[test]
    fn a_buffer_comes_back_when_its_last_reader_drops_it() {
        let buffers = Buffers::new();
        let mut buffer = buffers.take(60_000);
        assert_eq!(buffer.len(), 60_000);
        buffer.fill(7);
        let bytes = buffer.freeze();
        let part = bytes.slice(10..20);
        drop(bytes);
        assert_eq!((kept(&buffers), &part[..]), (0, &[7; 10][..]));
        drop(part);
        assert_eq!(kept(&buffers), 72 << 10);
        let again = buffers.take(70_000);
        assert_eq!(kept(&buffers), 0);
        assert!(again[..60_000].iter().all(|&byte| byte == 7), "as it was");
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let buffers = Buffers::new();
        let many: Vec<_> = (0..100).map(|_| buffers.take(1 << 20)).collect();
        drop(many);
        assert!(kept(&buffers) <= KEPT_MAX && kept(&buffers) > KEPT_MAX / 2);
        let before = kept(&buffers);
        drop((buffers.take(0), buffers.take(100), buffers.take(5 << 20)));
        assert_eq!(kept(&buffers), before, "too short, or too long");
        assert!(buffers.take(0).freeze().is_empty());
    }

    #[test]
    fn scratch_can_be_lent_within_a_loan() {
        with_scratch(10, |outer| {
            outer.fill(1);
            with_scratch(SCRATCH_LEN, |inner| inner.fill(2));
            assert_eq!(outer, [1; 10]);
        });
    }
}
