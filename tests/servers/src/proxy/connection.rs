//! One connection through the proxy.

use std::sync::{Arc, atomic::Ordering};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};

use super::{Shared, Way, Weather};

/// The most that is read at once.
const CHUNK: usize = 64 * 1024;

/// The most chunks that are on their way; then the sender has to wait, as on a real network.
const CHUNKS_MAX: usize = 1024;

/// The connection ends in the middle of a reply, as it was told to.
struct Cut;

struct Chunk {
    due: Instant,
    bytes: Vec<u8>,
}

/// Passes on until both ways have ended, or the connection is cut.
pub(super) async fn run(
    client: TcpStream,
    mut weather: watch::Receiver<Weather>,
    shared: Arc<Shared>,
) {
    let cuts = weather.borrow_and_update().cuts;
    shared.open.fetch_add(1, Ordering::SeqCst);
    tokio::select! {
        _ = pass(client, &shared) => {}
        _ = weather.wait_for(|weather| weather.cuts != cuts) => {}
    }
    shared.open.fetch_sub(1, Ordering::SeqCst);
}

/// A server that refuses the connection is a client whose connection ends at once.
async fn pass(client: TcpStream, shared: &Shared) -> Result<(), Cut> {
    let Ok(server) = TcpStream::connect(shared.target).await else {
        return Ok(());
    };
    // Both are better off without a delay of the system's own; neither needs it.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::try_join!(
        one_way(from_client, to_server, Way::Requests, shared),
        one_way(from_server, to_client, Way::Replies, shared),
    )?;
    Ok(())
}

async fn one_way(
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    way: Way,
    shared: &Shared,
) -> Result<(), Cut> {
    let (sender, receiver) = mpsc::channel(CHUNKS_MAX);
    let taken = take(from, sender, shared.weather.subscribe());
    let ((), delivered) = tokio::join!(taken, deliver(receiver, to, way, shared));
    delivered
}

async fn take(
    mut from: OwnedReadHalf,
    chunks: mpsc::Sender<Chunk>,
    weather: watch::Receiver<Weather>,
) {
    loop {
        let mut bytes = Vec::with_capacity(CHUNK);
        // A side that resets the connection has ended as well: what it sent is still delivered.
        if from.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return;
        }
        let due = Instant::now() + weather.borrow().delay;
        if chunks.send(Chunk { due, bytes }).await.is_err() {
            return;
        }
    }
}

async fn deliver(
    mut chunks: mpsc::Receiver<Chunk>,
    mut to: OwnedWriteHalf,
    way: Way,
    shared: &Shared,
) -> Result<(), Cut> {
    let mut weather = shared.weather.subscribe();
    while let Some(Chunk { due, mut bytes }) = chunks.recv().await {
        // Without a delay there is no timer: it would round up to a millisecond.
        if due > Instant::now() {
            sleep_until(due).await;
        }
        let _ = weather.wait_for(|weather| !weather.holds(way)).await;
        let cut = way == Way::Replies && shared.cuts_within(&mut bytes);
        let written = to.write_all(&bytes).await;
        if cut {
            return Err(Cut);
        }
        if written.is_err() {
            // Who should hear it is gone; what comes the other way is still delivered.
            return Ok(());
        }
    }
    // It fails for who is gone already.
    let _ = to.shutdown().await;
    Ok(())
}

impl Weather {
    fn holds(&self, way: Way) -> bool {
        match way {
            Way::Requests => self.requests_held,
            Way::Replies => self.replies_held,
        }
    }
}

impl Shared {
    /// Counts a chunk of a reply; true when the connection ends with what is left of it.
    fn cuts_within(&self, bytes: &mut Vec<u8>) -> bool {
        let mut after = self.cut_after();
        match *after {
            Some(left) if left <= bytes.len() => {
                bytes.truncate(left);
                *after = None;
                true
            }
            Some(left) => {
                *after = Some(left - bytes.len());
                false
            }
            None => false,
        }
    }
}
