//! Reading an object's bytes in blocks, each of which is verified by itself.

use std::{io, ops::Range, sync::Arc};

use bytes::Bytes;
use larder_store::Error;

use crate::{
    blob_table::{ENTRY_LEN, blocks, masked, table_offset},
    blobs::{BLOB_BLOCK, Blob},
    buffer::{Buffers, with_scratch},
    medium::File,
    record::{BLOCK, u32_at},
    segment::Segment,
    unreadable::Home,
};

/// Whether a read may wait for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// It runs where others would wait with it.
    Never,
    Allowed,
}

/// Why something was not read.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// It would have to wait, and must not.
    Cold,
    /// It is not as it was written.
    Altered,
    /// It is not there any more.
    Gone,
    /// It belongs to another key of the same hash.
    OtherKey,
    Expired,
    /// The system could not tell.
    Io(io::Error),
    /// It can never be read, though others can.
    Unreadable(io::Error),
    /// What was asked for cannot be.
    Refused(Error),
}

/// Fills the buffer from a file.
pub(crate) fn read(file: &File, into: &mut [u8], offset: u64, wait: Wait) -> Result<(), Trouble> {
    let read = match wait {
        Wait::Never => file.try_read_at(into, offset),
        Wait::Allowed => file.read_exact_at(into, offset).map(|()| true),
    };
    match read {
        Ok(true) => Ok(()),
        Ok(false) => Err(Trouble::Cold),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(Trouble::Altered),
        // Whoever may wait finds out what it means.
        Err(_) if wait == Wait::Never => Err(Trouble::Cold),
        Err(error) => Err(Trouble::Io(error)),
    }
}

/// The bytes of one object, as they stand in a file that stays open.
pub(crate) struct Blocks {
    file: Source,
    /// Where the object begins in the file.
    start: u64,
    len: u64,
    /// The length of a block.
    block: u64,
    sums: Sums,
}

/// What is read from. It keeps the bytes there, whatever becomes of the object.
#[derive(Clone)]
pub(crate) enum Source {
    Segment(Arc<Segment>),
    Blob(Arc<File>),
}

/// The blocks' checksums.
enum Sums {
    All(Vec<u32>),
    /// Those of a blob stand at its end, and are read a page at a time.
    Paged {
        blob: Arc<Blob>,
        page: u64,
        sums: Vec<u32>,
    },
}

/// The checksums that are read at once: those of 256 MiB.
const PAGE: u64 = 1024;

impl Blocks {
    /// A value that stands in its record, with the checksums from the record's head.
    pub(crate) fn record(segment: Arc<Segment>, start: u64, len: u64, sums: Vec<u32>) -> Self {
        Self {
            file: Source::Segment(segment),
            start,
            len,
            block: BLOCK as u64,
            sums: Sums::All(sums),
        }
    }

    pub(crate) fn blob(blob: Arc<Blob>, file: File) -> Self {
        Self {
            file: Source::Blob(Arc::new(file)),
            start: 0,
            len: blob.len,
            block: BLOB_BLOCK,
            sums: Sums::Paged {
                blob,
                page: u64::MAX,
                sums: Vec::new(),
            },
        }
    }

    /// The length of the object.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn source(&self) -> &Source {
        &self.file
    }

    pub(crate) fn home(&self) -> Home {
        match (&self.file, &self.sums) {
            (Source::Segment(segment), _) => Home::Segment(Arc::clone(segment)),
            (Source::Blob(_), Sums::Paged { blob, .. }) => Home::Blob(blob.id),
            (Source::Blob(_), Sums::All(_)) => unreachable!("a blob's checksums are paged"),
        }
    }

    /// Where the object begins in the file.
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    /// The whole blocks that these bytes of the object lie in.
    pub(crate) fn around(&self, range: &Range<u64>) -> Range<u64> {
        let end = range.end.next_multiple_of(self.block);
        range.start - range.start % self.block..end.min(self.len)
    }

    /// Reads and verifies a part of the object, which must be within it and not empty. All blocks
    /// around it are read into one buffer: the caller keeps it short.
    pub(crate) fn read(
        &mut self,
        range: Range<u64>,
        buffers: &Buffers,
        wait: Wait,
    ) -> Result<Bytes, Trouble> {
        let around = self.around(&range);
        let first = around.start / self.block;
        #[allow(clippy::cast_possible_truncation)] // The caller keeps it short.
        let (len, block) = ((around.end - around.start) as usize, self.block as usize);
        let mut buffer = buffers.take(len);
        let file = self.file.file();
        read(file, &mut buffer, self.start + around.start, wait)?;
        for (index, bytes) in (first..).zip(buffer.chunks(block)) {
            let sum = self.sums.at(file, index, wait)?;
            if self.sums.of(index, bytes) != sum {
                return Err(Trouble::Altered);
            }
        }
        #[allow(clippy::cast_possible_truncation)] // Within the buffer.
        let (from, to) = (
            (range.start - around.start) as usize,
            (range.end - around.start) as usize,
        );
        Ok(buffer.freeze().slice(from..to))
    }
}

impl Source {
    pub(crate) fn file(&self) -> &File {
        match self {
            Self::Segment(segment) => &segment.file,
            Self::Blob(file) => file,
        }
    }
}

impl Sums {
    /// The checksum that a block must have.
    fn at(&mut self, file: &File, index: u64, wait: Wait) -> Result<u32, Trouble> {
        let (sums, index) = match self {
            Self::All(sums) => (&*sums, index),
            Self::Paged { blob, page, sums } => {
                if *page != index / PAGE {
                    // Not before all of it is there is it the page.
                    *page = u64::MAX;
                    *sums = page_of(blob, index / PAGE, file, wait)?;
                    *page = index / PAGE;
                }
                (&*sums, index % PAGE)
            }
        };
        let sum = usize::try_from(index).ok().and_then(|at| sums.get(at));
        sum.copied().ok_or(Trouble::Altered)
    }

    /// The checksum that these bytes have.
    fn of(&self, index: u64, bytes: &[u8]) -> u32 {
        let sum = crc32c::crc32c(bytes);
        match self {
            Self::All(_) => sum,
            Self::Paged { blob, .. } => masked(blob.id, index, sum),
        }
    }
}

fn page_of(blob: &Blob, page: u64, file: &File, wait: Wait) -> Result<Vec<u32>, Trouble> {
    let first = page * PAGE;
    let count = PAGE.min(blocks(blob.len).saturating_sub(first));
    #[allow(clippy::cast_possible_truncation)] // A page at most.
    let len = (count * ENTRY_LEN) as usize;
    with_scratch(len, |bytes| {
        read(file, bytes, table_offset(blob.len, first), wait)?;
        let sums = bytes.chunks_exact(size_of::<u32>());
        Ok(sums.map(|at| u32_at(at, 0)).collect())
    })
}
