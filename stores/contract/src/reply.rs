//! The future that store operations return.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use crate::Result;

/// The answer of a store: there at once, or later.
///
/// What is [`ready`](Self::ready) costs no allocation and no wait, so that a hit in memory through
/// `dyn Store` is as cheap as a call. What must wait is boxed once.
///
/// Like every future it does nothing before it is polled, with one exception: an answer that was
/// ready took effect when the operation was called. Dropping a reply leaves the operation done or
/// not done, never half.
#[must_use = "an operation that must wait does nothing unless its reply is awaited"]
pub struct Reply<'a, T>(State<'a, T>);

enum State<'a, T> {
    Ready(Option<Result<T>>),
    Later(Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>),
}

// The value is moved out, never pinned.
impl<T> Unpin for Reply<'_, T> {}

impl<'a, T> Reply<'a, T> {
    /// An answer that is there.
    #[inline]
    pub fn ready(result: Result<T>) -> Self {
        Self(State::Ready(Some(result)))
    }

    /// An answer that takes time; the future is boxed.
    pub fn later(future: impl Future<Output = Result<T>> + Send + 'a) -> Self {
        Self(State::Later(Box::pin(future)))
    }

    /// Whether the answer is there, so that the next poll gives it.
    #[inline]
    pub fn is_ready(&self) -> bool {
        matches!(self.0, State::Ready(_))
    }
}

impl<T> Future for Reply<'_, T> {
    type Output = Result<T>;

    /// # Panics
    ///
    /// When it is polled again after it gave its answer.
    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            State::Ready(result) => Poll::Ready(result.take().expect("polled after its answer")),
            State::Later(future) => future.as_mut().poll(cx),
        }
    }
}

impl<T> fmt::Debug for Reply<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_ready() {
            "Reply(ready)"
        } else {
            "Reply(later)"
        })
    }
}
