//! The checksums of a body that comes piece by piece: one a block, and one of it all.

use std::sync::LazyLock;

use crate::{blob_table, blobs::BLOB_BLOCK};

/// CRC-32C of what was added so far.
#[derive(Debug, Default)]
pub(crate) struct Sums {
    /// Of the blocks that are full.
    blocks: Vec<u32>,
    /// Of all of these together.
    whole: u32,
    /// Of the block that is not full, and its length.
    last: u32,
    last_len: u64,
}

impl Sums {
    pub(crate) fn add(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = usize::try_from(BLOB_BLOCK - self.last_len).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.last = crc32c::crc32c_append(self.last, now);
            self.last_len += now.len() as u64;
            bytes = later;
            if self.last_len == BLOB_BLOCK {
                self.blocks.push(self.last);
                self.whole = with_block(self.whole, self.last);
                (self.last, self.last_len) = (0, 0);
            }
        }
    }

    /// The CRC-32C of it all.
    pub(crate) fn whole(&self) -> u32 {
        let len = usize::try_from(self.last_len).unwrap_or(usize::MAX);
        crc32c::crc32c_combine(self.whole, self.last, len)
    }

    /// What stands behind the body in the file of this blob.
    pub(crate) fn table(&self, id: u64) -> Vec<u8> {
        let last = (self.last_len > 0).then_some(self.last);
        let blocks = self.blocks.iter().copied().chain(last);
        (0..)
            .zip(blocks)
            .flat_map(|(block, crc)| blob_table::masked(id, block, crc).to_le_bytes())
            .collect()
    }
}

/// What a block's worth of zeros makes of each bit of a checksum. To combine two checksums costs
/// as much as to compute them, but for a length that is always the same the most of it can be done
/// beforehand: it is linear.
static BEHIND_A_BLOCK: LazyLock<[u32; 32]> = LazyLock::new(|| {
    let block = usize::try_from(BLOB_BLOCK).unwrap_or(usize::MAX);
    std::array::from_fn(|bit| crc32c::crc32c_combine(1 << bit, 0, block))
});

/// The checksum of what has the first, followed by a block that has the second.
fn with_block(whole: u32, block: u32) -> u32 {
    let bits = (0..32).filter(|bit| whole >> bit & 1 == 1);
    bits.fold(block, |sum, bit| sum ^ BEHIND_A_BLOCK[bit])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::u32_at;

    #[test]
    fn the_sums_are_those_of_the_bytes() {
        let block = usize::try_from(BLOB_BLOCK).unwrap();
        let bytes: Vec<u8> = (0..3 * block + 77)
            .map(|at| u8::try_from(at * 31 % 251).unwrap())
            .collect();
        for len in [
            0,
            1,
            block - 1,
            block,
            block + 1,
            2 * block,
            3 * block,
            bytes.len(),
        ] {
            for chunk in [1_000, 65_536, block, bytes.len()] {
                let bytes = &bytes[..len];
                let mut sums = Sums::default();
                bytes.chunks(chunk).for_each(|chunk| sums.add(chunk));
                assert_eq!(sums.whole(), crc32c::crc32c(bytes), "{len} by {chunk}");
                let table = sums.table(9);
                assert_eq!(table.len() as u64, blob_table::blocks(len as u64) * 4);
                for (at, block) in bytes.chunks(block).enumerate() {
                    let sum = blob_table::masked(9, at as u64, crc32c::crc32c(block));
                    assert_eq!(u32_at(&table, at * 4), sum);
                }
            }
        }
    }
}
