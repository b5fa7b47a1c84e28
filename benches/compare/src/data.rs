//! Values that tell which key they belong to, and the check of what comes back.

use bytes::Bytes;
use rand::{Rng, SeedableRng, rngs::SmallRng};

/// Bytes of a source that all values are slices of: no value costs a copy to make.
const POOL_LEN: usize = 32 << 20;
/// Where a value may begin: a prime, so that each number below it has a place of its own, and low
/// enough for a value of 1 MiB.
const PLACES: u64 = 32_505_829;
/// How many bytes the check compares at each end.
const EDGE: usize = 8;
/// Large streams are written by pieces of this length, and follow one another within a block.
pub const PIECE: usize = 256 << 10;
/// Within a block of a large stream its bytes are one slice of the source.
const BLOCK: usize = 1 << 20;

/// Random bytes; the value of a key is the slice that begins at a place of its own.
#[derive(Clone, Debug)]
pub struct Values(Bytes);

impl Values {
    /// The same bytes in every process.
    pub fn new() -> Self {
        let mut pool = vec![0; POOL_LEN];
        SmallRng::seed_from_u64(7).fill_bytes(&mut pool);
        Self(pool.into())
    }

    /// The value of a key; no two keys below 32 million share one.
    pub fn value(&self, number: u64, len: usize) -> Bytes {
        let start = start(number);
        self.0.slice(start..start + len)
    }

    /// What to hold against the bytes that a peer gives for a key. It only borrows, so that tasks
    /// do not contend for a count of references.
    pub fn probe(&self, number: u64, len: usize) -> Probe<'_> {
        let start = start(number);
        Probe {
            expected: &self.0[start..start + len],
            seen: 0,
            right: true,
        }
    }

    /// The pieces of a large stream, in order; `step` divides 1 MiB.
    pub fn pieces(&self, len: u64, step: usize) -> impl Iterator<Item = Bytes> {
        (0..len).step_by(step).map(move |at| {
            let left = usize::try_from(len - at).unwrap_or(usize::MAX);
            let start = place(at);
            self.0.slice(start..start + left.min(step))
        })
    }
}

/// Where in the source a byte of a large stream stands.
fn place(at: u64) -> usize {
    let block = BLOCK as u64;
    start(at / block * 4_099) + within_block(at)
}

fn within_block(at: u64) -> usize {
    usize::try_from(at % BLOCK as u64).expect("less than a block")
}

fn start(number: u64) -> usize {
    usize::try_from(number.wrapping_mul(61) % PLACES).expect("within the pool")
}

impl Default for Values {
    fn default() -> Self {
        Self::new()
    }
}

/// Checks a value cheaply as its chunks come: its length, its first and its last bytes.
#[derive(Debug)]
pub struct Probe<'a> {
    expected: &'a [u8],
    seen: usize,
    right: bool,
}

impl Probe<'_> {
    /// Takes the next chunk.
    pub fn feed(&mut self, chunk: &[u8]) {
        let Some(expected) = self.expected.get(self.seen..self.seen + chunk.len()) else {
            self.right = false;
            return;
        };
        let edge = chunk.len().min(EDGE);
        let tail = chunk.len() - edge;
        self.right &= chunk[..edge] == expected[..edge] && chunk[tail..] == expected[tail..];
        self.seen += chunk.len();
    }

    /// Bytes that are to come, for who must be told.
    pub fn expected_len(&self) -> u64 {
        self.expected.len() as u64
    }

    /// Whether all of it came and what was looked at is right.
    pub fn is_right(&self) -> bool {
        self.right && self.seen == self.expected.len()
    }
}

/// Checks a large stream the same way: the first bytes of every chunk, and the length.
#[derive(Debug)]
pub struct StreamProbe {
    values: Values,
    len: u64,
    seen: u64,
    right: bool,
}

impl StreamProbe {
    /// A stream of [`Values::pieces`].
    pub fn new(values: &Values, len: u64) -> Self {
        Self {
            values: values.clone(),
            len,
            seen: 0,
            right: true,
        }
    }

    /// Takes the next chunk.
    pub fn feed(&mut self, chunk: &[u8]) {
        let start = place(self.seen);
        let to_block_end = BLOCK - within_block(self.seen);
        let edge = chunk.len().min(EDGE).min(to_block_end);
        self.right &= chunk[..edge] == self.values.0[start..start + edge];
        self.seen += chunk.len() as u64;
    }

    /// Whether all of it came and what was looked at is right.
    pub fn is_right(&self) -> bool {
        self.right && self.seen == self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_sees_what_is_wrong() {
        let values = Values::new();
        let good = values.value(5, 100);
        let fed = |chunks: &[&[u8]]| {
            let mut probe = values.probe(5, 100);
            for chunk in chunks {
                probe.feed(chunk);
            }
            probe.is_right()
        };
        assert!(fed(&[&good]));
        assert!(fed(&[&good[..30], &good[30..]]));
        assert!(!fed(&[&good[..99]]));
        assert!(!fed(&[&good, &good[..1]]));
        assert!(!fed(&[&values.value(6, 100)]));
    }

    #[test]
    fn a_stream_probe_sees_what_is_wrong() {
        let values = Values::new();
        let len = 5 * PIECE as u64 + 10;
        let pieces: Vec<Bytes> = values.pieces(len, PIECE).collect();
        let fed = |pieces: &[Bytes]| {
            let mut probe = StreamProbe::new(&values, len);
            for piece in pieces {
                probe.feed(piece);
            }
            probe.is_right()
        };
        assert_eq!(pieces[5].len(), 10);
        assert!(fed(&pieces));
        assert!(fed(&values.pieces(len, 1 << 20).collect::<Vec<_>>()));
        assert!(!fed(&pieces[..5]));
        let mut swapped = pieces;
        swapped.swap(2, 3);
        assert!(!fed(&swapped));
    }
}
