//! Larder's disk store, with every setting at its default but one: like the plain loops beside it,
//! it leaves the system's page cache alone. By default what was read of objects from 64 MiB on is
//! dropped from there, which costs about as much as reading it.

use std::{path::Path, time::Duration};

use anyhow::{Result, ensure};
use bytes::Bytes;
use larder_disk::{Disk, PageCache};
use larder_store::{ByteRange, Draft, Key, Lookup, Store, StoreExt};

use super::{Peer, Plan, streams::Streams};
use crate::data::{PIECE, Probe, StreamProbe, Values};

/// Larder's disk store.
pub struct Larder(pub(super) Disk);

impl Peer for Larder {
    async fn open(folder: &Path, plan: Plan) -> Result<Self> {
        let disk = Disk::builder(folder, plan.capacity).page_cache(PageCache::Keep);
        Ok(Self(disk.open().await?))
    }

    async fn put(&self, key: &str, value: Bytes) -> Result<()> {
        let commit = self.0.write(key, value, Draft::new()).await?;
        ensure!(
            commit.is_done(),
            "superseded, though nobody else writes {key}"
        );
        Ok(())
    }

    /// Chunk by chunk, as a server would send it on; small values are one chunk.
    async fn get(&self, key: &str, probe: &mut Probe<'_>) -> Result<bool> {
        match self.0.get_stream(Key::new(key)?, ByteRange::FULL).await? {
            Lookup::Hit(mut object) => {
                while let Some(chunk) = object.body.chunk().await? {
                    probe.feed(&chunk);
                }
                Ok(true)
            }
            Lookup::Miss(_) => Ok(false),
        }
    }

    /// There is no call for it: the active buffer is written out after 5 ms without a commit.
    async fn flush(&self) -> Result<()> {
        tokio::time::sleep(Duration::from_millis(50)).await;
        Ok(())
    }

    async fn close(&self) -> Result<()> {
        Ok(self.0.close().await?)
    }
}

impl Streams for Larder {
    /// The length is declared, as it mostly is; the store may not rely on it.
    async fn write(&self, key: &str, values: &Values, len: u64) -> Result<()> {
        let draft = Draft::new().len(len);
        let mut writer = self.0.set_with_writer(Key::new(key)?, draft).await?;
        for piece in values.pieces(len, PIECE) {
            writer.write(piece).await?;
        }
        ensure!(
            writer.commit().await?.is_done(),
            "superseded, though nobody else writes"
        );
        Ok(())
    }

    async fn read(&self, key: &str, mut probe: StreamProbe) -> Result<StreamProbe> {
        if let Lookup::Hit(mut object) = self.0.get_stream(Key::new(key)?, ByteRange::FULL).await? {
            while let Some(chunk) = object.body.chunk().await? {
                probe.feed(&chunk);
            }
        }
        Ok(probe)
    }
}
