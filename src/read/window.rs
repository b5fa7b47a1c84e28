//! The newest bytes of a flight, in memory.
//!
//! Small chunks stand in blocks of the window's own, see [`pack`](crate::pack). So a window takes
//! what it counts, and two blocks at most beside that.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::pack::Packer;

/// Cost of each chunk beside its bytes, in bytes, so that tiny chunks are bounded too.
pub(crate) const CHUNK_COST: u64 = 64;

/// A contiguous run of bytes that ends at the newest one.
#[derive(Default)]
pub(crate) struct Window {
    chunks: VecDeque<Chunk>,
    /// The newest bytes, as long as nobody has asked for them.
    packer: Packer,
    start: u64,
    end: u64,
}

struct Chunk {
    offset: u64,
    bytes: Bytes,
}

impl Chunk {
    fn end(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }
}

impl Window {
    /// The offset of its first byte.
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    /// The offset after its last byte.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// Its bytes, and [`CHUNK_COST`] a chunk.
    pub(crate) fn cost(&self) -> u64 {
        self.end - self.start + self.overhead()
    }

    fn overhead(&self) -> u64 {
        CHUNK_COST * (self.chunks.len() as u64 + u64::from(self.packer.len() > 0))
    }

    /// Appends a chunk. A small one is copied, and the caller drops it: bytes may be the user's.
    pub(crate) fn push(&mut self, chunk: &Bytes) {
        let Self {
            chunks,
            packer,
            end,
            ..
        } = self;
        let mut offset = *end - packer.len() as u64;
        packer.push(chunk, |bytes| {
            let chunk = Chunk { offset, bytes };
            offset = chunk.end();
            chunks.push_back(chunk);
        });
        *end += chunk.len() as u64;
    }

    /// Where the oldest chunk begins and ends.
    pub(crate) fn front(&mut self) -> Option<(u64, u64)> {
        if self.chunks.is_empty() {
            self.settle();
        }
        self.chunks.front().map(|chunk| (chunk.offset, chunk.end()))
    }

    /// Removes the oldest chunk.
    pub(crate) fn pop(&mut self) -> Option<Bytes> {
        let (_, end) = self.front()?;
        self.start = end;
        self.chunks.pop_front().map(|chunk| chunk.bytes)
    }

    /// The bytes of the chunk that holds `offset`, from there to `stop`; `None` outside of the
    /// window.
    #[allow(clippy::cast_possible_truncation)] // Offsets within a chunk in memory.
    pub(crate) fn slice(&mut self, offset: u64, stop: u64) -> Option<Bytes> {
        if offset < self.start || offset >= self.end {
            return None;
        }
        if self.chunks.back().is_none_or(|last| last.end() <= offset) {
            self.settle();
        }
        let after = self.chunks.partition_point(|chunk| chunk.offset <= offset);
        let chunk = self.chunks.get(after.checked_sub(1)?)?;
        let end = stop.min(chunk.end()) - chunk.offset;
        let bytes = &chunk.bytes;
        Some(bytes.slice((offset - chunk.offset) as usize..end as usize))
    }

    /// All the bytes from `offset` on, which lies within the window.
    pub(crate) fn since(&mut self, offset: u64) -> Vec<Bytes> {
        self.settle();
        let chunks = self.chunks.iter().filter(|chunk| chunk.end() > offset);
        #[allow(clippy::cast_possible_truncation)] // Within the chunk.
        let part = |chunk: &Chunk| {
            let skipped = offset.saturating_sub(chunk.offset) as usize;
            chunk.bytes.slice(skipped..)
        };
        chunks.map(part).collect()
    }

    /// Packs the chunks again where they cost as much as their bytes: readers that take each chunk
    /// at once leave many tiny ones behind.
    pub(crate) fn compact(&mut self) {
        if self.overhead() <= self.cost() / 2 {
            return;
        }
        self.settle();
        self.packer = Packer::default();
        self.end = self.start;
        for chunk in std::mem::take(&mut self.chunks) {
            self.push(&chunk.bytes);
        }
    }

    /// Makes a chunk of what was packed.
    fn settle(&mut self) {
        let offset = self.end - self.packer.len() as u64;
        let packed = self.packer.take();
        self.chunks
            .extend(packed.map(|bytes| Chunk { offset, bytes }));
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    fn filled(len: usize, count: u8) -> Window {
        let mut window = Window::default();
        for byte in 0..count {
            window.push(&Bytes::from(vec![byte; len]));
        }
        window
    }

    #[test]
    fn every_byte_stands_in_its_place() {
        for len in [1, 100, 10_000, 20_000] {
            let mut window = filled(len, 20);
            for round in 0..2 {
                let mut at = window.start();
                while let Some(bytes) = window.slice(at, u64::MAX) {
                    for &byte in &bytes {
                        assert_eq!(u64::from(byte), at / len as u64);
                        at += 1;
                    }
                }
                assert_eq!(at, window.end());
                let rest = window.since(window.end() - 7).concat();
                assert_eq!(rest.last(), Some(&19));
                if round == 0 {
                    window.pop();
                    assert!(window.start() > 0);
                }
            }
        }
    }

    #[test]
    fn tiny_chunks_that_were_read_one_by_one_are_packed_again() {
        let mut window = Window::default();
        for byte in 0..=255 {
            window.push(&Bytes::from(vec![byte]));
            assert_eq!(window.slice(u64::from(byte), 1_000).unwrap(), [byte][..]);
        }
        assert!(window.cost() > 256 * CHUNK_COST);
        window.compact();
        assert!(window.cost() < 256 + 12 * CHUNK_COST);
        assert_eq!(window.since(0).concat(), (0..=255).collect::<Vec<u8>>());
    }
}
