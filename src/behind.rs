//! Writes that follow in the background, to tiers that are written behind.
//!
//! Invariants:
//! 1. A key has at most one job waiting a tier, the newest, and one worker.
//! 2. [`Behind::forget`], called under the key's turn, means that no byte queued before it lands:
//!    the commit is made under the turn, and looks whether it was forgotten.
//! 3. The memory held, waiting or being written, stays within `bytes_max`, the keys within the
//!    queue's limit. The queue counts the memory that it holds: it copies small chunks and
//!    attributes, so that none keeps a large buffer in memory.
//! 4. A write that was queued in an earlier generation of the bus does not stay in a shared tier.
//!    This process may have missed a `clear`.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use larder_store::{Commit, Draft, Header, KeyBuf, Result};
use tokio::{sync::Semaphore, task::coop::consume_budget};

use crate::{
    counters::count,
    engine::Engine,
    pack::Packer,
    read::{fill::recall, lane::remove, refence::refence_others},
    sync::{AtomicBool, AtomicU64, Mutex, Ordering, lock},
};

pub(crate) struct Behind {
    keys: Mutex<HashMap<KeyBuf, Work>>,
    used: Arc<AtomicU64>,
    bytes_max: u64,
    queue_max: usize,
    workers: Arc<Semaphore>,
}

/// The jobs of one key; it exists while the key has a worker.
#[derive(Default)]
struct Work {
    waiting: Vec<Job>,
    /// The tier of the job that is being written, and its flag.
    running: Option<(usize, Arc<AtomicBool>)>,
}

struct Job {
    tier: usize,
    draft: Draft,
    held: Held,
    forgotten: Arc<AtomicBool>,
    /// The generation of the bus in which it was queued.
    generation: u64,
}

/// Bytes held for a write behind, counted against the queue's limit until they are dropped.
pub(crate) struct Held {
    chunks: Vec<Bytes>,
    packer: Packer,
    len: u64,
    /// The memory that it takes, in bytes.
    counted: u64,
    used: Arc<AtomicU64>,
    max: u64,
}

impl Behind {
    pub(crate) fn new(workers: usize, queue_max: usize, bytes_max: u64) -> Self {
        let workers = Arc::new(Semaphore::new(workers));
        Self {
            keys: Mutex::default(),
            used: Arc::default(),
            bytes_max,
            queue_max,
            workers,
        }
    }

    /// Begins to hold bytes.
    pub(crate) fn hold(&self) -> Held {
        Held {
            chunks: Vec::new(),
            packer: Packer::default(),
            len: 0,
            counted: 0,
            used: Arc::clone(&self.used),
            max: self.bytes_max,
        }
    }

    /// Queues a write for a tier, in place of one that waits there; `false`, and counted, when the
    /// queue has no room for another key.
    #[must_use]
    pub(crate) fn push(
        engine: &Arc<Engine>,
        key: &KeyBuf,
        tier: usize,
        draft: Draft,
        mut held: Held,
    ) -> bool {
        let this = &engine.behind;
        let draft = draft.len(held.len).owned();
        if !held.end(&draft) {
            count(&engine.counts.behind_dropped);
            return false;
        }
        let job = Job {
            tier,
            draft,
            held,
            forgotten: Arc::default(),
            generation: engine.generation(),
        };
        let mut keys = lock(&this.keys);
        let is_new = !keys.contains_key(key);
        if is_new && keys.len() >= this.queue_max {
            drop(keys);
            count(&engine.counts.behind_dropped);
            return false;
        }
        let work = keys.entry(key.clone()).or_default();
        let replaced: Vec<_> = work
            .waiting
            .extract_if(.., |other| other.tier == tier)
            .collect();
        work.waiting.push(job);
        drop(keys);
        count(&engine.counts.behind_queued);
        if !replaced.is_empty() {
            count(&engine.counts.behind_dropped);
        }
        // Bytes and fences are not ours: they are dropped outside of the lock.
        drop(replaced);
        if is_new {
            let worker = Worker {
                engine: Arc::clone(engine),
                key: key.clone(),
                ended: false,
            };
            engine.tasks.spawn(worker.run());
        }
        true
    }

    /// Sees to it that nothing queued for the key lands. To be called under the key's turn.
    pub(crate) fn forget(&self, key: &str) {
        self.forget_in(key, |_| true);
    }

    /// As [`forget`](Self::forget), in these tiers.
    pub(crate) fn forget_in(&self, key: &str, forgets: impl Fn(usize) -> bool) {
        let mut keys = lock(&self.keys);
        let Some(work) = keys.get_mut(key) else {
            return;
        };
        let is_it = |job: &mut Job| forgets(job.tier);
        let forgotten: Vec<_> = work.waiting.extract_if(.., is_it).collect();
        if let Some((tier, running)) = &work.running
            && forgets(*tier)
        {
            running.store(true, Ordering::Release);
        }
        drop(keys);
        drop(forgotten);
    }

    /// The keys with a write queued or running.
    pub(crate) fn keys(&self) -> Vec<KeyBuf> {
        lock(&self.keys).keys().cloned().collect()
    }

    pub(crate) fn len(&self) -> usize {
        lock(&self.keys).len()
    }
}

/// Writes what is queued for one key, and ends.
struct Worker {
    engine: Arc<Engine>,
    key: KeyBuf,
    /// It gave the key's place back: what is there now is another worker's.
    ended: bool,
}

impl Worker {
    async fn run(mut self) {
        let cut = self.engine.tasks.cut.clone();
        let jobs = async {
            while let Some(job) = self.next() {
                let Ok(_slot) = Arc::clone(&self.engine.behind.workers)
                    .acquire_owned()
                    .await
                else {
                    return;
                };
                // What fails is counted by the tier; the older copy was deleted before.
                let _ = self.write(job).await;
            }
        };
        tokio::select! {
            biased;
            () = cut.cancelled() => {}
            () = jobs => {}
        }
    }

    /// The next job; none ends the key's work, in the same step.
    fn next(&mut self) -> Option<Job> {
        let mut keys = lock(&self.engine.behind.keys);
        let work = keys.get_mut(&self.key)?;
        let job = work.waiting.pop();
        match &job {
            Some(job) => work.running = Some((job.tier, Arc::clone(&job.forgotten))),
            None => {
                keys.remove(&self.key);
                self.ended = true;
            }
        }
        job
    }

    async fn write(&self, job: Job) -> Result<()> {
        let (engine, place) = (&self.engine, &self.engine.tiers[job.tier]);
        let is_past = || place.tier.shared && engine.is_past(job.generation);
        if is_past() {
            count(&engine.counts.behind_dropped);
            return Ok(());
        }
        let key = self.key.as_key();
        let open = || place.store().set_with_writer(key, job.draft);
        let mut writer = place.attempt("opening a writer", open).await?;
        for chunk in &job.held.chunks {
            if job.forgotten.load(Ordering::Acquire) {
                return Ok(());
            }
            place
                .attempt("writing", || writer.write(chunk.clone()))
                .await?;
            // Many small chunks, and a tier that takes each at once.
            consume_budget().await;
        }
        let turn = engine.turns.take(&self.key).await;
        if is_past() {
            count(&engine.counts.behind_dropped);
        } else if !job.forgotten.load(Ordering::Acquire) {
            let commit = place.attempt("committing", || writer.commit()).await;
            match commit {
                Ok(Commit::Done(metadata)) => {
                    count(&place.counts.fills);
                    let version = metadata.map(|metadata| metadata.version());
                    let changed = [(place.index, version)];
                    if is_past() {
                        recall(engine, &self.key, &changed).await;
                    }
                    // Flights that are under way began after what was queued.
                    let others = engine.flights.others(&self.key, None);
                    if !others.is_empty() {
                        refence_others(engine, &self.key, &changed, &others).await;
                    }
                }
                Ok(Commit::Superseded) => count(&place.counts.superseded),
                Err(error) => {
                    remove(engine, place, &self.key, None).await?;
                    return Err(error);
                }
            }
        }
        drop(turn);
        Ok(())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Cut, or unwinding: what waits is not written.
        if !self.ended {
            let left = lock(&self.engine.behind.keys).remove(&self.key);
            drop(left);
        }
    }
}

impl Held {
    /// Takes a chunk, if the queue has room for it.
    pub(crate) fn push(&mut self, chunk: &Bytes) -> bool {
        if !self.count(self.packer.growth(chunk) as u64) {
            return false;
        }
        self.len += chunk.len() as u64;
        let chunks = &mut self.chunks;
        self.packer.push(chunk, |piece| chunks.push(piece));
        true
    }

    /// Takes what is written beside the bytes, if the queue has room for it. No chunk follows.
    fn end(&mut self, draft: &Draft) -> bool {
        self.chunks.extend(self.packer.take());
        // The fields of fixed size count with the keys.
        self.count((draft.header().size() - Header::FIXED_SIZE) as u64)
    }

    fn count(&mut self, bytes: u64) -> bool {
        let room = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.max);
        let counted = self
            .used
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, room);
        if counted.is_ok() {
            self.counted += bytes;
        }
        counted.is_ok()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.used.fetch_sub(self.counted, Ordering::AcqRel);
    }
}
