//! A place in a flight: waiting for what it finds, then reading it.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
};

use larder_store::{ByteRange, Error, Result, Staged};

use super::{Carrier, Flight, Opening, Over, Phase};
use crate::{
    read::{
        place::Sought,
        spool::{Read, Spool},
    },
    sync::lock,
};

/// What a member waited for.
pub(crate) enum Seen {
    Open(Arc<Opening>),
    Failed(Error),
    Nowhere,
}

/// A place in a flight. Dropped, it leaves.
pub(crate) struct Member {
    pub(super) flight: Arc<Flight>,
    pub(super) id: usize,
    /// Whether it came with a fetcher; who did not does not wait for a fetch.
    pub(super) fetches: bool,
    /// Whether it joined when the answer was open.
    pub(super) is_late: bool,
    pub(super) has_left: bool,
}

/// How a member came aboard.
pub(crate) struct Boarding {
    pub(crate) member: Member,
    /// Its waker is kept: there is nothing to be seen before it is woken.
    pub(crate) waits: bool,
}

impl Member {
    pub(crate) fn flight(&self) -> &Arc<Flight> {
        &self.flight
    }

    /// Whether it joined when the answer was open.
    pub(crate) fn is_late(&self) -> bool {
        self.is_late
    }

    /// Waits until the flight's commits have ended. Cancel safe.
    pub(crate) async fn landed(&self) {
        poll_fn(|cx| self.poll_landed(cx)).await;
    }

    /// As [`landed`](Self::landed).
    pub(crate) fn poll_landed(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = lock(&self.flight.state);
        if state.landed {
            return Poll::Ready(());
        }
        let before = state.spool.wait(self.id, cx.waker());
        drop(state);
        drop(before);
        Poll::Pending
    }

    /// Waits until the flight is open or over. Cancel safe.
    pub(crate) async fn opened(&self, accepts: impl Fn(&Opening) -> bool) -> Seen {
        poll_fn(|cx| {
            let mut state = lock(&self.flight.state);
            let seen = match &state.phase {
                Phase::Open(opening) => Seen::Open(Arc::clone(opening)),
                Phase::Over(Over::Failed(error)) => Seen::Failed(error.clone()),
                Phase::Over(Over::Nowhere) => Seen::Nowhere,
                Phase::Fetching(Some(meanwhile)) if accepts(meanwhile) => {
                    Seen::Open(Arc::clone(meanwhile))
                }
                Phase::Fetching(_) if !self.fetches => Seen::Nowhere,
                Phase::Looking | Phase::Fetching(_) => {
                    let before = state.spool.wait(self.id, cx.waker());
                    drop(state);
                    drop(before);
                    return Poll::Pending;
                }
            };
            Poll::Ready(seen)
        })
        .await
    }

    /// Waits for an object that comes whole, for an absence or a failure, and leaves with it. `None`
    /// where it is something else, which takes more than one look.
    pub(crate) fn poll_whole(
        &mut self,
        accepts: impl Fn(&Opening) -> bool,
        cx: &Context<'_>,
    ) -> Poll<Option<Seen>> {
        let mut state = lock(&self.flight.state);
        let seen = match &state.phase {
            Phase::Open(opening) => match opening.carrier {
                Carrier::Whole(_) | Carrier::Absent if accepts(opening) => {
                    Seen::Open(Arc::clone(opening))
                }
                _ => return Poll::Ready(None),
            },
            Phase::Over(Over::Failed(error)) => Seen::Failed(error.clone()),
            Phase::Over(Over::Nowhere) | Phase::Fetching(Some(_)) => return Poll::Ready(None),
            Phase::Fetching(None) if !self.fetches => return Poll::Ready(None),
            Phase::Looking | Phase::Fetching(None) => {
                let before = state.spool.wait(self.id, cx.waker());
                drop(state);
                drop(before);
                return Poll::Pending;
            }
        };
        let waker = state.spool.leave(self.id);
        let driver = state.due();
        self.has_left = true;
        drop(state);
        drop(waker);
        if let Some(driver) = driver {
            driver.wake();
        }
        Poll::Ready(Some(seen))
    }

    /// Begins to read at `offset`. `false` when bytes it needs are gone.
    pub(crate) fn place(&self, offset: u64, stop: Option<u64>) -> bool {
        self.change(|spool| spool.place(self.id, offset, stop))
    }

    /// Begins to read a range of an object whose length nobody knows. Waits until enough of it came
    /// and gives what is known of it then. `None` when bytes of it are gone. Cancel safe.
    pub(crate) async fn seek(&self, range: ByteRange) -> Result<Option<Sought>> {
        if !self.change(|spool| spool.seek(self.id, range)) {
            return Ok(None);
        }
        poll_fn(|cx| {
            let mut state = lock(&self.flight.state);
            if let Some(found) = state.spool.sought(self.id, range) {
                return Poll::Ready(found.map(Some));
            }
            let before = state.spool.wait(self.id, cx.waker());
            drop(state);
            drop(before);
            Poll::Pending
        })
        .await
    }

    pub(crate) fn poll_read(&self, cx: &Context<'_>) -> Read {
        let (read, before) = self.change(|spool| {
            let before = spool.take_waker(self.id);
            (spool.read(self.id, cx.waker()), before)
        });
        drop(before);
        read
    }

    /// It took so many bytes from a backing.
    pub(crate) fn advance(&self, by: u64) {
        self.change(|spool| spool.advance(self.id, by));
    }

    /// A backing could not be read; `false` when nothing else has its bytes.
    pub(crate) fn distrust(&self, bad: &Arc<dyn Staged>) -> bool {
        self.change(|spool| spool.distrust(self.id, bad))
    }

    /// Changes the spool, and wakes the driver if it waits for readers.
    fn change<T>(&self, change: impl FnOnce(&mut Spool) -> T) -> T {
        let mut state = lock(&self.flight.state);
        let before = state.spool.progress();
        let result = change(&mut state.spool);
        let moved = state.spool.progress() != before;
        let driver = if moved { state.due() } else { None };
        drop(state);
        if let Some(waker) = driver {
            waker.wake();
        }
        result
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if !self.has_left {
            drop(self.change(|spool| spool.leave(self.id)));
        }
    }
}
