//! The files of the log: each is written once, from its start to its end, and later removed whole.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use crate::{footer::Footer, medium::File, recover::NUMBER_MAX};

/// Which of the two logs of S3-FIFO a segment belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Queue {
    /// What is new.
    Probation = 0,
    /// What was asked for again.
    Main = 1,
}

impl Queue {
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Probation => Self::Main,
            Self::Main => Self::Probation,
        }
    }
}

/// The header of a segment's file.
pub(crate) const SEGMENT_HEADER_LEN: usize = 64;

/// A segment's file, open. The last handle to a segment that was removed gives its room back: a
/// reader's handle keeps its bytes.
pub(crate) struct Segment {
    pub(crate) id: u64,
    pub(crate) slot: u16,
    pub(crate) queue: Queue,
    /// What the checksums of its records begin with.
    pub(crate) seed: u32,
    pub(crate) file: File,
    /// What the file takes of the disk: whole blocks.
    allocated: AtomicU64,
    /// Bytes from the start that have reached the kernel.
    flushed: AtomicU64,
    /// The end of the last record, once nothing more is appended.
    end: AtomicU64,
    /// The smallest sequence number of a record that is no tombstone.
    min_sequence: AtomicU64,
    /// Whether what was flushed may still be unsynced.
    dirty: AtomicBool,
    footer: Mutex<FooterPlace>,
    removed: AtomicBool,
    /// Bytes of files that are removed and still open, of the whole store.
    detached: Arc<AtomicU64>,
}

/// Where the list of a segment's records is.
#[derive(Clone, Debug)]
pub(crate) enum FooterPlace {
    /// With the log, which still appends.
    Active,
    /// Sealed; not yet on disk, or its writing failed.
    Memory(Arc<Footer>),
    /// At the end of the file.
    File,
}

/// What is known of a segment when it is opened or made.
pub(crate) struct Parts {
    pub(crate) id: u64,
    pub(crate) slot: u16,
    pub(crate) queue: Queue,
    pub(crate) seed: u32,
    pub(crate) file: File,
    pub(crate) allocated: u64,
    pub(crate) flushed: u64,
    pub(crate) end: u64,
    pub(crate) min_sequence: u64,
    pub(crate) footer: FooterPlace,
    pub(crate) detached: Arc<AtomicU64>,
}

impl Segment {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            id: parts.id,
            slot: parts.slot,
            queue: parts.queue,
            seed: parts.seed,
            file: parts.file,
            allocated: AtomicU64::new(parts.allocated),
            flushed: AtomicU64::new(parts.flushed),
            end: AtomicU64::new(parts.end),
            min_sequence: AtomicU64::new(parts.min_sequence),
            dirty: AtomicBool::new(false),
            footer: Mutex::new(parts.footer),
            removed: AtomicBool::new(false),
            detached: parts.detached,
        }
    }

    pub(crate) fn allocated(&self) -> u64 {
        self.allocated.load(Ordering::Relaxed)
    }

    pub(crate) fn set_allocated(&self, bytes: u64) {
        self.allocated.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn flushed(&self) -> u64 {
        self.flushed.load(Ordering::Acquire)
    }

    pub(crate) fn set_flushed(&self, to: u64) {
        self.dirty.store(true, Ordering::Relaxed);
        self.flushed.store(to, Ordering::Release);
    }

    pub(crate) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    pub(crate) fn set_end(&self, end: u64) {
        self.end.store(end, Ordering::Release);
    }

    pub(crate) fn min_sequence(&self) -> u64 {
        self.min_sequence.load(Ordering::Relaxed)
    }

    /// Notes the number of a record that is appended. All but the first of a segment are greater,
    /// and a load costs less than an exchange.
    pub(crate) fn note_sequence(&self, sequence: u64) {
        if sequence < self.min_sequence() {
            self.min_sequence.fetch_min(sequence, Ordering::Relaxed);
        }
    }

    /// Whether it is to be synced; it is taken to be from here on.
    pub(crate) fn take_dirty(&self) -> bool {
        self.dirty.swap(false, Ordering::AcqRel)
    }

    pub(crate) fn mark_dirty(&self) {
        self.dirty.store(true, Ordering::Relaxed);
    }

    pub(crate) fn footer(&self) -> FooterPlace {
        let footer = self.footer.lock().unwrap_or_else(PoisonError::into_inner);
        footer.clone()
    }

    pub(crate) fn set_footer(&self, place: FooterPlace) {
        *self.footer.lock().unwrap_or_else(PoisonError::into_inner) = place;
    }

    /// Its file within the store's folder.
    pub(crate) fn path(&self) -> PathBuf {
        path(self.id)
    }

    /// Says that the file was removed.
    pub(crate) fn set_removed(&self) {
        if !self.removed.swap(true, Ordering::AcqRel) {
            self.detached.fetch_add(self.allocated(), Ordering::Relaxed);
        }
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        if *self.removed.get_mut() {
            self.detached.fetch_sub(self.allocated(), Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Segment({})", self.id)
    }
}

/// The file of the segment of this number, within the store's folder.
pub(crate) fn path(id: u64) -> PathBuf {
    format!("seg/{id:010}.seg").into()
}

/// The number in such a path; `None` where it is none.
pub(crate) fn id(file: &Path) -> Option<u64> {
    let id = file.file_name()?.to_str()?.strip_suffix(".seg")?;
    let id = id.parse().ok().filter(|id| *id < NUMBER_MAX);
    id.filter(|id| path(*id) == file)
}

/// The segments that entries of the index may point to, by slot.
#[derive(Default)]
pub(crate) struct Segments(RwLock<Vec<Option<Arc<Segment>>>>);

impl Segments {
    pub(crate) fn get(&self, slot: u16) -> Option<Arc<Segment>> {
        let slots = self.0.read().unwrap_or_else(PoisonError::into_inner);
        slots.get(usize::from(slot))?.clone()
    }

    /// Makes a segment in a free slot; `None` where there are 65,536 already.
    pub(crate) fn add(&self, make: impl FnOnce(u16) -> Segment) -> Option<Arc<Segment>> {
        let mut slots = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let free = slots.iter().position(Option::is_none);
        let slot = free.unwrap_or(slots.len());
        let segment = Arc::new(make(u16::try_from(slot).ok()?));
        if slot == slots.len() {
            slots.push(None);
        }
        slots[slot] = Some(Arc::clone(&segment));
        Some(segment)
    }

    pub(crate) fn remove(&self, slot: u16) -> Option<Arc<Segment>> {
        let mut slots = self.0.write().unwrap_or_else(PoisonError::into_inner);
        slots.get_mut(usize::from(slot))?.take()
    }

    /// Takes all of them out.
    pub(crate) fn clear(&self) -> Vec<Arc<Segment>> {
        let mut slots = self.0.write().unwrap_or_else(PoisonError::into_inner);
        slots.iter_mut().filter_map(Option::take).collect()
    }

    /// All of them, the oldest first.
    pub(crate) fn all(&self) -> Vec<Arc<Segment>> {
        let slots = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = slots.iter().flatten().cloned().collect();
        all.sort_unstable_by_key(|segment| segment.id);
        all
    }
}
