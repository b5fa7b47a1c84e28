//! Real time for the store's threads, and the clocks of runtimes that tests pause.
//!
//! tokio lets a paused clock run ahead as soon as its runtime has nothing to do but wait, and does
//! not see that a thread of the store works for the one who waits. The caller's time-outs would
//! pass at once. tokio lets such a clock stand while a blocking job of its runtime runs, so an
//! operation that has to wait starts one that waits with it. It starts none where a blocking job of
//! the same runtime does the work: the two might compete for the last thread.

use std::{
    future::poll_fn,
    pin::pin,
    sync::mpsc::{SyncSender, sync_channel},
    time::Duration,
};

use larder_store::{Reply, Result};
use tokio::{runtime::Handle, time::Instant};

/// Longest time that one operation holds a paused clock back. A disk that hangs runs into the
/// caller's time-outs after it.
const HOLD_MAX: Duration = Duration::from_secs(10);

/// The time that the store's threads wait by. A paused clock has no part in it, so that moments
/// which threads and callers note can be compared.
pub(crate) fn now() -> Instant {
    Instant::from_std(real())
}

#[allow(clippy::disallowed_methods)] // A thread cannot wait by a clock that is paused.
fn real() -> std::time::Instant {
    std::time::Instant::now()
}

/// Who does what an operation waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Worker {
    /// A thread of the store.
    Thread,
    /// A blocking job of the store's runtime.
    Job,
}

/// The reply of an operation that has to wait for the disk. What it waits for that is done by
/// [threads](Worker::Thread) of the store it waits for by itself with [`held`].
pub(crate) fn later<'a, T: 'a>(
    runtime: &Handle,
    operation: impl Future<Output = Result<T>> + Send + 'a,
) -> Reply<'a, T> {
    Reply::later(held(runtime.clone(), Worker::Job, operation))
}

/// Holds a paused clock back while the operation waits: the clock of the runtime in which it is
/// polled, or of the store's.
pub(crate) async fn held<T>(
    runtime: Handle,
    worker: Worker,
    operation: impl Future<Output = T>,
) -> T {
    let mut operation = pin!(operation);
    // Dropped with the operation, or when it is done.
    let mut hold = None;
    poll_fn(|cx| {
        let poll = operation.as_mut().poll(cx);
        if poll.is_pending() && hold.is_none() {
            hold = Some(hold_back(&runtime, worker));
        }
        poll
    })
    .await
}

/// Holds the clock back until what this gives is dropped. `None` where no clock is paused, which is
/// always so but in tests.
fn hold_back(own: &Handle, worker: Worker) -> Option<SyncSender<()>> {
    let ambient = Handle::try_current();
    let is_own = (ambient.as_ref()).is_ok_and(|ambient| ambient.id() == own.id());
    let holder = match &ambient {
        _ if is_own && worker == Worker::Job => return None,
        Ok(ambient) if is_paused() => ambient,
        _ if is_own || worker == Worker::Job => return None,
        _ => {
            let _entered = own.enter();
            is_paused().then_some(own)?
        }
    };
    let (hold, held) = sync_channel(0);
    // It ends when the other side is dropped.
    holder.spawn_blocking(move || held.recv_timeout(HOLD_MAX).ok());
    Some(hold)
}

/// Whether the ambient clock is paused: then its time is not between two looks at the real one.
fn is_paused() -> bool {
    let before = real();
    let ambient = Instant::now().into_std();
    ambient < before || ambient > real()
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use tokio::time::{sleep, timeout};

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// Something that another thread does a while from now.
    async fn work() {
        let (done, wait) = tokio::sync::oneshot::channel();
        let (open, pause) = sync_channel::<()>(0);
        std::thread::spawn(move || {
            let _ = pause.recv_timeout(Duration::from_millis(50));
            let _ = done.send(());
        });
        wait.await.unwrap();
        drop(open);
    }

    #[tokio::test(start_paused = true)]
    async fn a_paused_clock_stands_while_an_operation_waits_and_only_then() {
        let began = Instant::now();
        assert!(
            timeout(HOUR, work()).await.is_err(),
            "tokio's clock runs ahead"
        );
        let runtime = Handle::current();
        let now = Instant::now();
        timeout(HOUR, held(runtime.clone(), Worker::Thread, work()))
            .await
            .unwrap();
        assert_eq!(Instant::now(), now, "it stood");
        sleep(HOUR).await;
        held(runtime.clone(), Worker::Thread, ready(())).await;
        let dropped = timeout(
            Duration::ZERO,
            held(runtime, Worker::Thread, pending::<()>()),
        )
        .await;
        assert!(dropped.is_err());
        sleep(HOUR).await;
        assert_eq!(began.elapsed(), 3 * HOUR, "it goes on");
    }

    #[tokio::test]
    async fn a_clock_that_runs_is_not_held() {
        assert!(!is_paused());
        assert!(hold_back(&Handle::current(), Worker::Thread).is_none());
    }
}
