//! Doing operations.

use std::sync::Arc;

use bytes::Bytes;
use larder_store::{ByteRange, Commit, Draft, Fence, Lookup, Result, Store};
use tokio::time::Instant;

use crate::{
    measure::Tally,
    plan::{Op, Plan, Verb},
};

/// A store and what is done to it.
pub(crate) struct Target<S: ?Sized> {
    pub(crate) plan: Plan,
    /// Whether a read that misses sets the object.
    fill: bool,
    /// A piece of every body.
    body: Bytes,
    pub(crate) store: Arc<S>,
}

/// The longest chunk that is written.
const PIECE: u64 = 256 << 10;

impl<S: Store + ?Sized> Target<S> {
    pub(crate) fn new(store: Arc<S>, plan: Plan, fill: bool) -> Self {
        let body = Bytes::from(noise(plan.lengths.max().min(PIECE)));
        Self {
            plan,
            fill,
            body,
            store,
        }
    }

    /// These operations, one after the other. A read goes to the end of the body; an object that is
    /// absent is set, as by a cache, only if nobody else set it meanwhile.
    ///
    /// This loop is what is measured, so a read is within it and not in a future of its own.
    #[inline]
    pub(crate) async fn all(
        &self,
        ops: &[Op],
        timing: &mut Timing,
        tally: &mut Tally,
    ) -> Result<()> {
        for op in ops {
            let began = timing.begin();
            let number = op.key as usize;
            match op.verb {
                Verb::Read => {
                    tally.reads += 1;
                    let key = self.plan.keys.name(number)?;
                    match self.store.get_stream(key, ByteRange::FULL).await? {
                        Lookup::Hit(mut object) => {
                            tally.hits += 1;
                            while let Some(chunk) = object.body.chunk().await? {
                                tally.bytes_read += chunk.len() as u64;
                            }
                        }
                        Lookup::Miss(fence) if self.fill => {
                            self.write(number, Some(fence), tally).await?;
                        }
                        Lookup::Miss(_) => {}
                    }
                }
                Verb::Write => {
                    tally.writes += 1;
                    self.write(number, None, tally).await?;
                }
                Verb::Delete => {
                    tally.deletes += 1;
                    let key = self.plan.keys.name(number)?;
                    let _: Commit = self.store.delete(key, None).await?;
                }
            }
            if let Some(began) = began {
                tally.time(op.verb, began.elapsed());
            }
        }
        Ok(())
    }

    /// Sets an object; what the store refuses, for its size or for want of room, is counted.
    async fn write(&self, number: usize, fence: Option<Fence>, tally: &mut Tally) -> Result<()> {
        let size = self.plan.lengths.of(number);
        match self.set(number, size, fence).await {
            Err(error) if error.is_too_large() || error.is_full() => tally.refused += 1,
            set => {
                set?;
                tally.bytes_written += size;
            }
        }
        Ok(())
    }

    async fn set(&self, number: usize, size: u64, fence: Option<Fence>) -> Result<()> {
        let key = self.plan.keys.name(number)?;
        let mut draft = Draft::new().len(size);
        if let Some(fence) = fence {
            draft = draft.fence(fence);
        }
        let mut writer = self.store.set_with_writer(key, draft).await?;
        let mut left = size;
        while left > 0 {
            let piece = left.min(self.body.len() as u64);
            #[allow(clippy::cast_possible_truncation)] // At most the body's length.
            writer.write(self.body.slice(..piece as usize)).await?;
            left -= piece;
        }
        let _: Commit = writer.commit().await?;
        Ok(())
    }
}

/// Which operations are timed, and from when.
pub(crate) enum Timing {
    /// One in so many, from its beginning; and how many there are before the next one.
    OneIn { every: u64, before: u64 },
    /// Each from the moment at which it was due.
    From(Instant),
}

impl Timing {
    #[inline]
    fn begin(&mut self) -> Option<Instant> {
        match self {
            Self::OneIn { every, before: 0 } => {
                *self = Self::OneIn {
                    every: *every,
                    before: *every - 1,
                };
                Some(Instant::now())
            }
            Self::OneIn { before, .. } => {
                *before -= 1;
                None
            }
            Self::From(moment) => Some(*moment),
        }
    }
}

/// Bytes that do not compress.
fn noise(len: u64) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[0]
        })
        .collect()
}
