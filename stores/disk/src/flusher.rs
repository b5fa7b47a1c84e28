//! The thread that writes the log's buffers to their files.

use std::sync::Arc;

use larder_store::{Error, ErrorKind};

use crate::{
    log::{Chunk, ENDED, Turn},
    manifest::End,
    volume::Volume,
};

/// Writes until the log is stopped and empty.
pub(crate) fn run(volume: &Arc<Volume>) {
    loop {
        let Turn {
            chunks,
            boundary,
            stop,
        } = volume.log.turn();
        let empty = chunks.is_empty();
        for chunk in &chunks {
            write(volume, chunk);
        }
        if volume.log.syncs() {
            sync(volume, &chunks);
        }
        if !empty {
            volume.room.wrote();
        }
        volume.log.reached(boundary);
        volume.log.recycle(chunks);
        if stop && empty {
            // Whatever is drawn from now on has no record.
            volume.log.reached(ENDED + 1);
            return;
        }
    }
}

fn write(volume: &Volume, chunk: &Arc<Chunk>) {
    let segment = &chunk.segment;
    // After a hole nothing may follow: a chunk behind one that failed fails with it.
    let behind_hole = segment.flushed() < chunk.offset;
    let result = if behind_hole {
        Err(failed(None))
    } else {
        let written = segment.file.write_all_at(&chunk.bytes, chunk.offset);
        written.map_err(|error| failed(Some(error)))
    };
    if let Err(error) = &result {
        if !behind_hole {
            volume.counters.io_errors.add(1);
            tracing::warn!(%error, segment = segment.id, "cannot write to a segment");
        }
        // What got through before the failure must not be found by a start: once its entry is gone,
        // a delete has nothing to void.
        let is_cut = behind_hole || segment.file.set_len(segment.flushed()).is_ok();
        volume.lost(chunk, is_cut);
        volume.log.abandon(segment);
        // In this order: whoever finds that writing works again clears the failure first.
        volume.log.set_down(Some(error.clone()));
        volume.room.failed(error);
    }
    volume.log.wrote(chunk, &result);
    note(volume, chunk, result.is_ok());
    if chunk.seals {
        volume.room.seal(Arc::clone(segment));
    } else if chunk.offset == 0 {
        volume.room.began();
    }
}

/// Notes the beginning and the end of a segment, before what is in it is acknowledged.
fn note(volume: &Volume, chunk: &Chunk, is_written: bool) {
    let (medium, manifest) = (&volume.medium, &volume.manifest);
    let Chunk { segment, .. } = chunk;
    let at = segment.flushed();
    let begins = chunk.offset == 0 && is_written;
    let ends = chunk.seals && at > 0;
    let begun = begins.then(|| manifest.begun(medium, segment.id));
    let ended = ends.then(|| {
        let bound = chunk.sequences.end;
        manifest.ended(medium, segment.id, End { bound, at })
    });
    for noted in [begun, ended].into_iter().flatten() {
        if let Err(error) = noted {
            // The segment works without; the next note tries again.
            volume.counters.io_errors.add(1);
            tracing::warn!(%error, segment = segment.id, "cannot note a segment");
        }
    }
}

/// Syncs what a turn has written, where each commit waits for that.
pub(crate) fn sync(volume: &Volume, chunks: &[Arc<Chunk>]) {
    for chunk in chunks {
        // Though nothing be dirty any more: the sealer may have taken that on, and not be done.
        chunk.segment.take_dirty();
        if let Err(error) = chunk.segment.file.sync_data() {
            volume.counters.io_errors.add(1);
            let error = failed(Some(error));
            volume.log.unsynced(chunk, &error);
        }
    }
}

fn failed(source: Option<std::io::Error>) -> Error {
    let message = "the record could not be written";
    match source {
        Some(source) => Error::with_source(kind(&source), message, source),
        None => Error::new(ErrorKind::Unavailable, message),
    }
}

/// What a caller can do about an error of the file system.
pub(crate) fn kind(error: &std::io::Error) -> ErrorKind {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => ErrorKind::Full,
        _ => ErrorKind::Unavailable,
    }
}

/// An error of the file system, as callers see it.
pub(crate) fn io(message: &'static str, error: std::io::Error) -> Error {
    Error::with_source(kind(&error), message, error)
}
