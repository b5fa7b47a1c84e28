//! A reader of a flight, as the stream behind its body.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_core::Stream;
use larder_store::{Error, Reply, Result, Staged};
use tokio::{
    task::coop::{Unconstrained, poll_proceed, unconstrained},
    time::{Instant, Sleep},
};

use super::{flight::Member, spool::Read};
use crate::{
    counters::{Counts, add},
    runtime::Runtime,
};

/// Reads on from where its member was placed. Dropped, it leaves the flight.
pub(crate) struct FlightBody {
    member: Member,
    /// Longest wait for a read from behind the window, by this runtime's clock.
    limit: Option<(Runtime, Duration)>,
    behind: Option<Behind>,
    /// The end is given only when the flight's commits have ended.
    until_landed: bool,
    /// Where each chunk is counted, if that is not known in advance.
    counts: Option<Arc<Counts>>,
}

/// A read from behind the window.
struct Behind {
    backing: Arc<dyn Staged>,
    offset: u64,
    max: usize,
    reply: Reply<'static, Bytes>,
    /// Since when it waits, and until when it may.
    wait: Option<(Instant, Pin<Box<Unconstrained<Sleep>>>)>,
}

impl FlightBody {
    pub(crate) fn new(member: Member) -> Self {
        Self {
            member,
            limit: None,
            behind: None,
            until_landed: false,
            counts: None,
        }
    }

    /// Fails a read from behind the window that takes longer than `idle`.
    pub(crate) fn within(mut self, runtime: &Runtime, idle: Duration) -> Self {
        self.limit = Some((runtime.clone(), idle));
        self
    }

    /// Gives the end only when the flight's commits have ended.
    pub(crate) fn until_landed(mut self) -> Self {
        self.until_landed = true;
        self
    }

    /// Counts each chunk as it comes, where the length is not known in advance.
    pub(crate) fn counted(mut self, counts: Arc<Counts>) -> Self {
        self.counts = Some(counts);
        self
    }
}

impl Behind {
    fn new(backing: Arc<dyn Staged>, offset: u64, max: usize) -> Self {
        let reply = Arc::clone(&backing).read(offset, max);
        Self {
            backing,
            offset,
            max,
            reply,
            wait: None,
        }
    }

    fn poll(
        &mut self,
        limit: Option<&(Runtime, Duration)>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Bytes>> {
        loop {
            if let Poll::Ready(result) = Pin::new(&mut self.reply).poll(cx) {
                return Poll::Ready(result);
            }
            let Some((runtime, idle)) = limit else {
                return Poll::Pending;
            };
            let begin = || (runtime.now(), Box::pin(unconstrained(runtime.sleep(*idle))));
            let (since, timer) = self.wait.get_or_insert_with(begin);
            if ready!(runtime.poll_timer(timer.as_mut(), cx)).is_err() {
                return Poll::Ready(Err(Error::closed("the cache's runtime")));
            }
            let waited = runtime.now().duration_since(*since);
            if waited <= idle.saturating_add(*idle / 10) {
                let message = format!("the staged bytes did not come for {idle:?}");
                return Poll::Ready(Err(Error::timeout(message)));
            }
            // A reader that polls again so late was away, and the store may have waited for it.
            *self = Self::new(Arc::clone(&self.backing), self.offset, self.max);
        }
    }
}

impl Stream for FlightBody {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // A reader whose bytes are always at hand would never give way to other tasks.
        let step = ready!(poll_proceed(cx));
        let next = ready!(self.poll_chunk(cx));
        step.made_progress();
        if let (Some(Ok(bytes)), Some(counts)) = (&next, &self.counts) {
            add(&counts.miss_bytes, bytes.len() as u64);
        }
        Poll::Ready(next)
    }
}

impl FlightBody {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        loop {
            if let Some(behind) = &mut self.behind {
                let result = ready!(behind.poll(self.limit.as_ref(), cx));
                let backing = Arc::clone(&behind.backing);
                self.behind = None;
                match result {
                    Ok(bytes) if !bytes.is_empty() => {
                        self.member.advance(bytes.len() as u64);
                        return Poll::Ready(Some(Ok(bytes)));
                    }
                    failed if !self.member.distrust(&backing) => {
                        let error = failed.err();
                        let error =
                            error.unwrap_or_else(|| Error::corrupt("staged bytes are short"));
                        return Poll::Ready(Some(Err(error)));
                    }
                    _ => {}
                }
            }
            match self.member.poll_read(cx) {
                Read::Chunk(bytes) => return Poll::Ready(Some(Ok(bytes))),
                Read::Behind(backing, offset, max) => {
                    self.behind = Some(Behind::new(backing, offset, max));
                }
                Read::Wait => return Poll::Pending,
                Read::End => {
                    if self.until_landed {
                        ready!(self.member.poll_landed(cx));
                    }
                    return Poll::Ready(None);
                }
                Read::Failed(error) => return Poll::Ready(Some(Err(error))),
            }
        }
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::{future::pending, pin::pin};

    use futures_util::StreamExt;
    use larder_store::KeyBuf;
    use tokio::time::sleep;

    use super::*;
    use crate::read::{
        flight::Flight,
        spool::{Next, SpoolLimits},
    };

    const IDLE: Duration = Duration::from_secs(30);

    /// Staged bytes that come after so long, or never.
    struct Slow(Option<Duration>);

    impl Staged for Slow {
        fn read(self: Arc<Self>, _: u64, max: usize) -> Reply<'static, Bytes> {
            Reply::later(async move {
                match self.0 {
                    Some(pause) => sleep(pause).await,
                    None => pending().await,
                }
                Ok(Bytes::from(vec![1; max]))
            })
        }
    }

    /// A body whose bytes stand in these backings alone.
    fn body(backings: &[Option<Duration>]) -> FlightBody {
        let (memory, disk) = (128 << 10, 0);
        let key = KeyBuf::new("k").expect("a key");
        let flight = Arc::new(Flight::new(key, SpoolLimits { memory, disk }, false, None));
        let member = flight.enter(true);
        assert!(member.place(0, None));
        flight.append(&Bytes::from(vec![1; 16 << 10]));
        for backing in backings {
            let staged: Arc<dyn Staged> = Arc::new(Slow(*backing));
            flight.add_backing(Arc::clone(&staged));
            flight.backed(&staged, 16 << 10);
        }
        assert!(matches!(flight.next(true, true), (Next::Pull, _)));
        flight.finish();
        FlightBody::new(member).within(&runtime(), IDLE)
    }

    fn runtime() -> Runtime {
        Runtime::new(tokio::runtime::Handle::current()).expect("it has timers")
    }

    #[tokio::test(start_paused = true)]
    async fn s87_staged_bytes_that_never_come_are_an_error_in_time() {
        let mut body = body(&[None]);
        let began = Instant::now();
        let error = body.next().await.expect("an item").expect_err("lost");
        assert!(error.is_timeout());
        assert_eq!(began.elapsed(), IDLE);
    }

    #[tokio::test(start_paused = true)]
    async fn s87_staged_bytes_that_never_come_are_read_from_another_backing() {
        let mut body = body(&[None, None, Some(IDLE / 2)]);
        let mut len = 0;
        while let Some(bytes) = body.next().await {
            len += bytes.expect("bytes").len();
        }
        assert_eq!(len, 16 << 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_was_away_does_not_blame_the_backing() {
        let mut body = body(&[Some(IDLE / 2)]);
        let mut first = pin!(body.next());
        let waits = std::future::poll_fn(|cx| Poll::Ready(first.as_mut().poll(cx).is_pending()));
        assert!(waits.await);
        sleep(10 * IDLE).await;
        assert!(first.await.expect("an item").is_ok());
    }
}
