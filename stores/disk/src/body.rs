//! The body of a long object: pieces that are read as they are asked for.
//
// Invariants:
// 1. Nothing is handed out that was not verified. After a failure nothing follows.
// 2. While a hop is under way it has the cursor, and a poll only waits for it: a reader that goes
//    away in between has lost nothing, and leaves nothing behind but that one hop.
// 3. A body keeps its file open and holds no lock. Of the store it has a weak handle: bodies that
//    outlive it are read to their end.

use std::{
    collections::VecDeque,
    ops::Range,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_core::Stream;
use larder_store::{Body, Error, ErrorKind, Result};
use tokio::{runtime::Handle, sync::Semaphore, task::coop::poll_proceed};

use crate::{
    blocks::{Blocks, Trouble, Wait},
    budget,
    buffer::Buffers,
    clock::{self, Worker},
    config::PageCache,
    index::Place,
    unreadable,
    volume::Volume,
};

/// A part of an object, to be read in order.
pub(crate) struct Pieces {
    state: State,
    /// What a hop has read ahead.
    ready: VecDeque<Bytes>,
    /// Why the hop ended there.
    failed: Option<Trouble>,
    tie: Tie,
}

enum State {
    Here(Cursor),
    Away(Pin<Box<dyn Future<Output = Result<Landed>> + Send>>),
    Ended,
}

/// What is still to be read.
struct Cursor {
    blocks: Blocks,
    rest: Range<u64>,
    buffers: Buffers,
    /// Up to here the page cache was told to forget, where it is to.
    dropped: Option<u64>,
}

/// What a hop brings back.
struct Landed {
    cursor: Cursor,
    pieces: VecDeque<Bytes>,
    failed: Option<Trouble>,
}

/// What a body has of its store.
struct Tie {
    runtime: Handle,
    cold: Arc<Semaphore>,
    volume: Weak<Volume>,
    hash: u64,
    place: Place,
}

/// A hop reads so many pieces.
const AHEAD: usize = 4;
/// Of objects that are at least so long the page cache forgets what was read ...
const LARGE: u64 = 64 << 20;
/// ... in steps of this length.
const DROP_STEP: u64 = 8 << 20;

impl Pieces {
    /// The most that is read at once.
    pub(crate) const LEN_MAX: u64 = 256 << 10;

    /// A body that gives this part of an object.
    pub(crate) fn body(
        volume: &Arc<Volume>,
        hash: u64,
        place: Place,
        blocks: Blocks,
        range: Range<u64>,
    ) -> Body {
        let drops = volume.settings.page_cache == PageCache::DropLarge && blocks.len() >= LARGE;
        let len = range.end - range.start;
        let pieces = Self {
            state: State::Here(Cursor {
                dropped: drops.then_some(range.start),
                blocks,
                rest: range,
                buffers: volume.buffers.clone(),
            }),
            ready: VecDeque::new(),
            failed: None,
            tie: Tie {
                runtime: volume.runtime.clone(),
                cold: Arc::clone(&volume.cold),
                volume: Arc::downgrade(volume),
                hash,
                place,
            },
        };
        Body::stream(Some(len), pieces)
    }

    /// The next piece, of which no poll takes more than one.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>>> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Poll::Ready(Ok(Some(piece)));
            }
            if let Some(trouble) = self.failed.take() {
                return Poll::Ready(Err(self.tie.fail(trouble)));
            }
            match &mut self.state {
                State::Away(hop) => {
                    let Landed {
                        cursor,
                        pieces,
                        failed,
                    } = ready!(hop.as_mut().poll(cx))?;
                    self.state = State::Here(cursor);
                    (self.ready, self.failed) = (pieces, failed);
                }
                State::Here(cursor) => {
                    cursor.forget(&self.tie.runtime);
                    if cursor.rest.is_empty() {
                        return Poll::Ready(Ok(None));
                    }
                    match cursor.next(Wait::Never) {
                        Ok(piece) => return Poll::Ready(Ok(Some(piece))),
                        Err(Trouble::Cold) => self.leave(),
                        Err(trouble) => return Poll::Ready(Err(self.tie.fail(trouble))),
                    }
                }
                State::Ended => return Poll::Ready(Ok(None)),
            }
        }
    }

    /// Has a thread that may wait go on with it.
    fn leave(&mut self) {
        if let State::Here(cursor) = std::mem::replace(&mut self.state, State::Ended) {
            let runtime = &self.tie.runtime;
            let hop = hop(
                runtime.clone(),
                Arc::clone(&self.tie.cold),
                Weak::clone(&self.tie.volume),
                cursor,
            );
            self.state = State::Away(Box::pin(clock::held(runtime.clone(), Worker::Job, hop)));
            if let Some(volume) = self.tie.volume.upgrade() {
                volume.counters.cold_reads.add(1);
            }
        }
    }
}

impl Stream for Pieces {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let step = ready!(poll_proceed(cx));
        let piece = ready!(self.poll_piece(cx));
        step.made_progress();
        match &piece {
            Ok(Some(piece)) => budget::spend(piece.len()),
            _ => self.state = State::Ended,
        }
        Poll::Ready(piece.transpose())
    }
}

async fn hop(
    runtime: Handle,
    cold: Arc<Semaphore>,
    volume: Weak<Volume>,
    mut cursor: Cursor,
) -> Result<Landed> {
    let permit = cold.acquire_owned().await.map_err(ended)?;
    let landed = runtime.spawn_blocking(move || {
        let _permit = permit;
        let mut pieces = VecDeque::with_capacity(AHEAD);
        let mut failed = None;
        while pieces.len() < AHEAD && failed.is_none() && !cursor.rest.is_empty() {
            match cursor.next_patiently(&volume) {
                Ok(piece) => pieces.push_back(piece),
                Err(trouble) => failed = Some(trouble),
            }
        }
        Landed {
            cursor,
            pieces,
            failed,
        }
    });
    landed.await.map_err(ended)
}

fn ended(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    let message = "the runtime that reads for the store has ended";
    Error::with_source(ErrorKind::Unavailable, message, error)
}

impl Cursor {
    /// Reads the next piece; pieces end where blocks do.
    fn next(&mut self, wait: Wait) -> Result<Bytes, Trouble> {
        let start = self.rest.start;
        let end = (start + 1).next_multiple_of(Pieces::LEN_MAX);
        let end = end.min(self.rest.end);
        let piece = self.blocks.read(start..end, &self.buffers, wait)?;
        self.rest.start = end;
        Ok(piece)
    }

    /// Reads the next piece where that may wait.
    fn next_patiently(&mut self, volume: &Weak<Volume>) -> Result<Bytes, Trouble> {
        let Some(volume) = volume.upgrade() else {
            return self.next(Wait::Allowed);
        };
        let home = self.blocks.home();
        unreadable::read(&volume, || home, || self.next(Wait::Allowed))
    }

    /// Has the page cache forget what is behind, now and then and at the end. It may wait for the
    /// disk, hence elsewhere.
    fn forget(&mut self, runtime: &Handle) {
        let Some(dropped) = self.dropped else { return };
        let step = self.rest.start - dropped;
        if step < DROP_STEP && !(self.rest.is_empty() && step > 0) {
            return;
        }
        self.dropped = Some(self.rest.start);
        let source = self.blocks.source().clone();
        let offset = self.blocks.start() + dropped;
        runtime.spawn_blocking(move || source.file().drop_cached(offset, step));
    }
}

impl Tie {
    fn drop_entry(&self, volume: Option<&Volume>) {
        if let Some(volume) = volume
            && volume.forget(self.hash, self.place)
        {
            volume.counters.corrupt.add(1);
        }
    }

    /// What a reader is told, after the store has drawn its conclusions.
    fn fail(&self, trouble: Trouble) -> Error {
        let volume = self.volume.upgrade();
        match trouble {
            Trouble::Io(error) => {
                if let Some(volume) = volume {
                    volume.counters.io_errors.add(1);
                }
                Error::with_source(ErrorKind::Unavailable, "the object cannot be read", error)
            }
            Trouble::Refused(error) => error,
            Trouble::Unreadable(error) => {
                if let Some(volume) = &volume {
                    volume.counters.io_errors.add(1);
                }
                self.drop_entry(volume.as_deref());
                Error::with_source(ErrorKind::Corrupt, "the object cannot be read", error)
            }
            _ => {
                self.drop_entry(volume.as_deref());
                Error::corrupt("the object is not as it was written")
            }
        }
    }
}
