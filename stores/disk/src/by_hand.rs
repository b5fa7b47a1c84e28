//! A store's files, written by hand: for tests.

use std::sync::Arc;

use bytes::Bytes;
use larder_store::{Draft, Key, Metadata, Version};

use crate::{
    blobs,
    faults::Faults,
    footer::{self, Footer, FooterEntry},
    layout::Folder,
    medium::Medium,
    record::{BlobName, Record, UNIT},
    segment::{self, FooterPlace, Parts, Queue, Segment},
    segment_header,
};

/// A folder, and the id of the store in it.
pub(crate) struct ByHand {
    folder: tempfile::TempDir,
    pub(crate) medium: Medium,
    pub(crate) faults: Faults,
    pub(crate) store_id: [u8; 16],
}

/// A record that is to be written.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    record: Record,
    sequence: u64,
    shadow: bool,
}

/// So many bytes are allocated for a segment.
pub(crate) const ALLOCATED: u64 = 4 << 20;

impl ByHand {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let faults = Faults::default();
        let medium = Medium::with_faults(folder.path(), faults.clone());
        Self {
            folder,
            medium,
            faults,
            store_id: [7; 16],
        }
    }

    pub(crate) fn path(&self, path: impl AsRef<std::path::Path>) -> std::path::PathBuf {
        self.folder.path().join(path)
    }

    pub(crate) fn exists(&self, path: impl AsRef<std::path::Path>) -> bool {
        self.path(path).exists()
    }

    /// As if this folder had been opened.
    pub(crate) fn folder(&self) -> Folder {
        Folder::of_test(self.store_id)
    }

    /// A segment that is not sealed.
    pub(crate) fn segment(&self, id: u64, queue: Queue, items: &[Item]) -> (Arc<Segment>, Footer) {
        let seed = segment_header::seed(&self.store_id, id);
        let mut bytes = segment_header::write(&self.store_id, id, queue);
        let mut footer = Footer::default();
        for Item {
            record,
            sequence,
            shadow,
        } in items
        {
            let entry = FooterEntry {
                hash: record.hash(),
                sequence: *sequence,
                offset: u32::try_from(bytes.len() / UNIT).unwrap(),
                size: u32::try_from(record.size() / UNIT).unwrap(),
                kind: record.kind(),
                shadow: *shadow,
            };
            record.write(*sequence, *shadow, seed, &mut bytes);
            footer.add(entry, record);
        }
        let file = self.medium.create(&segment::path(id)).unwrap();
        file.allocate(ALLOCATED).unwrap();
        file.write_all_at(&bytes, 0).unwrap();
        let end = bytes.len() as u64;
        let segment = Segment::new(Parts {
            id,
            slot: u16::try_from(id).unwrap(),
            queue,
            seed,
            file,
            allocated: ALLOCATED,
            flushed: end,
            end,
            min_sequence: footer.min_sequence(),
            footer: FooterPlace::Active,
            detached: Arc::default(),
        });
        (Arc::new(segment), footer)
    }

    /// A segment that is sealed.
    pub(crate) fn sealed(&self, id: u64, queue: Queue, items: &[Item]) -> (Arc<Segment>, Footer) {
        let (segment, footer) = self.segment(id, queue, items);
        let len = footer::seal(&segment, &footer).unwrap();
        segment.set_allocated(len);
        segment.set_footer(FooterPlace::File);
        (segment, footer)
    }

    /// The file of a blob; what is in it does not matter here.
    pub(crate) fn blob(&self, id: u64) {
        self.medium.create(&blobs::path(id)).unwrap();
    }

    /// As [`blob`](Self::blob), where it may be there already.
    pub(crate) fn blob_again(&self, id: u64) {
        self.medium.remove(&blobs::path(id)).unwrap();
        self.blob(id);
    }
}

pub(crate) fn object(hash: u64, sequence: u64, key: &str, value: Bytes) -> Item {
    let checksum = crc32c::crc32c(&value);
    let metadata = metadata(value.len() as u64, checksum);
    Item::new(
        sequence,
        Record::object(hash, Key::new(key).unwrap(), &metadata, value),
    )
}

pub(crate) fn blob(hash: u64, sequence: u64, key: &str, name: BlobName) -> Item {
    let metadata = metadata(name.len, 0);
    let key = Key::new(key).unwrap();
    Item::new(sequence, Record::blob(hash, key, &metadata, name))
}

pub(crate) fn tombstone(hash: u64, sequence: u64) -> Item {
    Item::new(sequence, Record::tombstone(hash, 0))
}

impl Item {
    fn new(sequence: u64, record: Record) -> Self {
        Self {
            record,
            sequence,
            shadow: false,
        }
    }

    pub(crate) fn shadow(mut self) -> Self {
        self.shadow = true;
        self
    }

    /// The bytes that it takes.
    pub(crate) fn size(&self) -> usize {
        self.record.size()
    }
}

fn metadata(len: u64, checksum: u32) -> Metadata {
    Draft::new().commit(len, Version(1), Some(checksum))
}
