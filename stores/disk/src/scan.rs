//! Walking the records of a segment that has no footer, by their headers.

use std::io;

use crate::{
    footer::{Footer, FooterEntry},
    index::SEGMENT_MAX,
    medium::File,
    record::{HEADER_LEN, Head, Header, Kind, UNIT},
    segment::SEGMENT_HEADER_LEN,
};

/// Read at once; more than the longest part of a record that stands before its value.
const WINDOW: usize = 1 << 20;

/// The records that were found, from the first to the last that verifies.
pub(crate) struct Scan {
    pub(crate) footer: Footer,
    /// Where the last one ends.
    pub(crate) end: u64,
}

/// Walks from the segment's header to the first record that does not verify, or that would end
/// behind `limit`, which is at most the file's length.
///
/// Values are passed over, but for the last: a process that was killed while it wrote leaves one
/// record that is cut off.
pub(crate) fn records(file: &File, seed: u32, limit: u64) -> io::Result<Scan> {
    let limit = limit.min(SEGMENT_MAX);
    let mut window = Window {
        file,
        limit,
        start: 0,
        bytes: Vec::new(),
    };
    let mut footer = Footer::default();
    let mut end = SEGMENT_HEADER_LEN as u64;
    let mut last = None;
    while let Some(header) = next(&mut window, seed, end, &mut footer)? {
        last = Some((header, end));
        end += header.size() as u64;
    }
    if let Some((header, at)) = last
        && !is_whole(file, &header, at)?
    {
        footer.pop(header.key_len.into());
        end = at;
    }
    Ok(Scan { footer, end })
}

/// Adds the record at this place, if there is one.
fn next(
    window: &mut Window<'_>,
    seed: u32,
    at: u64,
    footer: &mut Footer,
) -> io::Result<Option<Header>> {
    let Some(bytes) = window.at(at, HEADER_LEN)? else {
        return Ok(None);
    };
    let Some(header) = Header::parse(bytes, seed) else {
        return Ok(None);
    };
    if at + header.size() as u64 > window.limit {
        return Ok(None);
    }
    let head = window.at(at, header.head_len())?;
    let Some(head) = head.and_then(|bytes| Head::parse(bytes, seed)) else {
        return Ok(None);
    };
    #[allow(clippy::cast_possible_truncation)] // Within a segment's longest length.
    let entry = FooterEntry {
        hash: header.hash,
        sequence: header.sequence,
        offset: (at / UNIT as u64) as u32,
        size: (header.size() / UNIT) as u32,
        kind: header.kind,
        shadow: header.shadow,
    };
    footer.push(entry, head.key());
    Ok(Some(header))
}

/// Whether the value of the record at this place is all there.
fn is_whole(file: &File, header: &Header, at: u64) -> io::Result<bool> {
    if header.kind != Kind::Object {
        return Ok(true);
    }
    let mut value = vec![0; header.len as usize];
    file.read_exact_at(&mut value, at + header.head_len() as u64)?;
    Ok(crc32c::crc32c(&value) == header.checksum)
}

/// A part of the file in memory.
struct Window<'a> {
    file: &'a File,
    limit: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl Window<'_> {
    /// These bytes of the file; `None` where they end behind the limit.
    fn at(&mut self, offset: u64, len: usize) -> io::Result<Option<&[u8]>> {
        if offset + len as u64 > self.limit {
            return Ok(None);
        }
        if !self.holds(offset, len) {
            let rest = usize::try_from(self.limit - offset).unwrap_or(usize::MAX);
            self.bytes.resize(WINDOW.max(len).min(rest), 0);
            self.start = offset;
            self.file.read_exact_at(&mut self.bytes, offset)?;
        }
        #[allow(clippy::cast_possible_truncation)] // It lies within the window.
        let from = (offset - self.start) as usize;
        Ok(Some(&self.bytes[from..from + len]))
    }

    fn holds(&self, offset: u64, len: usize) -> bool {
        let end = self.start + self.bytes.len() as u64;
        offset >= self.start && offset + len as u64 <= end
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        by_hand::{ALLOCATED, ByHand, Item, blob, object, tombstone},
        record::BlobName,
        segment::Queue,
    };

    fn items() -> Vec<Item> {
        let name = BlobName {
            id: 3,
            len: 1 << 40,
        };
        vec![
            object(1, 10, "one", Bytes::from_static(b"value")),
            tombstone(2, 4),
            blob(3, 12, "three", name).shadow(),
            object(4, 13, "large", Bytes::from(vec![9; WINDOW])),
            object(5, 14, &"k".repeat(4096), Bytes::new()),
            object(6, 15, "last", Bytes::from_static(b"last value")),
        ]
    }

    fn size(items: &[Item]) -> u64 {
        items.iter().map(|item| item.size() as u64).sum()
    }

    #[test]
    fn a_scan_finds_what_a_footer_lists() {
        let store = ByHand::new();
        for (id, repeated) in [(1, 1), (2, 3)] {
            let items: Vec<_> = std::iter::repeat_n(items(), repeated).flatten().collect();
            let (segment, footer) = store.segment(id, Queue::Main, &items);
            let found = records(&segment.file, segment.seed, ALLOCATED).unwrap();
            assert_eq!(found.footer, footer);
            assert_eq!(found.end, segment.end());
            let none = records(&segment.file, segment.seed ^ 1, ALLOCATED).unwrap();
            assert_eq!((none.footer.entries.len(), none.end), (0, 64));
        }
    }

    #[test]
    fn many_small_records_cross_the_window() {
        let store = ByHand::new();
        let items: Vec<_> = (0..40_000)
            .map(|number| object(number, number, "key", Bytes::from_static(b"value")))
            .collect();
        let (segment, footer) = store.segment(1, Queue::Main, &items);
        assert!(segment.end() > 2 * WINDOW as u64);
        let found = records(&segment.file, segment.seed, ALLOCATED).unwrap();
        assert_eq!(found.footer, footer);
    }

    #[test]
    fn s55_a_record_that_was_cut_off_is_not_there() {
        let store = ByHand::new();
        let items = items();
        let (segment, footer) = store.segment(1, Queue::Main, &items);
        let before = segment.end() - size(&items[5..]);
        let value = before + 40 + 4;
        let table = [
            // Its header, its key, its metadata, its value.
            (before + 39, 5),
            (value, 5),
            (segment.end() - 14, 5),
        ];
        for (cut, left) in table {
            let zeros = vec![0; usize::try_from(segment.end() - cut).unwrap()];
            let mut kept = zeros.clone();
            segment.file.read_exact_at(&mut kept, cut).unwrap();
            segment.file.write_all_at(&zeros, cut).unwrap();
            let found = records(&segment.file, segment.seed, ALLOCATED).unwrap();
            assert_eq!(found.footer.entries[..], footer.entries[..left], "{cut}");
            assert_eq!(found.end, before);
            let found = records(&segment.file, segment.seed, cut).unwrap();
            assert_eq!(found.end, before);
            segment.file.write_all_at(&kept, cut).unwrap();
        }
        let whole = records(&segment.file, segment.seed, segment.end()).unwrap();
        assert_eq!(whole.footer, footer);
    }

    #[test]
    fn s57_a_flipped_bit_ends_the_walk_at_its_record() {
        let store = ByHand::new();
        let items: Vec<_> = items().into_iter().take(3).collect();
        let (segment, footer) = store.segment(1, Queue::Main, &items);
        let file = &segment.file;
        let first = 64 + items[0].size() as u64;
        for bit in 64 * 8..first * 8 {
            let mut byte = [0];
            file.read_exact_at(&mut byte, bit / 8).unwrap();
            file.write_all_at(&[byte[0] ^ 1 << (bit % 8)], bit / 8)
                .unwrap();
            let found = records(file, segment.seed, segment.end()).unwrap();
            // A flip in a value is found by who reads it.
            let count = found.footer.entries.len();
            assert!(count == 0 || found.footer == footer, "bit {bit}");
            file.write_all_at(&byte, bit / 8).unwrap();
        }
    }
}
