//! The engine's tasks: those that must end, those behind, and an orderly close.

use std::{
    cell::Cell,
    collections::HashSet,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use larder_store::{ErrorKind, KeyBuf, Result};
use tokio::{
    sync::Semaphore,
    task::{JoinHandle, coop::poll_proceed},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    counters::{Counts, count},
    engine::refused,
    runtime::Runtime,
    sync::{Mutex, lock},
    within::{ended, within},
};

/// Invariants:
/// 1. A job behind runs within its pool's limit, its wait counts against the queue's limit, and a
///    key has at most one queued or running in each pool.
/// 2. Whatever ends a job, a panic among it, gives its slot and its key back.
pub(crate) struct Tasks {
    runtime: Runtime,
    tracker: TaskTracker,
    /// Ends flights and jobs that have outlived the deadline of a close.
    pub(crate) cut: CancellationToken,
    /// Ends what nobody waits for.
    idle: CancellationToken,
    counts: Arc<Counts>,
}

/// Jobs of one sort.
pub(crate) struct Pool {
    slots: Arc<Semaphore>,
    queue: Arc<Mutex<HashSet<KeyBuf>>>,
    queue_max: usize,
}

/// How a job was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Submitted {
    Taken,
    /// The key has one already.
    Known,
    /// The queue is full, or the cache is closing.
    Full,
}

/// How far a task came where it was begun.
pub(crate) enum Begun<T> {
    Done(T),
    Running(JoinHandle<T>),
    Panicked,
}

/// How many tasks are being begun within each other on this thread: a fetcher may read through the
/// cache itself, whose fetcher may do so too.
struct Level;

/// Each takes its part of the stack.
const LEVELS_MAX: usize = 8;

thread_local!(static LEVELS: Cell<usize> = const { Cell::new(0) });

impl Level {
    /// `None` at the deepest level, and where a task has had its share of the thread: one that only
    /// does what is done at once would never give way.
    fn enter(cx: &mut Context<'_>) -> Option<Self> {
        if LEVELS.get() >= LEVELS_MAX {
            return None;
        }
        let Poll::Ready(share) = poll_proceed(cx) else {
            return None;
        };
        share.made_progress();
        LEVELS.set(LEVELS.get() + 1);
        Some(Self)
    }
}

impl Drop for Level {
    fn drop(&mut self) {
        LEVELS.set(LEVELS.get() - 1);
    }
}

impl<T> Begun<Result<T>> {
    /// What the task comes to, in the end.
    pub(crate) async fn ended(self) -> Result<T> {
        let panicked = || refused(ErrorKind::Other, "the operation panicked");
        match self {
            Self::Done(result) => result,
            Self::Panicked => Err(panicked()),
            Self::Running(task) => task
                .await
                .unwrap_or_else(|lost| Err(if lost.is_panic() { panicked() } else { ended() })),
        }
    }
}

impl Tasks {
    pub(crate) fn new(runtime: Runtime, counts: Arc<Counts>) -> Self {
        let (cut, idle) = (CancellationToken::new(), CancellationToken::new());
        Self {
            runtime,
            tracker: TaskTracker::new(),
            cut,
            idle,
            counts,
        }
    }

    /// Runs what must end, in a task that survives its caller.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.tracker.spawn_on(task, self.runtime.handle())
    }

    /// Runs what must end, as far as it comes without waiting here and now: most flights and writes
    /// end so, and are spared a task and the way to another thread. What has to wait becomes a task
    /// that survives its caller; so does what would keep its thread from others for too long, or
    /// grow its stack. The future begins when it is polled.
    pub(crate) fn begin<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> impl Future<Output = Begun<T>> + Send {
        // Not in the future that is returned, which would have room for it.
        let mut task = Some(Box::pin(self.tracker.track_future(task)));
        poll_fn(move |cx| {
            let mut task = task.take().expect("ready when it is first polled");
            let Some(_level) = Level::enter(cx) else {
                return Poll::Ready(Begun::Running(self.runtime.handle().spawn(task)));
            };
            // The caller may be of another runtime, or of none.
            let entered = self.runtime.enter();
            let polled = catch_unwind(AssertUnwindSafe(|| task.as_mut().poll(cx)));
            drop(entered);
            Poll::Ready(match polled {
                Ok(Poll::Ready(output)) => Begun::Done(output),
                Ok(Poll::Pending) => Begun::Running(self.runtime.handle().spawn(task)),
                Err(_) => Begun::Panicked,
            })
        })
    }

    /// Queues a job behind. While it waits for its slot it ends when the cache is dropped or closed;
    /// a job that runs sees to that itself, see [`idle`](Self::idle).
    pub(crate) fn submit(
        &self,
        pool: &Pool,
        key: &KeyBuf,
        job: BoxFuture<'static, ()>,
    ) -> Submitted {
        let mut queue = lock(&pool.queue);
        if queue.contains(key) {
            return Submitted::Known;
        }
        if queue.len() >= pool.queue_max || self.idle.is_cancelled() {
            return Submitted::Full;
        }
        queue.insert(key.clone());
        drop(queue);
        let queued = Queued {
            queue: Arc::clone(&pool.queue),
            key: key.clone(),
        };
        let (slots, counts) = (Arc::clone(&pool.slots), Arc::clone(&self.counts));
        let idle = self.idle.clone();
        self.spawn(async move {
            let _queued = queued;
            let slot = idle.run_until_cancelled(slots.acquire_owned()).await;
            let Some(Ok(_slot)) = slot else {
                return;
            };
            if AssertUnwindSafe(job).catch_unwind().await.is_err() {
                count(&counts.background_panics);
            }
        });
        Submitted::Taken
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Resolves when what nobody waits for is to end.
    pub(crate) fn idle(&self) -> impl Future<Output = ()> + Send + use<> {
        self.idle.clone().cancelled_owned()
    }

    /// Stops what nobody waits for.
    pub(crate) fn stop_idle(&self) {
        self.idle.cancel();
    }

    /// Waits until all tasks have ended; past the deadline they are cut. Says whether they ended by
    /// themselves.
    pub(crate) async fn drain(&self, deadline: Duration) -> bool {
        self.idle.cancel();
        self.tracker.close();
        let ended = within(&self.runtime, deadline, self.tracker.wait())
            .await
            .is_ok();
        self.cut.cancel();
        ended
    }
}

impl Pool {
    pub(crate) fn new(running_max: usize, queue_max: usize) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(running_max)),
            queue: Arc::default(),
            queue_max,
        }
    }

    /// Jobs queued or running.
    pub(crate) fn len(&self) -> usize {
        lock(&self.queue).len()
    }

    /// Whether the key has a job.
    pub(crate) fn contains(&self, key: &str) -> bool {
        lock(&self.queue).contains(key)
    }
}

/// A key's place in a pool; its drop gives the place back.
struct Queued {
    queue: Arc<Mutex<HashSet<KeyBuf>>>,
    key: KeyBuf,
}

impl Drop for Queued {
    fn drop(&mut self) {
        lock(&self.queue).remove(&self.key);
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_panics_where_it_was_begun_is_a_task_that_ended() {
        let runtime = Runtime::new(tokio::runtime::Handle::current()).unwrap();
        let tasks = Tasks::new(runtime, Arc::default());
        let begun = tasks.begin(async { panic!("on purpose") }).await;
        assert!(matches!(begun, Begun::<()>::Panicked));
        assert_eq!(LEVELS.get(), 0);
        assert!(tasks.drain(Duration::from_secs(5)).await);
    }
}
