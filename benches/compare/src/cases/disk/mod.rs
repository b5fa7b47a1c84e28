//! Stores on disk.
//!
//! Everything stays in the page cache unless a case says otherwise: what is compared is what the
//! store adds to the disk, not the disk.

pub mod allocs;
mod burst;
mod evict;
mod hit;
mod index;
mod reopen;
mod stream;

use super::Bench;
use crate::report::Report;

/// Lengths of values, and their names.
const SIZES: [(&str, usize); 4] = [
    ("100B", 100),
    ("4KiB", 4 << 10),
    ("64KiB", 64 << 10),
    ("1MiB", 1 << 20),
];

/// Runs every case of this family that is wanted. One that fails does not keep the next from it.
pub async fn run(bench: &Bench, report: &mut Report) {
    macro_rules! each {
        ($($case:ident),*) => {$(
            let name = concat!("disk/", stringify!($case));
            if bench.options.wants(name) {
                let done = $case::run(bench, report).await;
                report.print();
                if let Err(error) = done {
                    report.fail(name, &error);
                }
            }
        )*};
    }
    each!(hit, burst, stream, reopen, index, evict, allocs);
}
