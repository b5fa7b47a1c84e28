//! Content that is made on the fly: the same bytes each time, too many to keep.

use bytes::{BufMut, Bytes, BytesMut};

/// Pseudo-random bytes, in chunks: `SplitMix64` (Steele, Lea and Flood, 2014).
pub(crate) struct Noise {
    state: u64,
    left: u64,
}

const CHUNK: usize = 64 << 10;

impl Noise {
    pub(crate) fn new(seed: u64, len: u64) -> Self {
        Self {
            state: seed,
            left: len,
        }
    }

    fn word(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }
}

impl Iterator for Noise {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.left == 0 {
            return None;
        }
        let len = usize::try_from(self.left).map_or(CHUNK, |left| left.min(CHUNK));
        let mut chunk = BytesMut::with_capacity(CHUNK);
        while chunk.len() < len {
            chunk.put_u64_le(self.word());
        }
        chunk.truncate(len);
        self.left -= len as u64;
        Some(chunk.freeze())
    }
}
