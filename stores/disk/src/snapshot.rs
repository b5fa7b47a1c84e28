//! The index as a file, so that a start need not read the log.
//!
//! It is written beside the two that may be there, and renamed over the older one when it is on
//! disk. It begins with a header:
//!
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 8 | [`MAGIC`] |
//! | 8 | 4 | the version of the format |
//! | 12 | 4 | the number of segments |
//! | 16 | 8 | the number of this snapshot |
//! | 24 | 8 | the boundary: all records with a smaller sequence number are accounted for |
//! | 32 | 8 | the next sequence number |
//! | 40 | 8 | the number of entries |
//! | 48 | 8 | the length of the file |
//! | 56 | 4 | the checksum of the last shard |
//! | 60 | 4 | zeros |
//! | 64 | 24 each | of each segment the id (8), the end of what is covered (8), its slot (8) |
//! | | 4 | CRC-32C of all of this, which begins with the store's |
//!
//! and goes on with 256 shards, each the entries of one stripe: the number of entries (4), of
//! blobs among them (4), the entries: hash and word (8 each), of the blobs in the same order id
//! and length (8 each), and CRC-32C (4). Each checksum begins with that of the shard before, the
//! first with that of the store and the snapshot's number.

mod load;

use std::{io, path::Path, sync::Arc};

pub(crate) use self::load::Snapshot;
use crate::{
    blobs::Blob,
    index::{Index, Word},
    medium::{File, Medium},
    segment::Segment,
    volume::Volume,
};

const MAGIC: [u8; 8] = *b"larderIX";
const FORMAT: u32 = 1;
const HEADER_LEN: usize = 64;
const SEGMENT_LEN: usize = 24;
const CRC_LEN: usize = 4;
const TEMPORARY: &str = "index.snap.tmp";
/// Written at once.
const CHUNK: usize = 1 << 20;

/// The file of the snapshot of this number: one of two.
pub(crate) fn path(number: u64) -> &'static Path {
    let name = if number.is_multiple_of(2) {
        "index.snap.a"
    } else {
        "index.snap.b"
    };
    Path::new(name)
}

/// Writes the older of the two files anew.
pub(crate) fn save(volume: &Volume, number: u64) -> io::Result<()> {
    let Volume { medium, log, .. } = volume;
    let saved = (|| {
        let cut = log.cut(&volume.segments);
        let mut draft = Draft::begin(medium, &volume.folder.store_id, number, cut.covered.len())?;
        draft.write_index(&volume.index)?;
        // Entries that came after the cut are found again only in their segments, while what they
        // replaced is missing here: so these come first.
        let next_sequence = log.next_sequence();
        if let Some(last) = next_sequence.checked_sub(1) {
            log.settled_blocking(last);
        }
        sync(&volume.segments.all())?;
        // A slot may have gone to another segment while the index was read.
        let is_there = |segment: &Arc<Segment>| {
            let now = volume.segments.get(segment.slot);
            now.is_some_and(|now| now.id == segment.id)
        };
        let covered = cut.covered.into_iter().map(|(segment, end)| Covered {
            id: segment.id,
            end: if is_there(&segment) { end } else { 0 },
            slot: segment.slot,
        });
        draft.finish(cut.boundary, next_sequence, &covered.collect::<Vec<_>>())
    })();
    if saved.is_err() {
        // The next one begins with this, too.
        let _ = medium.remove(TEMPORARY.as_ref());
    }
    saved
}

fn sync(segments: &[Arc<Segment>]) -> io::Result<()> {
    for segment in segments {
        if segment.take_dirty()
            && let Err(error) = segment.file.sync_data()
        {
            segment.mark_dirty();
            return Err(error);
        }
    }
    Ok(())
}

/// A segment, as a snapshot knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Covered {
    id: u64,
    /// The snapshot knows what stands before; zero where it knows of nothing.
    end: u64,
    /// What the words of the snapshot call it.
    slot: u16,
}

/// A snapshot that is being written.
struct Draft<'a> {
    medium: &'a Medium,
    file: File,
    seed: u32,
    number: u64,
    segments: usize,
    entries: u64,
    /// The bytes that were written.
    len: u64,
    buffer: Vec<u8>,
    crc: u32,
}

impl<'a> Draft<'a> {
    fn begin(
        medium: &'a Medium,
        store_id: &[u8; 16],
        number: u64,
        segments: usize,
    ) -> io::Result<Self> {
        medium.remove(TEMPORARY.as_ref())?;
        let seed = seed(store_id);
        Ok(Self {
            medium,
            file: medium.create(TEMPORARY.as_ref())?,
            seed,
            number,
            segments,
            entries: 0,
            len: header_len(segments) as u64,
            buffer: Vec::new(),
            crc: first_crc(seed, number),
        })
    }

    fn write_index(&mut self, index: &Index) -> io::Result<()> {
        for mut entries in index.stripes() {
            entries.retain(|(_, word, blob)| word.is_blob() == blob.is_some());
            self.entries += entries.len() as u64;
            self.crc = write_shard(&entries, self.crc, &mut self.buffer);
            if self.buffer.len() >= CHUNK {
                self.flush()?;
            }
        }
        self.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.buffer, self.len)?;
        self.len += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Writes the header, for which all else must be known, and puts the file in its place.
    fn finish(self, boundary: u64, next_sequence: u64, covered: &[Covered]) -> io::Result<()> {
        debug_assert_eq!(covered.len(), self.segments);
        let mut bytes = Vec::with_capacity(header_len(self.segments));
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        #[allow(clippy::cast_possible_truncation)] // There are at most 65,536 slots.
        bytes.extend_from_slice(&(self.segments as u32).to_le_bytes());
        let numbers = [self.number, boundary, next_sequence, self.entries, self.len];
        for number in numbers {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&self.crc.to_le_bytes());
        bytes.resize(HEADER_LEN, 0);
        for segment in covered {
            bytes.extend_from_slice(&segment.id.to_le_bytes());
            bytes.extend_from_slice(&segment.end.to_le_bytes());
            bytes.extend_from_slice(&u64::from(segment.slot).to_le_bytes());
        }
        let crc = crc32c::crc32c_append(self.seed, &bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        self.file.write_all_at(&bytes, 0)?;
        self.file.sync_data()?;
        (self.medium).rename(TEMPORARY.as_ref(), path(self.number))?;
        self.medium.sync_dir("".as_ref())
    }
}

/// What the checksums of a store's snapshots begin with.
fn seed(store_id: &[u8; 16]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&MAGIC), store_id)
}

fn first_crc(seed: u32, number: u64) -> u32 {
    crc32c::crc32c_append(seed, &number.to_le_bytes())
}

fn header_len(segments: usize) -> usize {
    HEADER_LEN + segments * SEGMENT_LEN + CRC_LEN
}

/// Writes the entries of a stripe after a shard of this checksum; gives its own.
fn write_shard(entries: &[(u64, Word, Option<Arc<Blob>>)], crc: u32, into: &mut Vec<u8>) -> u32 {
    let start = into.len();
    let blobs = entries.iter().filter_map(|(_, _, blob)| blob.as_ref());
    #[allow(clippy::cast_possible_truncation)] // 2^32 of them would take 100 GB of memory.
    for count in [entries.len() as u32, blobs.clone().count() as u32] {
        into.extend_from_slice(&count.to_le_bytes());
    }
    for (hash, word, _) in entries {
        into.extend_from_slice(&hash.to_le_bytes());
        into.extend_from_slice(&word.0.to_le_bytes());
    }
    for blob in blobs {
        into.extend_from_slice(&blob.id.to_le_bytes());
        into.extend_from_slice(&blob.len.to_le_bytes());
    }
    let crc = crc32c::crc32c_append(crc, &into[start..]);
    into.extend_from_slice(&crc.to_le_bytes());
    crc
}

/// A snapshot of an index that is not part of a store.
#[cfg(test)]
pub(crate) fn save_by_hand(
    medium: &Medium,
    store_id: &[u8; 16],
    number: u64,
    index: &Index,
    boundary: u64,
    covered: &[(Arc<Segment>, u64)],
) -> io::Result<()> {
    let mut draft = Draft::begin(medium, store_id, number, covered.len())?;
    draft.write_index(index)?;
    let covered = covered.iter().map(|(segment, end)| Covered {
        id: segment.id,
        end: *end,
        slot: segment.slot,
    });
    draft.finish(boundary, boundary, &covered.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests;
