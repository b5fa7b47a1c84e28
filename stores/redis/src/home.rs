//! The runtime of a store: where its connections live, whose timers it waits by.
//!
//! Operations may be polled in another runtime, or in none. Here they are polled within the one
//! that the store was opened in. When that ends its timers panic, so a sentinel task tells: a runtime
//! drops its tasks before it stops its timers.

use std::{
    future::{pending, poll_fn},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
};

use larder_store::{Error, ErrorKind, Result};
use tokio::{runtime::Handle, task::AbortHandle, time::Instant};

pub(crate) struct Home {
    pub(crate) runtime: Handle,
    has_ended: Arc<AtomicBool>,
    sentinel: AbortHandle,
}

/// Tells by its drop that the runtime has ended, or that nobody asks any more.
struct Sentinel(Arc<AtomicBool>);

impl Drop for Sentinel {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

impl Home {
    /// The runtime in which this is called.
    pub(crate) fn here() -> Self {
        let (runtime, has_ended) = (Handle::current(), Arc::default());
        let sentinel = Sentinel(Arc::clone(&has_ended));
        let standing = runtime.spawn(async move {
            let _sentinel = sentinel;
            pending::<()>().await;
        });
        Self {
            runtime,
            has_ended,
            sentinel: standing.abort_handle(),
        }
    }

    /// The time by the runtime's clock.
    pub(crate) fn now(&self) -> Instant {
        let _entered = self.runtime.enter();
        Instant::now()
    }

    /// Polls an operation within the runtime. `Closed` once that has ended.
    pub(crate) async fn run<T>(&self, operation: impl Future<Output = Result<T>>) -> Result<T> {
        let mut operation = pin!(operation);
        poll_fn(|cx| {
            if self.has_ended.load(Ordering::Acquire) {
                return Poll::Ready(Err(ended()));
            }
            let _entered = self.runtime.enter();
            operation.as_mut().poll(cx)
        })
        .await
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.sentinel.abort();
    }
}

fn ended() -> Error {
    let message = "the redis store is closed, since its tokio runtime has ended";
    Error::new(ErrorKind::Closed, message)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_operation_finds_the_stores_runtime_wherever_it_is_polled() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_time()
            .build()
            .unwrap();
        let home = {
            let _entered = runtime.enter();
            Home::here()
        };
        let slept = home.run(async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            Ok(7)
        });
        assert_eq!(block_on(slept).unwrap(), 7);
        drop(runtime);
        let late = home.run(async {
            tokio::time::sleep(Duration::from_secs(60)).await;
            Ok(())
        });
        let error = block_on(late).unwrap_err();
        assert!(
            error.is_closed() && error.to_string().contains("runtime"),
            "{error}"
        );
    }

    /// Waits without a runtime.
    fn block_on<T>(future: impl Future<Output = T>) -> T {
        struct Unpark(std::thread::Thread);
        impl std::task::Wake for Unpark {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }
        let waker = Arc::new(Unpark(std::thread::current())).into();
        let (mut future, mut cx) = (pin!(future), std::task::Context::from_waker(&waker));
        loop {
            match future.as_mut().poll(&mut cx) {
                Poll::Ready(output) => return output,
                Poll::Pending => std::thread::park(),
            }
        }
    }
}
