//! The origin: what a fetch of it gives.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, future::BoxFuture, stream};
use larder::{Error, ErrorKind, FetchContext, Fetched, ManualClock, Result};
use tokio::{task::yield_now, time::sleep};

use super::{
    history::{History, Standing, body, number, tag},
    ops::{Order, Outcome, Pace},
    panics,
};

/// A fetcher that does as it is told.
pub(crate) fn origin(
    history: &Arc<History>,
    clock: &ManualClock,
    order: Order,
) -> impl FnOnce(FetchContext) -> BoxFuture<'static, Result<Fetched>> + Send + 'static {
    let (history, clock) = (Arc::clone(history), clock.clone());
    move |context| Box::pin(async move { order.fetch(&history, &clock, &context).await })
}

impl Order {
    async fn fetch(
        self,
        history: &Arc<History>,
        clock: &ManualClock,
        context: &FetchContext,
    ) -> Result<Fetched> {
        let known = context.stale().and_then(|stale| number(stale));
        if self.outcome == Outcome::Unchanged
            && let Some(known) = known
        {
            history.confirmed(known);
            self.wait(clock).await;
            // The value stays what it is, and so does its tag.
            return Ok(self.stored(Fetched::not_modified()));
        }
        let (len, failed) = (
            self.len.bytes(),
            Error::new(ErrorKind::Other, "the origin failed"),
        );
        let value = (self.outcome != Outcome::Absent).then_some(self.len(len));
        let number = history.fetches(self.key, value, self.standing());
        self.wait(clock).await;
        let bytes = body(number, len);
        let chunks =
            |len, bytes: &[u8], end| self.chunks(len, bytes, end, (history, clock, number));
        let fetched = match self.outcome {
            Outcome::Whole | Outcome::Unchanged => Fetched::bytes(bytes),
            Outcome::Stream => chunks(None, &bytes, None),
            Outcome::Sized => chunks(Some(len), &bytes, None),
            Outcome::Breaks => chunks(None, &bytes[..len / 2], Some(failed)),
            Outcome::Short => chunks(Some(self.len(len)), &bytes[..len / 2], None),
            Outcome::Long => chunks(Some(self.len(len)), &bytes, None),
            Outcome::Absent => Fetched::absent(),
            Outcome::Fails => return Err(failed),
            Outcome::Panics => panic!("{}", panics::ORIGIN),
        };
        Ok(self.stored(fetched.etag(tag(number)?)))
    }

    /// The length of the object as the origin tells it, which may not be what it sends.
    fn len(self, len: usize) -> usize {
        match self.outcome {
            Outcome::Short => len + 1,
            Outcome::Long => len / 2,
            _ => len,
        }
    }

    fn standing(self) -> Standing {
        match self.outcome {
            Outcome::Breaks | Outcome::Short => Standing::Broken,
            // What sends nothing has nothing too much.
            Outcome::Long if self.len.bytes() > 0 => Standing::Broken,
            _ if self.no_store => Standing::Unstored,
            _ => Standing::Anyone,
        }
    }

    fn stored(self, fetched: Fetched) -> Fetched {
        if self.no_store {
            fetched.no_store()
        } else {
            fetched
        }
    }

    /// Waits before the answer.
    async fn wait(self, clock: &ManualClock) {
        yield_now().await;
        if let Pace::Late(seconds) = self.pace {
            drag(clock, seconds).await;
        }
    }

    /// A body in chunks, at the origin's pace. Whoever asks for more than the first has answered.
    fn chunks(
        self,
        len: Option<usize>,
        bytes: &[u8],
        end: Option<Error>,
        to: (&Arc<History>, &ManualClock, u64),
    ) -> Fetched {
        let (history, clock, number) = (Arc::clone(to.0), to.1.clone(), to.2);
        let chunks = bytes.chunks(11_000).map(Bytes::copy_from_slice);
        let items: Vec<_> = chunks.map(Ok).chain(end.map(Err)).collect();
        let items = stream::iter(items.into_iter().enumerate()).then(move |(index, item)| {
            let (history, clock) = (Arc::clone(&history), clock.clone());
            async move {
                if index > 0 {
                    history.opened(number);
                }
                match self.pace {
                    Pace::AtOnce | Pace::Late(_) => {}
                    Pace::Slow(seconds) if (1..=3).contains(&index) => drag(&clock, seconds).await,
                    Pace::Slow(_) | Pace::Yields => yield_now().await,
                }
                item
            }
        });
        Fetched::stream(len.map(|len| len as u64), items)
    }
}

/// So many seconds pass for the timers, and four times as many for the wall clock.
async fn drag(clock: &ManualClock, seconds: u8) {
    let time = Duration::from_secs(seconds.into());
    clock.advance(4 * time);
    sleep(time).await;
}

/// So many seconds pass, for the wall clock and for all timers.
pub(crate) async fn pass(clock: &ManualClock, seconds: u8) {
    let time = Duration::from_secs(seconds.into());
    clock.advance(time);
    sleep(time).await;
}
