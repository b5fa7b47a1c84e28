//! A store with a file system that fails on command, and records that are put there by hand.

#![allow(clippy::cast_possible_truncation)] // Lengths of tests.

use std::time::Duration;

use larder_store::{Draft, Store, Version};

use super::*;
use crate::{
    Builder,
    blob_table::masked,
    blobs::{BLOB_BLOCK, Blob},
    medium::Medium,
    record::{BlobName, Record},
    volume::Publication,
};

pub(super) struct Shop {
    pub(super) disk: Disk,
    pub(super) faults: Faults,
    pub(super) _folder: tempfile::TempDir,
}

impl Shop {
    pub(super) async fn open() -> Self {
        Self::with(|builder| builder).await
    }

    pub(super) async fn with(change: impl FnOnce(Builder) -> Builder) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let faults = Faults::default();
        let medium = Medium::with_faults(folder.path(), faults.clone());
        let builder = change(Disk::builder(folder.path(), 256 << 20));
        let disk = Disk::start_on(medium, builder.settings().unwrap());
        Self {
            disk: disk.await.unwrap(),
            faults,
            _folder: folder,
        }
    }

    pub(super) fn volume(&self) -> &Arc<Volume> {
        self.disk.volume()
    }

    /// From here on nothing is in the page cache.
    pub(super) fn make_cold(&self) {
        self.faults
            .add(Rule::new(Failure::Short).on(&[Op::ReadNow]));
    }

    pub(super) async fn put(&self, name: &str, draft: Draft, value: Bytes) -> u64 {
        let volume = self.volume();
        let checksum = Some(crc32c::crc32c(&value));
        let version = Version(volume.log.draw());
        let metadata = draft.commit(value.len() as u64, version, checksum);
        let hash = volume.hash(key(name));
        let record = Record::object(hash, key(name), &metadata, value);
        self.publish(name, &record, None).await;
        volume.log.next_sequence() - 1
    }

    pub(super) async fn put_blob(&self, name: &str, value: &[u8]) -> Arc<Blob> {
        let volume = self.volume();
        let (id, len) = (volume.log.draw(), value.len() as u64);
        let blob = Arc::new(Blob::new(
            id,
            volume.hash(key(name)),
            len,
            volume.medium.block(),
        ));
        let file = volume.medium.create(&blob.path()).unwrap();
        let mut bytes = value.to_vec();
        for (index, block) in (0..).zip(value.chunks(BLOB_BLOCK as usize)) {
            let sum = masked(id, index, crc32c::crc32c(block));
            bytes.extend_from_slice(&sum.to_le_bytes());
        }
        file.write_all_at(&bytes, 0).unwrap();
        let checksum = Some(crc32c::crc32c(value));
        let metadata = Draft::new().commit(len, Version(id), checksum);
        let record = Record::blob(blob.hash, key(name), &metadata, BlobName { id, len });
        self.publish(name, &record, Some(&blob)).await;
        blob
    }

    pub(super) async fn publish(&self, name: &str, record: &Record, blob: Option<&Arc<Blob>>) {
        let publication = Publication {
            key: key(name),
            record,
            blob,
            fence: None,
            instead: None,
        };
        // Spares may still be on their way.
        let published = self.volume().publish(publication);
        let done = tokio::time::timeout(Duration::from_secs(20), published).await;
        assert!(done.unwrap().unwrap().is_done());
    }

    pub(super) async fn flush(&self) {
        let last = self.volume().log.next_sequence() - 1;
        self.volume().log.settled(last).await.unwrap();
    }

    pub(super) fn located(&self, name: &str) -> Located {
        let volume = self.volume();
        volume.locate(volume.hash(key(name))).unwrap()
    }

    /// Flips a bit of the record, so many bytes before its end.
    pub(super) fn spoil(&self, name: &str, before_end: u64) {
        let found = self.located(name);
        let at = found.place.start() + found.place.len() as u64 - before_end;
        let mut byte = [0];
        found.segment.file.read_exact_at(&mut byte, at).unwrap();
        found.segment.file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    }

    pub(super) async fn look(&self, name: &str, range: ByteRange) -> Result<Option<Object>> {
        Ok(match self.disk.get_stream(key(name), range).await? {
            Lookup::Hit(object) => Some(object),
            Lookup::Miss(_) => None,
        })
    }

    pub(super) async fn read(&self, name: &str, range: ByteRange) -> Result<Option<Bytes>> {
        match self.look(name, range).await? {
            Some(object) => object.body.bytes(1 << 30).await.map(Some),
            None => Ok(None),
        }
    }

    pub(super) async fn is_absent(&self, name: &str) {
        assert!(self.look(name, ByteRange::FULL).await.unwrap().is_none());
        assert_eq!(self.disk.stat(key(name)).await.unwrap(), None);
    }
}
