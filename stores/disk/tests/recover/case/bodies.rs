//! Bodies that tell the key and the version that they were written for.

use bytes::Bytes;

/// The body of a key in this version: the version, then bytes that no other body has there. Keys
/// that begin with `b` have large ones.
pub(crate) fn body(key: &str, version: u64) -> Bytes {
    let seed = u64::from(crc32c::crc32c(key.as_bytes())) << 20 ^ version;
    let len = match key.as_bytes()[0] {
        b'b' if seed.is_multiple_of(2) => 20_000 + seed % 5_000,
        b'b' => 265_000 + seed % 5_000,
        _ if seed.is_multiple_of(3) => 3_000 + seed % 13_000,
        _ => 8 + seed % 600,
    };
    let mut bytes = version.to_le_bytes().to_vec();
    let mut state = seed | 1;
    while (bytes.len() as u64) < len {
        // Xorshift, after Marsaglia.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.into()
}

/// The version of a body; `None` where it is no body of this key.
pub(crate) fn version(key: &str, bytes: &Bytes) -> Option<u64> {
    let version = u64::from_le_bytes(*bytes.first_chunk()?);
    (version < 1_000 && body(key, version) == *bytes).then_some(version)
}
