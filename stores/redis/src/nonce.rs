//! Numbers that nobody else draws.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicU64, Ordering},
};

use siphasher::sip128::SipHasher13;

/// A number of 128 bits that stands for one version, one fence or one lease.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Nonce([u8; 16]);

impl Nonce {
    /// The number of bytes.
    pub(crate) const LEN: usize = 16;
    /// Stands for none.
    pub(crate) const ZERO: Self = Self([0; 16]);

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The first half of it.
    pub(crate) fn short(self) -> u64 {
        let half = self.0.first_chunk();
        u64::from_le_bytes(*half.expect("it has twice as many bytes"))
    }
}

impl From<[u8; 16]> for Nonce {
    fn from(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Draws nonces: a count, hashed under a key of 128 random bits.
pub(crate) struct Nonces {
    key: [u64; 2],
    count: AtomicU64,
}

impl Nonces {
    /// Nonces that follow from the seed, or random ones.
    pub(crate) fn new(seed: Option<u64>) -> Self {
        // Its keys are random; those of a second are the next in line, not random ones.
        let random = RandomState::new();
        let key = match seed {
            Some(seed) => [seed, 0x6c61_7264_6572],
            None => [random.hash_one(1_u8), random.hash_one(2_u8)],
        };
        Self {
            key,
            count: AtomicU64::new(0),
        }
    }

    /// The next one.
    pub(crate) fn draw(&self) -> Nonce {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let hash = SipHasher13::new_with_keys(self.key[0], self.key[1]).hash(&count.to_le_bytes());
        Nonce(hash.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_are_the_same() {
        let (seeded, other) = (Nonces::new(Some(1)), Nonces::new(Some(1)));
        let (random, another) = (Nonces::new(None), Nonces::new(None));
        let mut seen = std::collections::HashSet::new();
        for _ in 0..1000 {
            let nonce = seeded.draw();
            assert_eq!(nonce, other.draw(), "a seed repeats");
            assert!(
                seen.insert(nonce) && seen.insert(random.draw()) && seen.insert(another.draw())
            );
        }
    }

    #[test]
    fn it_is_written_in_the_order_of_its_bytes() {
        let mut bytes = [0; 16];
        (bytes[0], bytes[15]) = (1, 0xf);
        assert_eq!(Nonce(bytes).to_string(), "0100000000000000000000000000000f");
        assert_eq!(Nonce(bytes).short(), 1);
    }
}
