//! A file system that fails on command, for tests.

use std::io;

use crate::medium::Op;

/// Which calls fail, and how.
#[derive(Clone, Default)]
pub(crate) struct Faults;

impl Faults {
    #[allow(clippy::unused_self, clippy::unnecessary_wraps)]
    pub(crate) fn call(&self, op: Op) -> io::Result<()> {
        let _ = op;
        Ok(())
    }
}
