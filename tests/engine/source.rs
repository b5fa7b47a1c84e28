//! Sources that a test feeds by hand, and bytes that tell when they are torn.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use larder::{Clock, Error, Fetched, ManualClock, Memory, Response, Result};
use tokio::sync::mpsc;

/// Bytes that differ everywhere, so that what is torn, shifted or repeated shows.
pub(crate) fn pattern(len: usize) -> Bytes {
    let mut bytes = BytesMut::with_capacity(len + 4);
    let mut state = 1_u32;
    while bytes.len() < len {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        bytes.extend_from_slice(&state.to_be_bytes());
    }
    bytes.truncate(len);
    bytes.freeze()
}

/// The parts of some bytes, each of this length but for the last.
pub(crate) fn chunks(bytes: &Bytes, len: usize) -> Vec<Bytes> {
    let starts = (0..bytes.len()).step_by(len);
    starts
        .map(|start| bytes.slice(start..bytes.len().min(start + len)))
        .collect()
}

/// A fetch result that comes in chunks, the source pausing before each as a network does.
pub(crate) fn streamed(bytes: &Bytes, chunk: usize) -> Fetched {
    let chunks = stream::iter(chunks(bytes, chunk)).then(async |chunk| {
        tokio::task::yield_now().await;
        Ok::<_, Error>(chunk)
    });
    Fetched::stream(Some(bytes.len() as u64), chunks)
}

/// The feeding end of a source. Dropped, it ends the source.
pub(crate) struct Feed(mpsc::UnboundedSender<Result<Bytes>>);

/// A source that is fed by hand.
pub(crate) fn feed(len: Option<u64>) -> (Feed, Fetched) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let chunks = stream::unfold(receiver, async |mut receiver| {
        Some((receiver.recv().await?, receiver))
    });
    (Feed(sender), Fetched::stream(len, chunks))
}

impl Feed {
    /// Gives the next chunk; nobody may be there to take it.
    pub(crate) fn gives(&self, chunk: Bytes) {
        let _ = self.0.send(Ok(chunk));
    }

    /// Breaks the source off.
    pub(crate) fn fails(&self, error: Error) {
        let _ = self.0.send(Err(error));
    }

    /// Waits until the flight has let go of the source.
    pub(crate) async fn dropped(&self) {
        self.0.closed().await;
    }

    /// Whether the flight has let go of the source.
    pub(crate) fn is_dropped(&self) -> bool {
        self.0.is_closed()
    }
}

/// Counts the bytes of sources that someone still holds.
#[derive(Clone, Default)]
pub(crate) struct Ledger(Arc<Held>);

#[derive(Default)]
struct Held {
    now: AtomicUsize,
    peak: AtomicUsize,
}

struct Counted {
    bytes: Bytes,
    ledger: Ledger,
}

impl Ledger {
    /// The same bytes, counted until the last handle to them is dropped.
    pub(crate) fn counts(&self, bytes: Bytes) -> Bytes {
        let now = self.0.now.fetch_add(bytes.len(), Ordering::SeqCst) + bytes.len();
        self.0.peak.fetch_max(now, Ordering::SeqCst);
        let ledger = self.clone();
        Bytes::from_owner(Counted { bytes, ledger })
    }

    pub(crate) fn now(&self) -> usize {
        self.0.now.load(Ordering::SeqCst)
    }

    pub(crate) fn peak(&self) -> usize {
        self.0.peak.load(Ordering::SeqCst)
    }
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let Held { now, .. } = &*self.ledger.0;
        now.fetch_sub(self.bytes.len(), Ordering::SeqCst);
    }
}

/// The whole body of an answer.
pub(crate) async fn whole(response: Response) -> Bytes {
    let (bytes, end) = to_the_end(response).await;
    end.expect("a clean end");
    bytes
}

/// All the bytes that come, and how they end.
pub(crate) async fn to_the_end(response: Response) -> (Bytes, Result<()>) {
    let mut body = response.into_body().expect("a body");
    let mut all = Vec::new();
    loop {
        match body.chunk().await {
            Ok(Some(chunk)) => all.extend_from_slice(&chunk),
            Ok(None) => return (all.into(), Ok(())),
            Err(error) => return (all.into(), Err(error)),
        }
    }
}

/// A memory tier of 16 MiB that expires objects by the test's clock.
pub(crate) fn memory_at(clock: &ManualClock) -> Memory {
    let clock = clock.clone();
    let store = Memory::builder(16 << 20).clock(move || clock.now());
    store.build().expect("a memory store")
}
