//! How a read is made, and what must hold of its answer.

use std::{
    future::poll_fn, panic::AssertUnwindSafe, pin::pin, sync::atomic::Ordering, task::Poll,
    time::Duration,
};

use futures_util::FutureExt;
use larder::{
    Body, ByteRange, Clock, Error, ErrorKind, Fetch, ManualClock, Request, Response, Result, Stale,
    Timestamp,
};
use tokio::time::{Instant, sleep, timeout};

use super::{
    history::{Read, number},
    ops::{Accepts, Ask, Patience},
    origin::pass,
    world::{LONG, NEGATIVE, STALE, STALE_IF_ERROR, TTL, World},
};

/// When a read began, by the wall clock and by the history, and what it accepts.
struct Began {
    time: Timestamp,
    tick: u64,
    accepts: Accepts,
    fetches: bool,
}

impl World {
    /// Reads what an answer has, and tells the history.
    pub(crate) async fn read<F: Fetch>(&self, key: u8, request: Request<'_, F>, ask: Ask) {
        let Ask {
            part,
            patience,
            accepts,
        } = ask;
        let Ok(range) = part.range() else { return };
        let began = Began {
            time: self.clock.now(),
            tick: self.history.tick(),
            accepts,
            fetches: F::FETCHES,
        };
        let at = Instant::now();
        let request = match accepts {
            Accepts::Usual => request,
            Accepts::Stale => request.allow_stale(),
            Accepts::Young(seconds) => request.max_age(Duration::from_secs(seconds.into())),
        };
        self.reads.fetch_add(1, Ordering::Relaxed);
        let read = async {
            let response = match request.range(range).await {
                Ok(response) => response,
                Err(error) => return self.read_failed("a read", key, range, &error),
            };
            self.check_age(&response, &began);
            let read = Read {
                process: self.process,
                key,
                began: began.tick,
                at,
                part,
                hit: response.status().is_hit() && !response.status().is_joined(),
                number: response.metadata().and_then(number),
                start: response.range().map(|range| range.start),
            };
            if response.is_absent() && read.number.is_some() {
                return self.history.found(read);
            }
            let is_hit = response.status().is_hit();
            let Some(body) = response.into_body() else {
                return;
            };
            let drained = if is_hit {
                drain_hit(body, patience, &self.clock).await
            } else {
                drain(body, patience, &self.clock).await
            };
            match drained {
                Ok(bytes) => self.history.read(read, &bytes),
                // What breaks off says so.
                Err(error) => self.read_failed("a body", key, range, &error),
            }
        };
        leave(read, patience).await;
    }

    /// A read failed. Where nothing was made to fail it may if an object is too short for its part,
    /// or if it asks for more of an end than a flight without a spill file can keep.
    fn read_failed(&self, what: &str, key: u8, range: ByteRange, error: &Error) {
        let suffix = match range {
            range if range.known().is_some() => 0,
            range => range
                .resolve(u64::MAX)
                .map_or(0, |range| range.end - range.start),
        };
        let is_too_much = error.is_too_large() && self.kept.is_some_and(|kept| suffix > kept);
        if !is_too_much && !self.history.may_be_too_short(key, range) {
            self.failed(what, error);
        }
    }

    /// What was too old when the read began is not served for what it is not. A read that came
    /// before a fetch had answered shares its answer, however old.
    fn check_age(&self, response: &Response, began: &Began) {
        let status = response.status();
        let Some(header) = response.metadata() else {
            return;
        };
        if status.is_stale() && !began.fetches && began.accepts != Accepts::Stale {
            (self.history).violation(format!("a read without a fetcher was given {status}"));
        }
        let ttl = if response.is_absent() { NEGATIVE } else { TTL };
        let mut may_be = match status.stale() {
            None => ttl,
            Some(Stale::WhileRevalidate) => ttl + STALE,
            Some(_) => ttl + STALE_IF_ERROR,
        };
        if let Accepts::Young(seconds) = began.accepts {
            may_be = may_be.min(Duration::from_secs(seconds.into()));
        }
        let came_later = number(header).is_some_and(|it| self.history.had_opened(it, began.tick));
        if (status.is_hit() || came_later) && header.fetched_at.after(may_be) < began.time {
            (self.history).violation(format!("{status}, which is more than {may_be:?}"));
        }
    }
}

/// Of a hit a reader may be given the store's own body: then only its own time-out bounds it, and
/// only the reader can catch its panic.
async fn drain_hit(body: Body, patience: Patience, clock: &ManualClock) -> Result<Vec<u8>> {
    let drained = AssertUnwindSafe(drain(body, patience, clock)).catch_unwind();
    match timeout(LONG / 2, drained).await {
        Ok(Ok(drained)) => drained,
        Ok(Err(_)) => Err(Error::new(ErrorKind::Other, "the body panicked")),
        Err(_) => Err(Error::new(ErrorKind::Timeout, "the body stalled")),
    }
}

async fn drain(mut body: Body, patience: Patience, clock: &ManualClock) -> Result<Vec<u8>> {
    let (mut bytes, mut is_first) = (Vec::new(), true);
    while let Some(chunk) = body.chunk().await? {
        bytes.extend_from_slice(&chunk);
        match patience {
            Patience::Lags(millis) => sleep(Duration::from_millis(millis.into())).await,
            Patience::Pauses(seconds) if is_first => pass(clock, seconds).await,
            _ => {}
        }
        is_first = false;
    }
    Ok(bytes)
}

/// Polls a future until it ends, or its caller leaves.
pub(crate) async fn leave<T>(future: impl Future<Output = T>, patience: Patience) -> Option<T> {
    let Patience::Leaves(polls) = patience else {
        return Some(future.await);
    };
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending if left == 0 => Poll::Ready(None),
        Poll::Pending => {
            left -= 1;
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await
}
