//! The origin: what a fetch of it gives.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{future::BoxFuture, stream};
use larder::{Error, ErrorKind, FetchContext, Fetched, Result};

use super::{
    history::{History, Standing, body, number, tag},
    ops::{Len, Outcome},
    panics,
};

/// What an origin is told to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order {
    pub(crate) key: u8,
    pub(crate) len: Len,
    pub(crate) outcome: Outcome,
    pub(crate) no_store: bool,
}

/// A fetcher that does it.
pub(crate) fn origin(
    history: &Arc<History>,
    order: Order,
) -> impl FnOnce(FetchContext) -> BoxFuture<'static, Result<Fetched>> + Send + 'static {
    let history = Arc::clone(history);
    move |context| Box::pin(async move { order.fetch(&history, &context).await })
}

impl Order {
    async fn fetch(self, history: &History, context: &FetchContext) -> Result<Fetched> {
        let known = context.stale().and_then(|stale| number(stale));
        if self.outcome == Outcome::Unchanged
            && let Some(known) = known
        {
            history.confirmed(known);
            tokio::task::yield_now().await;
            // The value stays what it is, and so does its tag.
            return Ok(self.stored(Fetched::not_modified()));
        }
        let (len, failed) = (
            self.len.bytes(),
            Error::new(ErrorKind::Other, "the origin failed"),
        );
        let value = (self.outcome != Outcome::Absent).then_some(self.len(len));
        let number = history.fetches(self.key, value, self.standing());
        tokio::task::yield_now().await;
        let bytes = body(number, len);
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
}

fn chunks(len: Option<usize>, bytes: &[u8], end: Option<Error>) -> Fetched {
    let chunks = bytes.chunks(11_000).map(Bytes::copy_from_slice);
    let items: Vec<_> = chunks.map(Ok).chain(end.map(Err)).collect();
    Fetched::stream(len.map(|len| len as u64), stream::iter(items))
}
