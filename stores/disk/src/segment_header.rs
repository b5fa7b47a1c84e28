//! The first bytes of a segment's file.

use crate::segment::{Queue, SEGMENT_HEADER_LEN};

/// What the checksums of a segment's records begin with.
pub(crate) fn seed(store_id: &[u8; 16], id: u64) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(store_id), &id.to_le_bytes())
}

/// The header of a segment: [`SEGMENT_HEADER_LEN`] bytes.
pub(crate) fn write(store_id: &[u8; 16], id: u64, queue: Queue) -> Vec<u8> {
    let _ = (store_id, id, queue);
    vec![0; SEGMENT_HEADER_LEN]
}
