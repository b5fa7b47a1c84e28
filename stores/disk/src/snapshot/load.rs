//! Reading a snapshot: trusted whole, or not at all.

use std::{
    collections::{HashMap, HashSet},
    io,
    sync::Arc,
};

use super::{
    CRC_LEN, Covered, FORMAT, HEADER_LEN, MAGIC, SEGMENT_LEN, first_crc, header_len, path, seed,
};
use crate::{
    blobs::Blob,
    index::{Index, Place, STRIPES, Word},
    medium::{File, Medium},
    record::{u32_at, u64_at},
    recover::BLOB_LEN_MAX,
    segment::{SEGMENT_HEADER_LEN, Segments},
    space::BlockSize,
};

const SLOTS: usize = 1 << 16;

/// A snapshot whose header was read.
pub(crate) struct Snapshot {
    file: File,
    block: BlockSize,
    pub(crate) number: u64,
    pub(crate) boundary: u64,
    pub(crate) next_sequence: u64,
    entries: u64,
    len: u64,
    last_crc: u32,
    first_crc: u32,
    covered: Vec<Covered>,
}

/// Where the records of a slot of the snapshot are now.
#[derive(Clone, Copy)]
struct Target {
    slot: u16,
    /// The end of those that it knows.
    end: u64,
}

impl Snapshot {
    /// Opens one of the two files; `None` unless it is one of this store, as far as its header
    /// tells.
    pub(crate) fn open(
        medium: &Medium,
        store_id: &[u8; 16],
        number: u64,
    ) -> io::Result<Option<Self>> {
        let file = match medium.open(path(number)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let len = file.len()?;
        let Some(bytes) = read_header(&file, len)? else {
            return Ok(None);
        };
        let seed = seed(store_id);
        let (header, crc) = bytes.split_at(bytes.len() - CRC_LEN);
        if crc32c::crc32c_append(seed, header) != u32_at(crc, 0) || u64_at(header, 48) != len {
            return Ok(None);
        }
        let number = u64_at(header, 16);
        let covered = header[HEADER_LEN..].chunks_exact(SEGMENT_LEN).map(covered);
        let Some(covered) = covered.collect() else {
            return Ok(None);
        };
        Ok(Some(Self {
            file,
            block: medium.block(),
            number,
            boundary: u64_at(header, 24),
            next_sequence: u64_at(header, 32),
            entries: u64_at(header, 40),
            len,
            last_crc: u32_at(header, 56),
            first_crc: first_crc(seed, number),
            covered,
        }))
    }

    /// Reads the entries, but for those whose segment or blob is not there; `None` where anything
    /// is altered.
    pub(crate) fn load(
        &self,
        segments: &Segments,
        blobs: &HashSet<u64>,
    ) -> io::Result<Option<Index>> {
        let index = Index::new();
        let targets = self.targets(segments);
        let mut at = header_len(self.covered.len()) as u64;
        let (mut crc, mut entries) = (self.first_crc, 0);
        let mut bytes = Vec::new();
        for stripe in 0..STRIPES {
            if !self.read_shard(&mut at, &mut bytes)? {
                return Ok(None);
            }
            let (body, end) = bytes.split_at(bytes.len() - CRC_LEN);
            crc = crc32c::crc32c_append(crc, body);
            let shard = Shard {
                stripe,
                bytes: body,
                targets: &targets,
                blobs,
                block: self.block,
            };
            if crc != u32_at(end, 0) || !shard.load(&index) {
                return Ok(None);
            }
            entries += u64::from(u32_at(body, 0));
        }
        let is_whole = at == self.len && crc == self.last_crc && entries == self.entries;
        Ok(is_whole.then_some(index))
    }

    /// By the slots of the snapshot.
    fn targets(&self, segments: &Segments) -> Vec<Option<Target>> {
        let segments = segments.all();
        let by_id: HashMap<_, _> = segments.iter().map(|now| (now.id, now)).collect();
        let slots = self.covered.iter().map(|covered| covered.slot);
        let mut targets = vec![None; slots.max().map_or(0, |slot| usize::from(slot) + 1)];
        for covered in &self.covered {
            // Whoever is not covered may have the slot of one that was gone when it came.
            if covered.end > 0
                && let Some(now) = by_id.get(&covered.id)
            {
                targets[usize::from(covered.slot)] = Some(Target {
                    slot: now.slot,
                    end: covered.end.min(now.flushed()),
                });
            }
        }
        targets
    }

    /// Reads the shard at this place and goes on behind it; `false` where it does not fit in.
    fn read_shard(&self, at: &mut u64, bytes: &mut Vec<u8>) -> io::Result<bool> {
        let mut counts = [0; 8];
        if self.len - *at < counts.len() as u64 {
            return Ok(false);
        }
        self.file.read_exact_at(&mut counts, *at)?;
        let count = u64::from(u32_at(&counts, 0)) + u64::from(u32_at(&counts, 4));
        let len = (counts.len() + CRC_LEN) as u64 + count * 16;
        if self.len - *at < len {
            return Ok(false);
        }
        // It is within the file, so it is no more than that.
        let Ok(len) = usize::try_from(len) else {
            return Ok(false);
        };
        bytes.resize(len, 0);
        self.file.read_exact_at(bytes, *at)?;
        *at += len as u64;
        // The file may be changing under our hands.
        Ok(bytes[..8] == counts)
    }
}

/// Reads a header with its segments and its checksum; `None` where it does not fit in.
fn read_header(file: &File, file_len: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = vec![0; HEADER_LEN];
    if file_len < bytes.len() as u64 {
        return Ok(None);
    }
    file.read_exact_at(&mut bytes, 0)?;
    let segments = u32_at(&bytes, 12) as usize;
    let is_sane = bytes[..8] == MAGIC && u32_at(&bytes, 8) == FORMAT && segments <= SLOTS;
    if !is_sane || file_len < header_len(segments) as u64 {
        return Ok(None);
    }
    bytes.resize(header_len(segments), 0);
    file.read_exact_at(&mut bytes[HEADER_LEN..], HEADER_LEN as u64)?;
    Ok(Some(bytes))
}

fn covered(bytes: &[u8]) -> Option<Covered> {
    Some(Covered {
        id: u64_at(bytes, 0),
        end: u64_at(bytes, 8),
        slot: u16::try_from(u64_at(bytes, 16)).ok()?,
    })
}

/// The entries of a stripe.
struct Shard<'a> {
    stripe: usize,
    /// Without the checksum.
    bytes: &'a [u8],
    targets: &'a [Option<Target>],
    blobs: &'a HashSet<u64>,
    block: BlockSize,
}

impl Shard<'_> {
    /// Puts the entries into the index; `false` where they make no sense.
    fn load(&self, index: &Index) -> bool {
        let count = u32_at(self.bytes, 0) as usize;
        let (entries, mut names) = self.bytes[8..].split_at(count * 16);
        let mut is_sane = true;
        let mut unvoided = Vec::new();
        let entries = entries.chunks_exact(16).filter_map(|bytes| {
            let (hash, word) = (u64_at(bytes, 0), Word(u64_at(bytes, 8)));
            is_sane &= Index::stripe_of(hash) == self.stripe;
            let name = word.is_blob().then(|| names.split_off(..16));
            is_sane &= name != Some(None);
            let blob = name.flatten().and_then(|name| self.blob(hash, name));
            let word = self.translate(word)?;
            if word.is_blob() && blob.is_none() {
                // Its record still voids older ones, until its segment goes.
                unvoided.extend(word.is_shadow().then_some(hash));
                return None;
            }
            is_sane.then_some((hash, word, blob))
        });
        index.fill(self.stripe, count, entries);
        for hash in unvoided {
            index.write(hash).set_unvoided();
        }
        is_sane && names.is_empty()
    }

    /// The blob of this name, if its file is there.
    fn blob(&self, hash: u64, name: &[u8]) -> Option<Arc<Blob>> {
        let (id, len) = (u64_at(name, 0), u64_at(name, 8));
        let is_there = self.blobs.contains(&id) && len <= BLOB_LEN_MAX;
        is_there.then(|| Arc::new(Blob::new(id, hash, len, self.block)))
    }

    /// The word of the same record now.
    fn translate(&self, word: Word) -> Option<Word> {
        let place = word.place();
        let target = (*self.targets.get(usize::from(place.slot))?)?;
        let is_within = place.start() >= SEGMENT_HEADER_LEN as u64
            && place.size > 0
            && place.start() + place.len() as u64 <= target.end;
        let slot = target.slot;
        let now = Word::new(Place { slot, ..place }, word.is_blob(), word.is_shadow());
        is_within.then(|| now.with_frequency(word.frequency()))
    }
}
