//! Larder's stores, with every setting at its default but one: like the plain loops beside it, the
//! disk store leaves the system's page cache alone. By default what was read of objects from 64 MiB
//! on is dropped from there, which costs about as much as reading it.

use std::{path::Path, time::Duration};

use anyhow::{Result, ensure};
use bytes::Bytes;
use larder_disk::{Disk, PageCache};
use larder_memory::Memory;
use larder_store::{ByteRange, Draft, Key, Lookup, Store, StoreExt};

use super::{Peer, Plan, streams::Streams};
use crate::data::{PIECE, Probe, StreamProbe, Values};

/// One of Larder's stores.
pub struct Larder<S>(S);

async fn put(store: &impl Store, key: &str, value: Bytes) -> Result<()> {
    let commit = store.write(key, value, Draft::new()).await?;
    ensure!(
        commit.is_done(),
        "superseded, though nobody else writes {key}"
    );
    Ok(())
}

/// Chunk by chunk, as a server would send it on; small values are one chunk.
async fn get(store: &impl Store, key: &str, probe: &mut Probe<'_>) -> Result<bool> {
    match store.get_stream(Key::new(key)?, ByteRange::FULL).await? {
        Lookup::Hit(mut object) => {
            while let Some(chunk) = object.body.chunk().await? {
                probe.feed(&chunk);
            }
            Ok(true)
        }
        Lookup::Miss(_) => Ok(false),
    }
}

impl Peer for Larder<Disk> {
    async fn open(folder: &Path, plan: Plan) -> Result<Self> {
        let disk = Disk::builder(folder, plan.capacity).page_cache(PageCache::Keep);
        Ok(Self(disk.open().await?))
    }

    async fn put(&self, key: &str, value: Bytes) -> Result<()> {
        put(&self.0, key, value).await
    }

    async fn get(&self, key: &str, probe: &mut Probe<'_>) -> Result<bool> {
        get(&self.0, key, probe).await
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

impl Peer for Larder<Memory> {
    /// In memory: it leaves the folder alone.
    async fn open(_: &Path, plan: Plan) -> Result<Self> {
        Ok(Self(Memory::builder(plan.capacity).build()?))
    }

    async fn put(&self, key: &str, value: Bytes) -> Result<()> {
        put(&self.0, key, value).await
    }

    async fn get(&self, key: &str, probe: &mut Probe<'_>) -> Result<bool> {
        get(&self.0, key, probe).await
    }

    async fn flush(&self) -> Result<()> {
        Ok(())
    }

    async fn close(&self) -> Result<()> {
        Ok(self.0.close().await?)
    }
}

impl Streams for Larder<Disk> {
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
