//! Bounds in time that cost nothing where nobody has to wait.
//!
//! tokio's own time-out reads the clock and takes a handle of the runtime before it knows whether
//! there is anything to wait for. Most operations on a cache are done when they are first polled.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use larder_store::{Error, ErrorKind};
use pin_project_lite::pin_project;
use tokio::{
    task::coop::{Unconstrained, unconstrained},
    time::Sleep,
};

use crate::runtime::{Ended, Runtime};

pin_project! {
    /// A future, or [`Missed`] once it has been waited for so long: from its first poll on, which
    /// it may always use.
    #[must_use = "futures do nothing unless polled"]
    pub(crate) struct Within<'a, F> {
        runtime: &'a Runtime,
        #[pin]
        future: F,
        pub(crate) bound: Duration,
        // Unconstrained: a future that uses up its task's budget each time must not stop the clock.
        timer: Option<Pin<Box<Unconstrained<Sleep>>>>,
    }
}

/// Why a future was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missed {
    /// The bound has passed.
    Elapsed,
    /// The cache's runtime has ended: nobody would say when the bound passes.
    Ended,
}

impl Missed {
    /// A time-out with this message, unless the runtime has ended.
    pub(crate) fn error(self, message: impl FnOnce() -> String) -> Error {
        match self {
            Self::Elapsed => Error::timeout(message()),
            Self::Ended => ended(),
        }
    }
}

/// The error once the cache's runtime has ended.
pub(crate) fn ended() -> Error {
    let message = "the cache is closed, since its tokio runtime has ended";
    Error::new(ErrorKind::Closed, message)
}

/// Bounds a future, by a timer of the cache's runtime. Cancel safe where the future is.
pub(crate) fn within<F>(runtime: &Runtime, bound: Duration, future: F) -> Within<'_, F> {
    Within {
        runtime,
        future,
        bound,
        timer: None,
    }
}

impl<F: Future> Future for Within<'_, F> {
    type Output = Result<F::Output, Missed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.future.poll(cx) {
            return Poll::Ready(Ok(output));
        }
        let (runtime, bound) = (*this.runtime, *this.bound);
        let timer = this
            .timer
            .get_or_insert_with(|| Box::pin(unconstrained(runtime.sleep(bound))));
        let passed = runtime.poll_timer(timer.as_mut(), cx);
        passed.map(|passed| {
            Err(match passed {
                Ok(()) => Missed::Elapsed,
                Err(Ended) => Missed::Ended,
            })
        })
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::future::{pending, poll_fn, ready};

    use tokio::{runtime::Handle, time::sleep};

    use super::*;

    fn runtime() -> Runtime {
        Runtime::new(Handle::current()).expect("a runtime with timers")
    }

    #[tokio::test]
    async fn what_is_done_at_once_needs_no_clock() {
        let runtime = runtime();
        let mut bounded = std::pin::pin!(within(&runtime, Duration::ZERO, ready(7)));
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert_eq!(bounded.as_mut().poll(&mut cx), Poll::Ready(Ok(7)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_done_in_time_has_elapsed() {
        let began = tokio::time::Instant::now();
        let bound = Duration::from_secs(3);
        let runtime = runtime();
        let never = within(&runtime, bound, pending::<()>());
        assert_eq!(never.await, Err(Missed::Elapsed));
        assert_eq!(began.elapsed(), bound);
        let late = sleep(Duration::from_secs(2));
        assert_eq!(within(&runtime, bound, late).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_future_that_never_gives_way_is_cut_too() {
        let greedy = poll_fn(|cx| {
            while tokio::task::coop::has_budget_remaining() {
                let Poll::Ready(proceed) = tokio::task::coop::poll_proceed(cx) else {
                    break;
                };
                proceed.made_progress();
            }
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        let clock = tokio::spawn(async {
            // The paused clock moves only where nothing is ready to run.
            tokio::time::advance(Duration::from_secs(5)).await;
        });
        let runtime = runtime();
        let greedy = within(&runtime, Duration::from_secs(3), greedy);
        assert_eq!(greedy.await, Err(Missed::Elapsed));
        clock.await.expect("it does not panic");
    }
}
