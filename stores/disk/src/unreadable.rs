//! Whether a read that failed speaks of one object, or of the disk.
//
// An object that can never be read is dropped, so that the next read is a miss and the next write
// replaces it. While the disk fails as a whole nothing is dropped: it is all there again when the
// disk is. The system gives both the same error. So what was asked of the object is asked of another
// one that lies in the same way, past the page cache: if that can be read, the disk works.

use std::{io, sync::Arc};

use crate::{
    blobs::{self, Blob},
    blocks::Trouble,
    medium::File,
    segment::{SEGMENT_HEADER_LEN, Segment},
    volume::{Located, Volume},
};

/// How many other blobs are asked.
const OTHERS_MAX: usize = 3;
/// How many bytes of another file are read, at most.
const PROBE_LEN: usize = 4096;

/// `EMFILE` and `ENFILE`: this process, or the system, has too many files open.
const TOO_MANY_FILES: [i32; 2] = [24, 23];

/// Where an object lies that could not be read.
pub(crate) enum Home {
    /// In the log.
    Segment(Arc<Segment>),
    /// In the file of this blob.
    Blob(u64),
}

impl Home {
    pub(crate) fn of(found: &Located) -> Self {
        match &found.blob {
            Some(blob) => Self::Blob(blob.id),
            None => Self::Segment(Arc::clone(&found.segment)),
        }
    }
}

/// Reads where that may wait. What fails is tried once more, and then assessed.
pub(crate) fn read<T>(
    volume: &Volume,
    home: impl FnOnce() -> Home,
    mut attempt: impl FnMut() -> Result<T, Trouble>,
) -> Result<T, Trouble> {
    match attempt() {
        Err(Trouble::Io(_)) => {}
        read => return read,
    }
    match attempt() {
        Err(Trouble::Io(error)) if is_of_object(volume, &home(), &error) => {
            Err(Trouble::Unreadable(error))
        }
        read => read,
    }
}

/// Whether a failure is that of the object which lies there, and not that of the disk.
fn is_of_object(volume: &Volume, home: &Home, error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, NotADirectory, OutOfMemory, PermissionDenied};
    let too_many = (error.raw_os_error()).is_some_and(|code| TOO_MANY_FILES.contains(&code));
    match (error.kind(), home) {
        _ if too_many => false,
        (Interrupted | OutOfMemory, _) => false,
        // Somebody has put something else in the place of its file, or of the file's folder.
        (NotADirectory, Home::Blob(_)) => true,
        (_, Home::Blob(id)) if volume.medium.is_no_file(&blobs::path(*id)) => true,
        (PermissionDenied, Home::Blob(_)) => volume.folder.is_there(&volume.medium),
        (_, Home::Blob(id)) => can_read_another(volume, *id),
        (_, Home::Segment(segment)) => can_read(&segment.file, SEGMENT_HEADER_LEN),
    }
}

fn can_read_another(volume: &Volume, id: u64) -> bool {
    let others = volume
        .room
        .victims(|victims| victims.some_blobs(id, OTHERS_MAX));
    if others.is_empty() {
        return volume.folder.is_there(&volume.medium);
    }
    let is_read = |other: &Arc<Blob>| {
        let len = usize::try_from(other.len).map_or(PROBE_LEN, |len| len.min(PROBE_LEN));
        let file = volume.medium.open(&other.path());
        file.is_ok_and(|file| can_read(&file, len))
    };
    others.iter().any(is_read)
}

/// Whether the first bytes of a file can be read from the disk.
fn can_read(file: &File, len: usize) -> bool {
    if file.len().is_err() {
        return false;
    }
    file.drop_cached(0, PROBE_LEN as u64);
    file.read_exact_at(&mut [0; PROBE_LEN][..len], 0).is_ok()
}
