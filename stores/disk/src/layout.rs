//! The store's folder: what makes it one, and who may have it open.
//!
//! - `LOCK` is empty; who has it locked has the store open.
//! - `FORMAT` makes a folder a store: see [`format`](mod@format).
//! - `OPEN` is there while the store is open, and after it was not closed in order: see
//!   [`manifest`].

mod format;
mod names;

use std::{
    io,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use larder_store::{Error, ErrorKind, Result};

use self::format::Format;
use crate::{
    config::{AfterPowerLoss, Settings},
    flusher,
    manifest::{self, Known, Left},
    medium::{File, Medium},
    small_file,
};

const LOCK: &str = "LOCK";
const FORMAT: &str = "FORMAT";
/// Attempts to lock the folder, and the pause between them. A handle that was just dropped may still
/// be ending its threads; and a store whose folder or lock was taken away notices it within
/// [`LOOK_PAUSE`](crate::keeper::LOOK_PAUSE), which is shorter than all attempts together.
const LOCK_TRIES: u32 = 75;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// A folder that is this store's and no other process's.
pub(crate) struct Folder {
    pub(crate) store_id: [u8; 16],
    /// Whether it was left by a machine that was started anew without closing it; where the system
    /// does not tell, whether it was not closed.
    pub(crate) after_power_loss: bool,
    /// What was left there of the segments.
    pub(crate) known: Known,
    /// The start of the machine; empty where the system does not tell.
    pub(crate) boot: Vec<u8>,
    held: Mutex<Option<Held>>,
}

/// What only one may have at a time.
struct Held {
    locks: Locks,
    /// The file that makes the folder this store.
    format: File,
}

/// Files that are locked while the store is open. A store that finds either of them locked stays
/// out, so that a `LOCK` which was removed lets nobody in.
struct Locks {
    lock: File,
    /// The folder itself; `None` where the file system locks no folders.
    itself: Option<File>,
}

impl Folder {
    /// Makes or opens the folder, and locks it.
    pub(crate) fn open(medium: &Medium, settings: &Settings) -> Result<Self> {
        make(medium)?;
        // What is no store does not even get a lock.
        stored_format(medium)?;
        let locks = lock(medium)?;
        // Another may have made the store meanwhile.
        let format = stored_format(medium)?;
        let boot = boot_id();
        let left = format.map(|format| manifest::read(medium, &format.store_id));
        let left = left.transpose();
        let left = left.map_err(|error| unavailable(medium, "cannot read", error))?;
        let left = left.flatten();
        let is_same = |left: &Left| boot.as_ref().is_some_and(|boot| *boot == left.boot);
        let after_power_loss = left.as_ref().is_some_and(|left| !is_same(left));
        // With a new id nothing that is there is this store's any more, and all of it is swept.
        let cold = after_power_loss && settings.after_power_loss == AfterPowerLoss::StartCold;
        let (store_id, known) = match format {
            Some(format) if !cold => {
                if format.is_outdated {
                    write(medium, &Format::current(format.store_id))?;
                }
                let mut known = left.unwrap_or_default().known;
                if after_power_loss {
                    // What reached the disk is any part of what was noted, and of the segments.
                    known.segments.clear();
                }
                (format.store_id, known)
            }
            _ => (begin(medium)?, Known::default()),
        };
        let made = medium.make_within();
        made.map_err(|error| unavailable(medium, "cannot write to", error))?;
        let format = medium.open(FORMAT.as_ref());
        let format = format.map_err(|error| unavailable(medium, "cannot read", error))?;
        Ok(Self {
            store_id,
            after_power_loss,
            known,
            boot: boot.unwrap_or_default(),
            held: Mutex::new(Some(Held { locks, format })),
        })
    }

    /// Whether the store's path still leads to this folder, with this store's `FORMAT` and lock in
    /// it. `true` also where the system does not tell.
    pub(crate) fn is_in_place(&self, medium: &Medium) -> bool {
        let looked = (|| {
            if !medium.is_in_place()? {
                return Ok(false);
            }
            let held = self.held();
            let Some(Held { locks, format }) = &*held else {
                return Ok(true);
            };
            Ok(medium.names(FORMAT.as_ref(), format)?
                && medium.names(LOCK.as_ref(), &locks.lock)?)
        })();
        looked.unwrap_or_else(|error: io::Error| {
            tracing::debug!(%error, "cannot look at the store's folder");
            true
        })
    }

    /// Notes that the store was closed in order. After this nothing may be written to the store.
    #[allow(clippy::unused_self)] // Only who has it open may say so.
    pub(crate) fn close(&self, medium: &Medium) -> Result<()> {
        let closed = medium.remove(manifest::NAME.as_ref());
        let closed = closed.and_then(|()| medium.sync_dir("".as_ref()));
        closed.map_err(|error| flusher::io("cannot note that the store is closed", error))
    }

    /// Lets others open the folder. Dropping does so, too; but a body that is still read keeps the
    /// store's state, and must not keep the folder.
    pub(crate) fn release(&self) {
        *self.held() = None;
    }

    fn held(&self) -> MutexGuard<'_, Option<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether what makes it this store can be read and written now.
    pub(crate) fn is_there(&self, medium: &Medium) -> bool {
        let format = stored_format(medium).ok().flatten();
        format.is_some_and(|format| format.store_id == self.store_id)
    }

    /// A folder without a lock.
    #[cfg(test)]
    pub(crate) fn of_test(store_id: [u8; 16]) -> Self {
        Self {
            store_id,
            after_power_loss: false,
            known: Known::default(),
            boot: Vec::new(),
            held: Mutex::new(None),
        }
    }
}

/// Explicitly: a child process that this one has forked shares the files, and closing them here
/// would leave them locked there.
impl Drop for Locks {
    fn drop(&mut self) {
        for file in std::iter::once(&self.lock).chain(&self.itself) {
            if let Err(error) = file.unlock() {
                tracing::debug!(%error, "cannot unlock the store's folder");
            }
        }
    }
}

/// The id of the store in this folder, for somebody who only looks; nobody opens it while the file
/// is held. The lock must be there: looking makes nothing.
pub(crate) fn look(medium: &Medium) -> Result<([u8; 16], File)> {
    let Some(format) = stored_format(medium)? else {
        let message = format!("{} is no store", medium.path().display());
        return Err(Error::invalid(message));
    };
    let lock = medium.open(LOCK.as_ref());
    let lock = lock.map_err(|error| unavailable(medium, "cannot lock", error))?;
    match lock.try_lock() {
        Ok(true) => Ok((format.store_id, lock)),
        Ok(false) => Err(in_use(medium)),
        Err(error) => Err(unavailable(medium, "cannot lock", error)),
    }
}

fn in_use(medium: &Medium) -> Error {
    let path = medium.path().display();
    let message = format!("{path} is in use by another process, or open in this one");
    Error::new(ErrorKind::Unavailable, message)
}

fn make(medium: &Medium) -> Result<()> {
    use io::ErrorKind::{AlreadyExists, NotADirectory};

    if medium.path().as_os_str().is_empty() {
        return Err(Error::invalid("the path of the store's folder is empty"));
    }
    match medium.make() {
        Ok(()) => Ok(()),
        Err(error) if matches!(error.kind(), AlreadyExists | NotADirectory) => {
            let message = format!("{} is not a folder", medium.path().display());
            Err(Error::with_source(ErrorKind::Invalid, message, error))
        }
        Err(error) => Err(unavailable(medium, "cannot make", error)),
    }
}

/// What the folder says of its format; `None` where it says nothing and holds nothing but what a
/// store leaves there: then a new store begins. Else an error.
fn stored_format(medium: &Medium) -> Result<Option<Format>> {
    let path = medium.path().display();
    let bytes = small_file::read(medium, FORMAT.as_ref());
    let bytes = bytes.map_err(|error| unavailable(medium, "cannot read and write", error))?;
    if let Some(bytes) = bytes {
        let format = Format::parse(&bytes);
        return format
            .map(Some)
            .map_err(|problem| Error::invalid(format!("{path} is left untouched: {problem}")));
    }
    let stranger = names::stranger(medium);
    match stranger.map_err(|error| unavailable(medium, "cannot read", error))? {
        None => Ok(None),
        Some(name) => Err(Error::invalid(format!(
            "{path} holds something else: it has no {FORMAT}, and is not empty ({name:?})"
        ))),
    }
}

fn lock(medium: &Medium) -> Result<Locks> {
    let failed = |error| unavailable(medium, "cannot lock", error);
    for _ in 0..LOCK_TRIES {
        // Again each time: who has it may be about to find that it is not the folder's any more.
        let lock = open_or_create(medium, LOCK.as_ref()).map_err(failed)?;
        if lock.try_lock().map_err(failed)? {
            let itself = medium.open_itself().map_err(failed)?;
            match itself.try_lock() {
                Ok(true) => {
                    let itself = Some(itself);
                    return Ok(Locks { lock, itself });
                }
                Ok(false) => drop(lock),
                Err(error) => {
                    tracing::debug!(%error, "cannot lock the folder itself");
                    let itself = None;
                    return Ok(Locks { lock, itself });
                }
            }
        }
        std::thread::park_timeout(LOCK_PAUSE);
    }
    Err(in_use(medium))
}

fn open_or_create(medium: &Medium, path: &Path) -> io::Result<File> {
    match medium.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        opened => return opened,
    }
    match medium.create(path) {
        // Another has made it meanwhile.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => medium.open(path),
        created => created,
    }
}

/// Makes the folder a new store; gives its id.
fn begin(medium: &Medium) -> Result<[u8; 16]> {
    let format = Format::draw();
    write(medium, &format)?;
    Ok(format.store_id)
}

fn write(medium: &Medium, format: &Format) -> Result<()> {
    let written = small_file::replace(medium, FORMAT.as_ref(), format.text().as_bytes());
    written.map_err(|error| unavailable(medium, "cannot write to", error))
}

/// What names this start of the machine.
fn boot_id() -> Option<Vec<u8>> {
    #[cfg(target_os = "linux")]
    let id = std::fs::read("/proc/sys/kernel/random/boot_id").ok();
    #[cfg(not(target_os = "linux"))]
    let id = None;
    id
}

fn unavailable(medium: &Medium, what: &str, error: io::Error) -> Error {
    let message = format!("{what} the folder {}", medium.path().display());
    Error::with_source(ErrorKind::Unavailable, message, error)
}

#[cfg(test)]
mod tests;
