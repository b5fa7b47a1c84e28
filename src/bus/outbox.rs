//! What is told to the others: numbered, in order, by one task.
//!
//! Invariants:
//! 1. A number is given to one message, and the next message has the next number; a message that
//!    the bus does not take is sent again under its number until it does.
//! 2. A ticket is sent when every key that was pushed before it was named in a message, or a
//!    message said "all". Where keys do not fit the queue, "all" takes their place.

use std::{collections::VecDeque, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;
use larder_store::{Error, ErrorKind, KeyBuf, Message, Notice, Result, Store, Timestamp};
use tokio::{
    sync::{Notify, watch},
    task::coop::consume_budget,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::Pace;
use crate::{
    clock::Clock,
    counters::{Counts, count},
    sync::{Mutex, lock},
};

/// More keys than this do not wait.
const KEYS_MAX: usize = 4096;

/// How long one attempt to send may take.
const SEND_WAIT: Duration = Duration::from_secs(1);

/// How soon a message that was not taken is sent again: at first, and at most.
const AGAIN_MIN: Duration = Duration::from_millis(50);
const AGAIN_MAX: Duration = Duration::from_secs(1);

/// How long is tried to say good-bye.
pub(super) const END_WAIT: Duration = Duration::from_secs(1);

/// When messages were sent, so many back: enough for a bound, see [`Outbox::mark`].
const MARKS_MAX: usize = 64;

pub(super) struct Outbox {
    pub(super) publisher: u64,
    pace: Pace,
    queue: Mutex<Queue>,
    wake: Notify,
    sent: watch::Sender<u64>,
}

#[derive(Default)]
struct Queue {
    keys: VecDeque<KeyBuf>,
    /// "All" waits to be said, instead of keys.
    all: bool,
    /// A beat is wanted now.
    beat: bool,
    /// Tickets given.
    tickets: u64,
    marks: VecDeque<Mark>,
    /// When the bus was last asked to take a message that it took. The others may have heard it as
    /// early as that.
    taken: Option<Instant>,
    ended: Option<Instant>,
}

/// When a message was first sent.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    sequence: u64,
    pub(super) sent: Timestamp,
    pub(super) sent_at: Instant,
}

/// What to send next.
enum Next {
    /// With the tickets that are sent then.
    Message(Notice, u64),
    Leave,
    Nothing,
}

impl Outbox {
    /// The publisher begins to number once, with its first epoch.
    pub(super) const EPOCH: u64 = 1;

    pub(super) fn new(publisher: u64, pace: Pace) -> Self {
        Self {
            publisher,
            pace,
            queue: Mutex::default(),
            wake: Notify::new(),
            sent: watch::Sender::new(0),
        }
    }

    /// Queues a key; gives the ticket to wait with.
    pub(super) fn push(&self, key: &KeyBuf) -> u64 {
        let mut queue = lock(&self.queue);
        queue.tickets += 1;
        if queue.keys.len() >= KEYS_MAX {
            queue.keys.clear();
            queue.all = true;
        }
        if !queue.all {
            queue.keys.push_back(key.clone());
        }
        let ticket = queue.tickets;
        drop(queue);
        self.wake.notify_one();
        ticket
    }

    /// Queues "all", in place of the keys that wait.
    pub(super) fn push_all(&self) -> u64 {
        let mut queue = lock(&self.queue);
        queue.tickets += 1;
        let told = std::mem::take(&mut queue.keys);
        queue.all = true;
        let ticket = queue.tickets;
        drop(queue);
        drop(told);
        self.wake.notify_one();
        ticket
    }

    /// Has a beat sent now.
    pub(super) fn beat(&self) {
        lock(&self.queue).beat = true;
        self.wake.notify_one();
    }

    /// Has the task send what waits, say good-bye, and end.
    pub(super) fn end(&self, now: Instant) {
        lock(&self.queue).ended.get_or_insert(now);
        self.wake.notify_one();
    }

    /// Waits until a ticket is sent. Cancel safe.
    pub(super) async fn sent(&self, ticket: u64) {
        let mut sent = self.sent.subscribe();
        // The sender is a field of ours: it is not dropped.
        let _ = sent.wait_for(|sent| *sent >= ticket).await;
    }

    /// Whether the others wait for this process yet: by now, or when they give it up, they begin a
    /// generation. Nobody waits for who has said good-bye.
    pub(super) fn is_missed(&self) -> bool {
        let queue = lock(&self.queue);
        let taken = queue.taken.filter(|_| queue.ended.is_none());
        taken.is_some_and(|taken| taken.elapsed() <= self.pace.silence)
    }

    /// Tickets that are not sent yet.
    pub(super) fn len(&self) -> usize {
        let tickets = lock(&self.queue).tickets;
        usize::try_from(tickets.saturating_sub(*self.sent.borrow())).unwrap_or(usize::MAX)
    }

    /// When an own message was sent that comes back now, if that is remembered.
    pub(super) fn mark(&self, message: &Message) -> Option<Mark> {
        let queue = lock(&self.queue);
        let is_it = |mark: &&Mark| mark.sequence == message.sequence;
        queue.marks.iter().rev().find(is_it).copied()
    }

    /// Remembers when a message is sent. But for beats at most one a tick: many messages do not
    /// push out those that are on their way yet.
    fn remember(&self, mark: Mark, is_beat: bool) {
        let mut queue = lock(&self.queue);
        let is_due = |last: &Mark| mark.sent_at.duration_since(last.sent_at) >= self.pace.tick;
        if is_beat || queue.marks.back().is_none_or(is_due) {
            if queue.marks.len() >= MARKS_MAX {
                queue.marks.pop_front();
            }
            queue.marks.push_back(mark);
        }
    }

    fn next(&self, beat_at: Instant) -> Next {
        let mut queue = lock(&self.queue);
        if queue.all {
            queue.all = false;
            return Next::Message(Notice::All, queue.tickets);
        }
        if !queue.keys.is_empty() {
            let len = queue.keys.len().min(Message::KEYS_MAX);
            let keys = queue.keys.drain(..len).collect();
            let waiting = queue.keys.len() as u64;
            return Next::Message(Notice::Keys(keys), queue.tickets - waiting);
        }
        if queue.ended.is_some() {
            return Next::Leave;
        }
        if queue.beat || Instant::now() >= beat_at {
            queue.beat = false;
            return Next::Message(Notice::Beat, queue.tickets);
        }
        Next::Nothing
    }

    /// The time to give up by, once the task is to end.
    fn deadline(&self) -> Option<Instant> {
        lock(&self.queue).ended.map(|ended| ended + END_WAIT)
    }

    /// Sends until the bus takes the message, and gives when it was asked to; none when it is given
    /// up.
    async fn send(&self, store: &dyn Store, message: &Message) -> Option<Instant> {
        let mut pause = AGAIN_MIN;
        loop {
            let asked = Instant::now();
            let error = match attempt(store, message).await {
                Ok(()) => return Some(asked),
                Err(error) => error,
            };
            tracing::debug!(%error, "the bus did not take a message");
            if self.deadline().is_some_and(|end| Instant::now() >= end) {
                return None;
            }
            // A beat late is a generation for all who listen.
            sleep(pause.min(self.pace.beat)).await;
            pause = (pause * 2).min(AGAIN_MAX);
        }
    }
}

/// Sends what is pushed, in order, and a beat where there is nothing, until it is ended.
pub(super) async fn run(
    outbox: Arc<Outbox>,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    counts: Arc<Counts>,
) {
    let (mut sequence, mut beat_at) = (0, Instant::now());
    loop {
        let (notice, tickets) = match outbox.next(beat_at) {
            Next::Message(notice, tickets) => (notice, Some(tickets)),
            Next::Leave => (Notice::Leave, None),
            Next::Nothing => {
                tokio::select! {
                    () = outbox.wake.notified() => {}
                    () = sleep_until(beat_at) => {}
                }
                continue;
            }
        };
        sequence += 1;
        let message = Message {
            publisher: outbox.publisher,
            epoch: Outbox::EPOCH,
            sequence,
            notice,
        };
        let (sent, sent_at) = (clock.now(), Instant::now());
        let mark = Mark {
            sequence,
            sent,
            sent_at,
        };
        outbox.remember(mark, matches!(message.notice, Notice::Beat));
        beat_at = sent_at + outbox.pace.beat;
        let Some(taken) = outbox.send(&*store, &message).await else {
            return;
        };
        count(&counts.bus_published);
        lock(&outbox.queue).taken = Some(taken);
        // Keys that are pushed as fast as the bus takes them.
        consume_budget().await;
        match tickets {
            Some(tickets) => drop(outbox.sent.send_replace(tickets)),
            None => return,
        }
    }
}

async fn attempt(store: &dyn Store, message: &Message) -> Result<()> {
    let publish = async {
        match store.as_bus() {
            Some(bus) => bus.publish(message).await,
            None => Err(Error::new(ErrorKind::Unsupported, "the store has no bus")),
        }
    };
    // The call itself may panic, not only its reply: both run under the catch.
    let publish = AssertUnwindSafe(publish).catch_unwind();
    match timeout(SEND_WAIT, publish).await {
        Ok(Ok(result)) => result,
        Ok(Err(_panic)) => Err(Error::new(ErrorKind::Other, "publishing panicked")),
        Err(_elapsed) => Err(Error::timeout("publishing took too long")),
    }
}
