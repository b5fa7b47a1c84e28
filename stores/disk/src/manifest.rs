//! What a store leaves behind when it is not closed in order: the file `OPEN`.
//!
//! It names the start of the machine, where the system tells, and the segments that there must be.
//! The log's tombstones and newer records void older ones: if the file of a segment goes, what it
//! voided would be found again. So a start must notice. When a store is closed in order the snapshot
//! knows all that was voided, and the file goes.
//!
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 8 | [`MAGIC`] |
//! | 8 | 4 | the version of the format |
//! | 12 | 4 | the length of the boot id, zero where the system tells none |
//! | 16 | 44 | the boot id, and zeros |
//! | 60 | 4 | CRC-32C of the 60 bytes before |
//!
//! From there on it is a row of slots of 32 bytes. They are filled one after the other; the others
//! are zero. Each notes something about a segment:
//!
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 8 | the number of the segment; zero in a slot of kind 4 |
//! | 8 | 8 | a bound: all records that it is about have smaller sequence numbers |
//! | 16 | 8 | where the segment's records end |
//! | 24 | 1 | kind: 1 begun, 2 ended, 3 removed, 4 floor |
//! | 25 | 3 | zeros |
//! | 28 | 4 | CRC-32C of the 28 bytes before, which begins with the store's |
//!
//! Bound and end are zero where the kind has none: only kind 2 has both, and kind 4 a bound.
//!
//! The *floor* is the bound of a segment that was lost. Records below it count only as far as a
//! snapshot with a boundary at or above it accounts for them.
//
// Invariants:
// 1. A segment is noted as begun and as ended after its bytes were written, and before anything in
//    them is acknowledged; as removed before its file goes. So a kill in between leaves a file too
//    many, which does no harm, and never one too few.
// 2. The manifest is rewritten beside itself when its slots are used up, and when a note failed.
// 3. The lock is a leaf, and only the store's own threads take it. It is held across a write of 32
//    bytes, or a rewrite.
// 4. Nothing waits for a sync of a note. After a loss of power only the floor counts.

use std::{
    collections::BTreeMap,
    io,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{
    medium::{File, Medium},
    record::{u32_at, u64_at},
    recover::NUMBER_MAX,
};

/// The file within the store's folder.
pub(crate) const NAME: &str = "OPEN";
const TEMPORARY: &str = "OPEN.tmp";
const MAGIC: [u8; 8] = *b"larderOP";
const FORMAT: u32 = 1;
const HEADER_LEN: usize = 64;
const BOOT_MAX: usize = 44;
const SLOT_LEN: usize = 32;
const CRC_AT: usize = SLOT_LEN - 4;
/// Slots that are free after a rewrite.
const FREE_SLOTS: usize = 512;
/// A longer file is not read: the slots of 65,536 segments, and those that were free.
const SLOTS_MAX: usize = 1 << 18;

/// What a store notes about itself while it is open.
pub(crate) struct Manifest {
    seed: u32,
    /// The start of the machine.
    boot: Vec<u8>,
    state: Mutex<State>,
}

struct State {
    /// `None` until it was written, and after a note failed.
    file: Option<File>,
    used: usize,
    slots: usize,
    known: Known,
}

/// What a store that was not closed in order has left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Left {
    /// The start of the machine that it was open in; empty where the system did not tell.
    pub(crate) boot: Vec<u8>,
    pub(crate) known: Known,
}

/// What is known of the segments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// The segments that were begun and not removed, each with its end if it has come to it.
    pub(crate) segments: BTreeMap<u64, Option<End>>,
    /// See the module's page; zero where nothing was lost.
    pub(crate) floor: u64,
}

/// The end of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    /// All its records have smaller sequence numbers.
    pub(crate) bound: u64,
    /// Where its records end in the file.
    pub(crate) at: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Note {
    Begun(u64),
    Ended(u64, End),
    Removed(u64),
    Floor(u64),
}

impl Manifest {
    /// A manifest that says this; it is not yet on the disk.
    pub(crate) fn new(store_id: &[u8; 16], left: Left) -> Self {
        let Left { boot, known } = left;
        let state = State {
            file: None,
            used: 0,
            slots: 0,
            known,
        };
        Self {
            seed: seed(store_id),
            boot,
            state: Mutex::new(state),
        }
    }

    /// Puts it in the place of the file that is there.
    pub(crate) fn save(&self, medium: &Medium) -> io::Result<()> {
        self.rewrite(medium, &mut self.lock())
    }

    /// Notes that a segment has records.
    pub(crate) fn begun(&self, medium: &Medium, id: u64) -> io::Result<()> {
        self.note(medium, Note::Begun(id))
    }

    /// Notes that a segment gets no more records.
    pub(crate) fn ended(&self, medium: &Medium, id: u64, end: End) -> io::Result<()> {
        self.note(medium, Note::Ended(id, end))
    }

    /// Notes that a segment is about to be removed.
    pub(crate) fn removed(&self, medium: &Medium, id: u64) -> io::Result<()> {
        self.note(medium, Note::Removed(id))
    }

    fn note(&self, medium: &Medium, note: Note) -> io::Result<()> {
        let mut state = self.lock();
        state.known.apply(note);
        let slot = state.used;
        if let Some(file) = state.file.as_ref().filter(|_| slot < state.slots) {
            let at = (HEADER_LEN + slot * SLOT_LEN) as u64;
            if file.write_all_at(&note.encode(self.seed), at).is_ok() {
                state.used += 1;
                return Ok(());
            }
        }
        self.rewrite(medium, &mut state)
    }

    fn rewrite(&self, medium: &Medium, state: &mut State) -> io::Result<()> {
        state.file = None;
        let notes = state.known.notes();
        let mut bytes = self.header().to_vec();
        for note in &notes {
            bytes.extend_from_slice(&note.encode(self.seed));
        }
        medium.remove(TEMPORARY.as_ref())?;
        let file = medium.create(TEMPORARY.as_ref())?;
        // So that a full disk does not keep segments from going. One that is full now has to do
        // without.
        let room = bytes.len() + FREE_SLOTS * SLOT_LEN;
        let has_room = file.allocate(room as u64).is_ok();
        file.write_all_at(&bytes, 0)?;
        file.sync_data()?;
        medium.rename(TEMPORARY.as_ref(), NAME.as_ref())?;
        medium.sync_dir("".as_ref())?;
        state.file = Some(file);
        state.used = notes.len();
        state.slots = notes.len() + if has_room { FREE_SLOTS } else { 0 };
        Ok(())
    }

    fn header(&self) -> [u8; HEADER_LEN] {
        let boot = &self.boot[..self.boot.len().min(BOOT_MAX)];
        let mut bytes = [0; HEADER_LEN];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        #[allow(clippy::cast_possible_truncation)] // At most `BOOT_MAX`.
        bytes[12..16].copy_from_slice(&(boot.len() as u32).to_le_bytes());
        bytes[16..16 + boot.len()].copy_from_slice(boot);
        let crc = crc32c::crc32c(&bytes[..HEADER_LEN - 4]);
        bytes[HEADER_LEN - 4..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn apply(&mut self, note: Note) {
        match note {
            Note::Begun(id) => _ = self.segments.entry(id).or_default(),
            Note::Ended(id, end) => _ = self.segments.insert(id, Some(end)),
            Note::Removed(id) => _ = self.segments.remove(&id),
            Note::Floor(bound) => self.floor = self.floor.max(bound),
        }
    }

    /// All numbers that it names.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = u64> {
        let segments = self.segments.iter();
        let numbers = segments.flat_map(|(id, end)| [*id, end.map_or(0, |end| end.bound)]);
        numbers.chain([self.floor])
    }

    /// A slot that is damaged may be about any segment, so then nothing counts.
    fn parse(slots: &[u8], seed: u32) -> Option<Self> {
        let mut known = Self::default();
        for slot in slots.chunks(SLOT_LEN) {
            if slot.iter().any(|byte| *byte != 0) {
                known.apply(Note::parse(slot.first_chunk()?, seed)?);
            }
        }
        Some(known)
    }

    fn notes(&self) -> Vec<Note> {
        let floor = (self.floor > 0).then_some(Note::Floor(self.floor));
        let segments = self.segments.iter().map(|(id, end)| match end {
            Some(end) => Note::Ended(*id, *end),
            None => Note::Begun(*id),
        });
        floor.into_iter().chain(segments).collect()
    }
}

/// Reads what a store has left; `None` where it was closed in order. Of a file that is damaged the
/// boot id is none that a machine has.
pub(crate) fn read(medium: &Medium, store_id: &[u8; 16]) -> io::Result<Option<Left>> {
    let file = match medium.open(NAME.as_ref()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let len = usize::try_from(file.len()?).unwrap_or(usize::MAX);
    let mut bytes = vec![0; len.min(HEADER_LEN + SLOTS_MAX * SLOT_LEN)];
    file.read_exact_at(&mut bytes, 0)?;
    let Some((header, slots)) = bytes.split_first_chunk::<HEADER_LEN>() else {
        // The version before had the boot id alone.
        let boot = bytes;
        let known = Known::default();
        return Ok(Some(Left { boot, known }));
    };
    let boot_len = u32_at(header, 12) as usize;
    let is_whole = header[..8] == MAGIC
        && u32_at(header, 8) == FORMAT
        && boot_len <= BOOT_MAX
        && u32_at(header, HEADER_LEN - 4) == crc32c::crc32c(&header[..HEADER_LEN - 4]);
    if !is_whole {
        return Ok(Some(Left {
            boot: b"damaged".to_vec(),
            known: Known::default(),
        }));
    }
    Ok(Some(Left {
        boot: header[16..16 + boot_len].to_vec(),
        known: Known::parse(slots, seed(store_id)).unwrap_or_default(),
    }))
}

impl Note {
    fn encode(self, seed: u32) -> [u8; SLOT_LEN] {
        let (kind, id, end) = match self {
            Self::Begun(id) => (1, id, End { bound: 0, at: 0 }),
            Self::Ended(id, end) => (2, id, end),
            Self::Removed(id) => (3, id, End { bound: 0, at: 0 }),
            Self::Floor(bound) => (4, 0, End { bound, at: 0 }),
        };
        let mut bytes = [0; SLOT_LEN];
        bytes[..8].copy_from_slice(&id.to_le_bytes());
        bytes[8..16].copy_from_slice(&end.bound.to_le_bytes());
        bytes[16..24].copy_from_slice(&end.at.to_le_bytes());
        bytes[24] = kind;
        let crc = crc32c::crc32c_append(seed, &bytes[..CRC_AT]);
        bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn parse(bytes: &[u8; SLOT_LEN], seed: u32) -> Option<Self> {
        let (id, bound, at) = (u64_at(bytes, 0), u64_at(bytes, 8), u64_at(bytes, 16));
        let crc = crc32c::crc32c_append(seed, &bytes[..CRC_AT]);
        if u32_at(bytes, CRC_AT) != crc || id >= NUMBER_MAX || bound >= NUMBER_MAX {
            return None;
        }
        match bytes[24] {
            1 => Some(Self::Begun(id)),
            2 => Some(Self::Ended(id, End { bound, at })),
            3 => Some(Self::Removed(id)),
            4 => Some(Self::Floor(bound)),
            _ => None,
        }
    }
}

/// What the checksums of a store's manifest begin with.
fn seed(store_id: &[u8; 16]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&MAGIC), store_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: [u8; 16] = [7; 16];

    fn end(bound: u64) -> End {
        End {
            bound,
            at: bound * 10,
        }
    }

    fn left(segments: &[(u64, Option<End>)], floor: u64) -> Left {
        let segments = segments.iter().copied().collect();
        let known = Known { segments, floor };
        let boot = b"boot".to_vec();
        Left { boot, known }
    }

    #[test]
    fn s99_a_manifest_is_read_as_it_was_noted() {
        let folder = tempfile::tempdir().unwrap();
        let medium = Medium::new(folder.path());
        assert_eq!(read(&medium, &ID).unwrap(), None);
        let manifest = Manifest::new(&ID, left(&[(1, Some(end(9)))], 5));
        manifest.save(&medium).unwrap();
        manifest.begun(&medium, 20).unwrap();
        manifest.begun(&medium, 21).unwrap();
        manifest.ended(&medium, 20, end(40)).unwrap();
        manifest.removed(&medium, 1).unwrap();
        let expected = left(&[(20, Some(end(40))), (21, None)], 5);
        assert_eq!(read(&medium, &ID).unwrap(), Some(expected));
        // Of another store only the boot counts.
        assert_eq!(read(&medium, &[8; 16]).unwrap(), Some(left(&[], 0)));
    }

    #[test]
    fn s99_a_manifest_is_rewritten_when_its_slots_are_used_up() {
        let folder = tempfile::tempdir().unwrap();
        let medium = Medium::new(folder.path());
        let manifest = Manifest::new(&ID, left(&[], 0));
        for id in 1..2_000 {
            manifest.begun(&medium, id).unwrap();
            if id > 3 {
                manifest.removed(&medium, id - 3).unwrap();
            }
        }
        let expected = left(&[(1_997, None), (1_998, None), (1_999, None)], 0);
        assert_eq!(read(&medium, &ID).unwrap(), Some(expected));
        let len = std::fs::metadata(folder.path().join(NAME)).unwrap().len();
        assert!(len < 2 * (FREE_SLOTS * SLOT_LEN) as u64, "{len}");
    }

    #[test]
    fn s57_a_damaged_manifest_is_not_trusted() {
        let folder = tempfile::tempdir().unwrap();
        let medium = Medium::new(folder.path());
        let whole = left(&[(3, None), (4, Some(end(9)))], 2);
        Manifest::new(&ID, whole.clone()).save(&medium).unwrap();
        let path = folder.path().join(NAME);
        let right = std::fs::read(&path).unwrap();
        let len = HEADER_LEN + 3 * SLOT_LEN;
        for bit in 0..len * 8 {
            let mut bytes = right.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, bytes).unwrap();
            let left = read(&medium, &ID).unwrap().unwrap();
            assert_eq!(left.known, Known::default(), "bit {bit}");
            assert_eq!(left.boot == whole.boot, bit / 8 >= HEADER_LEN);
        }
        for len in (0..len).filter(|len| len % SLOT_LEN != 0) {
            std::fs::write(&path, &right[..len]).unwrap();
            let left = read(&medium, &ID).unwrap().unwrap();
            assert_eq!(left.known, Known::default(), "{len} bytes");
        }
    }

    #[test]
    fn the_version_before_left_the_boot_id_alone() {
        let folder = tempfile::tempdir().unwrap();
        let medium = Medium::new(folder.path());
        for boot in ["", "0d3e1ad4-f4ae-4b6d-b8f6-1f6a24b0d3d8"] {
            std::fs::write(folder.path().join(NAME), boot).unwrap();
            let left = read(&medium, &ID).unwrap().unwrap();
            assert_eq!(left.boot, boot.as_bytes());
            assert_eq!(left.known, Known::default());
        }
    }
}
