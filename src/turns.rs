//! The commit phases of one key take turns.
//!
//! A turn is held while an object is published or removed in the tiers, never while bytes stream.
//! Every step under it is bounded by its tier's time-out, so a turn is too.
//!
//! Invariants:
//! 1. One ticket of a key holds the turn; all others wait. They leave in any order, the holder only
//!    by giving the turn to the next.
//! 2. A key has a queue while a ticket for it exists, and no longer.
//! 3. The table knows no runtime: a waiter is a `Waker`, and one lock is held, for a moment.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    hash::{BuildHasher, RandomState},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use larder_store::KeyBuf;

use crate::sync::{AtomicU64, Mutex, Ordering, lock};

#[derive(Clone)]
pub(crate) struct Turns(Arc<Table>);

struct Table {
    stripes: Box<[Stripe]>,
    hasher: RandomState,
    tickets: AtomicU64,
}

/// A key's turn. Most keys have a holder and nobody who waits, which allocates nothing.
struct Queue {
    holder: u64,
    waiting: VecDeque<Ticket>,
}

struct Ticket {
    number: u64,
    waker: Option<Waker>,
}

/// A place in the queue for a key's turn, and the turn itself once the future has resolved.
pub(crate) struct Turn {
    table: Arc<Table>,
    key: KeyBuf,
    number: u64,
}

/// Waits for a [`Turn`]. Dropped, it leaves the queue.
pub(crate) struct TakeTurn {
    turn: Option<Turn>,
    /// Nobody was before it: the turn was its own from the start.
    is_first: bool,
}

type Stripe = Mutex<HashMap<KeyBuf, Queue>>;

const STRIPES: usize = 64;

impl Turns {
    pub(crate) fn new() -> Self {
        let stripes = (0..STRIPES).map(|_| Mutex::default()).collect();
        let (hasher, tickets) = (RandomState::new(), AtomicU64::new(0));
        Self(Arc::new(Table {
            stripes,
            hasher,
            tickets,
        }))
    }

    /// Queues for the key's turn, now; the future resolves when it has come.
    pub(crate) fn take(&self, key: &KeyBuf) -> TakeTurn {
        let number = self.0.tickets.fetch_add(1, Ordering::Relaxed);
        let mut stripe = lock(self.0.stripe(key));
        let is_first = match stripe.entry(key.clone()) {
            Entry::Vacant(vacant) => {
                vacant.insert(Queue {
                    holder: number,
                    waiting: VecDeque::new(),
                });
                true
            }
            Entry::Occupied(mut queue) => {
                let waker = None;
                queue.get_mut().waiting.push_back(Ticket { number, waker });
                false
            }
        };
        drop(stripe);
        let turn = Some(Turn {
            table: Arc::clone(&self.0),
            key: key.clone(),
            number,
        });
        TakeTurn { turn, is_first }
    }

    /// The keys whose turn is taken now.
    pub(crate) fn keys(&self) -> Vec<KeyBuf> {
        self.0
            .stripes
            .iter()
            .flat_map(|stripe| lock(stripe).keys().cloned().collect::<Vec<_>>())
            .collect()
    }

    /// The number of keys whose turn is taken.
    pub(crate) fn len(&self) -> usize {
        self.0.stripes.iter().map(|stripe| lock(stripe).len()).sum()
    }
}

impl Table {
    #[allow(clippy::cast_possible_truncation)] // A part of the hash is enough.
    fn stripe(&self, key: &KeyBuf) -> &Stripe {
        &self.stripes[self.hasher.hash_one(key) as usize % STRIPES]
    }
}

impl Future for TakeTurn {
    type Output = Turn;

    /// # Panics
    ///
    /// When it is polled again after the turn was given.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Turn> {
        const GIVEN: &str = "polled after the turn was given";
        if self.is_first {
            return Poll::Ready(self.turn.take().expect(GIVEN));
        }
        let turn = self.turn.as_ref().expect(GIVEN);
        let mut stripe = lock(turn.table.stripe(&turn.key));
        let queue = stripe.get_mut(&turn.key).expect("a ticket keeps its queue");
        if queue.holder == turn.number {
            drop(stripe);
            return Poll::Ready(self.turn.take().expect("checked above"));
        }
        let mut waiting = queue.waiting.iter_mut();
        let mine = waiting.find(|ticket| ticket.number == turn.number);
        let mine = mine.expect("a ticket is in its queue");
        let before = mine.waker.replace(cx.waker().clone());
        drop(stripe);
        drop(before);
        Poll::Pending
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut stripe = lock(self.table.stripe(&self.key));
        let Some(queue) = stripe.get_mut(&self.key) else {
            return;
        };
        if queue.holder != self.number {
            let is_own = |ticket: &Ticket| ticket.number == self.number;
            let own = queue.waiting.iter().position(is_own);
            let left = own.and_then(|at| queue.waiting.remove(at));
            drop(stripe);
            drop(left); // With its waker, which is foreign.
            return;
        }
        let next = queue.waiting.pop_front();
        let mut gone = None;
        match &next {
            Some(next) => queue.holder = next.number,
            None => gone = stripe.remove_entry(&self.key),
        }
        drop(stripe);
        drop(gone);
        if let Some(waker) = next.and_then(|next| next.waker) {
            waker.wake();
        }
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn turns_come_in_order_and_leavers_do_not_stop_them() {
        let turns = Turns::new();
        let (a, b) = (KeyBuf::new("a").unwrap(), KeyBuf::new("b").unwrap());
        let first = turns.take(&a).now_or_never().unwrap();
        let (mut second, third, mut fourth) = (turns.take(&a), turns.take(&a), turns.take(&a));
        assert!((&mut second).now_or_never().is_none());
        assert!(
            turns.take(&b).now_or_never().is_some(),
            "another key is free"
        );
        drop(third);
        drop(first);
        assert!((&mut fourth).now_or_never().is_none());
        let second = second.now_or_never().unwrap();
        drop(second);
        drop(fourth.now_or_never().unwrap());
        assert_eq!(turns.len(), 0, "s18: nothing stays");
    }
}

#[cfg(all(test, shuttle))]
mod model {
    use shuttle::{future, sync::atomic::AtomicUsize};

    use super::*;

    /// Tasks that take turns, one of which gives up while it waits: never two at once, all come to
    /// their turn, and the table is empty at the end.
    #[test]
    fn s71_one_at_a_time_and_nobody_is_forgotten() {
        shuttle::check_random(
            || {
                let turns = Turns::new();
                let inside = Arc::new(AtomicUsize::new(0));
                let key = KeyBuf::new("k").unwrap();
                let tasks: Vec<_> = (0..3)
                    .map(|_| {
                        let (turns, inside, key) =
                            (turns.clone(), Arc::clone(&inside), key.clone());
                        future::spawn(async move {
                            let turn = turns.take(&key).await;
                            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                            future::yield_now().await;
                            inside.fetch_sub(1, Ordering::SeqCst);
                            drop(turn);
                        })
                    })
                    .collect();
                drop(turns.take(&key));
                future::block_on(async {
                    for task in tasks {
                        task.await.unwrap();
                    }
                });
                assert_eq!(turns.len(), 0);
            },
            2_000,
        );
    }
}
