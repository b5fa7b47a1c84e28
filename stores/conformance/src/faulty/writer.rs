//! Writers that fail on command.

use std::sync::Arc;

use bytes::Bytes;
use larder_store::{Commit, Error, KeyBuf, Reply, Staged, Writer};

use super::faults::{Faults, Op};

pub(super) struct FaultyWriter {
    inner: Box<dyn Writer>,
    faults: Faults,
    key: KeyBuf,
    /// A write was struck and did not end well, so that the writer beneath misses bytes.
    spoiled: bool,
}

impl FaultyWriter {
    pub(super) fn wrap(faults: Faults, key: KeyBuf, inner: Box<dyn Writer>) -> Box<dyn Writer> {
        Box::new(Self {
            inner,
            faults,
            key,
            spoiled: false,
        })
    }
}

impl Writer for FaultyWriter {
    fn write(&mut self, chunk: Bytes) -> Reply<'_, ()> {
        let Some(strike) = self.faults.strike(Op::Write, &self.key) else {
            return self.inner.write(chunk);
        };
        // Set before there is a reply that can be dropped.
        let before = std::mem::replace(&mut self.spoiled, true);
        Reply::later(async move {
            strike.before().await?;
            self.inner.write(chunk).await?;
            strike.after().await?;
            self.spoiled = before;
            Ok(())
        })
    }

    fn commit(self: Box<Self>) -> Reply<'static, Commit> {
        let strike = self.faults.strike(Op::Commit, &self.key);
        if self.spoiled {
            return Reply::ready(Err(Error::invalid("a write failed or was dropped")));
        }
        match strike {
            None => self.inner.commit(),
            Some(strike) => Reply::later(strike.around(move || self.inner.commit())),
        }
    }

    fn abort(self: Box<Self>) -> Reply<'static, ()> {
        match self.faults.strike(Op::Abort, &self.key) {
            None => self.inner.abort(),
            Some(strike) => Reply::later(strike.around(move || self.inner.abort())),
        }
    }

    fn staged(&self) -> Option<Arc<dyn Staged>> {
        self.inner.staged()
    }
}
