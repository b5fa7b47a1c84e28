//! Going out of service: the folder is no longer the store's.
//!
//! While a store runs its folder may be moved or removed, or another be mounted over it; somebody
//! may take its `FORMAT` or its `LOCK`. What the store then wrote would be lost, or would meet what
//! another store writes. So it looks now and then, and once it finds that, it uses the disk no more:
//! nothing is found, nothing is stored, nothing is made again, and whoever opens the folder next has
//! it.
//
// Invariants:
// 1. In this order: nothing may be changed on the disk; nothing can be appended; nothing is found;
//    the folder is unlocked. A delete that finds nothing looks at the first, under the lock of its
//    stripe, and so is not taken for done.
// 2. There is no way back but to open the store again.

use larder_store::{Error, ErrorKind, Result};

use crate::volume::Volume;

impl Volume {
    /// `Unavailable` where the folder is no longer the store's.
    pub(crate) fn check_service(&self) -> Result<()> {
        if self.medium.is_retired() {
            return Err(self.out_of_service());
        }
        Ok(())
    }

    /// Whether the folder is still the store's. Where it is not, the store goes out of service.
    pub(crate) fn look_at_folder(&self) -> bool {
        if !self.medium.is_retired() && self.folder.is_in_place(&self.medium) {
            return true;
        }
        self.leave_folder();
        false
    }

    fn leave_folder(&self) {
        let Self {
            medium,
            room,
            log,
            index,
            segments,
            folder,
            ..
        } = self;
        if medium.is_retired() {
            return;
        }
        medium.retire();
        let error = self.out_of_service();
        tracing::warn!(%error, "the store is out of service until it is opened again");
        room.withdraw(&error);
        log.set_down(Some(error));
        index.clear();
        // Their room is given back once nobody reads them any more.
        for segment in segments.clear() {
            segment.set_removed();
        }
        drop(log.take_spares());
        // What is being written now is the last.
        log.settled_blocking(log.draw());
        folder.release();
    }

    fn out_of_service(&self) -> Error {
        let path = self.medium.path().display();
        let message = format!("{path}, or the FORMAT or LOCK in it, is no longer this store's");
        Error::new(ErrorKind::Unavailable, message)
    }
}
