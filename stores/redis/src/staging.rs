//! What a writer has in the server before its commit.

use std::sync::{Arc, atomic::Ordering};

use larder_store::Result;

use crate::{
    manifest::Chunks,
    names::Place,
    nonce::Nonce,
    script,
    shared::{Shared, millis},
};

/// How many names one command removes, and how many one step prolongs.
const BATCH: usize = 512;

/// The chunks of one writer, under a nonce of its own. Dropped while it is armed, it has them
/// removed in the background; what that misses expires by itself.
pub(crate) struct Staging {
    shared: Arc<Shared>,
    place: Place,
    nonce: Nonce,
    chunks: u32,
    has_manifest: bool,
    armed: bool,
    /// Bytes that it counts for.
    bytes: u64,
}

impl Staging {
    pub(crate) fn new(shared: &Arc<Shared>, place: &Place) -> Self {
        Self {
            shared: Arc::clone(shared),
            place: place.clone(),
            nonce: shared.nonces.draw(),
            chunks: 0,
            has_manifest: false,
            armed: true,
            bytes: 0,
        }
    }

    /// Counts bytes as staged, until it is dropped.
    pub(crate) fn count(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.shared.staged.fetch_add(bytes, Ordering::Relaxed);
    }

    /// How many chunks have names.
    pub(crate) fn chunks(&self) -> u32 {
        self.chunks
    }

    /// The chunks of the body, if it has any, each of this size.
    pub(crate) fn chunks_for(&self, size: u32) -> Option<Chunks> {
        let nonce = self.nonce;
        (self.chunks > 0).then_some(Chunks { nonce, size })
    }

    /// A name for the next chunk.
    pub(crate) fn next_chunk(&mut self) -> Vec<u8> {
        let name = self.place.chunk(self.nonce, self.chunks);
        self.chunks += 1;
        name
    }

    /// A name for a manifest.
    pub(crate) fn manifest(&mut self) -> Vec<u8> {
        self.has_manifest = true;
        self.place.staged(self.nonce)
    }

    /// From now on it does not remove what is there.
    pub(crate) fn disarm(&mut self) {
        self.armed = false;
    }

    /// From now on it does again.
    pub(crate) fn arm(&mut self) {
        self.armed = true;
    }

    /// Makes the chunks last; `false` when one is gone.
    pub(crate) async fn prolong(&self) -> Result<bool> {
        let stem = [
            &self.place.chunks()[..],
            format!("{}:", self.nonce).as_bytes(),
        ]
        .concat();
        let keys: [&[u8]; 1] = [&self.place.chunk(self.nonce, 0)];
        let ttl = millis(self.shared.settings.staging_ttl);
        let count = self.chunks.to_string();
        let args: [&[u8]; 3] = [&stem, count.as_bytes(), &ttl];
        (self.shared.run(&self.place, &script::PROLONG, &keys, &args)).await
    }

    /// Removes what is there.
    pub(crate) async fn clear(&mut self) -> Result<()> {
        let names = self.names();
        self.disarm();
        unlink(&self.shared, &self.place, names).await
    }

    fn names(&self) -> Vec<Vec<u8>> {
        let manifest = self.has_manifest.then(|| self.place.staged(self.nonce));
        let chunks = (0..self.chunks).map(|index| self.place.chunk(self.nonce, index));
        chunks.chain(manifest).collect()
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        self.shared.staged.fetch_sub(self.bytes, Ordering::Relaxed);
        let names = self.names();
        if !self.armed || names.is_empty() || self.shared.check_open().is_err() {
            return;
        }
        let (shared, place) = (Arc::clone(&self.shared), self.place.clone());
        self.shared.home.runtime.spawn(async move {
            if let Err(error) = unlink(&shared, &place, names).await {
                tracing::debug!(%error, "what a writer left is left to expire");
            }
        });
    }
}

async fn unlink(shared: &Shared, place: &Place, names: Vec<Vec<u8>>) -> Result<()> {
    for names in names.chunks(BATCH) {
        let mut command = redis::cmd("UNLINK");
        for name in names {
            command.arg(name);
        }
        let _: i64 = shared.link.command(place.hash(), &command).await?;
    }
    Ok(())
}
