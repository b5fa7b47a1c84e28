//! Small chunks, copied together.
//!
//! Most chunks are slices of a buffer that the source owns, and each keeps all of that buffer in
//! memory. So a chunk of a few bytes may cost 64 KiB. Small chunks are copied into blocks of our
//! own, and then we hold what we count. Large chunks are kept as they are, since copying them would
//! cost more than it saves.

use bytes::{Bytes, BytesMut};

/// The shortest chunk, in bytes, that is kept as it is.
pub(crate) const KEPT_MIN: usize = 16 << 10;
/// The longest block, in bytes. A piece keeps its whole block in memory. So what is packed takes at
/// most two blocks more than its bytes: the one that is being filled, and one of which only the
/// last piece is left.
const BLOCK_MAX: usize = 32 << 10;

/// Copies small chunks into blocks. Each block is as long as all that was packed before it, up to
/// [`BLOCK_MAX`], so that a short object takes little.
#[derive(Default)]
pub(crate) struct Packer {
    block: BytesMut,
    packed: usize,
}

impl Packer {
    /// Takes a chunk. `put` gets the pieces that are complete, in order; the rest stays here.
    pub(crate) fn push(&mut self, chunk: &Bytes, mut put: impl FnMut(Bytes)) {
        if chunk.len() >= KEPT_MIN {
            self.take().into_iter().for_each(&mut put);
            return put(chunk.clone());
        }
        let mut rest = &chunk[..];
        while !rest.is_empty() {
            let mut room = self.room();
            if room == 0 {
                self.take().into_iter().for_each(&mut put);
                self.block = BytesMut::with_capacity(next_block(self.packed, rest.len()));
                room = self.room();
            }
            let (part, after) = rest.split_at(rest.len().min(room));
            self.block.extend_from_slice(part);
            self.packed += part.len();
            rest = after;
        }
    }

    /// The bytes that were packed and not taken, if any. The next small chunk goes into the same
    /// block.
    pub(crate) fn take(&mut self) -> Option<Bytes> {
        (!self.block.is_empty()).then(|| self.block.split().freeze())
    }

    /// How many bytes were packed and not taken.
    pub(crate) fn len(&self) -> usize {
        self.block.len()
    }

    /// How much more memory a chunk would take, in bytes.
    pub(crate) fn growth(&self, chunk: &Bytes) -> usize {
        match chunk.len() {
            len if len >= KEPT_MIN => len,
            len if len <= self.room() => 0,
            len => {
                let room = self.room();
                next_block(self.packed + room, len - room)
            }
        }
    }

    fn room(&self) -> usize {
        self.block.capacity() - self.block.len()
    }
}

/// How long the next block is, for a chunk of which so much is left.
fn next_block(packed: usize, left: usize) -> usize {
    packed.min(BLOCK_MAX).max(left)
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    /// Packs chunks of these lengths, gives the lengths of the pieces, and checks every byte.
    fn pack(lens: &[usize]) -> Vec<usize> {
        let (mut packer, mut pieces, mut all) = (Packer::default(), Vec::new(), Vec::new());
        for (&len, byte) in lens.iter().zip(0_u8..) {
            let chunk = Bytes::from(vec![byte; len]);
            all.extend_from_slice(&chunk);
            packer.push(&chunk, |piece| pieces.push(piece));
        }
        pieces.extend(packer.take());
        assert_eq!(pieces.concat(), all);
        pieces.iter().map(Bytes::len).collect()
    }

    #[test]
    fn small_chunks_share_blocks_and_large_ones_stay_as_they_are() {
        assert_eq!(pack(&[20 << 10, 16 << 10]), [20 << 10, 16 << 10]);
        assert_eq!(pack(&[100, 20 << 10, 100]), [100, 20 << 10, 100]);
        assert_eq!(pack(&[10; 8]), [10, 10, 20, 40]);
        let pieces = pack(&[15_000; 100]);
        assert!(pieces.iter().all(|&len| len <= BLOCK_MAX));
        assert!(pieces.len() < 50);
    }

    #[test]
    fn what_a_chunk_will_take_is_known_before() {
        let mut packer = Packer::default();
        let mut taken = 0;
        for len in [10, 5, 5, 1, 16_000, 30, 20_000] {
            let chunk = Bytes::from(vec![1; len]);
            taken += packer.growth(&chunk);
            packer.push(&chunk, drop);
        }
        // 10, then 10, then 20 and what the block before it could not take, and so on.
        assert!((36_051..2 * 36_051).contains(&taken), "{taken}");
    }
}
