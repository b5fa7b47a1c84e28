//! Writing the file of a large object: a piece is filled while the one before is written.

use std::{io, path::Path, sync::Arc};

use larder_store::Result;
use tokio::task::JoinHandle;

use crate::{
    blob_table,
    blobs::{self, BLOB_BLOCK},
    config::Durability,
    flusher,
    medium::File,
    staging::Stage,
    volume::Volume,
    writer::gone,
};

/// A file that becomes a blob, if it is published; otherwise it is removed when this is dropped.
pub(crate) struct BlobWriter {
    volume: Arc<Volume>,
    id: u64,
    /// The piece that is being written.
    in_flight: Option<JoinHandle<io::Result<Sums>>>,
    /// A checksum for each block that was written.
    table: Vec<u32>,
    /// That of all of them.
    checksum: u32,
    is_published: bool,
}

/// The checksum of each block of a piece, and the block's length.
type Sums = Vec<(u32, usize)>;

impl BlobWriter {
    /// Makes the file. Where this is dropped meanwhile the next start sweeps it.
    pub(crate) async fn create(volume: &Arc<Volume>) -> Result<(Self, Arc<File>)> {
        let id = volume.log.draw();
        let writer = Self {
            volume: Arc::clone(volume),
            id,
            in_flight: None,
            table: Vec::new(),
            checksum: 0,
            is_published: false,
        };
        let medium = volume.medium.clone();
        let created = (volume.runtime).spawn_blocking(move || medium.create(&blobs::path(id)));
        let file = created.await.map_err(|_| gone())?;
        let file = file.map_err(|error| writer.failed("cannot create a file", error))?;
        Ok((writer, Arc::new(file)))
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn checksum(&self) -> u32 {
        self.checksum
    }

    /// The file belongs to its record now.
    pub(crate) fn published(&mut self) {
        self.is_published = true;
    }

    /// Has the filled piece written, after the one before.
    pub(crate) async fn write_piece(&mut self, stage: &Stage) -> Result<()> {
        self.settle(stage).await?;
        let Some((file, offset, piece)) = stage.begin_piece() else {
            return Ok(());
        };
        self.in_flight = Some(self.volume.runtime.spawn_blocking(move || {
            #[allow(clippy::cast_possible_truncation)] // 256 KiB.
            let blocks = piece.chunks(BLOB_BLOCK as usize);
            let sums = blocks
                .map(|block| (crc32c::crc32c(block), block.len()))
                .collect();
            file.write_all_at(&piece, offset).map(|()| sums)
        }));
        Ok(())
    }

    /// Waits for the piece that is being written.
    pub(crate) async fn settle(&mut self, stage: &Stage) -> Result<()> {
        let Some(in_flight) = &mut self.in_flight else {
            return Ok(());
        };
        let written = in_flight.await;
        self.in_flight = None;
        let sums = written.map_err(|_| gone())?;
        let sums = sums.map_err(|error| self.failed("cannot write to a file", error))?;
        for (sum, len) in sums {
            self.checksum = crc32c::crc32c_combine(self.checksum, sum, len);
            let block = self.table.len() as u64;
            self.table.push(blob_table::masked(self.id, block, sum));
        }
        stage.end_piece();
        Ok(())
    }

    /// Writes what is left, and the table of checksums behind it.
    pub(crate) async fn finish(&mut self, stage: &Stage) -> Result<()> {
        self.write_piece(stage).await?;
        self.settle(stage).await?;
        let Some((file, end, _)) = stage.begin_piece() else {
            return Ok(());
        };
        let table: Vec<u8> = self
            .table
            .iter()
            .flat_map(|sum| sum.to_le_bytes())
            .collect();
        let sync = self.volume.settings.durability == Durability::OnCommit;
        let (medium, path) = (self.volume.medium.clone(), blobs::path(self.id));
        let finished = self.volume.runtime.spawn_blocking(move || {
            file.write_all_at(&table, end)?;
            if sync {
                file.sync_data()?;
                // The folder may have been made for this file.
                for folder in path.ancestors().skip(1).take(2) {
                    medium.sync_dir(folder)?;
                }
            }
            Ok(())
        });
        let finished: io::Result<()> = finished.await.map_err(|_| gone())?;
        finished.map_err(|error| self.failed("cannot finish a file", error))
    }

    /// Removes the file, and waits for that.
    pub(crate) async fn abort(mut self) -> Result<()> {
        if let Some(in_flight) = self.in_flight.take() {
            // It fails or not; the file goes.
            let _ = in_flight.await;
        }
        self.is_published = true;
        let (medium, path) = (self.volume.medium.clone(), blobs::path(self.id));
        let removed = (self.volume.runtime).spawn_blocking(move || medium.remove(&path));
        let removed = removed.await.map_err(|_| gone())?;
        removed.map_err(|error| self.failed("cannot remove a file", error))
    }

    fn failed(&self, message: &'static str, error: io::Error) -> larder_store::Error {
        self.volume.counters.io_errors.add(1);
        let error = flusher::io(message, error);
        self.volume.room.failed(&error);
        error
    }
}

/// Without waiting. A runtime that is gone leaves the file to the next start.
impl Drop for BlobWriter {
    fn drop(&mut self) {
        if self.is_published {
            return;
        }
        let (medium, path) = (self.volume.medium.clone(), blobs::path(self.id));
        self.volume.runtime.spawn_blocking(move || {
            if let Err(error) = medium.remove(Path::new(&path)) {
                tracing::warn!(%error, "cannot remove the file of a writer that gave up");
            }
        });
    }
}
