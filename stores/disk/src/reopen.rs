//! The files of the log, as a start finds them.

use std::{
    io,
    path::Path,
    sync::{Arc, atomic::AtomicU64},
};

use larder_store::{Error, ErrorKind, Result};

use crate::{
    footer::Footer,
    medium::{File, Medium},
    scan,
    segment::{self, FooterPlace, Parts, Queue, SEGMENT_HEADER_LEN, Segment, Segments},
    segment_header::{self, Found},
    small_file::is_temporary,
    trailer::Trailer,
};

/// A segment that was found.
pub(crate) struct Reopened {
    pub(crate) segment: Arc<Segment>,
    /// That of its file, where it has a footer.
    pub(crate) trailer: Option<Trailer>,
    pub(crate) max_sequence: u64,
}

/// What a segment's file holds, before it has a slot.
struct Contents {
    queue: Queue,
    trailer: Option<Trailer>,
    allocated: u64,
    end: u64,
    min_sequence: u64,
    max_sequence: u64,
    footer: FooterPlace,
}

/// Opens the segments of these numbers, the oldest first. What is no segment of this store, or is empty, is removed.
///
/// One that cannot be read ends the start: what it voids would be found again without it.
pub(crate) fn segments(
    medium: &Medium,
    ids: &[u64],
    store_id: &[u8; 16],
    detached: &Arc<AtomicU64>,
) -> Result<(Segments, Vec<Reopened>)> {
    let segments = Segments::default();
    let mut found = Vec::new();
    for &id in ids {
        let Some(file) = open(medium, id)? else {
            continue;
        };
        let contents = contents(&file, store_id, id);
        let contents = contents.map_err(|error| unavailable("cannot read a segment", error))?;
        let Some(contents) = contents else {
            discard(medium, &segment::path(id), "is empty, or not of this store");
            continue;
        };
        let segment = segments.add(|slot| {
            Segment::new(Parts {
                id,
                slot,
                queue: contents.queue,
                seed: segment_header::seed(store_id, id),
                file,
                allocated: medium.block().round_up(contents.allocated),
                flushed: contents.end,
                end: contents.end,
                min_sequence: contents.min_sequence,
                footer: contents.footer,
                detached: Arc::clone(detached),
            })
        });
        let Some(segment) = segment else {
            discard(medium, &segment::path(id), "is one too many");
            continue;
        };
        if contents.trailer.is_none() {
            segment.mark_dirty();
        }
        found.push(Reopened {
            segment,
            trailer: contents.trailer,
            max_sequence: contents.max_sequence,
        });
    }
    Ok((segments, found))
}

/// Removes a file that is of no use.
pub(crate) fn discard(medium: &Medium, path: &Path, why: &str) {
    let file = path.display();
    tracing::debug!(%file, "removing what {why}");
    if let Err(error) = medium.remove(path) {
        tracing::warn!(%error, %file, "cannot remove what {why}");
    }
}

/// The numbers of the segments' files, in order.
pub(crate) fn ids(medium: &Medium) -> Result<Vec<u64>> {
    let folder = Path::new("seg");
    let names = medium.list(folder);
    let names = names.map_err(|error| unavailable("cannot list the segments", error))?;
    let mut ids = Vec::with_capacity(names.len());
    for name in names {
        let path = folder.join(&name);
        match segment::id(&path) {
            Some(id) => ids.push(id),
            None if is_temporary(&path) => discard(medium, &path, "was not finished"),
            None => tracing::warn!(file = %path.display(), "there is something foreign"),
        }
    }
    ids.sort_unstable();
    Ok(ids)
}

/// Opens a segment's file; `None` where there is none.
fn open(medium: &Medium, id: u64) -> Result<Option<File>> {
    let path = segment::path(id);
    match medium.open(&path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
            tracing::warn!(file = %path.display(), "there is something foreign");
            Ok(None)
        }
        Err(error) => Err(unavailable("cannot open a segment", error)),
    }
}

/// What a file holds; `None` where that is nothing, or not this store's.
fn contents(file: &File, store_id: &[u8; 16], id: u64) -> io::Result<Option<Contents>> {
    let len = file.len()?;
    let mut header = [0; SEGMENT_HEADER_LEN];
    if len < header.len() as u64 {
        return Ok(None);
    }
    file.read_exact_at(&mut header, 0)?;
    let header = segment_header::parse(&header, store_id, id);
    if header == Found::Blank {
        return Ok(None);
    }
    let seed = segment_header::seed(store_id, id);
    if let Some(trailer) = Trailer::read(file, len, seed)? {
        // It says all that a damaged header would.
        return Ok(Some(Contents {
            queue: trailer.queue,
            trailer: Some(trailer),
            allocated: len,
            end: trailer.end,
            min_sequence: trailer.min_sequence,
            max_sequence: trailer.max_sequence,
            footer: FooterPlace::File,
        }));
    }
    match header {
        Found::Ours(queue) => unsealed(file, queue, seed, len),
        Found::Blank | Found::Other => Ok(None),
    }
}

/// What a file without a footer holds: it loses what was allocated and not used.
fn unsealed(file: &File, queue: Queue, seed: u32, len: u64) -> io::Result<Option<Contents>> {
    let scan::Scan { footer, end } = scan::records(file, seed, len)?;
    if footer.entries.is_empty() {
        return Ok(None);
    }
    let allocated = match file.set_len(end) {
        Ok(()) => end,
        Err(error) => {
            tracing::warn!(%error, "cannot shorten a segment");
            len
        }
    };
    Ok(Some(Contents {
        queue,
        trailer: None,
        allocated,
        end,
        min_sequence: footer.min_sequence(),
        max_sequence: footer.max_sequence(),
        footer: FooterPlace::Memory(Arc::new(footer)),
    }))
}

impl Reopened {
    /// The list of its records, perhaps without keys. One that is damaged is made anew, and is then
    /// in memory.
    pub(crate) fn footer(&mut self) -> io::Result<Arc<Footer>> {
        let segment = &self.segment;
        let Some(trailer) = &self.trailer else {
            return crate::footer::of(segment);
        };
        let footer = crate::footer::read_at(&segment.file, trailer, segment.seed, false)?;
        if let Some(footer) = footer {
            return Ok(Arc::new(footer));
        }
        tracing::warn!(segment = segment.id, "the list of a segment is damaged");
        let found = scan::records(&segment.file, segment.seed, trailer.end)?;
        let footer = Arc::new(found.footer);
        segment.set_footer(FooterPlace::Memory(Arc::clone(&footer)));
        self.trailer = None;
        Ok(footer)
    }
}

pub(crate) fn unavailable(message: &'static str, error: io::Error) -> Error {
    Error::with_source(ErrorKind::Unavailable, message, error)
}
