//! What waits for a subscriber.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

/// The most messages that wait.
pub(super) const LEN_MAX: usize = 1024;

/// The most bytes that they have together, but that one message always fits.
pub(super) const BYTES_MAX: usize = 4 << 20;

/// One thing that waits: what came, or that something is missing.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    Payload(Box<[u8]>),
    Lost,
}

/// A bounded queue that never makes its writer wait: what does not fit becomes one `Lost`, together
/// with all that waited. The reader is told the sooner, and need not work off what is doubtful
/// anyway.
#[derive(Default)]
pub(super) struct Queue(Mutex<State>);

#[derive(Default)]
struct State {
    waiting: VecDeque<Arrival>,
    bytes: usize,
    ended: bool,
    reader: Option<Waker>,
}

impl Queue {
    /// Adds what came.
    pub(super) fn push(&self, payload: &[u8]) {
        let mut state = self.state();
        let bytes = state.bytes + payload.len();
        if state.waiting.len() >= LEN_MAX || (bytes > BYTES_MAX && state.bytes > 0) {
            state.waiting.clear();
            state.bytes = 0;
            state.lose();
        }
        state.bytes += payload.len();
        state.waiting.push_back(Arrival::Payload(payload.into()));
        wake(state);
    }

    /// Adds that something is missing.
    pub(super) fn lose(&self) {
        let mut state = self.state();
        state.lose();
        wake(state);
    }

    /// Nothing follows.
    pub(super) fn end(&self) {
        let mut state = self.state();
        state.ended = true;
        wake(state);
    }

    /// The next; `None` after the last. There is one reader.
    pub(super) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<Arrival>> {
        let mut state = self.state();
        let Some(next) = state.waiting.pop_front() else {
            if state.ended {
                return Poll::Ready(None);
            }
            let former = state.reader.replace(cx.waker().clone());
            // A waker is foreign code.
            drop(state);
            drop(former);
            return Poll::Pending;
        };
        if let Arrival::Payload(payload) = &next {
            state.bytes -= payload.len();
        }
        Poll::Ready(Some(next))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Two in a row say no more than one.
    fn lose(&mut self) {
        if self.waiting.back() != Some(&Arrival::Lost) {
            self.waiting.push_back(Arrival::Lost);
        }
    }
}

/// Takes the lock in, to wake without it.
fn wake(mut state: MutexGuard<'_, State>) {
    let reader = state.reader.take();
    drop(state);
    if let Some(reader) = reader {
        reader.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(queue: &Queue) -> Poll<Option<Arrival>> {
        queue.poll_next(&mut Context::from_waker(Waker::noop()))
    }

    fn arrival(payload: &[u8]) -> Poll<Option<Arrival>> {
        Poll::Ready(Some(Arrival::Payload(payload.into())))
    }

    const LOST: Poll<Option<Arrival>> = Poll::Ready(Some(Arrival::Lost));

    #[test]
    fn what_came_is_given_in_order_until_the_end() {
        let queue = Queue::default();
        queue.push(b"a");
        queue.lose();
        queue.lose();
        queue.push(b"b");
        queue.end();
        assert_eq!(next(&queue), arrival(b"a"));
        assert_eq!(next(&queue), LOST);
        assert_eq!(next(&queue), arrival(b"b"));
        assert_eq!(next(&queue), Poll::Ready(None));
    }

    #[test]
    fn one_more_than_there_is_room_for_is_lost_with_the_others() {
        let queue = Queue::default();
        for _ in 0..LEN_MAX {
            queue.push(b"a");
        }
        queue.push(b"b");
        assert_eq!(next(&queue), LOST);
        assert_eq!(next(&queue), arrival(b"b"));
        assert_eq!(next(&queue), Poll::Pending);
    }

    #[test]
    fn bytes_are_counted_and_one_message_always_fits() {
        let queue = Queue::default();
        let half = vec![0; BYTES_MAX / 2];
        queue.push(&half);
        queue.push(&half);
        assert_eq!(next(&queue), arrival(&half));
        queue.push(&half);
        assert_eq!(
            next(&queue),
            arrival(&half),
            "what was taken is not counted"
        );
        queue.push(&half);
        queue.push(b"a");
        assert_eq!(next(&queue), LOST);
        assert_eq!(next(&queue), arrival(b"a"));
        let large = vec![0; BYTES_MAX + 1];
        queue.push(&large);
        assert_eq!(next(&queue), arrival(&large));
        queue.push(&large);
        assert_eq!(
            next(&queue),
            arrival(&large),
            "what was lost is not counted"
        );
    }
}
