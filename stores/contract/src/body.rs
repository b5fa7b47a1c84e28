//! The bytes of an object, whole or as they come.

use std::{
    fmt,
    future::poll_fn,
    io,
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, ReadBuf};

use crate::{Error, Result};

/// A boxed stream of chunks.
pub type BoxStream = Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>;

/// The bytes of an object: whole, or a stream of chunks.
///
/// It reads chunk by chunk ([`chunk`](Self::chunk), or as a `Stream`), as an `AsyncRead`, or all at
/// once with a bound ([`bytes`](Self::bytes)).
///
/// A body that knows its length holds its source to it: a source that ends early or runs past is
/// an error of kind [`Corrupt`](crate::ErrorKind::Corrupt), never a clean end. Empty chunks are
/// passed over, and an endless run of them does not keep other tasks from running. After its end, or
/// after an error, a stream stays ended; as `AsyncRead` an error is given again, so that it cannot
/// be taken for the end.
///
/// Reading is cancel safe: a read that is dropped has taken nothing.
///
/// ```
/// # async fn demo() -> Result<(), larder_store::Error> {
/// use larder_store::Body;
///
/// let mut body = Body::from("all there is");
/// assert_eq!(body.len(), Some(12));
/// while let Some(chunk) = body.chunk().await? {
///     assert_eq!(chunk, "all there is");
/// }
/// # Ok(())
/// # }
/// ```
pub struct Body(Source);

/// Chunks that a source may have ready in a row before the body lets other tasks go on: empty ones
/// in one poll, others while [`Body::bytes`] collects them.
const READY_MAX: usize = 64;

/// Small, since every hit moves it: what a stream needs beside itself stands in its box.
enum Source {
    /// What is still to be read, nothing at the end.
    Whole(Bytes),
    /// Only borrowed, but for its length: the mutex makes a body `Sync` though its stream need not
    /// be.
    Stream(Mutex<Pin<Box<dyn Chunks>>>),
    Failed(Error),
}

/// A stream and what is known of its progress.
trait Chunks: Send {
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes>>>;

    fn progress(self: Pin<&mut Self>) -> &mut Progress;

    fn len(&self) -> Option<u64>;
}

struct Progress {
    /// Bytes still to come from the stream, where they are known.
    left: Option<u64>,
    /// What `AsyncRead` took from the stream and has not handed out.
    rest: Bytes,
}

pin_project! {
    struct Streaming<S> {
        #[pin]
        stream: S,
        progress: Progress,
    }
}

impl<S: Stream<Item = Result<Bytes>> + Send> Chunks for Streaming<S> {
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        self.project().stream.poll_next(cx)
    }

    fn progress(self: Pin<&mut Self>) -> &mut Progress {
        self.project().progress
    }

    fn len(&self) -> Option<u64> {
        let Progress { left, rest } = &self.progress;
        left.map(|left| left + rest.len() as u64)
    }
}

impl Body {
    /// A body without bytes.
    pub const fn empty() -> Self {
        Self(Source::Whole(Bytes::new()))
    }

    /// A body that comes as a stream, held to its length where that is given.
    pub fn stream(
        len: Option<u64>,
        stream: impl Stream<Item = Result<Bytes>> + Send + 'static,
    ) -> Self {
        let progress = Progress {
            left: len,
            rest: Bytes::new(),
        };
        Self(Source::Stream(Mutex::new(Box::pin(Streaming {
            stream,
            progress,
        }))))
    }

    /// The number of bytes still to be read, where it is known; of a body that failed, none is.
    #[allow(clippy::len_without_is_empty)] // An unknown length is neither.
    pub fn len(&self) -> Option<u64> {
        match &self.0 {
            Source::Whole(bytes) => Some(bytes.len() as u64),
            Source::Stream(stream) => stream.lock().unwrap_or_else(PoisonError::into_inner).len(),
            Source::Failed(_) => None,
        }
    }

    /// What is still to be read, where it is at hand.
    #[inline]
    pub fn as_whole(&self) -> Option<&Bytes> {
        match &self.0 {
            Source::Whole(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The next chunk, `None` at the end. Cancel safe.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx))
            .await
            .transpose()
    }

    /// All the bytes, without a copy where they are whole.
    /// [`TooLarge`](crate::ErrorKind::TooLarge) as soon as there are more than `max`.
    pub async fn bytes(mut self, max: u64) -> Result<Bytes> {
        let too_large = || Error::too_large(format!("the body has more than {max} bytes"));
        if self.len().is_some_and(|len| len > max) {
            return Err(too_large());
        }
        let Some(first) = self.chunk().await? else {
            return Ok(Bytes::new());
        };
        let Some(second) = self.chunk().await? else {
            return if first.len() as u64 > max {
                Err(too_large())
            } else {
                Ok(first)
            };
        };
        let mut all = BytesMut::from(first);
        let mut next = Some(second);
        let mut ready = 2;
        while let Some(chunk) = next {
            if (all.len() + chunk.len()) as u64 > max {
                return Err(too_large());
            }
            all.extend_from_slice(&chunk);
            ready += 1;
            if ready % READY_MAX == 0 {
                give_way().await;
            }
            next = self.chunk().await?;
        }
        Ok(all.freeze())
    }

    /// The next chunk that is not empty. The end, and a failure, take the source's place.
    #[inline]
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        let stream = match &mut self.0 {
            Source::Whole(bytes) if bytes.is_empty() => return Poll::Ready(None),
            Source::Whole(bytes) => return Poll::Ready(Some(Ok(std::mem::take(bytes)))),
            Source::Failed(_) => return Poll::Ready(None),
            Source::Stream(stream) => stream.get_mut().unwrap_or_else(PoisonError::into_inner),
        };
        let rest = &mut stream.as_mut().progress().rest;
        if !rest.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(rest))));
        }
        let mut empty = 0;
        let next = loop {
            match ready!(stream.as_mut().poll_next(cx)) {
                Some(Ok(chunk)) if chunk.is_empty() => {}
                next => break next,
            }
            empty += 1;
            if empty == READY_MAX {
                // The source may never wait: others have their turn, and time-outs are looked at.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        };
        match stream.as_mut().progress().check(next) {
            Ok(Some(chunk)) => Poll::Ready(Some(Ok(chunk))),
            Ok(None) => {
                *self = Self::empty();
                Poll::Ready(None)
            }
            Err(failure) => {
                self.0 = Source::Failed(failure.clone());
                Poll::Ready(Some(Err(failure)))
            }
        }
    }
}

/// Lets other tasks go on, whatever runtime they are of.
async fn give_way() {
    let mut has_given = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut has_given, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

impl Progress {
    /// Holds what the stream gave to the length that it was to have.
    fn check(&mut self, next: Option<Result<Bytes>>) -> Result<Option<Bytes>> {
        let Some(chunk) = next.transpose()? else {
            return match self.left {
                None | Some(0) => Ok(None),
                Some(left) => {
                    let message = format!("the source ended {left} bytes short of its length");
                    Err(Error::corrupt(message))
                }
            };
        };
        if let Some(left) = &mut self.left {
            let remaining = left.checked_sub(chunk.len() as u64);
            *left = remaining.ok_or_else(|| Error::corrupt("the source ran past its length"))?;
        }
        Ok(Some(chunk))
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::empty()
    }
}

impl<T: Into<Bytes>> From<T> for Body {
    fn from(bytes: T) -> Self {
        Self(Source::Whole(bytes.into()))
    }
}

impl Stream for Body {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_chunk(cx)
    }
}

impl AsyncRead for Body {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Source::Failed(error) = &self.0 {
            return Poll::Ready(Err(error.clone().into()));
        }
        let Some(chunk) = ready!(self.poll_chunk(cx)) else {
            return Poll::Ready(Ok(()));
        };
        let mut chunk = chunk?;
        buf.put_slice(&chunk.split_to(chunk.len().min(buf.remaining())));
        match &mut self.0 {
            Source::Whole(bytes) => *bytes = chunk,
            Source::Stream(stream) => {
                let stream = stream.get_mut().unwrap_or_else(PoisonError::into_inner);
                stream.as_mut().progress().rest = chunk;
            }
            Source::Failed(_) => {}
        }
        Poll::Ready(Ok(()))
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = match &self.0 {
            Source::Whole(_) => "whole",
            Source::Stream(_) => "stream",
            Source::Failed(_) => "failed",
        };
        write!(f, "Body({source}, {:?} bytes to come)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use tokio::io::AsyncReadExt;

    use super::*;

    fn body(len: Option<u64>, chunks: &[&'static str]) -> Body {
        let chunks: Vec<_> = chunks
            .iter()
            .map(|chunk| Ok(Bytes::from_static(chunk.as_bytes())))
            .collect();
        Body::stream(len, stream::iter(chunks))
    }

    #[tokio::test]
    async fn a_length_is_held() {
        assert_eq!(
            body(Some(4), &["ab", "", "cd"]).bytes(9).await.unwrap(),
            "abcd"
        );
        assert!(
            body(Some(5), &["ab", "cd"])
                .bytes(9)
                .await
                .unwrap_err()
                .is_corrupt()
        );
        assert!(
            body(Some(3), &["ab", "cd"])
                .bytes(9)
                .await
                .unwrap_err()
                .is_corrupt()
        );
        assert!(
            body(None, &["ab", "cd"])
                .bytes(3)
                .await
                .unwrap_err()
                .is_too_large()
        );
        assert!(
            body(None, &["abcd"])
                .bytes(3)
                .await
                .unwrap_err()
                .is_too_large()
        );
    }

    /// How often a body is polled until it is read, and what it gives.
    fn polled(body: Body) -> (usize, Result<Bytes>) {
        let (mut polls, mut reading) = (0, Box::pin(body.bytes(1 << 20)));
        let mut cx = Context::from_waker(std::task::Waker::noop());
        loop {
            polls += 1;
            if let Poll::Ready(read) = reading.as_mut().poll(&mut cx) {
                return (polls, read);
            }
        }
    }

    #[test]
    fn s92_a_source_that_never_waits_lets_others_go_on() {
        for chunk in ["", "x"] {
            let chunks = vec![chunk; 100 * READY_MAX];
            let (polls, read) = polled(body(None, &chunks));
            assert_eq!(read.unwrap().len(), chunk.len() * chunks.len());
            assert!((50..=101).contains(&polls), "{polls} polls for {chunk:?}");
        }
        let (polls, read) = polled(body(Some(2), &["", "a", "", "b", ""]));
        assert_eq!((polls, &read.unwrap()[..]), (1, &b"ab"[..]));
    }

    #[tokio::test]
    async fn s92_an_endless_run_of_empty_chunks_runs_into_a_time_out() {
        let endless = stream::repeat_with(|| Ok(Bytes::new()));
        let mut body = Body::stream(None, endless);
        let waiting = tokio::time::timeout(std::time::Duration::from_millis(20), body.chunk());
        assert!(waiting.await.is_err());
        let mut nothing = [0; 1];
        let reading = tokio::time::timeout(
            std::time::Duration::from_millis(20),
            body.read(&mut nothing),
        );
        assert!(reading.await.is_err(), "as AsyncRead too");
    }

    #[tokio::test]
    async fn s25_after_the_end_comes_the_end() {
        let mut body = body(None, &["ab"]);
        assert_eq!(body.chunk().await.unwrap().unwrap(), "ab");
        for _ in 0..3 {
            assert!(body.chunk().await.unwrap().is_none());
        }
        let mut whole = Body::from("x");
        assert!(whole.chunk().await.unwrap().is_some());
        for _ in 0..3 {
            assert!(whole.chunk().await.unwrap().is_none());
        }
    }

    #[tokio::test]
    async fn as_async_read_an_error_is_never_an_end() {
        let mut body = body(Some(9), &["abc", "d"]);
        let mut all = Vec::new();
        assert!(body.read_to_end(&mut all).await.is_err());
        assert_eq!(all, b"abcd");
        assert!(body.read_to_end(&mut all).await.is_err(), "and again");
    }

    #[tokio::test]
    async fn small_reads_and_chunks_can_be_mixed() {
        let mut body = body(Some(6), &["abc", "def"]);
        let mut two = [0; 2];
        body.read_exact(&mut two).await.unwrap();
        assert_eq!((&two, body.len()), (b"ab", Some(4)));
        assert_eq!(body.chunk().await.unwrap().unwrap(), "c");
        assert_eq!(body.bytes(3).await.unwrap(), "def");
    }
}
