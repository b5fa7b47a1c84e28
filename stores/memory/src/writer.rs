//! Writing an object.

use std::sync::Arc;

use bytes::Bytes;
use larder_store::{Commit, Draft, Error, Fence, Key, KeyBuf, Reply, Result, Staged, Writer};

use crate::{entry::weigh, shelf::Shelf, staging::Stage};

/// A writer of the memory store.
///
/// Every answer is ready when the call returns, so a write whose reply is dropped has taken effect
/// all the same, whole; nothing is left that could make the writer unfit.
pub(crate) struct MemoryWriter {
    shelf: Arc<Shelf>,
    key: KeyBuf,
    draft: Draft,
    fence: Option<Fence>,
    stage: Arc<Stage>,
    /// Why it cannot be committed any more.
    failed: Option<Error>,
}

impl MemoryWriter {
    pub(crate) fn open(shelf: &Arc<Shelf>, key: Key<'_>, draft: Draft) -> Result<Self> {
        shelf.check_open()?;
        draft.check()?;
        shelf.check_size(key, &draft, draft.expected_len().unwrap_or(0))?;
        // No foreign drop may run when the entry goes.
        let mut draft = draft.owned();
        let fence = draft.take_fence();
        let beside = weigh(key, draft.header(), 0, shelf.limits().overhead);
        Ok(Self {
            shelf: Arc::clone(shelf),
            key: key.to_buf(),
            draft,
            fence,
            stage: Arc::new(Stage::new(shelf.staging(), beside)?),
            failed: None,
        })
    }

    fn append(&self, chunk: &[u8]) -> Result<()> {
        self.shelf.check_open()?;
        let len = self.stage.len().saturating_add(chunk.len() as u64);
        self.shelf.check_size(self.key.as_key(), &self.draft, len)?;
        let object_max = self.shelf.limits().object_max;
        let expected = self.draft.expected_len().unwrap_or(object_max);
        self.stage.append(chunk, expected)
    }

    fn finish(self) -> Result<Commit> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.shelf.check_open()?;
        self.draft.check_len(self.stage.len())?;
        let body = self.stage.freeze();
        let commit = self
            .shelf
            .commit(&self.key, self.draft, body, self.fence.as_ref())?;
        if commit.is_done() {
            self.stage.settle();
        }
        Ok(commit)
    }
}

impl Writer for MemoryWriter {
    fn write(&mut self, chunk: Bytes) -> Reply<'_, ()> {
        let result = match &self.failed {
            Some(error) => Err(error.clone()),
            None => self.append(&chunk),
        };
        if let Err(error) = &result {
            self.failed = Some(error.clone());
        }
        Reply::ready(result)
    }

    fn commit(self: Box<Self>) -> Reply<'static, Commit> {
        Reply::ready(self.finish())
    }

    fn abort(self: Box<Self>) -> Reply<'static, ()> {
        Reply::ready(Ok(()))
    }

    fn staged(&self) -> Option<Arc<dyn Staged>> {
        Some(Arc::clone(&self.stage) as Arc<dyn Staged>)
    }
}
