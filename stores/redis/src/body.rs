//! Reading a body in chunks.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use futures_util::{
    StreamExt, TryStreamExt,
    future::{Either, ready},
    stream,
};
use larder_store::{Body, Error, ErrorKind, Key, KeyBuf, Result};
use redis::Pipeline;

use crate::{
    chunk::{self, Cut},
    manifest::Chunks,
    names::Place,
    reader::drop_bad,
    shared::Shared,
};

/// How many chunks one command asks after.
const NAMES_MAX: u32 = 512;

/// How many such commands are under way at once.
const COMMANDS_MAX: usize = 4;

/// One version of an object whose body is in chunks.
pub(crate) struct Source {
    shared: Arc<Shared>,
    place: Place,
    key: KeyBuf,
    /// Of the manifest.
    head: Bytes,
    chunks: Chunks,
    /// Of the body.
    len: u64,
}

/// A part of one chunk.
struct Part {
    index: u32,
    /// The bytes of the body that the chunk has.
    len: usize,
    wanted: Range<usize>,
}

impl Source {
    pub(crate) fn new(
        shared: &Arc<Shared>,
        place: Place,
        key: Key<'_>,
        head: Bytes,
        chunks: Chunks,
        len: u64,
    ) -> Arc<Self> {
        Arc::new(Self {
            shared: Arc::clone(shared),
            place,
            key: key.to_buf(),
            head,
            chunks,
            len,
        })
    }

    /// Opens a range, which is not empty; `None` when a chunk of it is gone, or the first is
    /// altered.
    pub(crate) async fn open(self: Arc<Self>, range: Range<u64>) -> Result<Option<Body>> {
        let indices = self.index(range.start)..self.index(range.end - 1) + 1;
        let first = self.fetch(self.part(indices.start, &range));
        let rest = self.all_there(indices.start + 1..indices.end);
        let first = match futures_util::future::try_join(first, rest).await {
            Ok((Some(first), true)) => first,
            Ok(_) => return Ok(None),
            Err(error) if error.is_corrupt() => return Ok(None),
            Err(error) => return Err(error),
        };
        if indices.len() == 1 {
            return Ok(Some(Body::from(first)));
        }
        let (len, ahead) = (range.end - range.start, self.shared.settings.read_ahead);
        let rest = stream::iter(indices.skip(1)).map(move |index| {
            let (source, part) = (Arc::clone(&self), self.part(index, &range));
            Either::Right(async move { source.shared.home.run(source.read(part)).await })
        });
        let first = stream::iter([Either::Left(ready(Ok(first)))]);
        Ok(Some(Body::stream(
            Some(len),
            first.chain(rest).buffered(ahead),
        )))
    }

    /// The chunk that has this byte.
    fn index(&self, at: u64) -> u32 {
        // It fits: the number of chunks does.
        u32::try_from(at / u64::from(self.chunks.size)).unwrap_or(u32::MAX)
    }

    /// What this chunk has of a range that reaches into it.
    #[allow(clippy::cast_possible_truncation)] // What lies within a chunk is small.
    fn part(&self, index: u32, range: &Range<u64>) -> Part {
        let start = u64::from(index) * u64::from(self.chunks.size);
        let end = self.len.min(start + u64::from(self.chunks.size));
        let wanted = range.start.max(start) - start..range.end.min(end) - start;
        Part {
            index,
            len: (end - start) as usize,
            wanted: wanted.start as usize..wanted.end as usize,
        }
    }

    /// A part that was there when the body was opened.
    async fn read(&self, part: Part) -> Result<Bytes> {
        let index = part.index;
        let error = match self.fetch(part).await {
            Ok(Some(bytes)) => return Ok(bytes),
            Ok(None) => Error::corrupt(format!("chunk {index} of the body is gone")),
            Err(error) => error,
        };
        if !error.is_corrupt() {
            return Err(error);
        }
        let key = self.key.as_key();
        if drop_bad(&self.shared, &self.place, key, &self.head).await? {
            return Err(error);
        }
        Err(Error::with_source(
            ErrorKind::Other,
            "the object was replaced or deleted, and the grace for its readers is over",
            error,
        ))
    }

    /// Reads and checks a part; `None` when the chunk is gone. Where it is enough to read half of
    /// the chunk, the rest is left out.
    async fn fetch(&self, part: Part) -> Result<Option<Bytes>> {
        let name = self.place.chunk(self.chunks.nonce, part.index);
        let cut = Cut::new(part.wanted.clone(), part.len);
        if cut.blocks.len() > part.len / 2 {
            let Some(stored) = self.shared.get(&self.place, &name).await? else {
                return Ok(None);
            };
            return Ok(Some(chunk::open(stored, part.len)?.slice(part.wanted)));
        }
        let mut pipeline = Pipeline::with_capacity(2);
        for range in [&cut.blocks, &cut.sums] {
            let command = pipeline.cmd("GETRANGE");
            command.arg(&name).arg(range.start).arg(range.end - 1);
        }
        let (link, hash) = (&self.shared.link, self.place.hash());
        let (blocks, sums): (Bytes, Bytes) = link.pipeline(hash, &pipeline).await?;
        if blocks.is_empty() && sums.is_empty() {
            return Ok(None);
        }
        cut.open(&blocks, &sums).map(Some)
    }

    /// Whether all of these chunks are there.
    async fn all_there(&self, indices: Range<u32>) -> Result<bool> {
        let Range { start, end } = indices;
        let batches = (start..end).step_by(NAMES_MAX as usize).map(|first| {
            let names = first..end.min(first + NAMES_MAX);
            async move {
                let mut command = redis::cmd("EXISTS");
                for index in names.clone() {
                    command.arg(self.place.chunk(self.chunks.nonce, index));
                }
                let found: usize = self.shared.read(&self.place, &command).await?;
                Ok(found == names.len())
            }
        });
        let mut answers = stream::iter(batches).buffered(COMMANDS_MAX);
        while let Some(all) = answers.try_next().await? {
            if !all {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
