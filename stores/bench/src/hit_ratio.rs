//! How much of a trace each policy of eviction would have served.

use larder_store::{ByteRange, Draft, Key, Lookup, Result, Store};

use crate::Trace;

/// What a store made of a trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Requests.
    pub requests: u64,
    /// Those whose object was there.
    pub hits: u64,
    /// Bytes of all requests.
    pub bytes: u64,
    /// Bytes of those that hit.
    pub bytes_hit: u64,
    /// Requests after which the store refused to take the object, for its size or for want of room.
    pub refused: u64,
}

#[allow(clippy::cast_precision_loss)] // Figures for people.
impl Outcome {
    /// The part of the requests that hit.
    pub fn ratio(&self) -> f64 {
        self.hits as f64 / self.requests.max(1) as f64
    }

    /// The part of the bytes that hit.
    pub fn byte_ratio(&self) -> f64 {
        self.bytes_hit as f64 / self.bytes.max(1) as f64
    }
}

/// Asks a store for every key of a trace in turn, and sets what is absent; a key without a size
/// has `default_size` bytes. Each request waits for the one before.
///
/// Errors: the first error of the store, but for objects that it refuses.
pub async fn hit_ratio(store: &dyn Store, trace: &Trace, default_size: u64) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let zeros = bytes::Bytes::from(vec![0; PIECE]);
    for number in trace.order() {
        let number = *number as usize;
        let key = Key::new(&trace.keys()[number])?;
        let size = trace.sizes()[number].unwrap_or(default_size);
        outcome.requests += 1;
        outcome.bytes += size;
        if let Lookup::Hit(_) = store.get_stream(key, ByteRange::FULL).await? {
            outcome.hits += 1;
            outcome.bytes_hit += size;
            continue;
        }
        match set(store, key, size, &zeros).await {
            Err(error) if error.is_too_large() || error.is_full() => outcome.refused += 1,
            set => set?,
        }
    }
    Ok(outcome)
}

const PIECE: usize = 256 << 10;

async fn set(store: &dyn Store, key: Key<'_>, size: u64, zeros: &bytes::Bytes) -> Result<()> {
    let mut writer = store.set_with_writer(key, Draft::new().len(size)).await?;
    let mut left = size;
    while left > 0 {
        let piece = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        writer.write(zeros.slice(..piece)).await?;
        left -= piece as u64;
    }
    writer.commit().await.map(drop)
}
