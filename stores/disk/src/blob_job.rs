//! The work on a writer's file that may wait for the disk: done by the runtime's threads for that.

use std::{io, sync::Arc};

use bytes::Bytes;
use larder_store::{Error, ErrorKind, Result};
use tokio::sync::{Notify, OwnedSemaphorePermit};

use crate::{blobs, flusher, medium::File, space, spill::Turn, staging::Stage, victims::Want};

/// After so many pieces a job makes place for those that wait.
const TURNS: u32 = 16;

/// Writes what there is to be written, until there is nothing more.
pub(crate) struct Job {
    stage: Arc<Stage>,
    progress: Arc<Notify>,
    /// Of the few that write at once; a file is removed without.
    permit: Option<OwnedSemaphorePermit>,
    turns: u32,
    ended: bool,
}

/// Begins a job where there is something to write, nobody does it yet, and not too many write.
pub(crate) fn start(stage: &Arc<Stage>) {
    let is_idle = stage.spilled(|spill, _| spill.is_idle());
    if is_idle == Some(true) {
        let writes = Arc::clone(&stage.volume.intake.writes);
        if let Ok(permit) = writes.try_acquire_owned() {
            begin(stage, permit);
        }
    }
}

/// As [`start`], waiting until there is place for one more.
pub(crate) async fn wait_to_start(stage: &Arc<Stage>) {
    let is_idle = stage.spilled(|spill, _| spill.is_idle());
    if is_idle == Some(true) {
        let writes = Arc::clone(&stage.volume.intake.writes);
        // It is never closed.
        if let Ok(permit) = writes.acquire_owned().await {
            begin(stage, permit);
        }
    }
}

fn begin(stage: &Arc<Stage>, permit: OwnedSemaphorePermit) {
    if stage.spilled(|spill, _| spill.begin()) == Some(true) {
        spawn(stage, Some(permit));
    }
}

/// Has the file removed, and what was admitted for it given back. Waits for nothing.
pub(crate) fn abandon(stage: &Arc<Stage>) {
    if stage.spilled(|spill, _| spill.abandon()) == Some(true) {
        spawn(stage, None);
    }
}

fn spawn(stage: &Arc<Stage>, permit: Option<OwnedSemaphorePermit>) {
    let Some(progress) = stage.spilled(|spill, _| spill.progress()) else {
        return;
    };
    let job = Job {
        stage: Arc::clone(stage),
        progress,
        permit,
        turns: 0,
        ended: false,
    };
    // Where the runtime has ended this drops the job, which notes it.
    drop(stage.volume.runtime.spawn_blocking(move || job.run()));
}

impl Job {
    fn run(mut self) {
        while !self.ended {
            self.step();
            let has_place = || self.stage.spilled(|spill, _| spill.has_place());
            if self.ended || has_place() == Some(true) {
                self.progress.notify_one();
            }
        }
    }

    fn step(&mut self) {
        let yields = self.yields();
        let turn = self.stage.spilled(|spill, _| spill.turn(yields));
        let done = match turn {
            Some(Turn::Create(id)) => self.create(id),
            Some(Turn::Write {
                file,
                bytes,
                offset,
            }) => self.write(&file, bytes, offset),
            Some(Turn::Remove(id)) => {
                self.remove(id);
                self.end();
                Ok(())
            }
            Some(Turn::End) | None => {
                self.ended = true;
                Ok(())
            }
        };
        if let Err(error) = done {
            self.fail(error);
        }
    }

    /// Whether others wait, and this one has had its share.
    fn yields(&mut self) -> bool {
        self.turns += 1;
        let is_crowded = || self.stage.volume.intake.writes.available_permits() == 0;
        self.permit.is_some() && self.turns > TURNS && is_crowded()
    }

    fn create(&self, id: u64) -> Result<()> {
        let volume = &self.stage.volume;
        // What is closed is somebody else's, soon.
        volume.check_open()?;
        let path = blobs::path(id);
        let mut created = volume.medium.create(&path);
        if let Err(error) = &created
            && space::lacks_inodes(error)
            // The log goes on: it needs few files.
            && volume.room.want_inodes(Want::Blob)
        {
            volume.room.await_inodes();
            created = volume.medium.create(&path);
        }
        let file = Arc::new(created.map_err(|error| self.failed(error))?);
        self.stage.spilled(|spill, _| spill.file = Some(file));
        Ok(())
    }

    fn write(&self, file: &File, bytes: Bytes, offset: u64) -> Result<()> {
        let volume = &self.stage.volume;
        let sums = self
            .stage
            .spilled(|spill, _| std::mem::take(&mut spill.sums));
        let mut sums = sums.unwrap_or_default();
        sums.add(&bytes);
        let written = file.write_all_at(&bytes, offset);
        written.map_err(|error| self.failed(error))?;
        let len = bytes.len() as u64;
        volume.counters.written.add(len);
        volume.intake.charge(len);
        // So that its buffer can be used again.
        drop(bytes);
        let wrote = self.stage.spilled(|spill, loan| {
            spill.sums = sums;
            spill.wrote(loan)
        });
        drop(wrote);
        Ok(())
    }

    fn failed(&self, error: io::Error) -> Error {
        let volume = &self.stage.volume;
        volume.counters.io_errors.add(1);
        let lacks_inodes = space::lacks_inodes(&error);
        let error = flusher::io("the object could not be written", error);
        if !lacks_inodes {
            // A smaller store would not help.
            volume.room.failed(&error);
        }
        error
    }

    fn fail(&self, error: Error) {
        self.stage.spilled(|spill, _| spill.fail(error));
    }

    fn end(&mut self) {
        self.stage.spilled(|spill, _| spill.end());
        self.ended = true;
    }

    fn remove(&self, id: u64) {
        let traces = self.stage.spilled(|spill, _| {
            let admitted = std::mem::take(&mut spill.admitted);
            (spill.file.is_some(), admitted)
        });
        let (has_file, admitted) = traces.unwrap_or_default();
        let volume = &self.stage.volume;
        if has_file {
            if let Err(error) = volume.medium.remove(&blobs::path(id)) {
                volume.counters.io_errors.add(1);
                // The next start sweeps it.
                tracing::warn!(%error, id, "cannot remove the file of an object that was given up");
            }
            volume.emptied.note(id);
        }
        if admitted > 0 {
            volume.room.give_back(admitted);
        }
    }
}

/// Where it did not come to its end, nobody else will: the runtime has ended.
impl Drop for Job {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        self.fail(Error::new(ErrorKind::Unavailable, "the runtime has ended"));
        let abandoned = self.stage.spilled(|spill, _| spill.abandoned());
        if let Some(id) = abandoned.flatten() {
            self.remove(id);
        }
        self.end();
        self.progress.notify_one();
    }
}
