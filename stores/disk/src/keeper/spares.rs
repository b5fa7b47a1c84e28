//! Spare segments, and with them whether writing works.

use std::{io, path::Path};

use super::Keeper;
use crate::{
    account::SPARES, config::Durability, log::Spare, medium::File, segment, space, victims::Want,
    volume::Volume,
};

/// How making a spare segment ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Made {
    Yes,
    NoRoom,
    Failed,
}

impl Keeper<'_> {
    /// Tries whether writing works; a failure sets the time of the next try.
    pub(super) fn probe(&mut self) -> bool {
        let Volume { room, log, .. } = self.volume;
        let is_full = room.health(|health| health.is_short() && !health.is_failing());
        // A small file says nothing about the room for a segment.
        if is_full && log.spares() < SPARES {
            // Beyond the limit, too: what has to go to keep it may need a tombstone, and so a log
            // that works.
            let mut made = self.make_spare(false);
            if made == Made::NoRoom && log.spares() == 0 {
                made = self.make_spare(true);
            }
            if made != Made::NoRoom {
                return made == Made::Yes;
            }
        }
        let path = segment::path(log.draw());
        let medium = &self.volume.medium;
        let tried = medium.create(&path).and_then(|file| {
            let written = file.write_all_at(&[0; 4096], 0);
            let tried = written.and_then(|()| file.sync_data());
            // A start removes it otherwise.
            let removed = medium.remove(&path);
            tried.and(removed)
        });
        tried.map_err(|error| self.failed(error)).is_ok()
    }

    /// Makes a file that can become a segment. It may go `beyond` the limit where what it is for
    /// makes more room than it takes.
    pub(crate) fn make_spare(&mut self, beyond: bool) -> Made {
        let Volume { room, log, .. } = self.volume;
        let allocated = self.volume.settings.segment_size;
        if !room.take_segment(beyond) {
            return Made::NoRoom;
        }
        let id = log.draw();
        match self.create(id) {
            Ok(file) => {
                log.add_spare(Spare {
                    id,
                    file,
                    allocated,
                });
                Made::Yes
            }
            Err(error) => {
                room.resize(allocated, 0);
                if space::lacks_inodes(&error) && room.want_inodes(Want::Anything) {
                    // Something goes, and with it a file.
                    self.volume.counters.io_errors.add(1);
                    return Made::NoRoom;
                }
                self.failed(error);
                Made::Failed
            }
        }
    }

    fn create(&self, id: u64) -> io::Result<File> {
        let Volume {
            medium, settings, ..
        } = self.volume;
        let path = segment::path(id);
        let file = medium.create(&path)?;
        let allocated = file.allocate(settings.segment_size).and_then(|()| {
            // Later the name comes with the sealer's syncs.
            if settings.durability == Durability::OnCommit {
                medium.sync_dir(Path::new("seg"))?;
            }
            Ok(())
        });
        if let Err(error) = allocated {
            // A start removes it otherwise.
            let _ = medium.remove(&path);
            return Err(error);
        }
        Ok(file)
    }
}
