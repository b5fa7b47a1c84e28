//! The account of bytes: what the files take, and what more they may take.

use crate::{health::SEGMENTS_MIN, victims::Want};

/// Segments that are kept ready.
pub(crate) const SPARES: usize = 2;

/// Bytes of files.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Account {
    segment_size: u64,
    /// Of all files: segments, spares, and blobs, from the moment they are admitted.
    used: u64,
    /// Of blobs alone.
    blobs: u64,
    /// Of blobs that are being written: none of them can be evicted.
    in_flight: u64,
}

impl Account {
    pub(crate) fn new(segment_size: u64, used: u64, blobs: u64) -> Self {
        Self {
            segment_size,
            used,
            blobs,
            in_flight: 0,
        }
    }

    pub(crate) fn segment_size(&self) -> u64 {
        self.segment_size
    }

    pub(crate) fn used(&self) -> u64 {
        self.used
    }

    /// What all blobs may take together, so that the log keeps its least.
    pub(crate) fn blobs_max(&self, limit: u64) -> u64 {
        limit.saturating_sub(SEGMENTS_MIN * self.segment_size)
    }

    /// Whether there can ever be room for a blob's file of this length.
    pub(crate) fn is_possible(&self, bytes: u64, limit: u64) -> bool {
        bytes <= self.blobs_max(limit)
    }

    /// What has to go before a blob may have so many bytes; the spares that are missing come first.
    pub(crate) fn obstacle(&self, bytes: u64, limit: u64, spares: usize) -> Option<Want> {
        if self.blobs.saturating_add(bytes) > self.blobs_max(limit) {
            return Some(Want::Blob);
        }
        let missing = SPARES.saturating_sub(spares) as u64 * self.segment_size;
        let used = self.used.saturating_add(bytes).saturating_add(missing);
        (used > limit).then_some(Want::Anything)
    }

    /// What has to go before all spares are there, and no more is used than may be. Nothing goes for
    /// the sake of blobs that were let in before the limit fell: they may yet come to nothing.
    pub(crate) fn shortage(&self, limit: u64, spares: usize) -> Option<Want> {
        let missing = SPARES.saturating_sub(spares) as u64 * self.segment_size;
        let used = if missing == 0 {
            self.used.saturating_sub(self.in_flight)
        } else {
            self.used.saturating_add(missing)
        };
        (used > limit).then_some(Want::Anything)
    }

    /// Whether there is room for one more segment.
    pub(crate) fn has_segment(&self, limit: u64) -> bool {
        self.used.saturating_add(self.segment_size) <= limit
    }

    pub(crate) fn take_segment(&mut self) {
        self.used += self.segment_size;
    }

    /// Lets a blob in, or a part of one.
    pub(crate) fn admit(&mut self, bytes: u64) {
        self.used = self.used.saturating_add(bytes);
        self.blobs = self.blobs.saturating_add(bytes);
        self.in_flight = self.in_flight.saturating_add(bytes);
    }

    /// Takes back what was let in and is not there.
    pub(crate) fn give_back(&mut self, bytes: u64) {
        self.landed(bytes);
        self.free_blob(bytes);
    }

    /// Takes note that a blob is written.
    pub(crate) fn landed(&mut self, bytes: u64) {
        self.in_flight = self.in_flight.saturating_sub(bytes);
    }

    /// Whether some blob is let in and not yet there.
    pub(crate) fn is_landing(&self) -> bool {
        self.in_flight > 0
    }

    /// Takes note that the file of a blob that was written is gone.
    pub(crate) fn free_blob(&mut self, bytes: u64) {
        self.used = self.used.saturating_sub(bytes);
        self.blobs = self.blobs.saturating_sub(bytes);
    }

    /// Takes note that a segment's file has another length, zero where it is gone.
    pub(crate) fn resize(&mut self, from: u64, to: u64) {
        self.used = self.used.saturating_sub(from).saturating_add(to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u64 = 1_000;

    #[test]
    fn spares_come_before_blobs() {
        let mut account = Account::new(100, 600, 0);
        assert_eq!(account.obstacle(300, LIMIT, 1), None);
        assert_eq!(account.obstacle(301, LIMIT, 1), Some(Want::Anything));
        assert_eq!(account.obstacle(300, LIMIT, 0), Some(Want::Anything));
        assert_eq!(account.shortage(LIMIT, 0), None);
        account.admit(250);
        assert_eq!(account.shortage(LIMIT, 0), Some(Want::Anything));
        assert_eq!(account.shortage(LIMIT, 1), None);
        assert_eq!(account.shortage(800, 2), None);
        account.landed(250);
        assert_eq!(account.shortage(800, 2), Some(Want::Anything));
        assert!(account.has_segment(LIMIT));
        account.take_segment();
        assert!(!account.has_segment(LIMIT));
        account.free_blob(250);
        account.resize(100, 40);
        assert_eq!(account.used(), 640);
        account.admit(10);
        account.give_back(10);
        assert_eq!((account.used(), account.in_flight), (640, 0));
    }

    #[test]
    fn blobs_leave_the_log_its_least() {
        let account = Account::new(100, 500, 500);
        assert!(account.is_possible(700, LIMIT));
        assert!(!account.is_possible(701, LIMIT));
        assert_eq!(account.obstacle(200, LIMIT, 2), None);
        assert_eq!(account.obstacle(201, LIMIT, 2), Some(Want::Blob));
        assert!(!account.is_possible(1, 300));
    }
}
