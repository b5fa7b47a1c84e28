//! What the others told is deleted in the private tiers, by a bounded number of workers.
//!
//! Invariants:
//! 1. A key is deleted under its turn, and its flight is retired as by a delete: nothing begun
//!    before the message was applied is published in a private tier after it.
//! 2. A message that is not applied in time ends the generation instead, and so does one that does
//!    not fit the queue.
//! 3. There is a worker while there is a key that waits, and none is left behind, nor after a close.

use std::{collections::VecDeque, pin::pin, sync::Arc};

use larder_store::KeyBuf;
use tokio::{
    task::coop::consume_budget,
    time::{Instant, timeout},
};

use super::{Bus, Pace};
use crate::{
    engine::Engine,
    read::lane::remove,
    sync::{Mutex, lock},
};

/// More keys than this do not wait.
const KEYS_MAX: usize = 16_384;

const WORKERS_MAX: usize = 16;

#[derive(Default)]
pub(super) struct Inbox(Mutex<Queue>);

#[derive(Default)]
struct Queue {
    keys: VecDeque<(Instant, KeyBuf)>,
    workers: usize,
}

impl Inbox {
    /// Queues keys to be deleted here; `false`, and the queue is empty, when they do not fit.
    #[must_use]
    pub(super) fn push(engine: &Arc<Engine>, bus: &Bus, keys: Vec<KeyBuf>, now: Instant) -> bool {
        let mut queue = lock(&bus.inbox.0);
        if queue.keys.len() + keys.len() > KEYS_MAX {
            let gone = std::mem::take(&mut queue.keys);
            drop(queue);
            drop(gone);
            return false;
        }
        queue.keys.extend(keys.into_iter().map(|key| (now, key)));
        let wanted = queue.keys.len().min(WORKERS_MAX);
        let started = wanted.saturating_sub(queue.workers);
        queue.workers += started;
        drop(queue);
        for _ in 0..started {
            let worker = Worker {
                engine: Arc::clone(engine),
                ended: false,
            };
            engine.tasks.spawn(worker.run());
        }
        true
    }

    /// Keys that wait, and workers that are at one.
    pub(super) fn len(&self) -> usize {
        let queue = lock(&self.0);
        queue.keys.len() + queue.workers
    }

    /// Whether a key has waited for too long; the queue is emptied then, for a generation that is
    /// to begin.
    pub(super) fn is_late(&self, now: Instant, pace: Pace) -> bool {
        let mut queue = lock(&self.0);
        let is_late = queue
            .keys
            .front()
            .is_some_and(|(came, _)| now.duration_since(*came) > pace.silence);
        let gone = is_late.then(|| std::mem::take(&mut queue.keys));
        drop(queue);
        drop(gone);
        is_late
    }
}

struct Worker {
    engine: Arc<Engine>,
    /// It is not counted any more.
    ended: bool,
}

impl Worker {
    async fn run(mut self) {
        let engine = Arc::clone(&self.engine);
        tokio::select! {
            biased;
            // What a disk keeps is checked when it is opened again.
            () = engine.tasks.cut.cancelled() => {
                if let Some(bus) = &engine.bus {
                    let gone = std::mem::take(&mut lock(&bus.inbox.0).keys);
                    drop(gone);
                }
            }
            () = self.work() => {}
        }
    }

    async fn work(&mut self) {
        while let Some((came, key)) = self.next() {
            let (engine, Some(bus)) = (&self.engine, &self.engine.bus) else {
                return;
            };
            let mut apply = pin!(apply(engine, &key));
            let left = (came + bus.pace.silence).saturating_duration_since(Instant::now());
            if timeout(left, &mut apply).await.is_err() {
                bus.distrust(engine, "a key could not be deleted in time");
                apply.await;
            }
            // Deletes that are done at once must not keep the thread.
            consume_budget().await;
        }
    }

    /// The next key; none ends the worker, in the same step.
    fn next(&mut self) -> Option<(Instant, KeyBuf)> {
        let mut queue = lock(&self.engine.bus.as_ref()?.inbox.0);
        let next = queue.keys.pop_front();
        if next.is_none() {
            queue.workers -= 1;
            self.ended = true;
        }
        next
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if !self.ended
            && let Some(bus) = &self.engine.bus
        {
            lock(&bus.inbox.0).workers -= 1;
        }
    }
}

/// As a delete, but of the private tiers alone.
async fn apply(engine: &Engine, key: &KeyBuf) {
    let turn = engine.turns.take(key).await;
    engine.flights.retire(key);
    // What waits for a shared tier stays: its fence tells whether it is older than what was told.
    engine
        .behind
        .forget_in(key, |tier| !engine.tiers[tier].tier.shared);
    for place in engine.order.iter().map(|&tier| &engine.tiers[tier]) {
        if !place.tier.shared {
            // What fails is counted, and the key suspect.
            let _ = remove(engine, place, key, None).await;
        }
    }
    engine.failures.clear(key);
    engine.flights.retire(key);
    drop(turn);
}
