//! The file behind a flight whose bytes no tier stages.
//!
//! It is unlinked when it is made, so that nothing is left behind whatever happens, and it is gone
//! with the last handle: the flight's, or that of a reader who is still behind.

use std::{fs::File, io, path::PathBuf, sync::Arc};

use crate::runtime::Runtime;
use bytes::{Bytes, BytesMut};
use larder_store::{Error, ErrorKind, Reply, Result, Staged};

pub(crate) struct SpillFile {
    file: File,
    /// Its threads do what may wait for the disk, whoever reads.
    runtime: Runtime,
}

impl SpillFile {
    pub(crate) async fn create(runtime: &Runtime, dir: PathBuf) -> Result<Arc<Self>> {
        let file = runtime.spawn_blocking(move || tempfile::tempfile_in(dir));
        Ok(Arc::new(Self {
            file: flatten(file.await)?,
            runtime: runtime.clone(),
        }))
    }

    /// Writes chunks one behind the other.
    pub(crate) async fn write(self: &Arc<Self>, mut offset: u64, chunks: Vec<Bytes>) -> Result<()> {
        let this = Arc::clone(self);
        let written = self.runtime.spawn_blocking(move || {
            chunks.iter().try_for_each(|chunk| {
                write_at(&this.file, chunk, offset)?;
                offset += chunk.len() as u64;
                Ok(())
            })
        });
        flatten(written.await)
    }
}

impl Staged for SpillFile {
    /// What stands in the page cache is read inline: a hop to another thread costs more than the
    /// read. Each read takes from tokio's budget, so that a reader far behind does not hold its
    /// worker.
    fn read(self: Arc<Self>, offset: u64, max: usize) -> Reply<'static, Bytes> {
        match read_cached(&self.file, offset, max) {
            Some(bytes) => Reply::ready(Ok(bytes)),
            None => Reply::later(async move {
                let runtime = self.runtime.clone();
                let read = runtime.spawn_blocking(move || {
                    let mut buffer = BytesMut::zeroed(max);
                    let len = read_at(&self.file, &mut buffer, offset)?;
                    buffer.truncate(len);
                    Ok(buffer.freeze())
                });
                flatten(read.await)
            }),
        }
    }
}

/// Bytes that can be read without waiting for the disk.
#[cfg(target_os = "linux")]
fn read_cached(file: &File, offset: u64, max: usize) -> Option<Bytes> {
    let mut buffer = BytesMut::zeroed(max);
    let slice = &mut [io::IoSliceMut::new(&mut buffer)];
    let len = rustix::io::preadv2(file, slice, offset, rustix::io::ReadWriteFlags::NOWAIT).ok()?;
    buffer.truncate(len);
    (len > 0).then(|| buffer.freeze())
}

#[cfg(not(target_os = "linux"))]
fn read_cached(_: &File, _: u64, _: usize) -> Option<Bytes> {
    None
}

fn flatten<T>(result: Result<io::Result<T>, tokio::task::JoinError>) -> Result<T> {
    let error = match result {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) => larder_store::BoxError::from(error),
        Err(error) => error.into(),
    };
    Err(Error::with_source(
        ErrorKind::Unavailable,
        "the spill file failed",
        error,
    ))
}

#[cfg(unix)]
fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

#[cfg(unix)]
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, offset)
}

#[cfg(windows)]
fn write_at(file: &File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let len = std::os::windows::fs::FileExt::seek_write(file, bytes, offset)?;
        bytes = &bytes[len..];
        offset += len as u64;
    }
    Ok(())
}

#[cfg(windows)]
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buffer, offset)
}
