//! Keys of the objects.

/// A key, written in place, so that making one costs the measured loops next to nothing.
#[derive(Clone, Debug)]
pub struct KeyBuffer(Vec<u8>);

impl KeyBuffer {
    const PREFIX: &[u8] = b"object/";
    const DIGITS: usize = 10;

    /// The length of every key.
    pub const LEN: usize = Self::PREFIX.len() + Self::DIGITS;

    /// The buffer for the keys of a task.
    pub fn new() -> Self {
        let mut text = Self::PREFIX.to_vec();
        text.resize(Self::PREFIX.len() + Self::DIGITS, b'0');
        Self(text)
    }

    /// The key of an object.
    ///
    /// # Panics
    ///
    /// Never: digits are text.
    pub fn key(&mut self, mut number: u64) -> &str {
        #[allow(clippy::cast_possible_truncation)] // A digit.
        for digit in self.0[Self::PREFIX.len()..].iter_mut().rev() {
            *digit = b"0123456789"[(number % 10) as usize];
            number /= 10;
        }
        str::from_utf8(&self.0).expect("digits are text")
    }
}

impl Default for KeyBuffer {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_apart() {
        let mut buffer = KeyBuffer::new();
        assert_eq!(buffer.key(1_234), "object/0000001234");
        assert_eq!(buffer.key(5), "object/0000000005");
        assert_eq!(KeyBuffer::LEN, buffer.key(0).len());
    }
}
