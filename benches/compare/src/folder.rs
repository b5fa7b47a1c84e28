//! Where the data goes: a folder of this run, one in it for each store, and what they take.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

/// What `statfs` calls a file system that is kept in memory.
const TMPFS: u64 = 0x0102_1994;

/// A folder on a disk, removed at the end.
#[derive(Debug)]
pub struct Folder {
    root: TempDir,
    next: AtomicU64,
}

impl Folder {
    /// A new folder within `parent`, or else in the package's target folder, which git ignores and
    /// `cargo clean` empties, should the program be killed.
    pub fn new(parent: Option<&Path>) -> Result<Self> {
        let target = || Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
        let parent = parent.map_or_else(target, Path::to_path_buf);
        fs::create_dir_all(&parent).with_context(|| format!("creating {}", parent.display()))?;
        let kind = rustix::fs::statfs(&parent)?.f_type;
        ensure!(
            u64::try_from(kind) != Ok(TMPFS),
            "{} is kept in memory: give a folder on a disk with --dir",
            parent.display()
        );
        let root = tempfile::Builder::new()
            .prefix("compare-")
            .tempdir_in(parent)?;
        Ok(Self {
            root,
            next: AtomicU64::new(0),
        })
    }

    /// A folder in it that did not exist before.
    pub fn fresh(&self, name: &str) -> Result<PathBuf> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.root.path().join(format!("{number}-{name}"));
        fs::create_dir(&path)?;
        Ok(path)
    }

    /// Makes the disk do what it still has to do, so that nobody pays for those before.
    pub fn settle(&self) -> Result<()> {
        rustix::fs::syncfs(fs::File::open(self.root.path())?)?;
        Ok(())
    }
}

/// Removes a folder and all that is in it.
pub fn remove(path: &Path) -> Result<()> {
    fs::remove_dir_all(path).with_context(|| format!("removing {}", path.display()))
}

/// Bytes in allocated blocks of all files and folders within.
pub fn allocated(path: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        sum += metadata.blocks() * 512;
        if metadata.is_dir() {
            sum += allocated(&entry.path())?;
        }
    }
    Ok(sum)
}

/// Copies a folder and all that is in it.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}
