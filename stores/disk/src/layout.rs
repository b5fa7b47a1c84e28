//! The store's folder: what makes it one, and who may have it open.
//!
//! - `LOCK` is empty; who has it locked has the store open.
//! - `FORMAT` makes a folder a store: see [`format`](mod@format).
//! - `OPEN` is there while the store is open, and after it was not closed in order. It names the
//!   start of the machine, where the system tells.

mod format;

use std::{io, path::Path, sync::Mutex, sync::PoisonError, time::Duration};

use larder_store::{Error, ErrorKind, Result};

use self::format::Format;
use crate::{
    config::{AfterPowerLoss, Settings},
    flusher,
    medium::{File, Medium},
    small_file,
};

const LOCK: &str = "LOCK";
const FORMAT: &str = "FORMAT";
const OPEN: &str = "OPEN";
/// What may be there before there is a `FORMAT`: somebody who was about to make the store.
const BEFORE_FORMAT: [&str; 2] = [LOCK, "FORMAT.tmp"];

/// For so long, together, the lock is waited for: a handle that was just dropped may still be
/// ending its threads.
const LOCK_TRIES: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// A folder that is this store's and no other process's.
pub(crate) struct Folder {
    pub(crate) store_id: [u8; 16],
    /// Whether it was left by a machine that was started anew without closing it; where the system
    /// does not tell, whether it was not closed.
    pub(crate) after_power_loss: bool,
    lock: Mutex<Option<File>>,
}

impl Folder {
    /// Makes or opens the folder, and locks it.
    pub(crate) fn open(medium: &Medium, settings: &Settings) -> Result<Self> {
        make(medium)?;
        // What is no store does not even get a lock.
        stored_format(medium)?;
        let lock = lock(medium)?;
        // Another may have made the store meanwhile.
        let format = stored_format(medium)?;
        let boot = boot_id();
        let after_power_loss =
            format.is_some() && was_left_by_another_boot(medium, boot.as_deref())?;
        // With a new id nothing that is there is this store's any more, and all of it is swept.
        let cold = after_power_loss && settings.after_power_loss == AfterPowerLoss::StartCold;
        let store_id = match format {
            Some(format) if !cold => format.store_id,
            _ => begin(medium)?,
        };
        let boot = boot.unwrap_or_default();
        let marked = small_file::replace(medium, OPEN.as_ref(), boot.as_bytes());
        marked.map_err(|error| unavailable(medium, "cannot write to", error))?;
        Ok(Self {
            store_id,
            after_power_loss,
            lock: Mutex::new(Some(lock)),
        })
    }

    /// Notes that the store was closed in order. After this nothing may be written to the store.
    #[allow(clippy::unused_self)] // Only who has it open may say so.
    pub(crate) fn close(&self, medium: &Medium) -> Result<()> {
        let closed = medium.remove(OPEN.as_ref());
        let closed = closed.and_then(|()| medium.sync_dir("".as_ref()));
        closed.map_err(|error| flusher::io("cannot note that the store is closed", error))
    }

    /// Lets others open the folder. Dropping does so, too; but a body that is still read keeps the
    /// store's state, and must not keep the folder.
    pub(crate) fn release(&self) {
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        *lock = None;
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
            lock: Mutex::new(None),
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

    match medium.make_dir("".as_ref()) {
        Ok(()) => Ok(()),
        Err(error) if matches!(error.kind(), AlreadyExists | NotADirectory) => {
            let message = format!("{} is not a folder", medium.path().display());
            Err(Error::with_source(ErrorKind::Invalid, message, error))
        }
        Err(error) => Err(unavailable(medium, "cannot make", error)),
    }
}

/// What the folder says of its format; `None` where it is empty, an error where it is neither.
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
    let names = medium.list("".as_ref());
    let names = names.map_err(|error| unavailable(medium, "cannot read", error))?;
    match names.iter().find(|name| !BEFORE_FORMAT.contains(&&***name)) {
        None => Ok(None),
        Some(name) => Err(Error::invalid(format!(
            "{path} holds something else: it has no {FORMAT}, and is not empty ({name:?})"
        ))),
    }
}

fn lock(medium: &Medium) -> Result<File> {
    let failed = |error| unavailable(medium, "cannot lock", error);
    let file = open_or_create(medium, LOCK.as_ref()).map_err(failed)?;
    for _ in 0..LOCK_TRIES {
        if file.try_lock().map_err(failed)? {
            return Ok(file);
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

fn was_left_by_another_boot(medium: &Medium, boot: Option<&str>) -> Result<bool> {
    let left = small_file::read(medium, OPEN.as_ref());
    let left = left.map_err(|error| unavailable(medium, "cannot read", error))?;
    let same = |left: Vec<u8>| boot.is_some_and(|boot| boot.as_bytes() == left);
    Ok(left.is_some_and(|left| !same(left)))
}

/// Makes the folder a new store; gives its id.
fn begin(medium: &Medium) -> Result<[u8; 16]> {
    let format = Format::draw();
    let written = small_file::replace(medium, FORMAT.as_ref(), format.text().as_bytes());
    written.map_err(|error| unavailable(medium, "cannot write to", error))?;
    Ok(format.store_id)
}

/// What names this start of the machine.
fn boot_id() -> Option<String> {
    #[cfg(target_os = "linux")]
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
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
