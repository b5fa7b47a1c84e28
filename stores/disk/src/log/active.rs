//! The segment that is appended to, and what of it is on its way to the file.

use std::{ops::Range, sync::Arc};

use crate::{
    footer::{Footer, FooterEntry},
    index::Place,
    record::{Kind, Record, UNIT},
    segment::Segment,
};

pub(super) struct Active {
    pub(super) segment: Arc<Segment>,
    /// Where the next record goes.
    pub(super) end: u64,
    /// What is not yet in a chunk; it ends at `end`.
    pub(super) buffer: Vec<u8>,
    /// The sequence number of the first record in `buffer`.
    pub(super) first: u64,
    pub(super) footer: Footer,
}

/// Bytes on their way into a segment.
pub(crate) struct Chunk {
    pub(crate) segment: Arc<Segment>,
    pub(crate) offset: u64,
    pub(crate) bytes: Vec<u8>,
    /// The sequence numbers that are in it, and maybe in others.
    pub(crate) sequences: Range<u64>,
    /// Nothing follows in this segment.
    pub(crate) seals: bool,
}

impl Active {
    #[allow(clippy::cast_possible_truncation)] // Within a segment, whose length is checked.
    pub(super) fn push(&mut self, record: &Record, sequence: u64, shadow: bool) -> Place {
        let place = Place {
            slot: self.segment.slot,
            offset: (self.end / UNIT as u64) as u32,
            size: (record.size() / UNIT) as u32,
        };
        record.write(sequence, shadow, self.segment.seed, &mut self.buffer);
        self.end += record.size() as u64;
        let entry = FooterEntry {
            hash: record.hash(),
            sequence,
            offset: place.offset,
            size: place.size,
            kind: record.kind(),
            shadow,
        };
        self.footer.add(entry, record);
        if record.kind() != Kind::Tombstone {
            self.segment.note_sequence(sequence);
        }
        place
    }

    pub(super) fn buffer_start(&self) -> u64 {
        self.end - self.buffer.len() as u64
    }

    /// Takes the buffer out, and puts an empty one in its place.
    pub(super) fn chunk(&mut self, next_sequence: u64, seals: bool, next: Vec<u8>) -> Chunk {
        let offset = self.buffer_start();
        let first = std::mem::replace(&mut self.first, u64::MAX);
        let bytes = std::mem::replace(&mut self.buffer, next);
        Chunk {
            segment: Arc::clone(&self.segment),
            offset,
            bytes,
            sequences: first.min(next_sequence)..next_sequence,
            seals,
        }
    }
}
