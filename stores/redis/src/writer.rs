//! Writing an object.
//!
//! A body of at most one chunk is gathered here and becomes part of its manifest. Of a longer one
//! every full chunk goes to the server as it comes, under the name that it keeps, to expire by
//! itself unless the commit makes it last. A chunk is sent when a byte follows it: until then it
//! may be the only one.

use std::{future::poll_fn, io::Write as _, mem, sync::Arc, task::Poll};

use bytes::Bytes;
use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use larder_store::{Commit, Draft, Error, ErrorKind, Key, KeyBuf, Reply, Result, Writer};
use redis::RedisWrite as _;
use tokio::time::Instant;

use crate::{
    chunk,
    fence::Token,
    lease,
    manifest::{Manifest, Placement},
    names::Place,
    script::{self, Outcome},
    shared::{Left, Shared, millis, required},
    staging::Staging,
    store::remove,
};

/// The shortest body, in bytes, that is kept as it came; a shorter one is copied.
const KEPT_MIN: usize = 16 << 10;

/// How many chunks are under way to the server at once.
const SENDING_MAX: usize = 2;

/// A manifest up to this length goes to the server with the commit; a longer one goes ahead of it
/// in the same trip, so that it does not pass through the script, which copies and hashes what it
/// is given: at 4 KiB that takes the server longer than another command, at 64 KiB four times the
/// whole commit.
const ARGUMENT_MAX: usize = 2 << 10;

pub(crate) struct RedisWriter {
    shared: Arc<Shared>,
    key: KeyBuf,
    place: Place,
    draft: Draft,
    fence: Option<Token>,
    /// The whole body, when it came as one piece of the length that it was said to have, at most a
    /// chunk; then the buffer is empty.
    whole: Bytes,
    /// What is not sent yet, at most a chunk.
    buffer: Vec<u8>,
    /// Of all that was written.
    len: u64,
    checksum: u32,
    staging: Staging,
    sending: FuturesUnordered<BoxFuture<'static, Result<()>>>,
    /// When the server last heard of this writer.
    renewed: Instant,
    state: State,
}

enum State {
    Open,
    /// A write has begun, and not ended if it is found so.
    Writing,
    Failed(Error),
}

impl RedisWriter {
    pub(crate) fn open(shared: &Arc<Shared>, key: Key<'_>, mut draft: Draft) -> Result<Self> {
        shared.check_open()?;
        draft.check()?;
        check_size(shared, draft.expected_len().unwrap_or(0))?;
        let fence = draft.take_fence().as_ref().map(Token::of);
        let place = shared.names.place(key);
        Ok(Self {
            shared: Arc::clone(shared),
            key: key.to_buf(),
            staging: Staging::new(shared, &place),
            place,
            draft: draft.owned(),
            fence,
            whole: Bytes::new(),
            buffer: Vec::new(),
            len: 0,
            checksum: 0,
            sending: FuturesUnordered::new(),
            renewed: shared.home.now(),
            state: State::Open,
        })
    }

    /// Checks that a chunk may be written, and counts it.
    fn take(&mut self, data: &[u8]) -> Result<()> {
        self.check()?;
        let len = self.len.saturating_add(data.len() as u64);
        check_size(&self.shared, len)?;
        if self
            .draft
            .expected_len()
            .is_some_and(|expected| len > expected)
        {
            self.draft.check_len(len)?;
        }
        self.len = len;
        self.checksum = crc32c::crc32c_append(self.checksum, data);
        self.staging.count(data.len() as u64);
        Ok(())
    }

    /// Why it can neither be written to nor be committed, if so.
    fn check(&self) -> Result<()> {
        self.shared.check_open()?;
        match &self.state {
            State::Open => Ok(()),
            State::Writing => Err(Error::invalid("a write to this writer was cancelled")),
            State::Failed(error) => Err(error.clone()),
        }
    }

    /// Whether a chunk can be taken without sending anything.
    fn fits(&self, data: &[u8]) -> bool {
        self.buffer.len() + data.len() <= self.shared.settings.chunk_size as usize && !self.is_due()
    }

    /// Keeps what fits.
    fn gather(&mut self, data: Bytes) {
        if self.draft.expected_len() == Some(data.len() as u64) {
            // A small slice must not keep a large buffer in memory until the commit.
            let is_small = data.len() < KEPT_MIN;
            self.whole = if is_small {
                Bytes::copy_from_slice(&data)
            } else {
                data
            };
            return;
        }
        if self.buffer.is_empty() {
            let chunk_size = self.shared.settings.chunk_size;
            let expected = self.draft.expected_len().unwrap_or(0);
            let expected = expected.min(chunk_size.into());
            // It fits: a chunk does.
            self.buffer
                .reserve_exact(usize::try_from(expected).unwrap_or(0));
        }
        self.buffer.extend_from_slice(&data);
    }

    async fn append(&mut self, mut data: Bytes) -> Result<()> {
        let chunk_size = self.shared.settings.chunk_size as usize;
        while !data.is_empty() {
            if self.buffer.len() == chunk_size {
                let full = mem::take(&mut self.buffer);
                self.send(&full).await?;
                self.buffer = full;
                self.buffer.clear();
            }
            if self.buffer.is_empty() && data.len() > chunk_size {
                let full = data.split_to(chunk_size);
                self.send(&full).await?;
                continue;
            }
            let room = chunk_size - self.buffer.len();
            let part = data.split_to(room.min(data.len()));
            self.buffer.extend_from_slice(&part);
        }
        self.renew().await
    }

    /// Sends a chunk as soon as fewer than [`SENDING_MAX`] are under way.
    async fn send(&mut self, data: &[u8]) -> Result<()> {
        self.renew().await?;
        while self.sending.len() >= SENDING_MAX {
            self.sent().await?;
        }
        let name = self.staging.next_chunk();
        let command = set(&self.shared, &name, &[data, &chunk::sums(data)])?;
        let (shared, hash) = (Arc::clone(&self.shared), self.place.hash());
        self.sending.push(Box::pin(async move {
            shared.link.command(hash, &command).await
        }));
        // Sending begins when it is asked for the first time, which is after those that are done.
        poll_fn(|cx| {
            while let Poll::Ready(Some(result)) = self.sending.poll_next_unpin(cx) {
                result?;
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// Waits until one of the chunks under way has arrived.
    async fn sent(&mut self) -> Result<()> {
        self.sending.next().await.unwrap_or(Ok(()))
    }

    /// Whether the server should hear of this writer: it lets chunks and fences go of which it
    /// hears nothing.
    fn is_due(&self) -> bool {
        let settings = &self.shared.settings;
        let ttl = settings.staging_ttl.min(settings.fence_ttl);
        (self.fence.is_some() || self.staging.chunks() > 0)
            && self.shared.home.now() - self.renewed > ttl / 3
    }

    async fn renew(&mut self) -> Result<()> {
        if !self.is_due() {
            return Ok(());
        }
        while !self.sending.is_empty() {
            self.sent().await?;
        }
        self.renewed = self.shared.home.now();
        if self.staging.chunks() > 0 && !self.staging.prolong().await? {
            return Err(lost());
        }
        // Whether it holds is for the commit to say. The lease is its holder's to renew.
        if let Some(Token { marker, .. }) = self.fence {
            let fence = Token {
                marker,
                lease: None,
            };
            let ttl = self.shared.settings.fence_ttl;
            lease::prolong(&self.shared, self.key.as_key(), &fence, ttl).await?;
        }
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<Commit> {
        self.check()?;
        self.draft.check_len(self.len)?;
        let left = self.shared.left(self.draft.header());
        let chunks = self.staging.chunks_for(self.shared.settings.chunk_size);
        if chunks.is_some() && left != Left::Nothing {
            let last = mem::take(&mut self.buffer);
            self.send(&last).await?;
            while !self.sending.is_empty() {
                self.sent().await?;
            }
        }
        let manifest = Manifest {
            header: self.draft.header().clone(),
            len: self.len,
            checksum: self.checksum,
            nonce: self.shared.nonces.draw(),
            placement: chunks.map_or(Placement::Inline, Placement::Chunks),
        };
        let outcome = if left == Left::Nothing {
            let fence = self.fence.as_ref();
            remove(&self.shared, &self.place, self.key.as_key(), fence).await?
        } else {
            self.publish(&manifest, left).await?
        };
        match outcome {
            Outcome::Done => Ok(Commit::Done(Some(Arc::new(manifest.into_metadata())))),
            Outcome::Superseded => Ok(Commit::Superseded),
            Outcome::Lost | Outcome::Changed => Err(lost()),
            Outcome::Late => Err(Error::timeout(
                "the commit arrived too late and was refused",
            )),
        }
    }

    async fn publish(&mut self, manifest: &Manifest, left: Left) -> Result<Outcome> {
        let mut value = manifest.encode();
        let (key, place) = (self.key.as_key(), &self.place);
        let (name, marker, lease) = (place.manifest(key), place.marker(key), place.lease(key));
        let staged;
        let mut keys: Vec<&[u8]> = vec![&name, &marker, &lease];
        let (whole, buffer) = (mem::take(&mut self.whole), mem::take(&mut self.buffer));
        let mut ahead = if value.len() + whole.len() + buffer.len() > ARGUMENT_MAX {
            staged = self.staging.manifest();
            keys.push(&staged);
            let command = set(&self.shared, &staged, &[&value, &whole, &buffer])?;
            value.clear();
            Some(command)
        } else {
            value.extend_from_slice(&whole);
            value.extend_from_slice(&buffer);
            None
        };
        let [fence, token] = required(self.fence.as_ref());
        let (chunks, grace, left) = (place.chunks(), self.shared.grace(), left.argument());
        let (link, hash, end) = (&self.shared.link, place.hash(), self.shared.link.end());
        let mut is_again = false;
        let outcome = loop {
            // What its sender has given up must not take effect any more, however late it arrives:
            // others have been told since that it is not there.
            let deadline = link.server_time(hash, end, is_again).await?;
            let deadline = deadline.map_or(String::new(), |millis| millis.to_string());
            let deadline = deadline.as_bytes();
            let args: [&[u8]; 7] = [fence, token, &chunks, &grace, &left, deadline, &value];
            // From here on what is staged may be published, and must not be cleaned up.
            self.staging.disarm();
            let code = match ahead.take() {
                Some(command) => {
                    let running = link.run_after(hash, command, &script::COMMIT, &keys, &args);
                    running.await
                }
                None => link.run(hash, &script::COMMIT, &keys, &args).await,
            };
            let outcome = code.map(|code: i64| Outcome::from(code));
            if is_again || !matches!(outcome, Ok(Outcome::Late)) || Instant::now() >= end {
                break outcome;
            }
            // There is time left, so the server's clock was taken for too early.
            self.staging.arm();
            is_again = true;
        };
        let is_refused = match &outcome {
            Ok(outcome) => *outcome != Outcome::Done,
            // The server had no room for the first thing that the script writes.
            Err(error) => error.is_full(),
        };
        if is_refused {
            self.staging.arm();
        }
        outcome
    }
}

impl Writer for RedisWriter {
    fn write(&mut self, data: Bytes) -> Reply<'_, ()> {
        if let Err(error) = self.take(&data) {
            if matches!(self.state, State::Open) {
                self.state = State::Failed(error.clone());
            }
            return Reply::ready(Err(error));
        }
        if self.fits(&data) {
            self.gather(data);
            return Reply::ready(Ok(()));
        }
        // A reply that is never asked has done nothing, and yet it has counted the bytes.
        self.state = State::Writing;
        let shared = Arc::clone(&self.shared);
        Reply::later(async move {
            let result = shared.home.run(self.append(data)).await;
            self.state = match &result {
                Ok(()) => State::Open,
                Err(error) => State::Failed(error.clone()),
            };
            result
        })
    }

    fn commit(self: Box<Self>) -> Reply<'static, Commit> {
        let shared = Arc::clone(&self.shared);
        Reply::later(async move { shared.home.run(self.finish()).await })
    }

    fn abort(mut self: Box<Self>) -> Reply<'static, ()> {
        Reply::later(async move {
            self.sending.clear();
            let shared = Arc::clone(&self.shared);
            shared.home.run(self.staging.clear()).await
        })
    }
}

/// A command that puts a value that is made of these parts, to expire by itself.
fn set(shared: &Shared, name: &[u8], parts: &[&[u8]]) -> Result<redis::Cmd> {
    let len = parts.iter().map(|part| part.len()).sum::<usize>();
    let mut command = redis::Cmd::with_capacity(5, len + name.len() + 32);
    command.arg("SET").arg(name);
    let mut value = command.writer_for_next_arg();
    for part in parts {
        let written = value.write_all(part);
        written.map_err(|cause| {
            Error::with_source(ErrorKind::Other, "a command cannot be built", cause)
        })?;
    }
    drop(value);
    command.arg("PX").arg(millis(shared.settings.staging_ttl));
    Ok(command)
}

fn check_size(shared: &Shared, len: u64) -> Result<()> {
    let max = shared.settings.object_max;
    if len > max {
        return Err(Error::too_large(format!(
            "the object has {len} bytes, at most {max} are allowed"
        )));
    }
    Ok(())
}

fn lost() -> Error {
    Error::new(
        ErrorKind::Other,
        "the server has lost what was written: it expired or was evicted",
    )
}
