//! The model's writer and what it has staged.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use larder_store::{Commit, Draft, Error, Fence, KeyBuf, Reply, Result, Staged, Writer};

use super::{Model, lock};

pub(super) struct ModelWriter {
    model: Model,
    key: KeyBuf,
    draft: Draft,
    fence: Option<Fence>,
    stage: Arc<Stage>,
    /// A write failed, or was dropped before it ended.
    spoiled: bool,
}

/// What was written so far; a handle to it outlives the writer.
struct Stage {
    bytes: Mutex<Vec<u8>>,
    /// For the manner of its replies only.
    model: Model,
}

impl ModelWriter {
    pub(super) fn open(model: Model, key: KeyBuf, mut draft: Draft) -> Result<Box<dyn Writer>> {
        check_max(&model, draft.expected_len().unwrap_or(0))?;
        let fence = draft.take_fence();
        let bytes = Mutex::default();
        let stage = Arc::new(Stage {
            bytes,
            model: model.clone(),
        });
        Ok(Box::new(Self {
            model,
            key,
            draft: draft.owned(),
            fence,
            stage,
            spoiled: false,
        }))
    }

    fn append(&self, chunk: &Bytes) -> Result<()> {
        let mut bytes = lock(&self.stage.bytes);
        check_max(&self.model, (bytes.len() + chunk.len()) as u64)?;
        self.model.state()?.staged += chunk.len() as u64;
        bytes.extend_from_slice(chunk);
        Ok(())
    }

    fn finish(&mut self) -> Result<Commit> {
        if self.spoiled {
            return Err(Error::invalid("a write failed or was dropped"));
        }
        let body = Bytes::copy_from_slice(&lock(&self.stage.bytes));
        self.draft.check_len(body.len() as u64)?;
        let draft = std::mem::take(&mut self.draft);
        self.model
            .publish(&self.key, self.fence.as_ref(), draft, body)
    }
}

fn check_max(model: &Model, len: u64) -> Result<()> {
    let max = model.shared.setup.object_max;
    if len > max {
        return Err(Error::too_large(format!(
            "the object has {len} bytes or more, the model takes {max}"
        )));
    }
    Ok(())
}

impl Writer for ModelWriter {
    fn write(&mut self, chunk: Bytes) -> Reply<'_, ()> {
        // Until the answer is given, so that a reply that is dropped leaves it so.
        if std::mem::replace(&mut self.spoiled, true) {
            let error = Error::invalid("an earlier write failed or was dropped");
            return Reply::ready(Err(error));
        }
        if !self.model.lazy {
            let result = self.append(&chunk);
            self.spoiled = result.is_err();
            return Reply::ready(result);
        }
        Reply::later(async move {
            self.model.reply(|| self.append(&chunk)).await?;
            self.spoiled = false;
            Ok(())
        })
    }

    fn commit(mut self: Box<Self>) -> Reply<'static, Commit> {
        self.model.clone().reply(move || self.finish())
    }

    fn abort(self: Box<Self>) -> Reply<'static, ()> {
        self.model.clone().reply(move || {
            drop(self);
            Ok(())
        })
    }

    fn staged(&self) -> Option<Arc<dyn Staged>> {
        Some(Arc::clone(&self.stage) as Arc<dyn Staged>)
    }
}

impl Drop for ModelWriter {
    fn drop(&mut self) {
        let staged = lock(&self.stage.bytes).len() as u64;
        lock(&self.model.shared.state).staged -= staged;
    }
}

impl Staged for Stage {
    fn read(self: Arc<Self>, offset: u64, max: usize) -> Reply<'static, Bytes> {
        self.model.clone().reply(move || {
            let bytes = lock(&self.bytes);
            let rest = (usize::try_from(offset).ok())
                .and_then(|offset| bytes.get(offset..))
                .filter(|rest| !rest.is_empty())
                .ok_or_else(|| Error::invalid("the offset is past what was written"))?;
            Ok(Bytes::copy_from_slice(&rest[..max.min(rest.len())]))
        })
    }
}
