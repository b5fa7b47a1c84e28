//! Folders that are there for a while, and go whatever happens.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tempfile::{Builder, TempDir};

/// A folder that is removed when this is dropped; [`sweep`] sees to what came back.
pub(crate) struct Scratch(TempDir);

/// Those that were made.
static MADE: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

impl Scratch {
    /// In the system's folder for such.
    pub(crate) fn new() -> io::Result<Self> {
        Self::within(&std::env::temp_dir())
    }

    /// In this folder, which is made if need be.
    pub(crate) fn within(folder: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let folder = Builder::new().prefix("larder-bench-").tempdir_in(folder)?;
        let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
        made.push(folder.path().to_owned());
        Ok(Self(folder))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

/// Removes what is left, once nothing runs any more: a store that was opening when ctrl-C came may
/// have made its folder anew.
pub(crate) fn sweep() {
    let made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    for path in made.iter() {
        for _ in 0..ATTEMPTS {
            if !path.exists() || std::fs::remove_dir_all(path).is_ok() {
                break;
            }
            std::thread::park_timeout(PAUSE);
        }
    }
}

/// A store may have a thread of its own, which still writes.
const ATTEMPTS: usize = 10;
const PAUSE: Duration = Duration::from_millis(20);

/// Waits for the user to have enough of it, or for the system to end it.
pub(crate) async fn interrupted() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};

        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            return;
        }
    }
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}
