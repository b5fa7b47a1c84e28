//! Looking at the log: bytes that are not yet in a file, and how far everything has come.

use std::sync::Arc;

use super::{Log, State};
use crate::{
    footer::Footer,
    segment::{Segment, Segments},
};

/// See [`Log::cut`].
pub(crate) struct Cut {
    pub(crate) boundary: u64,
    pub(crate) covered: Vec<(Arc<Segment>, u64)>,
}

/// The records of which [`Log::page`] tells at once.
const PAGE_ENTRIES: usize = 1024;

impl Log {
    /// What everything up to now amounts to, for a snapshot: all that is below the boundary stands
    /// in these segments before these ends, and all else does not. Waits until it is flushed.
    pub(crate) fn cut(&self, segments: &Segments) -> Cut {
        let state = self.lock();
        let boundary = self.next_sequence();
        let covered = extent(&state, segments);
        drop(state);
        if let Some(last) = boundary.checked_sub(1) {
            self.settled_blocking(last);
        }
        // What could not be written is in no snapshot.
        let flushed = |(segment, end): (Arc<Segment>, u64)| {
            let end = end.min(segment.flushed());
            (segment, end)
        };
        Cut {
            boundary,
            covered: covered.into_iter().map(flushed).collect(),
        }
    }

    /// Reads a record that is not yet in its file; `false` where it is not here either.
    pub(crate) fn read(&self, segment: &Segment, offset: u64, into: &mut [u8]) -> bool {
        let state = self.lock();
        let copy = |start: u64, bytes: &[u8], into: &mut [u8]| {
            let Some(at) = offset.checked_sub(start) else {
                return false;
            };
            let found = usize::try_from(at)
                .ok()
                .and_then(|at| bytes.get(at..at.checked_add(into.len())?));
            found.is_some_and(|found| {
                into.copy_from_slice(found);
                true
            })
        };
        let active = state.actives[segment.queue as usize].as_ref();
        if let Some(active) = active.filter(|active| active.segment.id == segment.id)
            && copy(active.buffer_start(), &active.buffer, into)
        {
            return true;
        }
        (state.chunks.iter())
            .filter(|chunk| chunk.segment.id == segment.id)
            .any(|chunk| copy(chunk.offset, &chunk.bytes, into))
    }

    /// What there is at this moment: each segment, and where its last record ends.
    pub(crate) fn extent(&self, segments: &Segments) -> Vec<(Arc<Segment>, u64)> {
        extent(&self.lock(), segments)
    }

    /// A part of what is known of the records of a segment that is appended to: it begins with the
    /// record of this index, whose key stands there. `None` where the segment is sealed.
    pub(crate) fn page(&self, segment: &Segment, index: usize, key_at: usize) -> Option<Footer> {
        let state = self.lock();
        let active = state.actives[segment.queue as usize].as_ref();
        let active = active.filter(|active| active.segment.id == segment.id)?;
        let entries = active.footer.entries.get(index..).unwrap_or_default();
        let entries = &entries[..entries.len().min(PAGE_ENTRIES)];
        let keys = active.footer.keys.get(key_at..).unwrap_or_default();
        let mut end = 0;
        for _ in entries {
            let len = keys.get(end..end + 2)?;
            end += 2 + usize::from(u16::from_le_bytes([len[0], len[1]]));
        }
        Some(Footer {
            entries: entries.to_vec(),
            keys: keys.get(..end)?.to_vec(),
        })
    }
}

fn extent(state: &State, segments: &Segments) -> Vec<(Arc<Segment>, u64)> {
    let ends = segments.all().into_iter().map(|segment| {
        let active = state.actives[segment.queue as usize].as_ref();
        let active = active.filter(|active| active.segment.id == segment.id);
        let end = active.map_or_else(|| segment.end(), |active| active.end);
        (segment, end)
    });
    ends.collect()
}
