//! Writing an object: gathered in memory, or, where it is large, in a file.

use std::sync::Arc;

use bytes::Bytes;
use larder_store::{
    Commit, Draft, Error, ErrorKind, Fence, Key, KeyBuf, Metadata, Reply, Result, Staged, Version,
    Writer,
};

use crate::{
    blob_writer::BlobWriter,
    blobs::Blob,
    clock,
    config::Durability,
    log::Refusal,
    record::{BlobName, Record},
    spill::Filled,
    staging::{Handle, Stage},
    volume::{Change, Patience, Publication, Volume},
};

/// Opens a writer.
pub(crate) fn open<'a>(
    volume: &'a Arc<Volume>,
    key: Key<'a>,
    draft: Draft,
) -> Reply<'a, Box<dyn Writer>> {
    let opened = DiskWriter::open(volume, key, draft);
    Reply::ready(opened.map(|writer| Box::new(writer) as Box<dyn Writer>))
}

struct DiskWriter {
    key: KeyBuf,
    hash: u64,
    draft: Draft,
    fence: Option<Fence>,
    staged: Handle,
    /// Where it is beyond what is gathered in memory.
    blob: Option<BlobWriter>,
    /// The bytes that were taken.
    len: u64,
    /// Whether it may become a large object.
    is_let_in: bool,
    /// Why it cannot be committed any more.
    failed: Option<Error>,
}

impl DiskWriter {
    fn open(volume: &Arc<Volume>, key: Key<'_>, mut draft: Draft) -> Result<Self> {
        volume.check_open()?;
        draft.check()?;
        let declared = draft.expected_len().unwrap_or(0);
        check_size(volume, declared)?;
        let mut writer = Self {
            key: key.to_buf(),
            hash: volume.hash(key),
            fence: draft.take_fence(),
            draft: draft.owned(),
            staged: Handle::new(&Arc::new(Stage::new(volume))),
            blob: None,
            len: 0,
            is_let_in: false,
            failed: None,
        };
        match writer.check_intake(declared) {
            Ok(()) => Ok(writer),
            Err(error) => Err(writer.fail(error)),
        }
    }

    fn volume(&self) -> &Arc<Volume> {
        &self.staged.stage().volume
    }

    fn check_intake(&mut self, declared: u64) -> Result<()> {
        self.volume().check_service()?;
        if self.volume().room.is_passing_through() {
            let message = "nothing can be stored for now";
            return Err(Error::new(ErrorKind::Full, message));
        }
        self.volume().intake.check_rate()?;
        self.check_large(declared)
    }

    /// Whether an object that is so long is let in.
    fn check_large(&mut self, len: u64) -> Result<()> {
        let volume = &self.volume();
        if !self.is_let_in && len > volume.settings.large_object {
            let hash = self.hash;
            volume.intake.check_offer(hash, || {
                volume.index.read(hash).get(hash).is_some() || volume.room.was_evicted(hash)
            })?;
            self.is_let_in = true;
        }
        Ok(())
    }

    /// Nothing can be done any more but to say why.
    fn fail(&mut self, error: Error) -> Error {
        if error.is_full() || error.is_unavailable() {
            self.volume().counters.refused.add(1);
        }
        self.failed = Some(error.clone());
        error
    }

    /// Takes a chunk: all of it, or else it tells of what is left.
    fn take(&mut self, chunk: &mut Bytes) -> Result<Filled> {
        self.volume().check_open()?;
        let count = chunk.len() as u64;
        let len = self.len.saturating_add(count);
        if let Some(declared) = self.draft.expected_len()
            && len > declared
        {
            return Err(Error::corrupt(format!(
                "more bytes were written than the {declared} that were declared"
            )));
        }
        check_size(self.volume(), len)?;
        self.check_large(len)?;
        self.len = len;
        if count == 0 {
            return Ok(Filled::All);
        }
        let large = self.volume().settings.large_object;
        let expected = self.draft.expected_len().unwrap_or(large);
        let gathers = self.blob.is_none() && len.max(expected) <= large;
        if gathers && self.staged.stage().append(chunk, expected)? {
            return Ok(Filled::All);
        }
        let stage = self.staged.stage();
        let blob = (self.blob).get_or_insert_with(|| BlobWriter::new(stage));
        let filled = blob.take(chunk)?;
        if filled == Filled::All {
            self.staged.stage().acknowledge(count);
        }
        Ok(filled)
    }

    async fn take_rest(&mut self, filled: Filled, rest: Bytes, count: u64) -> Result<()> {
        let taken = match &mut self.blob {
            Some(blob) => blob.take_rest(filled, rest).await,
            None => Ok(()),
        };
        if let Err(error) = taken {
            return Err(self.fail(error));
        }
        self.staged.stage().acknowledge(count);
        self.failed = None;
        Ok(())
    }

    fn check_commit(&self) -> Result<()> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.volume().check_open()?;
        self.draft.check_len(self.len)
    }

    fn metadata(&mut self, checksum: u32) -> Metadata {
        let version = Version(self.volume().log.draw());
        std::mem::take(&mut self.draft).commit(self.len, version, Some(checksum))
    }

    fn commit_small(mut self: Box<Self>) -> Reply<'static, Commit> {
        let value = self.staged.freeze();
        let metadata = self.metadata(crc32c::crc32c(&value));
        let record = Record::object(self.hash, self.key.as_key(), &metadata, value);
        self.volume().intake.charge(record.size() as u64);
        match self
            .volume()
            .try_publish(&self.publication(&record, None), Patience::Immediate)
        {
            Ok(Change::Done) => {
                self.staged.stage().settle();
                Reply::ready(Ok(Volume::done(metadata)))
            }
            Ok(Change::Superseded) => Reply::ready(Ok(Commit::Superseded)),
            Ok(Change::Later | Change::Settling(_)) | Err(Refusal::Wait) => {
                let runtime = self.volume().runtime.clone();
                clock::later(&runtime, async move {
                    self.publish(&record, None, metadata).await
                })
            }
            Err(Refusal::Error(error)) => Reply::ready(Err(self.volume().refuse(error))),
        }
    }

    fn publication<'a>(
        &'a self,
        record: &'a Record,
        blob: Option<&'a Arc<Blob>>,
    ) -> Publication<'a> {
        Publication {
            key: self.key.as_key(),
            record,
            blob,
            fence: self.fence.as_ref(),
            instead: None,
        }
    }

    async fn publish(
        &self,
        record: &Record,
        blob: Option<&Arc<Blob>>,
        metadata: Metadata,
    ) -> Result<Commit> {
        let commit = self
            .volume()
            .publish(self.publication(record, blob))
            .await?;
        if !commit.is_done() {
            return Ok(commit);
        }
        self.staged.stage().settle();
        Ok(Volume::done(metadata))
    }

    async fn commit_spilled(mut self: Box<Self>, mut blob: BlobWriter) -> Result<Commit> {
        if let Err(error) = blob.finish().await {
            return Err(self.fail(error));
        }
        if self.len <= self.volume().settings.large_object {
            return self.commit_read_back(blob).await;
        }
        let admitted = match self.make_durable(&blob).await {
            Ok(()) => blob.admit(self.hash, self.len).await,
            Err(error) => Err(error),
        };
        let published = match admitted {
            Ok(published) => published,
            Err(error) => return Err(self.fail(error)),
        };
        let metadata = self.metadata(blob.checksum());
        let (id, len) = (blob.id(), self.len);
        let name = BlobName { id, len };
        let record = Record::blob(self.hash, self.key.as_key(), &metadata, name);
        self.publish(&record, Some(&published), metadata).await
    }

    async fn make_durable(&self, blob: &BlobWriter) -> Result<()> {
        match self.volume().settings.durability {
            Durability::Relaxed => Ok(()),
            Durability::OnCommit => blob.sync().await,
        }
    }

    /// A small object that was in a file for want of memory. Few of them are in memory at once.
    async fn commit_read_back(mut self: Box<Self>, blob: BlobWriter) -> Result<Commit> {
        let writes = Arc::clone(&self.volume().intake.writes);
        let permit = writes.acquire_owned().await;
        let len = usize::try_from(self.len).unwrap_or(usize::MAX);
        let value = match blob.read_back(len).await {
            Ok(value) => value,
            Err(error) => return Err(self.fail(error)),
        };
        let metadata = self.metadata(blob.checksum());
        let record = Record::object(self.hash, self.key.as_key(), &metadata, value);
        let committed = self.publish(&record, None, metadata).await;
        drop(permit);
        committed
    }
}

/// `TooLarge` for a body that the store does not take.
fn check_size(volume: &Volume, len: u64) -> Result<()> {
    let max = volume.settings.object_max;
    if len > max {
        return Err(Error::too_large(format!(
            "the object has {len} bytes or more, at most {max} are taken"
        )));
    }
    Ok(())
}

impl Writer for DiskWriter {
    fn write(&mut self, mut chunk: Bytes) -> Reply<'_, ()> {
        if let Some(error) = &self.failed {
            return Reply::ready(Err(error.clone()));
        }
        let count = chunk.len() as u64;
        match self.take(&mut chunk) {
            Ok(Filled::All) => Reply::ready(Ok(())),
            Ok(filled) => {
                // Unless it comes to its end a part of the chunk is missing.
                self.failed = Some(Error::invalid("a write was dropped before it was done"));
                let runtime = self.volume().runtime.clone();
                clock::later(&runtime, self.take_rest(filled, chunk, count))
            }
            Err(error) => Reply::ready(Err(self.fail(error))),
        }
    }

    fn commit(mut self: Box<Self>) -> Reply<'static, Commit> {
        if let Err(error) = self.check_commit() {
            return Reply::ready(Err(error));
        }
        match self.blob.take() {
            None => self.commit_small(),
            Some(blob) => {
                let runtime = self.volume().runtime.clone();
                clock::later(&runtime, self.commit_spilled(blob))
            }
        }
    }

    fn abort(mut self: Box<Self>) -> Reply<'static, ()> {
        match self.blob.take() {
            None => Reply::ready(Ok(())),
            Some(blob) => clock::later(&self.volume().runtime, async move {
                blob.abort().await;
                Ok(())
            }),
        }
    }

    fn staged(&self) -> Option<Arc<dyn Staged>> {
        Some(Arc::new(Handle::new(self.staged.stage())))
    }
}

#[cfg(test)]
mod tests;
