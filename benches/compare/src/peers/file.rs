//! One file for each key, as simple caches do: create, write, rename; open, read, close.
//!
//! Each operation is one call of `spawn_blocking`, the cheapest way to touch files from async code
//! without blocking its workers. `tokio::fs` would take such a hop for each of the calls within.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use anyhow::Result;
use bytes::Bytes;
use tokio::task::spawn_blocking;

use super::{Peer, Plan};
use crate::data::Probe;

/// Folders that the files are spread over, made beforehand.
const FOLDERS: u64 = 256;

/// A folder of folders of files.
pub struct FilePerKey {
    folder: PathBuf,
    unnamed: AtomicU64,
}

impl FilePerKey {
    /// Keys of this program are safe as names; a real one would escape them or hash them.
    fn path(&self, key: &str) -> PathBuf {
        let name = key.replace('/', "-");
        let sum = name.bytes().fold(0, |sum: u64, byte| {
            sum.wrapping_mul(31).wrapping_add(byte.into())
        });
        self.folder
            .join(format!("{:02x}", sum % FOLDERS))
            .join(name)
    }
}

impl Peer for FilePerKey {
    /// It has no capacity, and nothing to read when it begins.
    async fn open(folder: &Path, _: Plan) -> Result<Self> {
        for number in 0..FOLDERS {
            fs::create_dir_all(folder.join(format!("{number:02x}")))?;
        }
        fs::create_dir_all(folder.join("new"))?;
        Ok(Self {
            folder: folder.to_path_buf(),
            unnamed: AtomicU64::new(0),
        })
    }

    async fn put(&self, key: &str, value: Bytes) -> Result<()> {
        let number = self.unnamed.fetch_add(1, Ordering::Relaxed);
        let unnamed = self.folder.join(format!("new/{number}"));
        let path = self.path(key);
        spawn_blocking(move || {
            fs::write(&unnamed, &value)?;
            fs::rename(&unnamed, path)
        })
        .await??;
        Ok(())
    }

    async fn get(&self, key: &str, probe: &mut Probe<'_>) -> Result<bool> {
        let path = self.path(key);
        match spawn_blocking(move || fs::read(path)).await? {
            Ok(value) => probe.feed(&value),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error.into()),
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
