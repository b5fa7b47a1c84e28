//! What a file system has, and how it counts: in blocks.

use std::{fmt, io};

/// What a file system has, and has left.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Space {
    pub(crate) block: BlockSize,
    /// Bytes in all.
    pub(crate) total: u64,
    /// Bytes that are free.
    pub(crate) free: u64,
    /// Whether no further file can be made, however much room there is.
    pub(crate) lacks_inodes: bool,
}

/// Why no file can be made although there is room.
#[derive(Debug)]
pub(crate) struct OutOfInodes;

impl fmt::Display for OutOfInodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the file system has no inode left")
    }
}

impl std::error::Error for OutOfInodes {}

/// Whether a file could not be made for want of an inode, however much room there is.
pub(crate) fn lacks_inodes(error: &io::Error) -> bool {
    let inner = error.get_ref();
    inner.is_some_and(<dyn std::error::Error + Send + Sync>::is::<OutOfInodes>)
}

/// The unit in which a file system gives out its room: a power of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockSize {
    log2: u8,
}

/// Larger units are taken for advice on how much to read at once.
const BLOCK_MAX: u64 = 64 << 10;

impl BlockSize {
    /// Of a file system that gives out single bytes, so that sums in tests are plain.
    #[cfg(test)]
    pub(crate) const BYTE: Self = Self { log2: 0 };

    /// What a file system says, if that makes sense; else the page of most systems.
    pub(crate) fn new(bytes: u64) -> Self {
        let is_sane = bytes.is_power_of_two() && (512..=BLOCK_MAX).contains(&bytes);
        let bytes = if is_sane { bytes } else { 4096 };
        #[allow(clippy::cast_possible_truncation)] // At most 16.
        Self {
            log2: bytes.trailing_zeros() as u8,
        }
    }

    /// The longest file that takes no more than this.
    pub(crate) fn round_down(self, room: u64) -> u64 {
        room & !((1_u64 << self.log2) - 1)
    }

    /// What a file of this length takes.
    pub(crate) fn round_up(self, len: u64) -> u64 {
        let mask = (1_u64 << self.log2) - 1;
        len.saturating_add(mask) & !mask
    }
}

impl Default for BlockSize {
    fn default() -> Self {
        Self::new(4096)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s101_a_file_takes_whole_blocks() {
        let block = BlockSize::new(4096);
        let taken = [0, 1, 4096, 4097, u64::MAX].map(|len| block.round_up(len));
        assert_eq!(taken, [0, 4096, 4096, 8192, !4095]);
        assert_eq!(BlockSize::new(512).round_up(513), 1024);
        for odd in [0, 1, 4095, 1 << 20, u64::MAX] {
            assert_eq!(BlockSize::new(odd), BlockSize::default(), "{odd}");
        }
    }
}
