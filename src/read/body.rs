//! A reader of a flight, as the stream behind its body.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_core::Stream;
use larder_store::{Error, Reply, Result, Staged};
use tokio::task::coop::poll_proceed;

use super::{flight::Member, spool::Read};
use crate::counters::{Counts, add};

/// Reads on from where its member was placed. Dropped, it leaves the flight.
pub(crate) struct FlightBody {
    member: Member,
    /// A read from behind the window.
    behind: Option<(Arc<dyn Staged>, Reply<'static, Bytes>)>,
    /// The end is given only when the flight's commits have ended.
    until_landed: bool,
    /// Where each chunk is counted, if that is not known in advance.
    counts: Option<Arc<Counts>>,
}

impl FlightBody {
    pub(crate) fn new(member: Member, until_landed: bool, counts: Option<Arc<Counts>>) -> Self {
        Self {
            member,
            behind: None,
            until_landed,
            counts,
        }
    }
}

impl Stream for FlightBody {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // What is at hand each time would otherwise never give way to other tasks.
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
            if let Some((backing, reply)) = &mut self.behind {
                let result = ready!(Pin::new(reply).poll(cx));
                let backing = Arc::clone(backing);
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
                    let reply = Arc::clone(&backing).read(offset, max);
                    self.behind = Some((backing, reply));
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
