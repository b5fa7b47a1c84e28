//! A file system of its own, where this process may have one.

use std::{
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
        let folder = tempfile::Builder::new().prefix("larder-disk-").tempdir();
        let folder = folder.expect("a folder can be made");
        let size = format!("size={mebibytes}m");
        if mount(&["-t", "tmpfs", "-o", &size, "larder"], folder.path()) {
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

/// Lazily: a store may still have files open.
impl Drop for Mount {
    fn drop(&mut self) {
        let command = &mut Command::new("umount");
        drop(command.arg("--lazy").arg(self.path()).status());
    }
}
