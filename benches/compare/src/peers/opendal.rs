//! opendal's `fs` service, without any layer.
//!
//! - *Reads are told the length*, which no other peer is: of what it does not know the length it
//!   zeroes 2 MiB before it reads.
//! - *Writes* go to a file beside and are renamed, so that nobody sees a part. It syncs each of
//!   them, and nothing turns that off: its CPU time can be compared, its wall time is the disk's.

use std::path::Path;

use anyhow::{Context as _, Result};
use bytes::{Buf as _, Bytes};
use opendal::{ErrorKind, Operator, services::Fs};

use super::{Peer, Plan};
use crate::data::Probe;

/// opendal over a folder.
pub struct Opendal(Operator);

impl Peer for Opendal {
    /// It has no capacity.
    async fn open(folder: &Path, _: Plan) -> Result<Self> {
        let path = |folder: &Path| {
            let path = folder.to_str().map(str::to_owned);
            path.with_context(|| format!("{} is not text", folder.display()))
        };
        let service = Fs::default()
            .root(&path(folder)?)
            .atomic_write_dir(&path(&folder.join("new"))?);
        Ok(Self(Operator::new(service)?))
    }

    async fn put(&self, key: &str, value: Bytes) -> Result<()> {
        self.0.write(key, value).await?;
        Ok(())
    }

    async fn get(&self, key: &str, probe: &mut Probe<'_>) -> Result<bool> {
        match self.0.read_with(key).range(0..probe.expected_len()).await {
            Ok(mut found) => {
                while found.has_remaining() {
                    let len = found.chunk().len();
                    probe.feed(found.chunk());
                    found.advance(len);
                }
            }
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        Ok(true)
    }

    async fn flush(&self) -> Result<()> {
        Ok(())
    }

    async fn close(&self) -> Result<()> {
        Ok(())
    }
}
