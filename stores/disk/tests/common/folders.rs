//! Folders that go when a test ends, and what is in a store's folder.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

/// A folder for one test.
#[derive(Debug)]
pub(crate) struct Scratch(TempDir);

impl Scratch {
    pub(crate) fn new() -> Self {
        Self(Self::within(&std::env::temp_dir()))
    }

    /// In memory where the system has that: for tests in which the speed of the disk says nothing.
    pub(crate) fn in_memory() -> Self {
        let shared = Path::new("/dev/shm");
        if !shared.is_dir() {
            return Self::new();
        }
        Self(Self::within(shared))
    }

    fn within(parent: &Path) -> TempDir {
        let mut builder = tempfile::Builder::new();
        builder.prefix("larder-disk-");
        builder.tempdir_in(parent).unwrap()
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// The folder of a store.
    pub(crate) fn store(&self) -> PathBuf {
        self.path().join("store")
    }
}

/// A store that was dropped goes on for a moment: as long as it has its lock it would make files
/// anew in the folder that goes.
impl Drop for Scratch {
    fn drop(&mut self) {
        let locks = [self.path().join("LOCK"), self.store().join("LOCK")];
        let held = || {
            let locks = locks.iter().filter_map(|lock| fs::File::open(lock).ok());
            locks.filter(|lock| lock.try_lock().is_err()).count() > 0
        };
        for _ in 0..400 {
            if !held() {
                return;
            }
            #[allow(clippy::disallowed_methods)] // There may be no runtime here.
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

/// All files beneath a folder, as paths from there. One that goes meanwhile is left out.
pub(crate) fn files(root: &Path) -> Vec<PathBuf> {
    fn walk(root: &Path, folder: &Path, found: &mut Vec<PathBuf>) {
        let Ok(entries) = fs::read_dir(folder) else {
            return;
        };
        for entry in entries.filter_map(Result::ok) {
            let path = entry.path();
            if path.is_dir() {
                walk(root, &path, found);
            } else if let Ok(path) = path.strip_prefix(root) {
                found.push(path.to_path_buf());
            }
        }
    }
    let mut found = Vec::new();
    walk(root, root, &mut found);
    found.sort();
    found
}

/// What the objects take of the disk: the blocks of all segments and blobs.
pub(crate) fn bytes_of_files(root: &Path) -> u64 {
    let folders = [root.join("seg"), root.join("blob")];
    let bytes = |folder: &PathBuf| -> u64 {
        let files = files(folder).into_iter().map(|file| folder.join(file));
        files
            .filter_map(|file| fs::metadata(file).ok())
            .map(|file| file.blocks() * 512)
            .sum()
    };
    folders.iter().map(bytes).sum()
}

/// What a kill at this moment would leave, as long as nothing is being written.
pub(crate) fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for file in files(from) {
        let target = to.join(&file);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        match fs::copy(from.join(&file), target) {
            // A file that was about to go.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            copied => drop(copied?),
        }
    }
    Ok(())
}
