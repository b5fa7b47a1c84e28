//! One established connection, and the requests that are under way on it.
//!
//! 1. A request is sent while it holds permits. Answered, it gives them back.
//! 2. A request whose caller went away after it was (perhaps) sent keeps its permits: what the
//!    server has not answered is counted, so that memory for it has a bound. The permits come
//!    back when the server answers a `PING` that was sent later, since replies come in order.
//! 3. Nothing is sent once [`retire`](Live::retire) was called, apart from what holds permits.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
};

use redis::{RedisError, aio::MultiplexedConnection};
use tokio::{
    sync::{Notify, Semaphore, SemaphorePermit, TryAcquireError},
    time::{Duration, Instant, timeout},
};

use super::{
    backoff::PAUSE_MAX,
    clock::{self, Clock, Reading},
    request::{Failure, Reply, Request, UNITS_MAX},
};

pub(super) struct Live {
    connection: MultiplexedConnection,
    units: Semaphore,
    /// Units of requests that nobody waits for any more.
    abandoned: AtomicU32,
    /// Whether the server is being asked for a sign of life; any answer is one.
    doubted: AtomicBool,
    /// Whether one was answered meanwhile. Written only in doubt: all cores share it.
    answered: AtomicBool,
    pulse: Arc<Pulse>,
    since: Instant,
    clock: Clock,
}

/// What the keeper of a connection waits for.
#[derive(Default)]
pub(super) struct Pulse {
    wake: Notify,
    lost: AtomicBool,
}

impl Pulse {
    /// The connection cannot be used any more.
    pub(super) fn lose(&self) {
        self.lost.store(true, Relaxed);
        self.wake.notify_one();
    }

    fn is_lost(&self) -> bool {
        self.lost.load(Relaxed)
    }
}

impl Live {
    pub(super) fn new(connection: MultiplexedConnection, pulse: Arc<Pulse>, time: Reading) -> Self {
        Self {
            connection,
            units: Semaphore::new(UNITS_MAX as usize),
            abandoned: AtomicU32::new(0),
            doubted: AtomicBool::new(false),
            answered: AtomicBool::new(false),
            pulse,
            since: Instant::now(),
            clock: Clock::new(time),
        }
    }

    pub(super) fn is_lost(&self) -> bool {
        self.pulse.is_lost()
    }

    pub(super) fn age(&self) -> Duration {
        self.since.elapsed()
    }

    #[cfg(test)]
    pub(super) fn units_left(&self) -> usize {
        self.units.available_permits()
    }

    /// No further requests: those that wait for permits turn to the next connection.
    pub(super) fn retire(&self) {
        self.units.close();
    }

    /// Sends and awaits the reply; `sent` is set when the request may have left.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the request was sent or will not be.
    pub(super) async fn exchange(
        &self,
        request: Request<'_>,
        sent: &AtomicBool,
    ) -> Result<Reply, Failure> {
        let units = request.units();
        let permit = match self.units.try_acquire_many(units) {
            Ok(permit) => permit,
            Err(TryAcquireError::NoPermits) => self
                .units
                .acquire_many(units)
                .await
                .map_err(|_| Failure::Unsent)?,
            Err(TryAcquireError::Closed) => return Err(Failure::Unsent),
        };
        sent.store(true, Relaxed);
        let flight = Flight {
            live: self,
            permit: Some(permit),
        };
        let answer = self.send(request).await;
        flight.land();
        match answer {
            Ok(reply) => {
                // The server became a replica, and the name may lead to another now. But not sooner
                // than this: the next one may be the same.
                if reply.is_read_only() && self.age() > PAUSE_MAX {
                    self.pulse.lose();
                }
                Ok(reply)
            }
            Err(error) => {
                self.pulse.lose();
                Err(Failure::Broken(error))
            }
        }
    }

    /// The server's time; asks for it if what is known is old, or it must be `anew`.
    pub(super) async fn time(&self, anew: bool, sent: &AtomicBool) -> Result<Reading, Failure> {
        let known = self.clock.get();
        if known == Reading::Refused || !anew && !known.is_due() {
            return Ok(known);
        }
        let question = clock::question();
        let answer = self.exchange(Request::Command(&question), sent).await?;
        Ok(self.clock.set(Reading::of(answer.one())))
    }

    async fn send(&self, request: Request<'_>) -> Result<Reply, RedisError> {
        let mut connection = self.connection.clone();
        match request {
            Request::Command(command) => {
                // In a box, as `redis-rs` has it, so that what waits for it does not have to be moved
                // with it.
                let value = Box::pin(connection.send_packed_command(command)).await?;
                Ok(Reply::One(value))
            }
            Request::Pipeline(pipeline, skip, keep) => {
                let sending = connection.send_packed_commands(pipeline, skip, keep);
                let values = Box::pin(sending).await?;
                Ok(Reply::Many(values))
            }
        }
    }

    /// Returns when the connection is of no more use: it broke, or the server answered nothing
    /// for as long as `patience` after a caller gave up.
    pub(super) async fn watch(&self, patience: Duration) {
        loop {
            self.pulse.wake.notified().await;
            if self.is_lost() {
                return;
            }
            let abandoned = self.abandoned.swap(0, Relaxed);
            if abandoned == 0 {
                continue;
            }
            if !self.is_alive(patience).await {
                return;
            }
            self.units.add_permits(abandoned as usize);
        }
    }

    /// Whether the server answers a `PING`, and with it all that was sent before.
    async fn is_alive(&self, patience: Duration) -> bool {
        let mut connection = self.connection.clone();
        let ping = redis::cmd("PING");
        let mut pong = std::pin::pin!(connection.send_packed_command(&ping));
        self.doubted.store(true, Relaxed);
        let alive = loop {
            self.answered.store(false, Relaxed);
            match timeout(patience, &mut pong).await {
                // An error that the server says is an answer as well.
                Ok(pong) => break pong.is_ok(),
                Err(_) if self.is_lost() => break false,
                // Behind much else the answer takes longer; but then something else came.
                Err(_) if self.answered.load(Relaxed) => {}
                Err(_) => break false,
            }
        };
        self.doubted.store(false, Relaxed);
        alive
    }
}

/// A request that was sent and not answered.
struct Flight<'a> {
    live: &'a Live,
    permit: Option<SemaphorePermit<'a>>,
}

impl Flight<'_> {
    fn land(mut self) {
        if self.live.doubted.load(Relaxed) {
            self.live.answered.store(true, Relaxed);
        }
        self.permit = None;
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            let units = u32::try_from(permit.num_permits()).unwrap_or(UNITS_MAX);
            permit.forget();
            self.live.abandoned.fetch_add(units, Relaxed);
            self.live.pulse.wake.notify_one();
        }
    }
}
