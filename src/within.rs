//! Bounds in time that cost nothing where nobody has to wait.
//!
//! tokio's own time-out reads the clock and takes a handle of the runtime before it knows whether
//! there is anything to wait for. Most operations on a cache are done when they are first polled.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::{
    task::coop::{Unconstrained, unconstrained},
    time::{Sleep, sleep},
};

pin_project! {
    /// A future, or [`Elapsed`] once it has been waited for so long: from its first poll on, which
    /// it may always use.
    #[must_use = "futures do nothing unless polled"]
    pub(crate) struct Within<F> {
        #[pin]
        future: F,
        pub(crate) bound: Duration,
        // Unconstrained: a future that uses up its task's budget each time must not stop the clock.
        timer: Option<Pin<Box<Unconstrained<Sleep>>>>,
    }
}

/// The bound has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Elapsed;

/// Bounds a future. Cancel safe where the future is.
pub(crate) fn within<F>(bound: Duration, future: F) -> Within<F> {
    Within {
        future,
        bound,
        timer: None,
    }
}

impl<F: Future> Future for Within<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.future.poll(cx) {
            return Poll::Ready(Ok(output));
        }
        let bound = *this.bound;
        let timer = this
            .timer
            .get_or_insert_with(|| Box::pin(unconstrained(sleep(bound))));
        timer.as_mut().poll(cx).map(|()| Err(Elapsed))
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::future::{pending, poll_fn, ready};

    use super::*;

    #[test]
    fn what_is_done_at_once_needs_no_clock() {
        // Outside of a runtime a timer would panic.
        let mut bounded = std::pin::pin!(within(Duration::ZERO, ready(7)));
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert_eq!(bounded.as_mut().poll(&mut cx), Poll::Ready(Ok(7)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_done_in_time_has_elapsed() {
        let began = tokio::time::Instant::now();
        let bound = Duration::from_secs(3);
        assert_eq!(within(bound, pending::<()>()).await, Err(Elapsed));
        assert_eq!(began.elapsed(), bound);
        let late = sleep(Duration::from_secs(2));
        assert_eq!(within(bound, late).await, Ok(()));
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
        assert_eq!(within(Duration::from_secs(3), greedy).await, Err(Elapsed));
        clock.await.expect("it does not panic");
    }
}
