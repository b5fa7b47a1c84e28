//! Buffers that are used again: what was read once stands in one of them until its reader drops it.

/// Buffers of a few lengths, kept for the next read.
pub(crate) struct Buffers;

impl Buffers {
    pub(crate) fn new() -> Self {
        Self
    }
}
