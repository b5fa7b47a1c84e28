//! The form of a record in a segment: pure bytes, no files.
//!
//! A record is a header of [`HEADER_LEN`] bytes, the key, the metadata, what its kind adds, the
//! value, and zeros up to a multiple of [`UNIT`]. `FORMAT.md` has the table.

use bytes::Bytes;
use larder_store::{Draft, Header as UserHeader, Key, Metadata, Version};

use crate::varint;

/// What a record starts with.
pub(crate) const HEADER_LEN: usize = 40;
/// Records begin and end at multiples of this many bytes.
pub(crate) const UNIT: usize = 16;
/// A value longer than this has a checksum for each piece of this length, so that a part can be
/// read and verified alone.
pub(crate) const BLOCK: usize = 64 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The value is in the record.
    Object = 1,
    /// The value is a file of its own; the record names it.
    Blob = 2,
    /// The key's older records are void.
    Tombstone = 3,
}

/// The file of a large value: what a record of kind [`Kind::Blob`] adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlobName {
    pub(crate) id: u64,
    pub(crate) len: u64,
}

/// The fixed part of a record, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    /// Whether an older record of the same hash may still be on disk.
    pub(crate) shadow: bool,
    pub(crate) key_len: u16,
    pub(crate) meta_len: u32,
    /// The length of the value in this record; of a blob, zero.
    pub(crate) len: u32,
    pub(crate) sequence: u64,
    pub(crate) hash: u64,
    /// The CRC-32C of the whole value, wherever it is.
    pub(crate) checksum: u32,
    /// The CRC-32C of key, metadata and what the kind adds.
    pub(crate) head_crc: u32,
}

impl Header {
    /// Reads a header; `None` unless it was written for a segment of this seed.
    pub(crate) fn parse(bytes: &[u8], seed: u32) -> Option<Self> {
        let bytes: &[u8; HEADER_LEN] = bytes.first_chunk()?;
        if crc32c::crc32c_append(seed, &bytes[4..]) != u32_at(bytes, 0) {
            return None;
        }
        let kind = match bytes[4] {
            1 => Kind::Object,
            2 => Kind::Blob,
            3 => Kind::Tombstone,
            _ => return None,
        };
        let header = Self {
            kind,
            shadow: bytes[5] & 1 != 0,
            key_len: u16::from_le_bytes([bytes[6], bytes[7]]),
            meta_len: u32_at(bytes, 8),
            len: u32_at(bytes, 12),
            sequence: u64_at(bytes, 16),
            hash: u64_at(bytes, 24),
            checksum: u32_at(bytes, 32),
            head_crc: u32_at(bytes, 36),
        };
        // Nothing that was written has such lengths; what follows may rely on it.
        let sane = usize::from(header.key_len) <= Key::LEN_MAX
            && header.meta_len <= META_LEN_MAX
            && header.len <= VALUE_LEN_MAX;
        sane.then_some(header)
    }

    fn write(&self, seed: u32) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[4] = self.kind as u8;
        bytes[5] = u8::from(self.shadow);
        bytes[6..8].copy_from_slice(&self.key_len.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.meta_len.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.len.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.hash.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.checksum.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.head_crc.to_le_bytes());
        let crc = crc32c::crc32c_append(seed, &bytes[4..]);
        bytes[0..4].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The bytes that the kind adds after the metadata.
    fn extra_len(&self) -> usize {
        match self.kind {
            Kind::Object => table_len(self.len as usize),
            Kind::Blob => 16,
            Kind::Tombstone => 8,
        }
    }

    /// Where the value begins.
    pub(crate) fn head_len(&self) -> usize {
        HEADER_LEN + usize::from(self.key_len) + self.meta_len as usize + self.extra_len()
    }

    /// The bytes of the whole record, with its padding.
    pub(crate) fn size(&self) -> usize {
        padded(self.head_len() + self.len as usize)
    }
}

/// The longest value of a record: with everything else it must stay below 2^17 units.
pub(crate) const VALUE_LEN_MAX: u32 = 1 << 20;
/// The longest metadata of a record, the version included.
pub(crate) const META_LEN_MAX: u32 = 128 << 10;

/// Room for the metadata of most objects. Encoding reserves for the longest that it may come to,
/// which is several times what it mostly comes to.
const META_ROOM: usize = 192;

/// The first part of a record, up to the value, checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head<'a> {
    pub(crate) header: Header,
    key: &'a [u8],
    meta: &'a [u8],
    extra: &'a [u8],
}

impl<'a> Head<'a> {
    /// Reads what stands before the value; `None` where it is short or altered.
    pub(crate) fn parse(bytes: &'a [u8], seed: u32) -> Option<Self> {
        let header = Header::parse(bytes, seed)?;
        let rest = bytes.get(HEADER_LEN..header.head_len())?;
        if crc32c::crc32c(rest) != header.head_crc {
            return None;
        }
        let (key, rest) = rest.split_at(header.key_len.into());
        let (meta, extra) = rest.split_at(header.meta_len as usize);
        Some(Self {
            header,
            key,
            meta,
            extra,
        })
    }

    pub(crate) fn key(&self) -> &'a [u8] {
        self.key
    }

    /// The metadata; `None` where it makes no sense though its checksum is right.
    pub(crate) fn metadata(&self) -> Option<Metadata> {
        let mut rest = self.meta;
        let version = varint::read(&mut rest)?;
        let header = UserHeader::decode(rest).ok()?;
        let len = match self.header.kind {
            Kind::Blob => self.blob()?.len,
            _ => u64::from(self.header.len),
        };
        let checksum = Some(self.header.checksum);
        Some(Draft::from(header).commit(len, Version(version), checksum))
    }

    pub(crate) fn blob(&self) -> Option<BlobName> {
        (self.header.kind == Kind::Blob).then(|| BlobName {
            id: u64_at(self.extra, 0),
            len: u64_at(self.extra, 8),
        })
    }

    /// The segment whose end makes this tombstone needless, zero for "all that are older".
    pub(crate) fn victim(&self) -> Option<u64> {
        (self.header.kind == Kind::Tombstone).then(|| u64_at(self.extra, 0))
    }

    /// The checksums of the value's pieces.
    pub(crate) fn table(&self) -> Vec<u32> {
        if self.header.kind != Kind::Object {
            return Vec::new();
        }
        if self.extra.is_empty() {
            return vec![self.header.checksum];
        }
        self.extra.chunks_exact(4).map(|at| u32_at(at, 0)).collect()
    }

    /// Whether this is the whole value as it was written.
    pub(crate) fn verifies(&self, value: &[u8]) -> bool {
        value.len() == self.header.len as usize && crc32c::crc32c(value) == self.header.checksum
    }
}

/// A record on its way into a segment: all but its sequence number and its place.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    header: Header,
    /// Key, metadata and what the kind adds.
    head: Vec<u8>,
    value: Bytes,
}

impl Record {
    /// A record of an object whose value goes with it.
    pub(crate) fn object(hash: u64, key: Key<'_>, metadata: &Metadata, value: Bytes) -> Self {
        let mut table = Vec::new();
        if value.len() > BLOCK {
            for block in value.chunks(BLOCK) {
                table.extend_from_slice(&crc32c::crc32c(block).to_le_bytes());
            }
        }
        Self::new(
            Kind::Object,
            hash,
            key.as_str(),
            Some(metadata),
            &table,
            value,
        )
    }

    /// A record of an object whose value is in a file of its own.
    pub(crate) fn blob(hash: u64, key: Key<'_>, metadata: &Metadata, blob: BlobName) -> Self {
        let extra = [blob.id.to_le_bytes(), blob.len.to_le_bytes()].concat();
        let empty = Bytes::new();
        Self::new(
            Kind::Blob,
            hash,
            key.as_str(),
            Some(metadata),
            &extra,
            empty,
        )
    }

    /// A record that voids older ones; `victim` is the only segment that has any, or zero.
    pub(crate) fn tombstone(hash: u64, victim: u64) -> Self {
        let extra = victim.to_le_bytes();
        Self::new(Kind::Tombstone, hash, "", None, &extra, Bytes::new())
    }

    /// A record that was read back, to be written again elsewhere. `bytes` is all of it.
    pub(crate) fn again(bytes: &Bytes, seed: u32) -> Option<Self> {
        let head = Head::parse(bytes, seed)?;
        let header = head.header;
        let start = header.head_len();
        let value = bytes.get(start..start + header.len as usize)?;
        if !head.verifies_or_elsewhere(value) {
            return None;
        }
        Some(Self {
            header,
            head: bytes[HEADER_LEN..start].to_vec(),
            value: bytes.slice_ref(value),
        })
    }

    #[allow(clippy::cast_possible_truncation)] // All lengths are checked when a writer opens.
    fn new(
        kind: Kind,
        hash: u64,
        key: &str,
        metadata: Option<&Metadata>,
        extra: &[u8],
        value: Bytes,
    ) -> Self {
        let mut head = Vec::with_capacity(key.len() + META_ROOM + extra.len());
        head.extend_from_slice(key.as_bytes());
        if let Some(metadata) = metadata {
            varint::write(metadata.version().0, &mut head);
            metadata.header().encode(&mut head);
        }
        let meta_len = (head.len() - key.len()) as u32;
        head.extend_from_slice(extra);
        let header = Header {
            kind,
            shadow: false,
            key_len: key.len() as u16,
            meta_len,
            len: value.len() as u32,
            sequence: 0,
            hash,
            checksum: metadata.and_then(Metadata::checksum).unwrap_or_default(),
            head_crc: crc32c::crc32c(&head),
        };
        Self {
            header,
            head,
            value,
        }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.header.hash
    }

    pub(crate) fn kind(&self) -> Kind {
        self.header.kind
    }

    pub(crate) fn key(&self) -> &[u8] {
        &self.head[..self.header.key_len.into()]
    }

    /// The bytes that it takes in a segment.
    pub(crate) fn size(&self) -> usize {
        self.header.size()
    }

    /// Appends it, under this sequence number and for a segment of this seed.
    pub(crate) fn write(&self, sequence: u64, shadow: bool, seed: u32, into: &mut Vec<u8>) {
        let header = Header {
            shadow,
            sequence,
            ..self.header
        };
        let end = into.len() + self.size();
        into.extend_from_slice(&header.write(seed));
        into.extend_from_slice(&self.head);
        into.extend_from_slice(&self.value);
        into.resize(end, 0);
    }
}

impl Head<'_> {
    /// As [`verifies`](Self::verifies); of a blob's record the value is not here.
    fn verifies_or_elsewhere(&self, value: &[u8]) -> bool {
        self.header.kind != Kind::Object || self.verifies(value)
    }
}

/// The bytes of a value's table of checksums; a short value needs none beside its own.
fn table_len(len: usize) -> usize {
    if len > BLOCK {
        len.div_ceil(BLOCK) * 4
    } else {
        0
    }
}

pub(crate) const fn padded(len: usize) -> usize {
    len.next_multiple_of(UNIT)
}

/// The four bytes at a place that the caller has checked to be there.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut value = [0; 4];
    value.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(value)
}

/// The eight bytes at a place that the caller has checked to be there.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut value = [0; 8];
    value.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(value)
}
