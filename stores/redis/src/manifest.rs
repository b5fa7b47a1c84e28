//! The form of a manifest: what stands under an object's name.
//!
//! A head of [`HEAD_LEN`] bytes, then the header ([`Header::encode`]), then the body where it is
//! kept inline. The head, numbers little-endian:
//!
//! | Bytes | What |
//! |-------|------|
//! | 0–3   | `LRDR` |
//! | 4     | the version of the format, 1 |
//! | 5     | 0 for an inline body, 1 for one in chunks |
//! | 6–7   | zero |
//! | 8–11  | the length of the header |
//! | 12–15 | the length of a chunk; zero inline |
//! | 16–19 | the number of chunks; zero inline |
//! | 20–27 | the length of the body |
//! | 28–43 | the nonce of this version |
//! | 44–59 | the nonce in the names of the chunks; zero inline |
//! | 60–63 | CRC-32C of the body |
//! | 64–67 | CRC-32C of bytes 0–63 and of the header |
//!
//! The scripts read bytes 16–19 and 44–59, and compare heads as a whole: no two versions have the
//! same.
//!
//! Invariant: each manifest has one form. Whatever `decode` takes, `encode` writes again.

use larder_store::{Draft, Error, Header, METADATA_LEN_MAX, Metadata, Result, Version};

use crate::{
    config::{CHUNK_MAX, CHUNKS_MAX},
    nonce::Nonce,
};

/// The length of the head.
pub(crate) const HEAD_LEN: usize = 68;
const MAGIC: [u8; 4] = *b"LRDR";
const VERSION: u8 = 1;
const INLINE: u8 = 0;
const CHUNKED: u8 = 1;
/// Where the last checksum stands.
const SUM_AT: usize = HEAD_LEN - 4;

/// What stands under an object's name, but for an inline body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) header: Header,
    /// The length of the body.
    pub(crate) len: u64,
    /// The checksum of the body.
    pub(crate) checksum: u32,
    /// Of this version.
    pub(crate) nonce: Nonce,
    pub(crate) placement: Placement,
}

/// Where the body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    /// After the header.
    Inline,
    /// In chunks of their own.
    Chunks(Chunks),
}

/// The chunks of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunks {
    /// In their names.
    pub(crate) nonce: Nonce,
    /// The bytes of the body that each has, except the last, which may have fewer.
    pub(crate) size: u32,
}

/// The raw head of a manifest, which tells versions apart.
pub(crate) type Head = [u8; HEAD_LEN];

impl Manifest {
    /// The head and the header; an inline body belongs behind them.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let (kind, chunk_size, chunks, chunk_nonce) = match self.placement {
            Placement::Inline => (INLINE, 0, 0, Nonce::ZERO),
            Placement::Chunks(chunks) => {
                (CHUNKED, chunks.size, chunks.count(self.len), chunks.nonce)
            }
        };
        let mut bytes = Vec::with_capacity(HEAD_LEN + self.header.size());
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&[VERSION, kind, 0, 0]);
        bytes.extend_from_slice(&[0; 4]); // the length of the header, below
        bytes.extend_from_slice(&chunk_size.to_le_bytes());
        bytes.extend_from_slice(&chunks.to_le_bytes());
        bytes.extend_from_slice(&self.len.to_le_bytes());
        bytes.extend_from_slice(self.nonce.as_bytes());
        bytes.extend_from_slice(chunk_nonce.as_bytes());
        bytes.extend_from_slice(&self.checksum.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]); // the checksum, below
        self.header.encode(&mut bytes);
        #[allow(clippy::cast_possible_truncation)] // It is at most 64 KiB.
        let header_len = (bytes.len() - HEAD_LEN) as u32;
        bytes[8..12].copy_from_slice(&header_len.to_le_bytes());
        let sum = sum(&bytes);
        bytes[SUM_AT..HEAD_LEN].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Reads a manifest from the start of a value, and tells where the header ends; an inline body
    /// is the rest. Anything malformed is `Corrupt`.
    pub(crate) fn decode(value: &[u8]) -> Result<(Self, usize)> {
        let end = manifest_len(value)?;
        let (value, rest) = value.split_at_checked(end).ok_or_else(malformed)?;
        let (head, header) = value
            .split_first_chunk::<HEAD_LEN>()
            .ok_or_else(malformed)?;
        if u32_at(head, SUM_AT) != sum(value) {
            return Err(malformed());
        }
        let (chunk_size, chunks) = (u32_at(head, 12), u32_at(head, 16));
        let len = u64::from_le_bytes(part(head, 20));
        let chunk_nonce = Nonce::from(part(head, 44));
        let placement = match head[5] {
            INLINE if (chunk_size, chunks, chunk_nonce) == (0, 0, Nonce::ZERO) => Placement::Inline,
            CHUNKED if (1..=CHUNK_MAX).contains(&chunk_size) && rest.is_empty() => {
                let placed = Chunks {
                    nonce: chunk_nonce,
                    size: chunk_size,
                };
                let count = len.div_ceil(chunk_size.into());
                if count != u64::from(chunks) || !(1..=CHUNKS_MAX).contains(&chunks) {
                    return Err(malformed());
                }
                Placement::Chunks(placed)
            }
            _ => return Err(malformed()),
        };
        let manifest = Self {
            header: Header::decode(header)?,
            len,
            checksum: u32_at(head, 60),
            nonce: Nonce::from(part(head, 28)),
            placement,
        };
        Ok((manifest, end))
    }

    /// As [`decode`](Self::decode), and checks the inline body.
    pub(crate) fn decode_with_body(value: &[u8]) -> Result<(Self, usize)> {
        let (manifest, end) = Self::decode(value)?;
        let body = &value[end..];
        if manifest.placement == Placement::Inline
            && (body.len() as u64 != manifest.len || crc32c::crc32c(body) != manifest.checksum)
        {
            return Err(Error::corrupt("an inline body does not match its manifest"));
        }
        Ok((manifest, end))
    }

    /// The manifest that a draft becomes.
    pub(crate) fn into_metadata(self) -> Metadata {
        let version = Version(self.nonce.short());
        Draft::from(self.header).commit(self.len, version, Some(self.checksum))
    }
}

impl Chunks {
    /// How many chunks a body of this length has.
    pub(crate) fn count(self, len: u64) -> u32 {
        // It fits: neither a writer nor `decode` goes beyond `CHUNKS_MAX`.
        u32::try_from(len.div_ceil(self.size.into())).unwrap_or(u32::MAX)
    }
}

/// The length of head and header of the manifest that begins so.
pub(crate) fn manifest_len(value: &[u8]) -> Result<usize> {
    let head: &Head = value.first_chunk().ok_or_else(malformed)?;
    if head[..4] != MAGIC || head[6..8] != [0, 0] {
        return Err(malformed());
    }
    if head[4] != VERSION {
        return Err(Error::corrupt(format!(
            "a manifest has the unknown version {}",
            head[4]
        )));
    }
    let header_len = u32_at(head, 8) as usize;
    if header_len > METADATA_LEN_MAX {
        return Err(malformed());
    }
    Ok(HEAD_LEN + header_len)
}

/// Of the head, the checksum itself left out, and the header.
fn sum(value: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&value[..SUM_AT]), &value[HEAD_LEN..])
}

fn malformed() -> Error {
    Error::corrupt("a manifest is malformed")
}

fn u32_at(head: &Head, at: usize) -> u32 {
    u32::from_le_bytes(part(head, at))
}

fn part<const N: usize>(head: &Head, at: usize) -> [u8; N] {
    let part = head[at..].first_chunk();
    *part.expect("every field lies within the head")
}

/// What holds for whatever stands under a name, for the fuzz target.
///
/// # Panics
///
/// When it does not hold.
pub(crate) fn check_any(value: &[u8]) {
    let read = Manifest::decode(value);
    if let Ok((manifest, end)) = &read {
        assert_eq!(manifest.encode(), value[..*end], "a manifest has one form");
        if let Placement::Chunks(chunks) = manifest.placement {
            let count = chunks.count(manifest.len);
            assert!((1..=CHUNKS_MAX).contains(&count), "{count} chunks");
        }
    }
    if let Ok((manifest, end)) = Manifest::decode_with_body(value) {
        let body = &value[end..];
        let is_inline = manifest.placement == Placement::Inline;
        assert!(read.is_ok(), "what is read with its body is read without");
        assert!(is_inline == (body.len() as u64 == manifest.len) || body.is_empty());
    }
}

#[cfg(test)]
mod tests;
