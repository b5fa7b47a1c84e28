//! One operation of a tier's store: bounded, its panics caught, its failures counted.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use larder_store::{Error, ErrorKind, Result};
use pin_project_lite::pin_project;

use crate::{
    counters::count,
    tier::Place,
    within::{Within, within},
};

pin_project! {
    /// An operation that runs when it is awaited. A failure, a panic among them, is counted and
    /// traced; it says nothing about the reader.
    //
    // By hand, not an async function: each of those keeps what it was called with beside what it
    // awaits, and these are in every future of the read path.
    #[must_use = "futures do nothing unless polled"]
    pub(crate) struct Attempt<'a, C, F> {
        place: &'a Place,
        what: &'static str,
        // Whether it asks the breaker, and tells it how it went.
        guarded: bool,
        begun: bool,
        #[pin]
        operation: Within<'a, Caught<C, F>>,
    }
}

impl<'a, C, F> Attempt<'a, C, F> {
    pub(crate) fn new(
        place: &'a Place,
        bound: Duration,
        guarded: bool,
        what: &'static str,
        call: C,
    ) -> Self {
        let call = Caught::Call { call: Some(call) };
        Self {
            place,
            what,
            guarded,
            begun: false,
            operation: within(&place.runtime, bound, call),
        }
    }
}

impl<C, F, T> Future for Attempt<'_, C, F>
where
    C: FnOnce() -> F,
    F: Future<Output = Result<T>>,
{
    type Output = Result<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T>> {
        let this = self.project();
        let (place, what) = (*this.place, *this.what);
        let guard = place.guard.as_ref().filter(|_| *this.guarded);
        if !*this.begun && guard.is_some_and(|guard| !guard.admits()) {
            count(&place.counts.spared);
            let message = format!("{what} was not tried, the tier {} is away", place.name);
            return Poll::Ready(Err(Error::new(ErrorKind::Unavailable, message)));
        }
        *this.begun = true;
        let bound = this.operation.bound;
        let result = match ready!(this.operation.poll(cx)) {
            Ok(Ok(result)) => result,
            Ok(Err(Panicked)) => {
                let message = format!("{what} panicked in the tier {}", place.name);
                Err(Error::new(ErrorKind::Other, message))
            }
            Err(missed) => Err(missed.error(|| {
                format!(
                    "{what} took longer than {bound:?} in the tier {}",
                    place.name
                )
            })),
        };
        if let Err(error) = &result {
            place.note(what, error);
        }
        if let Some(guard) = guard {
            guard.ended(result.as_ref().err());
        }
        Poll::Ready(result)
    }
}

struct Panicked;

pin_project! {
    /// A call and the future it gives. The call itself may panic, not only its future.
    #[project = CaughtProjection]
    enum Caught<C, F> {
        Call { call: Option<C> },
        Runs { #[pin] future: F },
    }
}

impl<C: FnOnce() -> F, F: Future> Future for Caught<C, F> {
    type Output = Result<F::Output, Panicked>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let CaughtProjection::Call { call } = self.as_mut().project() {
            let call = call
                .take()
                .expect("a call that panicked is not polled again");
            match catch_unwind(AssertUnwindSafe(call)) {
                Ok(future) => self.set(Self::Runs { future }),
                Err(_) => return Poll::Ready(Err(Panicked)),
            }
        }
        match self.project() {
            CaughtProjection::Runs { future } => {
                match catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
                    Ok(poll) => poll.map(Ok),
                    Err(_) => Poll::Ready(Err(Panicked)),
                }
            }
            CaughtProjection::Call { .. } => unreachable!("it was set above"),
        }
    }
}
