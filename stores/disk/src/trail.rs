//! Walking the records of one queue in the order of their numbers, by what the segments list.

use std::{io, sync::Arc};

use crate::{
    footer::{self, Footer, FooterEntry},
    log::Log,
    record::{Kind, UNIT},
    segment::{FooterPlace, Segment},
};

/// The records that have a key, of some segments up to these ends. The list of one segment is in
/// memory at a time.
pub(crate) struct Trail {
    /// What is still to be walked, the next one last.
    segments: Vec<(Arc<Segment>, u64)>,
    current: Option<Current>,
}

/// A segment that is being walked.
struct Current {
    segment: Arc<Segment>,
    end: u64,
    list: Arc<Footer>,
    /// Of a segment that is appended to, a part is listed at a time.
    is_whole: bool,
    /// The next record in `list`, and its key.
    index: usize,
    key_at: usize,
    /// The records before `list`, and the bytes of their keys.
    before: (usize, usize),
}

/// A record and its key.
pub(crate) struct Step<'a> {
    pub(crate) segment: u64,
    pub(crate) entry: FooterEntry,
    pub(crate) key: &'a [u8],
}

impl Trail {
    /// The segments come with the next one last.
    pub(crate) fn new(segments: Vec<(Arc<Segment>, u64)>) -> Self {
        Self {
            segments,
            current: None,
        }
    }

    /// The number of the next record; `None` at the end. It may wait for the disk.
    pub(crate) fn peek(&mut self, log: &Log) -> io::Result<Option<u64>> {
        loop {
            if let Some(current) = &mut self.current
                && let Some(entry) = current.peek(log)?
            {
                return Ok(Some(entry.sequence));
            }
            let Some((segment, end)) = self.segments.pop() else {
                self.current = None;
                return Ok(None);
            };
            self.current = Some(Current::new(segment, end));
        }
    }

    /// Takes the record that was peeked at.
    pub(crate) fn take(&mut self) -> Option<Step<'_>> {
        let current = self.current.as_mut()?;
        let (entry, key) = current.take()?;
        Some(Step {
            segment: current.segment.id,
            entry,
            key: &current.list.keys[key],
        })
    }
}

impl Current {
    fn new(segment: Arc<Segment>, end: u64) -> Self {
        Self {
            segment,
            end,
            list: Arc::default(),
            is_whole: false,
            index: 0,
            key_at: 0,
            before: (0, 0),
        }
    }

    fn peek(&mut self, log: &Log) -> io::Result<Option<FooterEntry>> {
        loop {
            let Some(entry) = self.list.entries.get(self.index).copied() else {
                if self.is_whole || !self.load(log)? {
                    return Ok(None);
                }
                continue;
            };
            if u64::from(entry.offset) * UNIT as u64 >= self.end {
                return Ok(None);
            }
            if entry.kind != Kind::Tombstone {
                return Ok(Some(entry));
            }
            self.take();
        }
    }

    /// Takes the next record; its key is that part of the list's.
    fn take(&mut self) -> Option<(FooterEntry, std::ops::Range<usize>)> {
        let entry = *self.list.entries.get(self.index)?;
        self.index += 1;
        let len = self.list.keys.get(self.key_at..)?.first_chunk::<2>()?;
        let start = self.key_at + 2;
        let end = start + usize::from(u16::from_le_bytes(*len));
        self.key_at = end;
        (end <= self.list.keys.len()).then_some((entry, start..end))
    }

    /// Has more records listed, if there are any.
    fn load(&mut self, log: &Log) -> io::Result<bool> {
        if matches!(self.segment.footer(), FooterPlace::Active) {
            let (index, key_at) = (self.before.0 + self.index, self.before.1 + self.key_at);
            if let Some(page) = log.page(&self.segment, index, key_at) {
                (self.before, self.index, self.key_at) = ((index, key_at), 0, 0);
                self.list = Arc::new(page);
                return Ok(!self.list.entries.is_empty());
            }
            // It was sealed in this moment.
        }
        self.list = footer::of(&self.segment)?;
        self.is_whole = true;
        (self.index, self.key_at) = (self.before.0 + self.index, self.before.1 + self.key_at);
        self.before = (0, 0);
        Ok(true)
    }
}
