//! Segments that should be there and are not, and what follows from that.
//!
//! A lost segment may have held a tombstone or a newer record for any key. All of its records have
//! numbers below a bound: the one that the manifest noted when the segment ended. So an object whose
//! record has a number from the bound on is surely the newest. One below may have been voided, and
//! does not count, unless a snapshot was made when all numbers below the bound were given out: the
//! snapshot knows what the lost records had voided.

use std::collections::HashMap;

use crate::{
    manifest::{End, Known},
    recover::NUMBER_MAX,
    reopen::Reopened,
};

/// The floor for this start: the greatest bound of a segment that is lost, now or before.
///
/// A segment without a noted end has the bound `next_sequence`, above all that was found.
pub(super) fn floor(known: &Known, found: &[Reopened], next_sequence: u64) -> u64 {
    let found: HashMap<u64, &Reopened> = found
        .iter()
        .map(|reopened| (reopened.segment.id, reopened))
        .collect();
    let mut floor = known.floor;
    for (id, end) in &known.segments {
        let is_there = found
            .get(id)
            .is_some_and(|reopened| end.as_ref().is_none_or(|end| is_whole(reopened, end)));
        if !is_there {
            let bound = end.map_or(next_sequence, |end| end.bound);
            tracing::warn!(
                segment = id,
                bound,
                "a segment is lost, in whole or in part: what it may have voided does not count"
            );
            floor = floor.max(bound);
        }
    }
    floor
}

/// Whether a file still has the records that it had when its segment ended.
fn is_whole(reopened: &Reopened, end: &End) -> bool {
    reopened.trailer.is_some() || reopened.segment.end() >= end.at
}

/// What the next start is to know. None of these segments is appended to again; the floor is
/// needed for as long as there are records below it.
pub(super) fn known(found: &[Reopened], floor: u64) -> Known {
    let segments = found.iter().map(|reopened| {
        let end = End {
            bound: reopened.max_sequence.saturating_add(1).min(NUMBER_MAX - 1),
            at: reopened.segment.end(),
        };
        (reopened.segment.id, Some(end))
    });
    let is_needed = found
        .iter()
        .any(|reopened| reopened.segment.min_sequence() < floor);
    Known {
        segments: segments.collect(),
        floor: if is_needed { floor } else { 0 },
    }
}
