//! What all members did, and whether it may be so.
//!
//! A version of a page comes into being once, when a delete or an insert publishes it at the origin
//! and then calls the cache. A fetch gives the version that was the newest when it began. So a
//! read that begins after a change has returned must not give an older version, unless an insert
//! of that older version was still under way when the change was called, and may have come last.
//!
//! How much later a read must begin:
//! - in the process of the change not at all;
//! - where there is no private tier not at all, unless it joins a read that began earlier;
//! - elsewhere by the bound of the bus.
//!
//! Nothing fails, but for a delete of which the bus did not take the message in time. Where servers
//! fail, a read with a fetcher fails only if the body of a tier breaks off and cannot be continued:
//! because the origin has a newer version by then, because the fetcher was used up to learn that the
//! body is still right, or because there is no tier above, so that the body comes as it is.
//!
//! Where servers fail, an insert that has returned may have reached private tiers only. Then it
//! binds its own process, as an insert always does, and a delete that has succeeded binds all.

use std::{collections::HashMap, time::Duration};

use crate::{member::REVALIDATED, work::micros};

/// One call of the cache. Times are in microseconds, by the clock that all share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) process: usize,
    pub(crate) key: u64,
    pub(crate) op: Op,
    /// Read, in whole or in part, inserted, or published before the delete; zero where a page was
    /// absent or could not be had.
    pub(crate) version: u64,
    pub(crate) start: u64,
    /// When the cache was called, which is after the version was published.
    pub(crate) called: u64,
    pub(crate) end: u64,
    pub(crate) failure: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// With a fetcher.
    Read {
        /// It was given what an earlier read had begun to read.
        joined: bool,
    },
    /// Without one.
    Look {
        joined: bool,
    },
    Insert {
        /// Every tier has it.
        whole: bool,
    },
    Delete,
}

/// What is promised.
pub(crate) struct Rules {
    /// Whether each process has private tiers.
    pub(crate) private: Vec<bool>,
    pub(crate) bound: Duration,
    /// Nothing fails.
    pub(crate) calm: bool,
}

/// What was seen of a history that is as it should be.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    pub(crate) reads: usize,
    pub(crate) joined: usize,
    /// Changes that succeeded.
    pub(crate) deletes: usize,
    pub(crate) inserts: usize,
    /// Reads with a fetcher that failed, as a rule because a body broke off.
    pub(crate) cut: usize,
    /// Those of them, and of the reads that failed otherwise, that could have gone on.
    pub(crate) unexplained: Vec<String>,
    /// Other calls that failed.
    pub(crate) failed: usize,
    /// Reads of something older than a change that had returned, within the bound.
    pub(crate) late: usize,
}

impl Op {
    pub(crate) fn joined(self, joined: bool) -> Self {
        match self {
            Self::Read { .. } => Self::Read { joined },
            Self::Look { .. } => Self::Look { joined },
            _ => self,
        }
    }

    fn is_change(self) -> bool {
        matches!(self, Self::Insert { .. } | Self::Delete)
    }

    fn is_joined(self) -> bool {
        matches!(
            self,
            Self::Read { joined: true } | Self::Look { joined: true }
        )
    }

    fn word(self) -> &'static str {
        match self {
            Self::Read { joined: false } => "read",
            Self::Read { joined: true } => "read-joined",
            Self::Look { joined: false } => "look",
            Self::Look { joined: true } => "look-joined",
            Self::Insert { whole: true } => "insert",
            Self::Insert { whole: false } => "insert-part",
            Self::Delete => "delete",
        }
    }
}

const OPS: [Op; 7] = [
    Op::Read { joined: false },
    Op::Read { joined: true },
    Op::Look { joined: false },
    Op::Look { joined: true },
    Op::Insert { whole: true },
    Op::Insert { whole: false },
    Op::Delete,
];

impl Record {
    /// As a member tells it, in words without semicolons.
    pub(crate) fn tell(&self) -> String {
        format!(
            "{} {} {} {} {} {} {}",
            self.op.word(),
            self.key,
            self.version,
            self.start,
            self.called,
            self.end,
            self.failure.as_deref().unwrap_or("-").replace(';', ",")
        )
    }

    /// What this process has told.
    pub(crate) fn parse(process: usize, told: &str) -> Self {
        let words: Vec<&str> = told.splitn(7, ' ').collect();
        let number = |index: usize| words[index].parse().unwrap();
        let op = OPS.into_iter().find(|op| op.word() == words[0]);
        Self {
            process,
            op: op.unwrap(),
            key: number(1),
            version: number(2),
            start: number(3),
            called: number(4),
            end: number(5),
            failure: (words[6] != "-").then(|| words[6].to_owned()),
        }
    }

    fn succeeded(&self) -> bool {
        self.failure.is_none()
    }
}

impl Rules {
    /// Holds a history against the rules; the errors are what breaks them.
    pub(crate) fn check(&self, history: &[Record]) -> Result<Figures, Vec<String>> {
        let mut figures = Figures::default();
        let mut broken = Vec::new();
        for record in history {
            count(record, &mut figures);
        }
        let mut pages: HashMap<u64, Vec<&Record>> = HashMap::new();
        for record in history {
            pages.entry(record.key).or_default().push(record);
        }
        for page in pages.values() {
            self.check_page(page, &mut figures, &mut broken);
        }
        if broken.is_empty() {
            Ok(figures)
        } else {
            Err(broken)
        }
    }

    fn check_page(&self, page: &[&Record], figures: &mut Figures, broken: &mut Vec<String>) {
        let is_change = |record: &&&Record| record.op.is_change();
        let (changes, reads): (Vec<&Record>, Vec<&Record>) =
            page.iter().partition(|record| is_change(record));
        let settled: HashMap<u64, u64> = (changes.iter())
            .filter_map(|change| Some((change.version, settles(change)?)))
            .collect();
        let failed = page.iter().filter(|record| !record.succeeded());
        for failed in failed.filter(|failed| !self.may_fail(failed, &changes)) {
            let told = format!("failed: {failed:?}");
            if self.calm || is_torn(failed) {
                broken.push(told);
            } else {
                figures.unexplained.push(told);
            }
        }
        for read in reads {
            // A failed read has given nothing, and an absent page is never too old.
            if read.version == 0 || !read.succeeded() {
                continue;
            }
            // Versions that only fetches have brought were settled by the fences.
            let settled = settled.get(&read.version).copied().unwrap_or(0);
            let older = |change: &&&Record| {
                change.succeeded()
                    && read.version < change.version
                    && change.end < read.start
                    && settled < change.called
            };
            let mut late = false;
            for change in changes.iter().filter(older) {
                match self.slack(change, read) {
                    Some(slack) if change.end + slack < read.start => {
                        let by = read.start - change.end;
                        broken.push(format!("older, {by} us after:\n  {change:?}\n  {read:?}"));
                    }
                    _ => late = true,
                }
            }
            figures.late += usize::from(late);
        }
    }

    fn may_fail(&self, failed: &Record, changes: &[&Record]) -> bool {
        let why = failed.failure.as_deref().unwrap_or_default();
        let is_newer =
            |change: &&Record| change.version > failed.version && change.start < failed.end;
        match failed.op {
            _ if is_torn(failed) => false,
            // On a machine that is busy the bus may not take a message in time.
            Op::Delete if self.calm => why.contains("the bus takes nothing"),
            _ if self.calm => false,
            Op::Read { .. } => {
                let can_go_on = self.private[failed.process]
                    && !why.starts_with(REVALIDATED)
                    && !changes.iter().any(is_newer);
                failed.version > 0 && !can_go_on
            }
            _ => true,
        }
    }

    /// How long after a change an older version may be read; `None` where it is not told.
    fn slack(&self, change: &Record, read: &Record) -> Option<u64> {
        let bound = micros(self.bound);
        match change.op {
            _ if change.process == read.process => Some(0),
            Op::Insert { .. } if !self.calm => None,
            _ if self.private[read.process] || read.op.is_joined() => Some(bound),
            _ => Some(0),
        }
    }
}

fn count(record: &Record, figures: &mut Figures) {
    match record.op {
        Op::Read { .. } if !record.succeeded() => figures.cut += 1,
        _ if !record.succeeded() => figures.failed += 1,
        Op::Read { .. } | Op::Look { .. } => {
            figures.reads += 1;
            figures.joined += usize::from(record.op.is_joined());
        }
        Op::Insert { .. } => figures.inserts += 1,
        Op::Delete => figures.deletes += 1,
    }
}

fn is_torn(failed: &Record) -> bool {
    let why = failed.failure.as_deref();
    why.is_some_and(|why| why.starts_with("torn"))
}

/// From when on an insert cannot take effect any more.
fn settles(change: &Record) -> Option<u64> {
    match change.op {
        Op::Insert { whole } if whole && change.succeeded() => Some(change.end),
        // What a server has not answered may still be on its way.
        Op::Insert { .. } => Some(u64::MAX),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
