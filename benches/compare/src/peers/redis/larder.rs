//! Larder's store with every setting at its default, used as the engine does: behind `dyn Store`,
//! chunk by chunk.

use std::sync::Arc;

use anyhow::{Result, ensure};
use bytes::Bytes;
use larder_redis::Redis;
use larder_store::{ByteRange, Draft, Key, Lookup, Store};

use crate::data::{PIECE, Probe, StreamProbe, Values};

/// The key of the large stream.
const STREAM: &str = "film";

/// The store.
pub struct Larder(Arc<dyn Store>);

impl Larder {
    pub(super) async fn connect(url: &str) -> Result<Self> {
        Ok(Self(Arc::new(Redis::connect(url).await?)))
    }

    pub(super) async fn set(&self, key: &str, value: Bytes) -> Result<()> {
        let draft = Draft::new().len(value.len() as u64);
        self.write(key, draft, [value].into_iter()).await
    }

    pub(super) async fn get(&self, key: &str, probe: &mut Probe<'_>) -> Result<bool> {
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

    pub(super) async fn write_stream(&self, values: &Values, len: u64) -> Result<()> {
        self.write(STREAM, Draft::new().len(len), values.pieces(len, PIECE))
            .await
    }

    pub(super) async fn read_stream(&self, mut probe: StreamProbe) -> Result<StreamProbe> {
        let found = self
            .0
            .get_stream(Key::new(STREAM)?, ByteRange::FULL)
            .await?;
        if let Lookup::Hit(mut object) = found {
            while let Some(chunk) = object.body.chunk().await? {
                probe.feed(&chunk);
            }
        }
        Ok(probe)
    }

    async fn write(
        &self,
        key: &str,
        draft: Draft,
        pieces: impl Iterator<Item = Bytes>,
    ) -> Result<()> {
        let mut writer = self.0.set_with_writer(Key::new(key)?, draft).await?;
        for piece in pieces {
            writer.write(piece).await?;
        }
        let commit = writer.commit().await?;
        ensure!(commit.is_done(), "superseded, though there is no fence");
        Ok(())
    }
}
