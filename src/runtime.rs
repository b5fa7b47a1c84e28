//! The runtime that the cache was built with: its timers, its threads and its clock.
//!
//! A caller may poll the cache in another runtime, or in none. So nothing here takes tokio's
//! ambient runtime: timers, blocking jobs and the time come from the handle that `build` took.
//!
//! Invariants:
//! 1. A timer is polled only while the runtime lives; tokio's timers panic after its end.
//! 2. The runtime drops its tasks before it stops its timers. A sentinel task that is dropped
//!    therefore tells in time that the runtime has ended: its drop waits for the polls of timers
//!    that are under way, and later ones see the flag.
//! 3. The sentinel keeps neither the cache nor its engine alive. It ends when the cache is closed
//!    or dropped; a body that is still read then posts another one if it has to wait.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, PoisonError, RwLock, Weak},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use larder_store::{Error, Reply, Result, Staged};
use pin_project_lite::pin_project;
use tokio::{
    runtime::{EnterGuard, Handle},
    task::JoinHandle,
    time::{Instant, Sleep, sleep},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    engine::Engine,
    sync::{AtomicBool, Mutex, Ordering, lock},
};

/// The cache's runtime; a clone is a reference.
#[derive(Clone)]
pub(crate) struct Runtime(Arc<Inner>);

struct Inner {
    handle: Handle,
    end: Arc<End>,
    /// Whether a sentinel is posted, or was dropped by the runtime.
    is_watched: AtomicBool,
    /// Relieves the sentinel when it is dropped.
    relief: Mutex<Option<DropGuard>>,
}

#[derive(Default)]
struct End {
    has_come: AtomicBool,
    /// Held by the polls of timers, and by the sentinel when it tells.
    polls: RwLock<()>,
}

/// The cache's runtime has ended, and its timers with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended;

impl Runtime {
    /// # Errors
    ///
    /// `Invalid` for a runtime without timers. Input and output are not needed here; a store that
    /// needs them has a runtime of its own, or says so.
    pub(crate) fn new(handle: Handle) -> Result<Self> {
        let probe = || {
            let _entered = handle.enter();
            drop(sleep(Duration::ZERO));
        };
        if catch_unwind(AssertUnwindSafe(probe)).is_err() {
            return Err(Error::invalid(
                "the cache's tokio runtime has no timers: call `enable_time()` or `enable_all()` \
                 on its builder",
            ));
        }
        Ok(Self(Arc::new(Inner {
            handle,
            end: Arc::default(),
            is_watched: AtomicBool::new(false),
            relief: Mutex::default(),
        })))
    }

    /// Posts the sentinel, which closes the engine when the runtime ends.
    pub(crate) fn watch(&self, engine: Weak<Engine>) {
        let mut relief = lock(&self.0.relief);
        if relief.is_some() {
            return;
        }
        let (relieved, sentinel) = (
            CancellationToken::new(),
            Sentinel {
                end: Arc::clone(&self.0.end),
                engine,
                is_relieved: false,
            },
        );
        *relief = Some(relieved.clone().drop_guard());
        drop(relief);
        self.0.is_watched.store(true, Ordering::Release);
        // Where the runtime has ended this drops the sentinel at once.
        self.0.handle.spawn(sentinel.stand(relieved));
    }

    /// Relieves the sentinel.
    pub(crate) fn unwatch(&self) {
        let relief = lock(&self.0.relief).take();
        self.0.is_watched.store(false, Ordering::Release);
        drop(relief);
    }

    /// Whether the runtime has ended.
    pub(crate) fn has_ended(&self) -> bool {
        if !self.0.is_watched.load(Ordering::Acquire) {
            self.watch(Weak::new());
        }
        self.0.end.has_come.load(Ordering::Acquire)
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.0.handle
    }

    /// Makes this the ambient runtime, for what is not ours: stores and fetchers.
    pub(crate) fn enter(&self) -> EnterGuard<'_> {
        self.0.handle.enter()
    }

    /// Polls a future within this runtime, wherever it is polled itself.
    pub(crate) fn inside<F>(&self, future: F) -> Inside<'_, F> {
        Inside {
            runtime: self,
            future,
        }
    }

    /// Staged bytes that are read back within this runtime.
    pub(crate) fn staged(&self, staged: Arc<dyn Staged>) -> Arc<dyn Staged> {
        let runtime = self.clone();
        Arc::new(StagedInside { runtime, staged })
    }

    /// The time by this runtime's clock, which a test may have paused.
    pub(crate) fn now(&self) -> Instant {
        let _entered = self.enter();
        Instant::now()
    }

    /// A timer of this runtime's, to be polled by [`poll_timer`](Self::poll_timer).
    pub(crate) fn sleep(&self, time: Duration) -> Sleep {
        let _entered = self.enter();
        sleep(time)
    }

    /// Polls a timer.
    pub(crate) fn poll_timer(
        &self,
        timer: Pin<&mut impl Future<Output = ()>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Ended>> {
        // Not under the lock: a sentinel that is posted too late tells at once.
        let has_ended = self.has_ended();
        let polls = self.0.end.polls.read();
        let _polls = polls.unwrap_or_else(PoisonError::into_inner);
        if has_ended || self.0.end.has_come.load(Ordering::Acquire) {
            return Poll::Ready(Err(Ended));
        }
        timer.poll(cx).map(Ok)
    }

    /// Runs what may block its thread. It is joined with an error where the runtime has ended, and
    /// holds a paused clock back while it runs.
    pub(crate) fn spawn_blocking<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        self.0.handle.spawn_blocking(job)
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ended = self.0.end.has_come.load(Ordering::Relaxed);
        f.debug_struct("Runtime")
            .field("ended", &ended)
            .finish_non_exhaustive()
    }
}

/// Says that the runtime has ended, by its drop.
struct Sentinel {
    end: Arc<End>,
    engine: Weak<Engine>,
    is_relieved: bool,
}

impl Sentinel {
    async fn stand(mut self, relieved: CancellationToken) {
        relieved.cancelled().await;
        self.is_relieved = true;
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        if self.is_relieved {
            return;
        }
        let polls = self.end.polls.write();
        self.end.has_come.store(true, Ordering::Release);
        drop(polls);
        if let Some(engine) = self.engine.upgrade() {
            engine.closed.store(true, Ordering::Release);
        }
    }
}

struct StagedInside {
    runtime: Runtime,
    staged: Arc<dyn Staged>,
}

impl Staged for StagedInside {
    fn read(self: Arc<Self>, offset: u64, max: usize) -> Reply<'static, Bytes> {
        let entered = self.runtime.enter();
        let reply = Arc::clone(&self.staged).read(offset, max);
        drop(entered);
        if reply.is_ready() {
            return reply;
        }
        Reply::later(async move { self.runtime.inside(reply).await })
    }
}

pin_project! {
    /// A future that is polled within the cache's runtime.
    #[must_use = "futures do nothing unless polled"]
    pub(crate) struct Inside<'a, F> {
        runtime: &'a Runtime,
        #[pin]
        future: F,
    }
}

impl<F: Future> Future for Inside<'_, F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _entered = this.runtime.enter();
        this.future.poll(cx)
    }
}
