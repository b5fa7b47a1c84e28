//! The last bytes of a sealed segment's file: where its [`Footer`] is, and what it says in short.
//!
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 8 | [`MAGIC`] |
//! | 8 | 4 | the number of entries |
//! | 12 | 1 | the segment's queue |
//! | 13 | 3 | zeros |
//! | 16 | 8 | the length of the keys |
//! | 24 | 8 | where the records end and the entries begin |
//! | 32 | 8 | the smallest sequence number of a record that is no tombstone; else all ones |
//! | 40 | 8 | the greatest sequence number, or zero |
//! | 48 | 4 | CRC-32C of the entries |
//! | 52 | 4 | CRC-32C of the keys |
//! | 56 | 4 | zeros |
//! | 60 | 4 | CRC-32C of the 60 bytes before |
//!
//! All of these begin with the segment's seed, so that no other segment's is taken for it.
//!
//! [`Footer`]: crate::footer::Footer

use std::io;

use crate::{
    footer::ENTRY_LEN,
    index::SEGMENT_MAX,
    medium::File,
    record::{u32_at, u64_at},
    segment::{Queue, SEGMENT_HEADER_LEN},
    segment_header,
};

pub(crate) const TRAILER_LEN: usize = 64;
const MAGIC: [u8; 8] = *b"larderFT";
const CRC_AT: usize = TRAILER_LEN - 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trailer {
    pub(crate) entries: u32,
    pub(crate) queue: Queue,
    pub(crate) keys_len: u64,
    /// Where the records end and the entries begin.
    pub(crate) end: u64,
    pub(crate) min_sequence: u64,
    pub(crate) max_sequence: u64,
    pub(crate) entries_crc: u32,
    pub(crate) keys_crc: u32,
}

impl Trailer {
    pub(crate) fn encode(&self, seed: u32) -> [u8; TRAILER_LEN] {
        let mut bytes = [0; TRAILER_LEN];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&self.entries.to_le_bytes());
        bytes[12] = self.queue as u8;
        bytes[16..24].copy_from_slice(&self.keys_len.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.end.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.min_sequence.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.max_sequence.to_le_bytes());
        bytes[48..52].copy_from_slice(&self.entries_crc.to_le_bytes());
        bytes[52..56].copy_from_slice(&self.keys_crc.to_le_bytes());
        let crc = crc32c::crc32c_append(seed, &bytes[..CRC_AT]);
        bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the trailer of a file of this length; `None` unless it was written for a segment of
    /// this seed and for just this length.
    pub(crate) fn parse(bytes: &[u8; TRAILER_LEN], file_len: u64, seed: u32) -> Option<Self> {
        let crc = crc32c::crc32c_append(seed, &bytes[..CRC_AT]);
        if bytes[..8] != MAGIC || u32_at(bytes, CRC_AT) != crc {
            return None;
        }
        let trailer = Self {
            entries: u32_at(bytes, 8),
            queue: segment_header::queue(bytes[12])?,
            keys_len: u64_at(bytes, 16),
            end: u64_at(bytes, 24),
            min_sequence: u64_at(bytes, 32),
            max_sequence: u64_at(bytes, 40),
            entries_crc: u32_at(bytes, 48),
            keys_crc: u32_at(bytes, 52),
        };
        let within = (SEGMENT_HEADER_LEN as u64..=SEGMENT_MAX).contains(&trailer.end);
        (within && trailer.file_len() == Some(file_len)).then_some(trailer)
    }

    /// Reads the trailer of a segment's file.
    pub(crate) fn read(file: &File, file_len: u64, seed: u32) -> io::Result<Option<Self>> {
        let Some(at) = file_len.checked_sub(TRAILER_LEN as u64) else {
            return Ok(None);
        };
        let mut bytes = [0; TRAILER_LEN];
        file.read_exact_at(&mut bytes, at)?;
        Ok(Self::parse(&bytes, file_len, seed))
    }

    /// The bytes of all entries.
    pub(crate) fn entries_len(&self) -> u64 {
        u64::from(self.entries) * ENTRY_LEN as u64
    }

    /// The length of a file that ends with this; `None` where it makes no sense.
    fn file_len(&self) -> Option<u64> {
        let beside = self.end + self.entries_len() + TRAILER_LEN as u64;
        beside.checked_add(self.keys_len)
    }
}
