//! The order of eviction: S3-FIFO (Yang and others, "FIFO queues are all you need for cache
//! eviction", SOSP 2023) over bytes, where sealed segments and blobs stand in line together.
//
// Invariants:
// 1. `bytes` counts the segments and the blobs that stand in a queue. A blob stands there as its
//    `Standing` says, which changes here alone.
// 2. A line of blobs may hold some that have left since, or stand elsewhere: they count nothing,
//    are skipped, and never outnumber the others by much.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use crate::{
    blobs::{Blob, Standing},
    segment::{Queue, Segment},
};

/// The share of all bytes that probation may have while something else can go: one in so many.
const PROBATION_SHARE: u64 = 10;

/// All that may be evicted.
#[derive(Default)]
pub(crate) struct Victims {
    /// Sealed, by id: the oldest first.
    segments: [BTreeMap<u64, Arc<Segment>>; 2],
    blobs: [Line; 2],
    bytes: [u64; 2],
    /// Bytes of segments that will be here soon.
    expected: [u64; 2],
    /// Segments that cannot go for now.
    blocked: BTreeSet<u64>,
}

/// Blobs, each with the number that was drawn when it came.
#[derive(Default)]
struct Line {
    blobs: VecDeque<(u64, Arc<Blob>)>,
    /// How many of them count.
    standing: usize,
}

/// What goes next.
#[derive(Debug)]
pub(crate) enum Victim {
    Segment(Arc<Segment>),
    Blob(Arc<Blob>),
}

/// What has to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    Anything,
    /// The log has no more than its share.
    Blob,
}

impl Victims {
    /// Counts a segment that is about to be sealed, with these bytes.
    pub(crate) fn expect(&mut self, queue: Queue, bytes: u64) {
        self.expected[queue as usize] += bytes;
    }

    /// Counts it no more.
    pub(crate) fn arrived(&mut self, queue: Queue, bytes: u64) {
        let expected = &mut self.expected[queue as usize];
        *expected = expected.saturating_sub(bytes);
    }

    pub(crate) fn add_segment(&mut self, segment: Arc<Segment>) {
        let queue = segment.queue as usize;
        let bytes = segment.allocated();
        if self.segments[queue].insert(segment.id, segment).is_none() {
            self.bytes[queue] += bytes;
        }
    }

    pub(crate) fn remove_segment(&mut self, segment: &Segment) {
        let queue = segment.queue as usize;
        if self.segments[queue].remove(&segment.id).is_some() {
            self.bytes[queue] = self.bytes[queue].saturating_sub(segment.allocated());
        }
        self.blocked.remove(&segment.id);
    }

    /// Passes a segment over, until [`unblock`](Self::unblock).
    pub(crate) fn block(&mut self, segment: &Segment) {
        self.blocked.insert(segment.id);
    }

    pub(crate) fn unblock(&mut self) {
        self.blocked.clear();
    }

    /// How many blobs stand here.
    pub(crate) fn blobs(&self) -> usize {
        self.blobs.iter().map(|line| line.standing).sum()
    }

    /// Whether there is any such victim.
    pub(crate) fn has(&self, want: Want) -> bool {
        let has_segments = self.segments.iter().any(|segments| !segments.is_empty());
        self.blobs() > 0 || (want == Want::Anything && has_segments)
    }

    /// Puts a blob at the end of a line, unless it is gone.
    pub(crate) fn place(&mut self, blob: Arc<Blob>, queue: Queue, stamp: u64) {
        if blob.standing() == Standing::Gone {
            return;
        }
        self.leave(&blob, Standing::In(queue));
        self.bytes[queue as usize] += blob.room();
        let line = &mut self.blobs[queue as usize];
        line.blobs.push_back((stamp, blob));
        line.standing += 1;
    }

    /// Takes a blob out; `false` where it was gone already.
    pub(crate) fn dismiss(&mut self, blob: &Blob) -> bool {
        if blob.standing() == Standing::Gone {
            return false;
        }
        self.leave(blob, Standing::Gone);
        true
    }

    fn leave(&mut self, blob: &Blob, to: Standing) {
        if let Standing::In(queue) = blob.standing() {
            let bytes = &mut self.bytes[queue as usize];
            *bytes = bytes.saturating_sub(blob.room());
            let line = &mut self.blobs[queue as usize];
            line.standing = line.standing.saturating_sub(1);
            blob.set_standing(to);
            if line.blobs.len() > 2 * line.standing + 64 {
                line.blobs.retain(|(_, blob)| stands_in(blob, queue));
            }
        }
        blob.set_standing(to);
    }

    /// Some blobs other than this one, those that came last.
    pub(crate) fn some_blobs(&self, except: u64, max: usize) -> Vec<Arc<Blob>> {
        let lines = [Queue::Probation, Queue::Main].map(|queue| {
            let line = self.blobs[queue as usize].blobs.iter().rev();
            line.filter(move |(_, blob)| stands_in(blob, queue) && blob.id != except)
        });
        let blobs = lines.into_iter().flatten().take(max);
        blobs.map(|(_, blob)| Arc::clone(blob)).collect()
    }

    /// Chooses what goes next; a blob is taken out of its line, and still counts. `None` also where
    /// it is better to wait for what is expected.
    pub(crate) fn choose(&mut self, limit: u64, want: Want) -> Option<Victim> {
        let first = self.first_queue(limit);
        let victim = self.oldest(first, want);
        if want == Want::Anything && self.expected[first as usize] > 0 {
            return victim;
        }
        victim.or_else(|| self.oldest(first.other(), want))
    }

    fn first_queue(&self, limit: u64) -> Queue {
        let [probation, main] = [Queue::Probation, Queue::Main]
            .map(|queue| self.bytes[queue as usize] + self.expected[queue as usize]);
        if main == 0 || probation > limit / PROBATION_SHARE {
            Queue::Probation
        } else {
            Queue::Main
        }
    }

    fn oldest(&mut self, queue: Queue, want: Want) -> Option<Victim> {
        let blocked = &self.blocked;
        let mut segments = self.segments[queue as usize].iter();
        let segment = segments.find(|(id, _)| !blocked.contains(id));
        let segment = segment.filter(|_| want == Want::Anything);
        let line = &mut self.blobs[queue as usize].blobs;
        while line
            .front()
            .is_some_and(|(_, blob)| !stands_in(blob, queue))
        {
            line.pop_front();
        }
        match (segment, line.front()) {
            (Some((id, segment)), blob) if blob.is_none_or(|(stamp, _)| id < stamp) => {
                Some(Victim::Segment(Arc::clone(segment)))
            }
            _ => line.pop_front().map(|(_, blob)| Victim::Blob(blob)),
        }
    }
}

fn stands_in(blob: &Blob, queue: Queue) -> bool {
    blob.standing() == Standing::In(queue)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{
        medium::Medium,
        segment::{FooterPlace, Parts},
        space::BlockSize,
    };

    fn segment(folder: &Path, id: u64, queue: Queue, allocated: u64) -> Arc<Segment> {
        let medium = Medium::new(folder);
        Arc::new(Segment::new(Parts {
            id,
            slot: 0,
            queue,
            seed: 0,
            file: medium.create(Path::new(&id.to_string())).unwrap(),
            allocated,
            flushed: 0,
            end: 0,
            min_sequence: 0,
            footer: FooterPlace::File,
            detached: Arc::default(),
        }))
    }

    fn blob(id: u64, len: u64) -> Arc<Blob> {
        Arc::new(Blob::new(id, id, len, BlockSize::BYTE))
    }

    fn name(victim: Option<Victim>) -> String {
        match victim {
            Some(Victim::Segment(segment)) => format!("segment {}", segment.id),
            Some(Victim::Blob(blob)) => format!("blob {}", blob.id),
            None => String::new(),
        }
    }

    #[test]
    fn the_oldest_of_probation_goes_while_it_has_more_than_its_share() {
        let folder = tempfile::tempdir().unwrap();
        let mut victims = Victims::default();
        let (limit, any) = (1_000, Want::Anything);
        assert_eq!(name(victims.choose(limit, any)), "");
        let new = segment(folder.path(), 5, Queue::Probation, 100);
        victims.add_segment(Arc::clone(&new));
        assert_eq!(name(victims.choose(limit, any)), "segment 5");
        victims.add_segment(segment(folder.path(), 2, Queue::Main, 100));
        assert_eq!(name(victims.choose(limit, any)), "segment 2");
        victims.place(blob(4, 1), Queue::Probation, 4);
        assert_eq!(name(victims.choose(limit, any)), "blob 4");
        // It was taken, but still counts.
        assert_eq!(name(victims.choose(limit, any)), "segment 5");
        victims.remove_segment(&new);
        assert_eq!(name(victims.choose(limit, any)), "segment 2");
        assert_eq!(name(victims.choose(limit, Want::Blob)), "");
    }

    #[test]
    fn what_is_asked_for_does_not_go_while_what_is_new_is_on_its_way() {
        let folder = tempfile::tempdir().unwrap();
        let mut victims = Victims::default();
        victims.add_segment(segment(folder.path(), 2, Queue::Main, 100));
        victims.expect(Queue::Probation, 101);
        assert_eq!(name(victims.choose(1_000, Want::Anything)), "");
        victims.arrived(Queue::Probation, 101);
        assert_eq!(name(victims.choose(1_000, Want::Anything)), "segment 2");
        victims.expect(Queue::Probation, 100);
        assert_eq!(name(victims.choose(1_000, Want::Anything)), "segment 2");
    }

    #[test]
    fn what_is_blocked_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let mut victims = Victims::default();
        for id in 1..3 {
            victims.add_segment(segment(folder.path(), id, Queue::Main, 100));
        }
        let first = segment(folder.path(), 0, Queue::Main, 100);
        victims.add_segment(Arc::clone(&first));
        victims.block(&first);
        assert_eq!(name(victims.choose(1_000, Want::Anything)), "segment 1");
        victims.unblock();
        assert_eq!(name(victims.choose(1_000, Want::Anything)), "segment 0");
    }

    #[test]
    fn a_blob_that_left_is_skipped_and_counts_no_more() {
        let mut victims = Victims::default();
        let blobs: Vec<_> = (1..=3).map(|id| blob(id, 100)).collect();
        for blob in &blobs {
            victims.place(Arc::clone(blob), Queue::Probation, blob.id);
        }
        let each = blobs[0].room();
        assert_eq!(victims.bytes, [3 * each, 0]);
        assert!(victims.dismiss(&blobs[0]));
        assert!(!victims.dismiss(&blobs[0]));
        victims.place(Arc::clone(&blobs[0]), Queue::Main, 9);
        victims.place(Arc::clone(&blobs[1]), Queue::Main, 8);
        assert_eq!(victims.bytes, [each, each]);
        assert_eq!(name(victims.choose(10, Want::Blob)), "blob 3");
        assert_eq!(name(victims.choose(10, Want::Blob)), "blob 2");
        assert_eq!(name(victims.choose(10, Want::Blob)), "");
    }

    #[test]
    fn a_line_of_blobs_does_not_fill_with_those_that_left() {
        let mut victims = Victims::default();
        for id in 0..10_000 {
            let blob = blob(id, 10);
            victims.place(Arc::clone(&blob), Queue::Probation, id);
            victims.dismiss(&blob);
        }
        assert!(victims.blobs[0].blobs.len() <= 65);
        assert_eq!((victims.blobs[0].standing, victims.bytes), (0, [0, 0]));
    }
}
