//! What a sealed segment holds, listed at its end, so that neither a start nor a listing of keys
//! walks its records.
//!
//! In the file it begins where the records end: [`ENTRY_LEN`] bytes for each record in the order of
//! their places, the keys in the same order, each after its length in two bytes, and a [`Trailer`].
//! An entry is the hash (8), the sequence number (8) and, from the lowest bit of the last 8 bytes,
//! the offset in units (26 bits), the size in units (17), the kind (2), whether it shadows (1).

use std::{io, sync::Arc};

use crate::{
    index::SEGMENT_MAX,
    medium::File,
    record::{HEADER_LEN, Kind, Record, UNIT, u64_at},
    scan,
    segment::{FooterPlace, Queue, SEGMENT_HEADER_LEN, Segment},
    trailer::{TRAILER_LEN, Trailer},
};

/// The bytes of an entry in the file.
pub(crate) const ENTRY_LEN: usize = 24;
const OFFSET_BITS: u32 = 26;
const SIZE_BITS: u32 = 17;
const KIND_AT: u32 = OFFSET_BITS + SIZE_BITS;
const SHADOW_AT: u32 = KIND_AT + 2;

/// The list of a segment's records, in the order of their places.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Footer {
    pub(crate) entries: Vec<FooterEntry>,
    /// The keys of those that have one, each after its length in two bytes.
    pub(crate) keys: Vec<u8>,
}

/// One record of a [`Footer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FooterEntry {
    pub(crate) hash: u64,
    pub(crate) sequence: u64,
    /// In units.
    pub(crate) offset: u32,
    /// In units.
    pub(crate) size: u32,
    pub(crate) kind: Kind,
    pub(crate) shadow: bool,
}

impl Footer {
    /// Adds a record. Those without a key, tombstones, have an empty one.
    pub(crate) fn add(&mut self, entry: FooterEntry, record: &Record) {
        self.push(entry, record.key());
    }

    /// Adds a record of this key.
    pub(crate) fn push(&mut self, entry: FooterEntry, key: &[u8]) {
        self.entries.push(entry);
        #[allow(clippy::cast_possible_truncation)] // A key has at most 4,096 bytes.
        self.keys
            .extend_from_slice(&(key.len() as u16).to_le_bytes());
        self.keys.extend_from_slice(key);
    }

    /// Takes the last record out, whose key has this length.
    pub(crate) fn pop(&mut self, key_len: usize) {
        if self.entries.pop().is_some() {
            let keys_len = self.keys.len().saturating_sub(key_len + 2);
            self.keys.truncate(keys_len);
        }
    }

    /// The smallest sequence number of a record that is no tombstone.
    pub(crate) fn min_sequence(&self) -> u64 {
        let objects = (self.entries.iter()).filter(|entry| entry.kind != Kind::Tombstone);
        let numbers = objects.map(|entry| entry.sequence);
        numbers.min().unwrap_or(u64::MAX)
    }

    /// The greatest sequence number; zero where there is none.
    pub(crate) fn max_sequence(&self) -> u64 {
        let numbers = self.entries.iter().map(|entry| entry.sequence);
        numbers.max().unwrap_or(0)
    }

    /// The bytes of it in a file.
    pub(crate) fn len(&self) -> usize {
        self.entries.len() * ENTRY_LEN + self.keys.len() + TRAILER_LEN
    }

    /// What follows the records of a segment of this queue and seed, whose records end there.
    pub(crate) fn encode(&self, queue: Queue, end: u64, seed: u32) -> Vec<u8> {
        let entries_len = self.entries.len() * ENTRY_LEN;
        let mut bytes = Vec::with_capacity(entries_len + self.keys.len() + TRAILER_LEN);
        for entry in &self.entries {
            bytes.extend_from_slice(&entry.encode());
        }
        #[allow(clippy::cast_possible_truncation)] // At most 2^20: see `Log`.
        let trailer = Trailer {
            entries: self.entries.len() as u32,
            queue,
            keys_len: self.keys.len() as u64,
            end,
            min_sequence: self.min_sequence(),
            max_sequence: self.max_sequence(),
            entries_crc: crc32c::crc32c_append(seed, &bytes),
            keys_crc: crc32c::crc32c_append(seed, &self.keys),
        };
        bytes.extend_from_slice(&self.keys);
        bytes.extend_from_slice(&trailer.encode(seed));
        bytes
    }
}

impl FooterEntry {
    fn encode(&self) -> [u8; ENTRY_LEN] {
        let rest = u64::from(self.offset)
            | u64::from(self.size) << OFFSET_BITS
            | (self.kind as u64) << KIND_AT
            | u64::from(self.shadow) << SHADOW_AT;
        let mut bytes = [0; ENTRY_LEN];
        bytes[..8].copy_from_slice(&self.hash.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[16..].copy_from_slice(&rest.to_le_bytes());
        bytes
    }

    /// Reads an entry of a segment whose records end there; `None` where it does not lie within.
    #[allow(clippy::cast_possible_truncation)] // Masked.
    fn decode(bytes: &[u8], end: u64) -> Option<Self> {
        let rest = u64_at(bytes, 16);
        let kind = match rest >> KIND_AT & 3 {
            1 => Kind::Object,
            2 => Kind::Blob,
            3 => Kind::Tombstone,
            _ => return None,
        };
        let entry = Self {
            hash: u64_at(bytes, 0),
            sequence: u64_at(bytes, 8),
            offset: rest as u32 & ((1 << OFFSET_BITS) - 1),
            size: (rest >> OFFSET_BITS) as u32 & ((1 << SIZE_BITS) - 1),
            kind,
            shadow: rest >> SHADOW_AT & 1 != 0,
        };
        entry.lies_before(end).then_some(entry)
    }

    /// Whether it may be a record of a segment whose records end there.
    fn lies_before(&self, end: u64) -> bool {
        let unit = UNIT as u64;
        let start = u64::from(self.offset) * unit;
        let len = u64::from(self.size) * unit;
        start >= SEGMENT_HEADER_LEN as u64 && len >= HEADER_LEN as u64 && start + len <= end
    }
}

const _: () = assert!(SEGMENT_MAX == (1 << OFFSET_BITS) * UNIT as u64);

/// Writes a sealed segment's footer and lets the file end with it; gives the file's length. The
/// caller syncs before and after.
pub(crate) fn seal(segment: &Segment, footer: &Footer) -> io::Result<u64> {
    let end = segment.end();
    let bytes = footer.encode(segment.queue, end, segment.seed);
    segment.file.write_all_at(&bytes, end)?;
    let len = end + bytes.len() as u64;
    segment.file.set_len(len)?;
    Ok(len)
}

/// Reads the footer of a file, if it has one that was written for a segment of this seed and that
/// is unaltered. The keys stay empty unless they are asked for.
pub(crate) fn read(file: &File, seed: u32, with_keys: bool) -> io::Result<Option<Footer>> {
    match Trailer::read(file, file.len()?, seed)? {
        Some(trailer) => read_at(file, &trailer, seed, with_keys),
        None => Ok(None),
    }
}

/// As [`read`], where the trailer is known.
pub(crate) fn read_at(
    file: &File,
    trailer: &Trailer,
    seed: u32,
    with_keys: bool,
) -> io::Result<Option<Footer>> {
    // The trailer was checked against the length of the file, so these are no more than that.
    let Some(bytes) = part(file, trailer.end, trailer.entries_len())? else {
        return Ok(None);
    };
    if crc32c::crc32c_append(seed, &bytes) != trailer.entries_crc {
        return Ok(None);
    }
    let entries = bytes.chunks_exact(ENTRY_LEN);
    let entries = entries.map(|bytes| FooterEntry::decode(bytes, trailer.end));
    let Some(entries) = entries.collect() else {
        return Ok(None);
    };
    let mut footer = Footer {
        entries,
        keys: Vec::new(),
    };
    if with_keys {
        let at = trailer.end + trailer.entries_len();
        match part(file, at, trailer.keys_len)? {
            Some(keys) if crc32c::crc32c_append(seed, &keys) == trailer.keys_crc => {
                footer.keys = keys;
            }
            _ => return Ok(None),
        }
    }
    Ok(Some(footer))
}

fn part(file: &File, at: u64, len: u64) -> io::Result<Option<Vec<u8>>> {
    let Ok(len) = usize::try_from(len) else {
        return Ok(None);
    };
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, at)?;
    Ok(Some(bytes))
}

/// The list of a segment that is sealed, with its keys, wherever it is; where it is damaged, what a
/// walk over the records finds. That of a segment which is appended to is with the log.
pub(crate) fn of(segment: &Segment) -> io::Result<Arc<Footer>> {
    match segment.footer() {
        FooterPlace::Active => Ok(Arc::default()),
        FooterPlace::Memory(footer) => Ok(footer),
        FooterPlace::File => {
            let footer = read(&segment.file, segment.seed, true)?;
            let Some(footer) = footer else {
                tracing::warn!(segment = segment.id, "the list of a segment is damaged");
                let found = scan::records(&segment.file, segment.seed, segment.end())?;
                return Ok(Arc::new(found.footer));
            };
            Ok(Arc::new(footer))
        }
    }
}

/// The records with their keys; a tombstone's is empty.
#[cfg_attr(not(test), allow(dead_code))] // For those who look into a store's files.
pub(crate) fn keys(footer: &Footer) -> impl Iterator<Item = (FooterEntry, &str)> {
    let mut rest = &footer.keys[..];
    footer.entries.iter().map_while(move |entry| {
        let (len, after) = rest.split_first_chunk::<2>()?;
        let (key, after) = after.split_at_checked(u16::from_le_bytes(*len).into())?;
        rest = after;
        // It was a string when it was written, and its checksum is right.
        Some((*entry, std::str::from_utf8(key).unwrap_or_default()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::medium::Medium;

    const END: u64 = 4096;

    fn entry(number: u32, kind: Kind) -> FooterEntry {
        FooterEntry {
            hash: u64::MAX - u64::from(number),
            sequence: 1000 + u64::from(number),
            offset: 4 + number * 5,
            size: 5,
            kind,
            shadow: number % 2 == 1,
        }
    }

    fn footer() -> Footer {
        let mut footer = Footer::default();
        footer.push(entry(0, Kind::Tombstone), b"");
        footer.push(entry(1, Kind::Object), "ключ".as_bytes());
        footer.push(entry(2, Kind::Blob), b"film");
        footer
    }

    fn written(bytes: &[u8]) -> (tempfile::TempDir, File) {
        let folder = tempfile::tempdir().unwrap();
        let medium = Medium::new(folder.path());
        let file = medium.create("file".as_ref()).unwrap();
        file.write_all_at(bytes, 0).unwrap();
        (folder, file)
    }

    fn file_of(footer: &Footer, seed: u32) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(END).unwrap()];
        bytes.extend(footer.encode(Queue::Main, END, seed));
        bytes
    }

    #[test]
    fn a_footer_is_read_as_it_was_written() {
        for footer in [footer(), Footer::default()] {
            let (_folder, file) = written(&file_of(&footer, 5));
            assert_eq!(read(&file, 5, true).unwrap(), Some(footer.clone()));
            let bare = read(&file, 5, false).unwrap().unwrap();
            assert_eq!((bare.entries, bare.keys.len()), (footer.entries, 0));
            assert_eq!(read(&file, 6, true).unwrap(), None);
        }
    }

    #[test]
    fn a_trailer_tells_in_short() {
        let (_folder, file) = written(&file_of(&footer(), 5));
        let trailer = Trailer::read(&file, file.len().unwrap(), 5).unwrap();
        let trailer = trailer.unwrap();
        assert_eq!((trailer.queue, trailer.end), (Queue::Main, END));
        assert_eq!((trailer.min_sequence, trailer.max_sequence), (1001, 1002));
        assert_eq!(Footer::default().min_sequence(), u64::MAX);
    }

    #[test]
    fn keys_go_with_their_records() {
        let footer = footer();
        let found: Vec<_> = keys(&footer)
            .map(|(entry, key)| (entry.kind, key))
            .collect();
        let all = [
            (Kind::Tombstone, ""),
            (Kind::Object, "ключ"),
            (Kind::Blob, "film"),
        ];
        assert_eq!(found, all);
        let mut short = footer.clone();
        for _ in 0..footer.keys.len() {
            short.keys.pop();
            assert!(keys(&short).count() < 3);
        }
    }

    #[test]
    fn pop_takes_back_what_push_added() {
        let mut footer = footer();
        let before = footer.clone();
        footer.push(entry(3, Kind::Object), b"more");
        footer.pop(4);
        assert_eq!(footer, before);
    }

    #[test]
    fn s57_a_damaged_footer_is_refused() {
        let bytes = file_of(&footer(), 5);
        let start = usize::try_from(END).unwrap();
        let (_folder, file) = written(&bytes);
        for bit in start * 8..bytes.len() * 8 {
            let flipped = bytes[bit / 8] ^ 1 << (bit % 8);
            file.write_all_at(&[flipped], bit as u64 / 8).unwrap();
            assert_eq!(read(&file, 5, true).unwrap(), None, "bit {bit}");
            file.write_all_at(&bytes[bit / 8..=bit / 8], bit as u64 / 8)
                .unwrap();
        }
        assert!(read(&file, 5, true).unwrap().is_some());
        for len in (0..bytes.len()).rev() {
            file.set_len(len as u64).unwrap();
            assert_eq!(read(&file, 5, true).unwrap(), None, "{len} bytes");
        }
    }

    #[test]
    fn an_entry_outside_of_the_records_spoils_the_footer() {
        let outside = [
            FooterEntry {
                offset: 3,
                ..entry(0, Kind::Object)
            },
            FooterEntry {
                offset: 252,
                ..entry(0, Kind::Object)
            },
            FooterEntry {
                size: 2,
                ..entry(0, Kind::Object)
            },
        ];
        for entry in outside {
            let mut footer = Footer::default();
            footer.push(entry, b"");
            let (_folder, file) = written(&file_of(&footer, 5));
            assert_eq!(read(&file, 5, false).unwrap(), None, "{entry:?}");
        }
    }

    #[test]
    fn a_trailer_that_claims_more_than_the_file_is_refused() {
        let trailer = Trailer {
            entries: u32::MAX,
            queue: Queue::Main,
            keys_len: u64::MAX,
            end: END,
            min_sequence: 0,
            max_sequence: 0,
            entries_crc: 0,
            keys_crc: 0,
        };
        let (_folder, file) = written(&trailer.encode(5));
        assert_eq!(read(&file, 5, true).unwrap(), None);
    }
}
