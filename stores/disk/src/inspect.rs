//! Looking into a store's files without opening it.

use std::{
    collections::HashMap,
    fmt, io,
    path::{Path, PathBuf},
};

use larder_store::{Error, Metadata, Result};

use crate::{
    blob_table,
    blobs::{self, BLOB_BLOCK},
    flusher,
    footer::FooterEntry,
    layout, manifest,
    medium::{File, Medium},
    record::{BlobName, Head, Kind, UNIT},
    reopen, scan, segment,
    segment::{Queue, SEGMENT_HEADER_LEN},
    segment_header::{self, Found},
    snapshot,
    trailer::Trailer,
};

/// What the files of a store hold, every byte checked: see [`inspect`].
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Inspection {
    /// The segments, the oldest first.
    pub segments: Vec<InspectedSegment>,
    /// The objects that a start would find, without order; and those that it would drop since a
    /// segment is lost, which is among the problems.
    pub objects: Vec<InspectedObject>,
    /// The numbers of the snapshots whose headers are whole.
    pub snapshots: Vec<u64>,
    /// Bytes of files that belong to large objects which are there.
    pub blob_bytes: u64,
    /// What is damaged, or left over.
    pub problems: Vec<Problem>,
}

/// One file of the log.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct InspectedSegment {
    /// Its number, and so its file's name.
    pub id: u64,
    /// Whether it is of the main queue, and not on probation.
    pub is_main: bool,
    /// Whether it ends with the list of its records.
    pub is_sealed: bool,
    /// Bytes of the file.
    pub len: u64,
    /// Records, tombstones included.
    pub records: usize,
    /// Records that void older ones.
    pub tombstones: usize,
    /// Records that are an object's newest.
    pub live: usize,
}

/// One object.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct InspectedObject {
    /// Its key.
    pub key: String,
    /// What is known of it.
    pub metadata: Metadata,
    /// The segment that has its record.
    pub segment: u64,
    /// The file of its own, if it has one.
    pub blob: Option<PathBuf>,
}

/// Something that is not as it should be. A store that opens these files drops it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Problem {
    /// Within the store's folder.
    pub path: PathBuf,
    /// What is wrong with it.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.message)
    }
}

/// Reads all files of the store in this folder, checks every checksum, and changes nothing.
///
/// It blocks, and takes as long as reading the files does. All objects are listed in memory.
///
/// Errors: `Invalid` where the folder is no store of a known format, `Unavailable` where a process
/// has it open or it cannot be read. What is damaged is no error: it is in
/// [`Inspection::problems`].
pub fn inspect(path: impl Into<PathBuf>) -> Result<Inspection> {
    let medium = Medium::new(&path.into());
    let (store_id, lock) = layout::look(&medium)?;
    let mut inspector = Inspector {
        medium: &medium,
        store_id,
        found: Inspection::default(),
        newest: HashMap::new(),
    };
    let ids = reopen::ids(&medium)?;
    for id in &ids {
        inspector.segment(*id).map_err(unreadable)?;
    }
    inspector.missing(&ids).map_err(unreadable)?;
    inspector.snapshots().map_err(unreadable)?;
    inspector.objects().map_err(unreadable)?;
    drop(lock);
    Ok(inspector.found)
}

fn unreadable(error: io::Error) -> Error {
    flusher::io("cannot read the store's files", error)
}

struct Inspector<'a> {
    medium: &'a Medium,
    store_id: [u8; 16],
    found: Inspection,
    /// By the hash of the key: where the newest record stands.
    newest: HashMap<u64, Newest>,
}

#[derive(Clone, Copy)]
struct Newest {
    /// In [`Inspection::segments`].
    segment: usize,
    entry: FooterEntry,
}

impl Inspector<'_> {
    fn problem(&mut self, path: &Path, message: impl Into<String>) {
        self.found.problems.push(Problem {
            path: path.to_owned(),
            message: message.into(),
        });
    }

    fn segment(&mut self, id: u64) -> io::Result<()> {
        let path = segment::path(id);
        let file = self.medium.open(&path)?;
        let len = file.len()?;
        let seed = segment_header::seed(&self.store_id, id);
        let mut header = [0; SEGMENT_HEADER_LEN];
        if len >= header.len() as u64 {
            file.read_exact_at(&mut header, 0)?;
        }
        let trailer = Trailer::read(&file, len, seed)?;
        let queue = match segment_header::parse(&header, &self.store_id, id) {
            Found::Ours(queue) => queue,
            // A file that was kept ready.
            Found::Blank if trailer.is_none() => return Ok(()),
            _ => {
                self.problem(&path, "the header is damaged, or another store's");
                return Ok(());
            }
        };
        let limit = trailer.map_or(len, |trailer| trailer.end);
        let scan = scan::records(&file, seed, limit)?;
        if trailer.is_some() && scan.end != limit {
            let (end, records) = (scan.end, scan.footer.entries.len());
            let message =
                format!("after {records} records, at {end}, there is none before {limit}");
            self.problem(&path, message);
        }
        let entries = &scan.footer.entries;
        let tombstones = entries.iter().filter(|entry| entry.kind == Kind::Tombstone);
        let segment = InspectedSegment {
            id,
            is_main: queue == Queue::Main,
            is_sealed: trailer.is_some(),
            len,
            records: entries.len(),
            tombstones: tombstones.count(),
            live: 0,
        };
        let number = self.found.segments.len();
        self.found.segments.push(segment);
        for entry in entries {
            let newest = Newest {
                segment: number,
                entry: *entry,
            };
            let known = self.newest.entry(entry.hash).or_insert(newest);
            if known.entry.sequence < entry.sequence {
                *known = newest;
            }
        }
        Ok(())
    }

    /// Tells of the segments that should be there.
    fn missing(&mut self, ids: &[u64]) -> io::Result<()> {
        let left = manifest::read(self.medium, &self.store_id)?.unwrap_or_default();
        for id in left.known.segments.keys() {
            if ids.binary_search(id).is_err() {
                let message = "the segment is lost: a start drops what it may have voided";
                self.problem(&segment::path(*id), message);
            }
        }
        Ok(())
    }

    fn snapshots(&mut self) -> io::Result<()> {
        for number in 0..2 {
            match snapshot::Snapshot::open(self.medium, &self.store_id, number)? {
                Some(snapshot) => self.found.snapshots.push(snapshot.number),
                None if self.medium.open(snapshot::path(number)).is_ok() => {
                    self.problem(snapshot::path(number), "the snapshot is damaged");
                }
                None => {}
            }
        }
        Ok(())
    }

    /// Reads each newest record whole.
    fn objects(&mut self) -> io::Result<()> {
        let mut newest: Vec<_> = std::mem::take(&mut self.newest).into_values().collect();
        newest.retain(|newest| newest.entry.kind != Kind::Tombstone);
        newest.sort_unstable_by_key(|newest| (newest.segment, newest.entry.offset));
        let mut open: Option<(usize, File)> = None;
        for Newest { segment, entry } in newest {
            let id = self.found.segments[segment].id;
            let file = match open.take() {
                Some((number, file)) if number == segment => file,
                _ => self.medium.open(&segment::path(id))?,
            };
            if let Some(object) = self.object(&file, id, entry)? {
                self.found.objects.push(object);
                self.found.segments[segment].live += 1;
            }
            open = Some((segment, file));
        }
        Ok(())
    }

    fn object(
        &mut self,
        file: &File,
        id: u64,
        entry: FooterEntry,
    ) -> io::Result<Option<InspectedObject>> {
        let at = u64::from(entry.offset) * UNIT as u64;
        let mut bytes = vec![0; entry.size as usize * UNIT];
        file.read_exact_at(&mut bytes, at)?;
        let seed = segment_header::seed(&self.store_id, id);
        let head = Head::parse(&bytes, seed);
        let whole = head.and_then(|head| {
            let start = head.header.head_len();
            let value = bytes.get(start..start + head.header.len as usize)?;
            let sound = head.header.kind != Kind::Object || head.verifies(value);
            let key = std::str::from_utf8(head.key()).ok()?;
            sound.then_some((key, head.metadata()?, head.blob()))
        });
        let Some((key, metadata, blob)) = whole else {
            self.problem(&segment::path(id), format!("the record at {at} is damaged"));
            return Ok(None);
        };
        if let Some(blob) = blob
            && !self.blob(blob)?
        {
            return Ok(None);
        }
        Ok(Some(InspectedObject {
            key: key.to_owned(),
            metadata,
            segment: id,
            blob: blob.map(|blob| blobs::path(blob.id)),
        }))
    }

    /// Checks every block of a large object's file.
    fn blob(&mut self, blob: BlobName) -> io::Result<bool> {
        let path = blobs::path(blob.id);
        let file = match self.medium.open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.problem(&path, "the file is missing");
                return Ok(false);
            }
            opened => opened?,
        };
        let blocks = blob_table::blocks(blob.len);
        if file.len()? != blob.len.saturating_add(blocks * blob_table::ENTRY_LEN) {
            self.problem(&path, "the file has another length");
            return Ok(false);
        }
        #[allow(clippy::cast_possible_truncation)] // 256 KiB.
        let mut bytes = vec![0; BLOB_BLOCK as usize];
        for block in 0..blocks {
            let at = block * BLOB_BLOCK;
            #[allow(clippy::cast_possible_truncation)] // At most 256 KiB.
            let piece = &mut bytes[..(blob.len - at).min(BLOB_BLOCK) as usize];
            file.read_exact_at(piece, at)?;
            let mut sum = [0; 4];
            file.read_exact_at(&mut sum, blob_table::table_offset(blob.len, block))?;
            let expected = blob_table::masked(blob.id, block, crc32c::crc32c(piece));
            if u32::from_le_bytes(sum) != expected {
                self.problem(&path, format!("the block at {at} is damaged"));
                return Ok(false);
            }
        }
        self.found.blob_bytes += blob.len;
        Ok(true)
    }
}
