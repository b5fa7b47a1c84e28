//! The table of checksums that ends a blob's file: one little-endian number for each block.

use crate::blobs::BLOB_BLOCK;

/// The bytes that a block takes in the table.
pub(crate) const ENTRY_LEN: u64 = 4;

/// What stands in the table for this block of this blob, whose bytes have this CRC-32C.
///
/// The number of the blob and the place of the block are mixed in, so that a block of another file,
/// or of another place, does not verify.
pub(crate) fn masked(id: u64, block: u64, crc: u32) -> u32 {
    // The finalizer of SplitMix64. A checksum would not do as the mask: those of the blocks differ
    // from each other by the same bits.
    let mut mixed = id
        .rotate_left(32)
        .wrapping_add(block.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    #[allow(clippy::cast_possible_truncation)] // The low half is as good as the other.
    let mask = (mixed ^ (mixed >> 31)) as u32;
    crc ^ mask
}

/// Where the entry of this block stands in the file of a blob whose object has this length. The
/// block must be one of that object's.
pub(crate) fn table_offset(len: u64, block: u64) -> u64 {
    len + block * ENTRY_LEN
}

/// The bytes of the table of an object of this length.
pub(crate) fn table_len(len: u64) -> u64 {
    blocks(len) * ENTRY_LEN
}

/// The blocks of an object of this length.
pub(crate) fn blocks(len: u64) -> u64 {
    len.div_ceil(BLOB_BLOCK)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::{blobs::Blob, space::BlockSize};

    #[test]
    fn the_form_is_fixed() {
        assert_eq!(masked(1, 0, 0), masked(1, 0, 7) ^ 7);
        // A change of these numbers makes every blob that was written before corrupt.
        assert_eq!([masked(1, 0, 0), masked(1, 1, 0), masked(2, 0, 0)], FORM);
    }

    const FORM: [u32; 3] = [2_743_206_200, 1_465_302_333, 2_077_013_298];

    #[test]
    fn blocks_and_blobs_have_masks_of_their_own() {
        let masks: HashSet<_> = (0..64)
            .flat_map(|id| (0..64).map(move |block| masked(id, block, 0)))
            .collect();
        assert_eq!(masks.len(), 64 * 64);
    }

    #[test]
    fn the_table_ends_where_the_file_does() {
        for len in [0, 1, BLOB_BLOCK, BLOB_BLOCK + 1, 10 * BLOB_BLOCK - 1] {
            let (id, hash) = (1, 2);
            let end = Blob::new(id, hash, len, BlockSize::BYTE).file_len();
            assert_eq!(table_offset(len, blocks(len)), end);
        }
    }
}
