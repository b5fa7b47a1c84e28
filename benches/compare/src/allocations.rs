//! Allocations of this process, in the program whose allocator counts them.

/// Allocations so far, of all threads. Panics where the allocator does not count.
pub fn count() -> u64 {
    dhat::HeapStats::get().total_blocks
}
