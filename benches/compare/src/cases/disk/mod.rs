//! Stores on disk.
//!
//! Everything stays in the page cache unless a case says otherwise: what is compared is what the
//! store adds to the disk, not the disk.

pub mod allocs;
mod below;
mod burst;
mod evict;
mod hit;
mod index;
mod reopen;
mod store;
mod stream;

use super::{Bench, each_case};
use crate::report::Report;

/// Lengths of values, and their names.
const SIZES: [(&str, usize); 4] = [
    ("100B", 100),
    ("4KiB", 4 << 10),
    ("64KiB", 64 << 10),
    ("1MiB", 1 << 20),
];

/// Runs every case of this family that is wanted.
pub async fn run(bench: &Bench, report: &mut Report) {
    each_case!(
        "disk", bench, report, hit, burst, stream, below, store, reopen, index, evict, allocs
    );
}
