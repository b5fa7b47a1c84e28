//! Writing an object to a file of its own.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use larder_store::{Error, ErrorKind, Result};
use tokio::sync::Notify;

use crate::{
    blob_job,
    blobs::{self, Blob, Standing},
    budget, flusher,
    medium::File,
    spill::Filled,
    staging::{self, Stage},
    sums::Sums,
};

/// A file that is being written. Unless its blob is published its drop removes it.
pub(crate) struct BlobWriter {
    stage: Arc<Stage>,
    /// Tells that a job has come further.
    progress: Arc<Notify>,
    id: u64,
    /// Once all of the body is in the file.
    sums: Sums,
    /// Once it is about to be published.
    blob: Option<Arc<Blob>>,
}

impl BlobWriter {
    /// From now on what the stage gets goes to a file, with what it has.
    pub(crate) fn new(stage: &Arc<Stage>) -> Self {
        let id = stage.volume.log.draw();
        let progress = Arc::default();
        stage.spill(id, &progress);
        Self {
            stage: Arc::clone(stage),
            progress,
            id,
            sums: Sums::default(),
            blob: None,
        }
    }

    /// The CRC-32C of what was taken, once that is [finished](Self::finish).
    pub(crate) fn checksum(&self) -> u32 {
        self.sums.whole()
    }

    /// Takes from the chunk what there is room for.
    pub(crate) fn take(&mut self, chunk: &mut Bytes) -> Result<Filled> {
        let len = chunk.len();
        let filled = self.stage.fill(chunk)?;
        budget::spend(len - chunk.len());
        blob_job::start(&self.stage);
        Ok(filled)
    }

    /// Takes the rest of a chunk of which so much was taken.
    pub(crate) async fn take_rest(&mut self, mut filled: Filled, mut chunk: Bytes) -> Result<()> {
        loop {
            match filled {
                Filled::All => return Ok(()),
                Filled::Owed => return self.drain().await,
                Filled::Partly => self.progress().await?,
            }
            filled = self.take(&mut chunk)?;
        }
    }

    /// Waits until something more is in the file.
    async fn progress(&self) -> Result<()> {
        blob_job::wait_to_start(&self.stage).await;
        self.progress.notified().await;
        self.check()
    }

    fn check(&self) -> Result<()> {
        let checked = self.stage.spilled(|spill, _| spill.check());
        checked.unwrap_or(Ok(()))
    }

    /// Waits until all that was taken is in the file.
    async fn drain(&self) -> Result<()> {
        self.check()?;
        while self.stage.spilled(|spill, _| spill.is_drained()) == Some(false) {
            self.progress().await?;
        }
        Ok(())
    }

    /// Has all of it written, and the checksums behind it.
    pub(crate) async fn finish(&mut self) -> Result<()> {
        let finished = self.stage.spilled(|spill, _| spill.finish());
        finished.unwrap_or(Ok(()))?;
        self.drain().await?;
        let sums = self
            .stage
            .spilled(|spill, _| std::mem::take(&mut spill.sums));
        self.sums = sums.unwrap_or_default();
        let table = Bytes::from(self.sums.table(self.id));
        self.stage.spilled(|spill, _| spill.add_table(table));
        self.drain().await
    }

    /// Makes what is in the file, and its name, survive the loss of power.
    pub(crate) async fn sync(&self) -> Result<()> {
        let (file, volume) = (self.file()?, Arc::clone(&self.stage.volume));
        let id = self.id;
        let hop = self.stage.volume.runtime.spawn_blocking(move || {
            file.sync_data()?;
            let path = blobs::path(id);
            // Its folder may be new, too.
            let folders = path.ancestors().skip(1);
            let named = folders.take_while(|folder| *folder != Path::new(""));
            for folder in named {
                volume.medium.sync_dir(folder)?;
            }
            Ok(())
        });
        let synced = hop.await.map_err(|_| ended())?;
        synced.map_err(|error| {
            let volume = &self.stage.volume;
            volume.counters.io_errors.add(1);
            let error = flusher::io("the object could not be synced", error);
            volume.room.failed(&error);
            error
        })
    }

    /// Waits for room for the file of so many bytes of this hash. What it gives is to be published.
    pub(crate) async fn admit(&mut self, hash: u64, len: u64) -> Result<Arc<Blob>> {
        let volume = &self.stage.volume;
        let block = volume.medium.block();
        let blob = Arc::new(Blob::new(self.id, hash, len, block));
        let bytes = blob.room();
        volume.held(volume.room.admit(bytes)).await?;
        self.stage.spilled(|spill, _| spill.admitted = bytes);
        self.blob = Some(Arc::clone(&blob));
        Ok(blob)
    }

    /// The name of the file in a record.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Reads all of it back, to go where it would have gone had there been memory for it.
    pub(crate) async fn read_back(&self, len: usize) -> Result<Bytes> {
        let volume = Arc::clone(&self.stage.volume);
        let bytes = staging::read(volume, self.file()?, 0, vec![0; len]).await?;
        if crc32c::crc32c(&bytes) != self.checksum() {
            let message = "the object was altered while it was written";
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        Ok(bytes)
    }

    fn file(&self) -> Result<Arc<File>> {
        let file = self.stage.spilled(|spill, _| spill.file.clone());
        // It was made before the first byte was written.
        file.flatten().ok_or_else(ended)
    }

    /// Gives up, and waits until nothing is left.
    pub(crate) async fn abort(self) {
        blob_job::abandon(&self.stage);
        while self.stage.spilled(|spill, _| spill.is_gone()) == Some(false) {
            self.progress.notified().await;
        }
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        // Once it is published it has its place in the order of eviction, which is where its file
        // is removed.
        let is_published = |blob: &Arc<Blob>| blob.standing() != Standing::Fresh;
        if !self.blob.as_ref().is_some_and(is_published) {
            blob_job::abandon(&self.stage);
        }
    }
}

fn ended() -> Error {
    Error::new(ErrorKind::Unavailable, "the runtime has ended")
}
