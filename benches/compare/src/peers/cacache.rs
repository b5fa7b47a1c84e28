//! cacache: an index file for each bucket of keys, a file for each content.
//!
//! On tokio and with its default `mmap` for writes. Content is found by its digest, SHA-256 as by
//! default, and checked against it on each read; that is its trade, and part of its time.

use std::path::{Path, PathBuf};

use anyhow::Result;
use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Peer, Plan, streams::Streams};
use crate::data::{PIECE, Probe, StreamProbe, Values};

/// The folder is all there is to it.
pub struct Cacache {
    folder: PathBuf,
}

impl Peer for Cacache {
    /// It has neither a capacity nor anything to read when it begins.
    async fn open(folder: &Path, _: Plan) -> Result<Self> {
        Ok(Self {
            folder: folder.to_path_buf(),
        })
    }

    async fn put(&self, key: &str, value: Bytes) -> Result<()> {
        cacache::write(&self.folder, key, &value).await?;
        Ok(())
    }

    async fn get(&self, key: &str, probe: &mut Probe<'_>) -> Result<bool> {
        match cacache::read(&self.folder, key).await {
            Ok(value) => probe.feed(&value),
            Err(cacache::Error::EntryNotFound(..)) => return Ok(false),
            Err(other) => return Err(other.into()),
        }
        Ok(true)
    }

    /// A write is with the kernel when it returns.
    async fn flush(&self) -> Result<()> {
        Ok(())
    }

    async fn close(&self) -> Result<()> {
        Ok(())
    }
}

impl Streams for Cacache {
    async fn write(&self, key: &str, values: &Values, len: u64) -> Result<()> {
        let mut writer = cacache::Writer::create(&self.folder, key).await?;
        for piece in values.pieces(len, PIECE) {
            writer.write_all(&piece).await?;
        }
        writer.commit().await?;
        Ok(())
    }

    async fn read(&self, key: &str, mut probe: StreamProbe) -> Result<StreamProbe> {
        let mut reader = cacache::Reader::open(&self.folder, key).await?;
        let mut buffer = vec![0; PIECE];
        loop {
            match reader.read(&mut buffer).await? {
                0 => break,
                len => probe.feed(&buffer[..len]),
            }
        }
        reader.check()?;
        Ok(probe)
    }
}
