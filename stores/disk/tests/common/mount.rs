//! A file system of its own, where this process may have one.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tempfile::TempDir;

/// A file system in memory that ends with this.
#[derive(Debug)]
pub(crate) struct Mount(TempDir);

impl Mount {
    /// Mounts one of so many mebibytes; `None`, and a word about it, where this is not allowed.
    pub(crate) fn new(mebibytes: u32) -> Option<Self> {
        Self::with(&format!("size={mebibytes}m"))
    }

    /// As [`new`](Self::new), with these options.
    pub(crate) fn with(options: &str) -> Option<Self> {
        let folder = tempfile::Builder::new().prefix("larder-disk-").tempdir();
        let folder = folder.expect("a folder can be made");
        if mount(&["-t", "tmpfs", "-o", options, "larder"], folder.path()) {
            return Some(Self(folder));
        }
        println!("SKIPPED: nothing can be mounted here");
        None
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.path().join("store")
    }

    /// From now on nothing can be written.
    pub(crate) fn read_only(&self) {
        assert!(mount(&["-o", "remount,ro"], self.path()), "it was mounted");
    }
}

fn mount(arguments: &[&str], at: &Path) -> bool {
    let mut command = Command::new("mount");
    let command = command.args(arguments).arg(at).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Takes all the room that is left.
pub(crate) fn stranger(path: &Path) {
    let mut file = fs::File::create(path).unwrap();
    let mut len = 1 << 20;
    while len > 0 {
        if file.write_all(&vec![1; len]).is_err() {
            len /= 2;
        }
    }
}

/// Lazily: a store may still have files open.
impl Drop for Mount {
    fn drop(&mut self) {
        let command = &mut Command::new("umount");
        drop(command.arg("--lazy").arg(self.path()).status());
    }
}
