//! A file system that fails on command, for tests.

use std::{
    collections::BTreeMap,
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::medium::Op;

/// Which calls to the file system fail, and how: a handle, whose clones are the same. It counts all
/// calls, so that a test may first see what there is to fail.
#[derive(Clone, Default)]
pub(crate) struct Faults(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    rules: Vec<Armed>,
    calls: BTreeMap<Site, u64>,
    struck: u64,
}

/// A kind of call: what is done, and by whom.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Site {
    pub(crate) op: Op,
    pub(crate) by: By,
}

/// The threads that use the file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum By {
    /// Those of the runtime: whoever opens, reads, and writes blobs.
    Caller,
    Flusher,
    Sealer,
    Keeper,
}

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// `ENOSPC`.
    Full,
    /// `EIO`.
    Broken,
    /// `EROFS`.
    ReadOnly,
    /// Half of the bytes go through. Then a write meets the end of the disk, and a read that of
    /// the file. A call that moves no bytes fails with `EIO`.
    Short,
}

/// Calls that fail. Whatever is not said holds for all: every call, for ever.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    failure: Failure,
    ops: Vec<Op>,
    by: Option<By>,
    under: &'static str,
    from: u64,
    count: u64,
}

struct Armed {
    rule: Rule,
    seen: u64,
}

impl Rule {
    pub(crate) fn new(failure: Failure) -> Self {
        Self {
            failure,
            ops: Vec::new(),
            by: None,
            under: "",
            from: 0,
            count: u64::MAX,
        }
    }

    /// Only such calls.
    pub(crate) fn on(mut self, ops: &[Op]) -> Self {
        self.ops = ops.to_vec();
        self
    }

    /// Only calls of these threads.
    pub(crate) fn by(mut self, by: By) -> Self {
        self.by = Some(by);
        self
    }

    /// Only files whose path within the store's folder begins so.
    pub(crate) fn under(mut self, path: &'static str) -> Self {
        self.under = path;
        self
    }

    /// From this call on, of those that it is about; the first is 0.
    pub(crate) fn from(mut self, call: u64) -> Self {
        self.from = call;
        self
    }

    /// So many calls and no more.
    pub(crate) fn times(mut self, count: u64) -> Self {
        self.count = count;
        self
    }

    fn is_about(&self, site: &Site, path: &Path) -> bool {
        (self.ops.is_empty() || self.ops.contains(&site.op))
            && self.by.is_none_or(|by| by == site.by)
            && path.to_string_lossy().starts_with(self.under)
    }
}

impl Faults {
    pub(crate) fn add(&self, rule: Rule) {
        let seen = 0;
        self.lock().rules.push(Armed { rule, seen });
    }

    /// From here on nothing fails.
    pub(crate) fn clear(&self) {
        self.lock().rules.clear();
    }

    /// All calls up to now.
    pub(crate) fn calls(&self) -> BTreeMap<Site, u64> {
        self.lock().calls.clone()
    }

    /// The calls that were made to fail.
    pub(crate) fn struck(&self) -> u64 {
        self.lock().struck
    }

    /// Asked by the medium before each call that moves no bytes.
    pub(crate) fn call(&self, op: Op, path: &Path) -> io::Result<()> {
        match self.strike(op, path) {
            Some(failure) => Err(failure.error()),
            None => Ok(()),
        }
    }

    /// Asked by the medium before each call that moves bytes: how many of them go through, and with
    /// what it then ends.
    pub(crate) fn transfer(
        &self,
        op: Op,
        path: &Path,
        len: usize,
    ) -> io::Result<Option<(usize, io::Error)>> {
        match self.strike(op, path) {
            Some(Failure::Short) => {
                let error = if op == Op::Write {
                    Failure::Full.error()
                } else {
                    io::ErrorKind::UnexpectedEof.into()
                };
                Ok(Some((len / 2, error)))
            }
            Some(failure) => Err(failure.error()),
            None => Ok(None),
        }
    }

    fn strike(&self, op: Op, path: &Path) -> Option<Failure> {
        let by = By::current();
        let site = Site { op, by };
        let mut state = self.lock();
        let mut struck = None;
        for Armed { rule, seen } in &mut state.rules {
            if rule.is_about(&site, path) {
                let hits = *seen >= rule.from && *seen - rule.from < rule.count;
                *seen += 1;
                struck = struck.or(hits.then_some(rule.failure));
            }
        }
        *state.calls.entry(site).or_default() += 1;
        state.struck += u64::from(struck.is_some());
        struck
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Failure {
    fn error(self) -> io::Error {
        // The numbers that all systems have in common.
        io::Error::from_raw_os_error(match self {
            Self::Full => 28,
            Self::Broken | Self::Short => 5,
            Self::ReadOnly => 30,
        })
    }
}

impl By {
    fn current() -> Self {
        match std::thread::current().name() {
            Some("larder-log") => Self::Flusher,
            Some("larder-seal") => Self::Sealer,
            Some("larder-room") => Self::Keeper,
            _ => Self::Caller,
        }
    }
}
