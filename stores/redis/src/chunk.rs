//! The form of a chunk: its part of the body, then a CRC-32C of every block of that part.
//!
//! With a checksum for each block a part of a chunk can be read and checked without the rest. A
//! chunk's blocks have [`BLOCK`] bytes, the last one may have fewer; the checksums follow the data
//! in order, four bytes each, little-endian.

use std::ops::Range;

use bytes::Bytes;
use larder_store::{Error, Result};

/// The length of a block.
pub(crate) const BLOCK: usize = 16 << 10;
const SUM: usize = 4;

/// The checksums of the blocks of `data`.
pub(crate) fn sums(data: &[u8]) -> Vec<u8> {
    data.chunks(BLOCK)
        .flat_map(|block| crc32c::crc32c(block).to_le_bytes())
        .collect()
}

/// The length of a chunk in the server, of a part of this length.
pub(crate) fn stored_len(len: usize) -> usize {
    len + len.div_ceil(BLOCK) * SUM
}

/// Checks a whole chunk, and gives its part of the body, which must have this length.
pub(crate) fn open(mut stored: Bytes, len: usize) -> Result<Bytes> {
    if stored.len() != stored_len(len) {
        return Err(Error::corrupt(format!(
            "a chunk has {} bytes where {} are due",
            stored.len(),
            stored_len(len)
        )));
    }
    let sums = stored.split_off(len);
    check(&stored, &sums)?;
    Ok(stored)
}

/// What must be read to have, and to check, a part of a chunk.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Where the blocks are.
    pub(crate) blocks: Range<usize>,
    /// Where their checksums are.
    pub(crate) sums: Range<usize>,
    /// Where in the blocks the wanted bytes are.
    wanted: Range<usize>,
}

impl Cut {
    /// For these bytes, at least one, of a chunk that has `len` of the body.
    pub(crate) fn new(wanted: Range<usize>, len: usize) -> Self {
        let (first, end) = (wanted.start / BLOCK, wanted.end.div_ceil(BLOCK));
        let start = first * BLOCK;
        Self {
            blocks: start..len.min(end * BLOCK),
            sums: len + first * SUM..len + end * SUM,
            wanted: wanted.start - start..wanted.end - start,
        }
    }

    /// Checks what was read, and gives the wanted bytes.
    pub(crate) fn open(&self, blocks: &Bytes, sums: &[u8]) -> Result<Bytes> {
        if (blocks.len(), sums.len()) != (self.blocks.len(), self.sums.len()) {
            return Err(Error::corrupt("a chunk is shorter than it must be"));
        }
        check(blocks, sums)?;
        Ok(blocks.slice(self.wanted.clone()))
    }
}

fn check(data: &[u8], sums: &[u8]) -> Result<()> {
    let (sums, _) = sums.as_chunks::<SUM>();
    let right = data.chunks(BLOCK).map(crc32c::crc32c);
    if right.eq(sums.iter().map(|sum| u32::from_le_bytes(*sum))) {
        return Ok(());
    }
    Err(Error::corrupt("a chunk does not match its checksums"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(len: usize) -> Vec<u8> {
        (0..len)
            .map(|place| u8::try_from((place * 31 + place / 256) % 251).unwrap())
            .collect()
    }

    fn stored(len: usize) -> Bytes {
        let mut stored = data(len);
        stored.extend(sums(&data(len)));
        stored.into()
    }

    const LENGTHS: [usize; 6] = [1, 100, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5];

    #[test]
    fn a_chunk_is_read_as_it_was_written() {
        for len in LENGTHS {
            assert_eq!(stored(len).len(), stored_len(len));
            assert_eq!(open(stored(len), len).unwrap(), data(len));
            assert!(open(stored(len), len + 1).unwrap_err().is_corrupt());
            assert!(open(stored(len).slice(1..), len).unwrap_err().is_corrupt());
        }
    }

    #[test]
    fn parts_are_cut_out_and_checked() {
        for len in LENGTHS {
            let stored = stored(len);
            for wanted in [
                0..1,
                0..len,
                len - 1..len,
                len / 2..len,
                len / 3..len / 3 + 1,
            ] {
                let cut = Cut::new(wanted.clone(), len);
                let (blocks, sums) = (
                    stored.slice(cut.blocks.clone()),
                    stored.slice(cut.sums.clone()),
                );
                assert_eq!(cut.open(&blocks, &sums).unwrap(), data(len)[wanted.clone()]);
                assert!(cut.blocks.len() < wanted.len() + 2 * BLOCK);
                assert!(
                    cut.open(&blocks.slice(1..), &sums)
                        .unwrap_err()
                        .is_corrupt()
                );
                assert!(cut.open(&blocks, &sums[1..]).unwrap_err().is_corrupt());
            }
        }
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let len = BLOCK + 100;
        for place in [0, 1, BLOCK - 1, BLOCK, len - 1, len, len + 7] {
            let mut bytes = stored(len).to_vec();
            bytes[place] ^= 4;
            let bytes = Bytes::from(bytes);
            assert!(open(bytes.clone(), len).unwrap_err().is_corrupt());
            let cut = Cut::new(0..len, len);
            let (blocks, sums) = (
                bytes.slice(cut.blocks.clone()),
                bytes.slice(cut.sums.clone()),
            );
            assert!(cut.open(&blocks, &sums).unwrap_err().is_corrupt());
        }
    }
}
