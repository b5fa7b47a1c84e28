//! The thread that ends segments, syncs, and writes snapshots.

use std::{io, path::Path, sync::Arc};

use crate::{
    footer,
    log::ENDED,
    room::Task,
    segment::{FooterPlace, Segment},
    snapshot,
    volume::Volume,
};

/// After so many segments a snapshot is written.
const SNAPSHOT_EVERY: u32 = 64;

/// Works until the room is stopped; `next_snapshot` is the number of the next snapshot.
pub(crate) fn run(volume: &Arc<Volume>, next_snapshot: u64) {
    let mut sealer = Sealer {
        volume,
        next_snapshot,
        sealed: 0,
        has_failed: false,
    };
    sealer.work();
    // What the log still has to write is handed over before it ends.
    volume.log.settled_blocking(ENDED);
    sealer.work();
    volume.room.await_keeper();
    sealer.close();
    // A body that is still read keeps the volume, but not the folder.
    volume.folder.release();
}

struct Sealer<'a> {
    volume: &'a Volume,
    next_snapshot: u64,
    /// Segments since the last snapshot.
    sealed: u32,
    /// Whether something could not be made safe.
    has_failed: bool,
}

impl Sealer<'_> {
    fn work(&mut self) {
        let room = &self.volume.room;
        loop {
            match room.next_task() {
                Task::Seal(segment) => {
                    let expected = segment.allocated();
                    if let Err(error) = self.seal(&segment) {
                        self.failed("cannot end a segment", &error);
                    }
                    room.sealed(segment, expected);
                    self.sealed += 1;
                }
                Task::Sync => self.sync(),
                Task::End => return,
            }
            if self.sealed >= SNAPSHOT_EVERY {
                self.snapshot();
            }
        }
    }

    /// Gives a segment its footer and its true length. Where that fails, its list stays in memory.
    fn seal(&self, segment: &Segment) -> io::Result<()> {
        let FooterPlace::Memory(list) = segment.footer() else {
            return Ok(());
        };
        let (flushed, end) = (segment.flushed(), segment.end());
        if flushed < end {
            // What follows the hole was never written, or is lost.
            segment.file.set_len(flushed)?;
            self.resize(segment, flushed);
            return Ok(());
        }
        segment.take_dirty();
        let len = segment.file.sync_data().and_then(|()| {
            let len = footer::seal(segment, &list)?;
            segment.file.sync_data()?;
            Ok(len)
        });
        let len = len.inspect_err(|_| segment.mark_dirty())?;
        self.resize(segment, len);
        segment.set_footer(FooterPlace::File);
        Ok(())
    }

    fn resize(&self, segment: &Segment, len: u64) {
        let to = self.volume.medium.block().round_up(len);
        let from = segment.allocated();
        segment.set_allocated(to);
        self.volume.room.resize(from, to);
    }

    /// Syncs what was written since the last time, and the names of segments.
    fn sync(&mut self) {
        let medium = &self.volume.medium;
        let mut synced = medium.sync_dir(Path::new("seg"));
        for segment in self.volume.segments.all() {
            if segment.take_dirty() {
                synced = synced.and(segment.file.sync_data());
            }
        }
        if let Err(error) = synced {
            // The system may forget what it could not write: there is no second try.
            self.failed("cannot sync", &error);
        }
    }

    fn snapshot(&mut self) {
        self.sealed = 0;
        if self.volume.medium.is_retired() {
            return;
        }
        match snapshot::save(self.volume, self.next_snapshot) {
            Ok(()) => self.next_snapshot += 1,
            // The other one is still good, and stays.
            Err(error) => self.failed("cannot write a snapshot", &error),
        }
    }

    /// Nothing is lost yet: what was written is with the system, and a list stays in memory. So the
    /// store goes on.
    fn failed(&mut self, what: &'static str, error: &io::Error) {
        tracing::warn!(%error, "{what}");
        self.has_failed = true;
        self.volume.counters.io_errors.add(1);
    }

    /// The last thing that is done: what is in memory goes to the disk, and the folder is marked.
    fn close(&mut self) {
        let Volume {
            segments,
            log,
            folder,
            medium,
            ..
        } = self.volume;
        if !self.volume.look_at_folder() {
            return;
        }
        self.sync();
        self.snapshot();
        let is_whole = |segment: &Arc<Segment>| segment.flushed() >= segment.end();
        if self.has_failed || log.is_down() || !segments.all().iter().all(is_whole) {
            tracing::warn!("the store is closed, but not all of it could be written");
            return;
        }
        if let Err(error) = folder.close(medium) {
            tracing::warn!(%error, "cannot mark the store as closed");
        }
    }
}
