//! S89: whose runtime the cache waits in. A caller may be in another runtime, in one without timers
//! or in none; the cache's runtime may have ended; its clock may be paused.

mod elsewhere;
mod ended;
mod paused;

use std::{
    cell::Cell,
    panic,
    pin::pin,
    sync::{Arc, Once},
    task::{Context, Poll, Wake},
    thread::{self, Thread},
    time::Duration,
};

use tokio::runtime::{Builder, Runtime};

const KIB: usize = 1 << 10;

/// A runtime for a cache: with timers, without input and output.
fn home() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(2).enable_time().build().unwrap()
}

/// A runtime without timers.
fn timeless() -> Runtime {
    Builder::new_current_thread().build().unwrap()
}

/// Waits for a future without any runtime.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(thread::current())).into();
    let (mut future, mut cx) = (pin!(future), Context::from_waker(&waker));
    loop {
        match future.as_mut().poll(&mut cx) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park_timeout(Duration::from_secs(60)),
        }
    }
}

thread_local!(static PANICS: Cell<usize> = const { Cell::new(0) });

/// Counts the panics of this thread from now on, those that are caught among them.
fn count_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            PANICS.set(PANICS.get() + 1);
            before(info);
        }));
    });
    PANICS.set(0);
}

fn assert_no_panic() {
    assert_eq!(PANICS.get(), 0, "panics in the caller's thread");
}
