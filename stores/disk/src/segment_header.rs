//! The first bytes of a segment's file.
//!
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 8 | [`MAGIC`] |
//! | 8 | 4 | the version of the format |
//! | 12 | 4 | CRC-32C of the store's id |
//! | 16 | 8 | the segment's id |
//! | 24 | 1 | its queue |
//! | 25 | 35 | zeros |
//! | 60 | 4 | CRC-32C of the 60 bytes before |

use crate::{
    record::{u32_at, u64_at},
    segment::{Queue, SEGMENT_HEADER_LEN},
};

const MAGIC: [u8; 8] = *b"larderSG";
const FORMAT: u32 = 1;
const CRC_AT: usize = SEGMENT_HEADER_LEN - 4;

/// Whose segment a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// This store's, under the number that was asked for.
    Ours(Queue),
    /// Nobody's: nothing was ever written to it.
    Blank,
    /// Another's, or damaged.
    Other,
}

/// What the checksums of a segment's records begin with.
pub(crate) fn seed(store_id: &[u8; 16], id: u64) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(store_id), &id.to_le_bytes())
}

/// The header of a segment: [`SEGMENT_HEADER_LEN`] bytes.
pub(crate) fn write(store_id: &[u8; 16], id: u64, queue: Queue) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(SEGMENT_HEADER_LEN);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&FORMAT.to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(store_id).to_le_bytes());
    bytes.extend_from_slice(&id.to_le_bytes());
    bytes.push(queue as u8);
    bytes.resize(CRC_AT, 0);
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

/// Reads the header of the file that is named after this segment.
pub(crate) fn parse(bytes: &[u8], store_id: &[u8; 16], id: u64) -> Found {
    let Some(bytes) = bytes.first_chunk::<SEGMENT_HEADER_LEN>() else {
        return Found::Other;
    };
    if bytes.iter().all(|byte| *byte == 0) {
        return Found::Blank;
    }
    let ours = bytes[..8] == MAGIC
        && u32_at(bytes, 8) == FORMAT
        && u32_at(bytes, 12) == crc32c::crc32c(store_id)
        && u64_at(bytes, 16) == id
        && u32_at(bytes, CRC_AT) == crc32c::crc32c(&bytes[..CRC_AT]);
    match queue(bytes[24]) {
        Some(queue) if ours => Found::Ours(queue),
        _ => Found::Other,
    }
}

/// The queue of this number.
pub(crate) fn queue(number: u8) -> Option<Queue> {
    match number {
        0 => Some(Queue::Probation),
        1 => Some(Queue::Main),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: [u8; 16] = [7; 16];

    #[test]
    fn a_header_is_read_as_it_was_written() {
        for queue in [Queue::Probation, Queue::Main] {
            let bytes = write(&ID, 9, queue);
            assert_eq!(bytes.len(), SEGMENT_HEADER_LEN);
            assert_eq!(parse(&bytes, &ID, 9), Found::Ours(queue));
            assert_eq!(parse(&bytes, &ID, 8), Found::Other);
            assert_eq!(parse(&bytes, &[8; 16], 9), Found::Other);
        }
        assert_eq!(parse(&[0; SEGMENT_HEADER_LEN], &ID, 9), Found::Blank);
    }

    #[test]
    fn s57_a_damaged_header_is_not_ours() {
        let bytes = write(&ID, 9, Queue::Main);
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(parse(&bytes, &ID, 9), Found::Other, "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert_eq!(parse(&bytes[..len], &ID, 9), Found::Other, "{len} bytes");
        }
    }
}
