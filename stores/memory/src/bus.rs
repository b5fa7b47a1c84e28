//! Telling other handles of the store what is not to be served.
//!
//! Invariants:
//! 1. All queues get messages in one order: that of the hub's lock, beneath which a queue's is
//!    taken.
//! 2. No waker is called or dropped while a lock is held.
//! 3. What is subscribed before the store is closed hears of its end; afterwards nothing is.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, Waker},
};

use futures_core::Stream;
use larder_store::{Delivery, Error, ErrorKind, Message, Result};

/// How many messages wait for a subscriber at most. When there are more it loses them all and
/// hears so, which costs no more than losing one: it must check whatever it has.
pub(crate) const QUEUE_MAX: usize = 1024;

/// How many subscribers there may be at once.
pub(crate) const SUBSCRIBERS_MAX: usize = 1024;

#[derive(Default)]
pub(crate) struct Hub(Mutex<Subscribers>);

#[derive(Default)]
struct Subscribers {
    queues: Vec<Weak<Queue>>,
    closed: bool,
}

#[derive(Default)]
struct Queue(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    messages: VecDeque<Arc<Message>>,
    /// Messages are missing before the first of these.
    lost: bool,
    ended: bool,
    waker: Option<Waker>,
}

impl Hub {
    pub(crate) fn publish(&self, message: &Message) -> Result<()> {
        let message = Arc::new(message.clone());
        let (mut queues, mut wakers) = (Vec::new(), Vec::new());
        {
            let mut subscribers = self.open()?;
            subscribers.queues.retain(|queue| {
                let Some(queue) = queue.upgrade() else {
                    return false;
                };
                wakers.extend(queue.push(Arc::clone(&message)));
                queues.push(queue);
                true
            });
        }
        wakers.into_iter().for_each(Waker::wake);
        // One that was given up meanwhile goes here, with no lock held.
        drop(queues);
        Ok(())
    }

    pub(crate) fn subscribe(&self) -> Result<Subscription> {
        let mut subscribers = self.open()?;
        let queues = &mut subscribers.queues;
        queues.retain(|queue| queue.strong_count() > 0);
        if queues.len() >= SUBSCRIBERS_MAX {
            return Err(Error::new(
                ErrorKind::Full,
                format!("there are {SUBSCRIBERS_MAX} subscribers already"),
            ));
        }
        let queue = Arc::new(Queue::default());
        queues.push(Arc::downgrade(&queue));
        Ok(Subscription(queue))
    }

    /// Ends every stream, after what is waiting in it.
    pub(crate) fn close(&self) {
        let queues = {
            let mut subscribers = lock(&self.0);
            subscribers.closed = true;
            std::mem::take(&mut subscribers.queues)
        };
        for queue in queues.iter().filter_map(Weak::upgrade) {
            let waker = {
                let mut waiting = lock(&queue.0);
                waiting.ended = true;
                waiting.waker.take()
            };
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    fn open(&self) -> Result<MutexGuard<'_, Subscribers>> {
        let subscribers = lock(&self.0);
        if subscribers.closed {
            return Err(Error::closed("the memory store"));
        }
        Ok(subscribers)
    }
}

/// Nothing follows when the last handle is gone, closed or not.
impl Drop for Hub {
    fn drop(&mut self) {
        self.close();
    }
}

impl Queue {
    /// Adds a message, and gives the waker of who waits for it.
    fn push(&self, message: Arc<Message>) -> Option<Waker> {
        let mut waiting = lock(&self.0);
        if waiting.messages.len() >= QUEUE_MAX {
            waiting.messages.clear();
            waiting.lost = true;
        }
        waiting.messages.push_back(message);
        waiting.waker.take()
    }
}

/// What one subscriber hears.
pub(crate) struct Subscription(Arc<Queue>);

impl Stream for Subscription {
    type Item = Delivery;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Delivery>> {
        let waker = cx.waker().clone();
        let (polled, _unlocked) = {
            let mut waiting = lock(&self.0.0);
            if std::mem::take(&mut waiting.lost) {
                (Poll::Ready(Some(Delivery::Lost)), Some(waker))
            } else if let Some(message) = waiting.messages.pop_front() {
                let message = Arc::unwrap_or_clone(message);
                (Poll::Ready(Some(Delivery::Message(message))), Some(waker))
            } else if waiting.ended {
                (Poll::Ready(None), Some(waker))
            } else {
                (Poll::Pending, waiting.waker.replace(waker))
            }
        };
        polled
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        task::Wake,
    };

    use futures_util::{FutureExt, StreamExt};
    use larder_store::Notice;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn message(sequence: u64) -> Message {
        Message {
            publisher: 1,
            epoch: 1,
            sequence,
            notice: Notice::Beat,
        }
    }

    /// What there is to be heard now; `None` is the end.
    fn heard(subscription: &mut Subscription) -> (Vec<Delivery>, bool) {
        let mut deliveries = Vec::new();
        loop {
            match subscription.next().now_or_never() {
                Some(Some(delivery)) => deliveries.push(delivery),
                Some(None) => return (deliveries, true),
                None => return (deliveries, false),
            }
        }
    }

    #[test]
    fn a_full_queue_is_lost_and_says_so() {
        let hub = Hub::default();
        let (mut deaf, mut quick) = (hub.subscribe().unwrap(), hub.subscribe().unwrap());
        for sequence in 1..=QUEUE_MAX as u64 {
            hub.publish(&message(sequence)).unwrap();
            let now = heard(&mut quick).0;
            assert_eq!(now, [Delivery::Message(message(sequence))]);
        }
        let (all, _) = heard(&mut deaf);
        assert_eq!(all.len(), QUEUE_MAX, "so many wait");
        assert!(!all.contains(&Delivery::Lost));
        for sequence in 1..=QUEUE_MAX as u64 + 2 {
            hub.publish(&message(sequence)).unwrap();
        }
        let newest = [1, 2].map(|more| Delivery::Message(message(QUEUE_MAX as u64 + more)));
        let (all, _) = heard(&mut deaf);
        assert_eq!(all[0], Delivery::Lost);
        assert_eq!(all[1..], newest);
    }

    #[test]
    fn subscribers_are_bounded_and_forgotten() {
        let hub = Hub::default();
        let mut all: Vec<_> = (0..SUBSCRIBERS_MAX)
            .map(|_| hub.subscribe().unwrap())
            .collect();
        assert!(hub.subscribe().err().unwrap().is_full());
        all.pop();
        let last = hub.subscribe().unwrap();
        drop((all, last));
        hub.publish(&message(1)).unwrap();
        assert!(lock(&hub.0).queues.is_empty());
    }

    #[test]
    fn who_waits_is_woken_by_a_message_and_by_the_end() {
        let hub = Hub::default();
        let mut subscription = hub.subscribe().unwrap();
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let woken = || count.0.load(Ordering::Relaxed);
        let cx = &mut Context::from_waker(&waker);
        assert!(subscription.poll_next_unpin(cx).is_pending());
        assert!(subscription.poll_next_unpin(cx).is_pending());
        hub.publish(&message(1)).unwrap();
        assert_eq!(woken(), 1);
        hub.publish(&message(2)).unwrap();
        assert_eq!(woken(), 1, "it has not waited again");
        assert_eq!(heard(&mut subscription).0.len(), 2);
        assert!(subscription.poll_next_unpin(cx).is_pending());
        let mut unread = hub.subscribe().unwrap();
        hub.close();
        assert_eq!(woken(), 2);
        assert_eq!(heard(&mut subscription), (Vec::new(), true));
        assert_eq!(heard(&mut unread), (Vec::new(), true));
        assert!(hub.subscribe().err().unwrap().is_closed());
        assert!(hub.publish(&message(3)).unwrap_err().is_closed());
    }

    #[test]
    fn what_waits_is_heard_before_the_end() {
        let hub = Hub::default();
        let mut subscription = hub.subscribe().unwrap();
        hub.publish(&message(1)).unwrap();
        drop(hub);
        let rest = vec![Delivery::Message(message(1))];
        assert_eq!(heard(&mut subscription), (rest, true));
    }
}
