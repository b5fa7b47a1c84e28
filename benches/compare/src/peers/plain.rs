//! A file and a loop of `pwrite`, then one of `pread`: what the kernel can do, less nothing.
//!
//! Each loop runs as a whole on one blocking thread: no hop for a piece, no checksum, no index.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use anyhow::Result;
use tokio::task::spawn_blocking;

use super::streams::Streams;
use crate::data::{StreamProbe, Values};

/// Files in a folder, moved by pieces of one length.
pub struct Plain {
    folder: PathBuf,
    piece: usize,
}

impl Plain {
    pub(super) fn new(folder: &Path, piece: usize) -> Self {
        Self {
            folder: folder.to_path_buf(),
            piece,
        }
    }

    fn path(&self, key: &str) -> PathBuf {
        self.folder.join(key.replace('/', "-"))
    }
}

impl Streams for Plain {
    async fn write(&self, key: &str, values: &Values, len: u64) -> Result<()> {
        let (path, values, piece) = (self.path(key), values.clone(), self.piece);
        spawn_blocking(move || {
            let file = File::create(path)?;
            let mut written = 0;
            for chunk in values.pieces(len, piece) {
                file.write_all_at(&chunk, written)?;
                written += chunk.len() as u64;
            }
            Ok(())
        })
        .await?
    }

    async fn read(&self, key: &str, mut probe: StreamProbe) -> Result<StreamProbe> {
        let (path, piece) = (self.path(key), self.piece);
        spawn_blocking(move || {
            let file = File::open(path)?;
            let mut buffer = vec![0; piece];
            let mut seen = 0;
            loop {
                match file.read_at(&mut buffer, seen)? {
                    0 => return Ok(probe),
                    len => {
                        probe.feed(&buffer[..len]);
                        seen += len as u64;
                    }
                }
            }
        })
        .await?
    }
}
