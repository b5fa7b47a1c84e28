//! Writing an object.

use std::sync::Arc;

use bytes::Bytes;
use larder_store::{
    Commit, Draft, Error, ErrorKind, Fence, Key, KeyBuf, Metadata, Reply, Result, Staged, Version,
    Writer,
};

use crate::{
    blob_writer::BlobWriter,
    blobs::{Blob, Standing},
    log::closed,
    record::{BlobName, Record},
    staging::Stage,
    volume::{Change, Patience, Publication, Volume},
};

/// Opens a writer.
pub(crate) fn open<'a>(
    volume: &'a Arc<Volume>,
    key: Key<'a>,
    draft: Draft,
) -> Reply<'a, Box<dyn Writer>> {
    let writer = DiskWriter::open(volume, key, draft);
    Reply::ready(writer.map(|writer| Box::new(writer) as Box<dyn Writer>))
}

/// A writer of the disk store.
///
/// A short object stays in memory until its commit; a long one goes to a file of its own, a piece
/// at a time.
struct DiskWriter {
    volume: Arc<Volume>,
    key: KeyBuf,
    hash: u64,
    draft: Draft,
    fence: Option<Fence>,
    stage: Arc<Stage>,
    blob: Option<BlobWriter>,
    /// Why it cannot be committed any more.
    failed: Option<Error>,
}

impl DiskWriter {
    fn open(volume: &Arc<Volume>, key: Key<'_>, mut draft: Draft) -> Result<Self> {
        volume.check_open()?;
        draft.check()?;
        let hash = volume.hash(key);
        let declared = draft.expected_len().unwrap_or(0);
        check_len(volume, declared)?;
        if volume.room.is_passing_through() {
            let error = Error::new(ErrorKind::Full, "nothing can be stored for now");
            return Err(volume.refuse(error));
        }
        volume
            .gate
            .spend(declared)
            .map_err(|error| volume.refuse(error))?;
        if declared > volume.settings.large_object {
            volume
                .gate
                .offer(hash)
                .map_err(|error| volume.refuse(error))?;
        }
        Ok(Self {
            volume: Arc::clone(volume),
            key: key.to_buf(),
            hash,
            fence: draft.take_fence(),
            draft,
            stage: Arc::new(Stage::new(volume)),
            blob: None,
            failed: None,
        })
    }

    /// What can be said of a chunk before it is taken.
    fn check(&self, chunk: &[u8]) -> Result<()> {
        self.volume.check_open()?;
        let len = self.stage.len().saturating_add(chunk.len() as u64);
        check_len(&self.volume, len)?;
        match self.draft.expected_len() {
            Some(declared) if len > declared => Err(Error::corrupt(format!(
                "{len} bytes were written where {declared} were declared"
            ))),
            Some(_) => Ok(()),
            // What was not declared is paid for as it comes.
            None => self
                .volume
                .gate
                .spend(chunk.len() as u64)
                .map_err(|error| self.volume.refuse(error)),
        }
    }

    /// Takes a chunk without waiting, where that is possible.
    fn take(&self, chunk: &[u8]) -> bool {
        if self.blob.is_some() {
            return self.stage.has_room(chunk.len()) && self.stage.fill(chunk) == chunk.len();
        }
        let large = self.volume.settings.large_object;
        let declared = self.draft.expected_len();
        declared.is_none_or(|declared| declared <= large) && self.stage.keep(chunk, large)
    }

    /// Takes a chunk, waiting for the disk.
    async fn append(&mut self, chunk: &[u8]) -> Result<()> {
        if self.blob.is_none() {
            if self.draft.expected_len().is_none() {
                let offered = self.volume.gate.offer(self.hash);
                offered.map_err(|error| self.volume.refuse(error))?;
            }
            let created = BlobWriter::create(&self.volume).await;
            let (blob, file) = created.map_err(|error| self.volume.refuse(error))?;
            self.stage.spill(file);
            self.blob = Some(blob);
        }
        let Some(blob) = &mut self.blob else {
            return Ok(());
        };
        let mut rest = chunk;
        while !rest.is_empty() {
            let taken = self.stage.fill(rest);
            rest = &rest[taken..];
            if !self.stage.has_room(1) {
                let written = blob.write_piece(&self.stage).await;
                written.map_err(|error| self.volume.refuse(error))?;
            }
        }
        Ok(())
    }

    fn metadata(&mut self, checksum: u32) -> Metadata {
        let draft = std::mem::take(&mut self.draft);
        let version = Version(self.volume.log.draw());
        draft.commit(self.stage.len(), version, Some(checksum))
    }

    /// What every commit checks first.
    fn ready(&mut self) -> Result<()> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        self.volume.check_open()?;
        self.draft.check_len(self.stage.len())
    }

    /// A commit of what is in memory: at once, where nothing is undone by it.
    fn commit_small(mut self, value: Bytes) -> Reply<'static, Commit> {
        let metadata = self.metadata(crc32c::crc32c(&value));
        let record = Record::object(self.hash, self.key.as_key(), &metadata, value);
        let publication = Publication {
            key: self.key.as_key(),
            record: &record,
            blob: None,
            fence: self.fence.as_ref(),
            instead: None,
        };
        match self.volume.try_publish(&publication, Patience::Immediate) {
            Ok(Change::Done) => {
                self.stage.settle();
                Reply::ready(Ok(Volume::done(metadata)))
            }
            Ok(Change::Superseded) => Reply::ready(Ok(Commit::Superseded)),
            _ => Reply::later(self.publish_small(record, metadata)),
        }
    }

    async fn publish_small(self, record: Record, metadata: Metadata) -> Result<Commit> {
        let publication = Publication {
            key: self.key.as_key(),
            record: &record,
            blob: None,
            fence: self.fence.as_ref(),
            instead: None,
        };
        let commit = self.volume.publish(publication).await?;
        if !commit.is_done() {
            return Ok(commit);
        }
        self.stage.settle();
        Ok(Volume::done(metadata))
    }

    /// A commit of a file: finished, given room, then published.
    async fn commit_large(mut self) -> Result<Commit> {
        let Some(mut file) = self.blob.take() else {
            return Ok(Commit::Superseded);
        };
        let finished = file.finish(&self.stage).await;
        finished.map_err(|error| self.volume.refuse(error))?;
        let metadata = self.metadata(file.checksum());
        let len = metadata.len();
        let blob = Arc::new(Blob::new(file.id(), self.hash, len));
        let mut admitted = Admitted {
            volume: &self.volume,
            stage: &self.stage,
            blob: &blob,
            file: &mut file,
            bytes: 0,
        };
        let room = self.volume.room.admit(blob.file_len()).await;
        room.map_err(|error| self.volume.refuse(error))?;
        admitted.bytes = blob.file_len();
        let name = BlobName { id: blob.id, len };
        let record = Record::blob(self.hash, self.key.as_key(), &metadata, name);
        let publication = Publication {
            key: self.key.as_key(),
            record: &record,
            blob: Some(&blob),
            fence: self.fence.as_ref(),
            instead: None,
        };
        let commit = self.volume.publish(publication).await?;
        drop(admitted);
        Ok(if commit.is_done() {
            Volume::done(metadata)
        } else {
            commit
        })
    }
}

/// Room that was given to a blob. If the blob was not published when this goes, the room is given
/// back, and its file is removed.
struct Admitted<'a> {
    volume: &'a Volume,
    stage: &'a Stage,
    blob: &'a Blob,
    file: &'a mut BlobWriter,
    bytes: u64,
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        // Whatever became of it since, it was published, and its file is the store's affair.
        if self.blob.standing() == Standing::Fresh {
            if self.bytes > 0 {
                self.volume.room.give_back(self.bytes);
            }
        } else {
            self.file.published();
            self.stage.settle();
        }
    }
}

impl Writer for DiskWriter {
    fn write(&mut self, chunk: Bytes) -> Reply<'_, ()> {
        if let Some(error) = &self.failed {
            return Reply::ready(Err(error.clone()));
        }
        if let Err(error) = self.check(&chunk) {
            self.failed = Some(error.clone());
            return Reply::ready(Err(error));
        }
        if self.take(&chunk) {
            return Reply::ready(Ok(()));
        }
        Reply::later(async move {
            // Whoever drops this reply does not know how much of the chunk was taken.
            self.failed = Some(Error::invalid("a write was given up before it had ended"));
            let appended = self.append(&chunk).await;
            self.failed = appended.as_ref().err().cloned();
            appended
        })
    }

    fn commit(mut self: Box<Self>) -> Reply<'static, Commit> {
        if let Err(error) = self.ready() {
            return Reply::ready(Err(error));
        }
        if self.blob.is_some() {
            return Reply::later(self.commit_large());
        }
        match self.stage.whole() {
            Some(value) => self.commit_small(value),
            None => Reply::ready(Err(closed())),
        }
    }

    fn abort(mut self: Box<Self>) -> Reply<'static, ()> {
        match self.blob.take() {
            None => Reply::ready(Ok(())),
            Some(blob) => Reply::later(async move {
                drop(self);
                blob.abort().await
            }),
        }
    }

    fn staged(&self) -> Option<Arc<dyn Staged>> {
        Some(Arc::clone(&self.stage) as Arc<dyn Staged>)
    }
}

fn check_len(volume: &Volume, len: u64) -> Result<()> {
    let max = volume.settings.object_max;
    if len > max {
        return Err(Error::too_large(format!(
            "an object of {len} bytes or more is above the limit of {max}"
        )));
    }
    Ok(())
}

/// The runtime that the store was opened in has ended.
pub(crate) fn gone() -> Error {
    Error::new(ErrorKind::Unavailable, "the store's runtime has ended")
}
