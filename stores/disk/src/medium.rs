//! The file system, as this store uses it: the one place that touches files.
//!
//! Every call goes through [`Medium::call`], where tests make it fail.

use std::{
    fs, io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

#[cfg(test)]
use crate::faults::Faults;

/// A folder in which the store lives.
#[derive(Clone)]
pub(crate) struct Medium(Arc<Root>);

struct Root {
    path: PathBuf,
    /// Whether reads that do not wait work here.
    nowait: AtomicBool,
    #[cfg(test)]
    faults: Faults,
}

/// What is being done, for those who make it fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Op {
    Create,
    Open,
    Remove,
    List,
    Read,
    ReadNow,
    Write,
    Sync,
    Allocate,
    SetLen,
    Len,
    Rename,
    MakeDir,
    Lock,
}

/// An open file of the store.
#[cfg_attr(test, allow(clippy::struct_field_names))] // It is a file.
pub(crate) struct File {
    file: fs::File,
    medium: Medium,
    /// Within the folder.
    #[cfg(test)]
    path: PathBuf,
}

/// What becomes of a call that moves bytes: in tests only a part of them may go through.
struct Pass {
    len: usize,
    then: io::Result<()>,
}

impl Medium {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self(Arc::new(Root {
            path,
            nowait: AtomicBool::new(cfg!(target_os = "linux")),
            #[cfg(test)]
            faults: Faults::default(),
        }))
    }

    #[cfg(test)]
    pub(crate) fn with_faults(path: PathBuf, faults: Faults) -> Self {
        let nowait = AtomicBool::new(cfg!(target_os = "linux"));
        Self(Arc::new(Root {
            path,
            nowait,
            faults,
        }))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0.path
    }

    /// Every call passes here first, or through [`File::pass`].
    #[allow(clippy::unused_self, clippy::unnecessary_wraps)] // In tests it does something.
    fn call(&self, op: Op, path: &Path) -> io::Result<()> {
        #[cfg(test)]
        self.0.faults.call(op, path)?;
        let _ = (op, path);
        Ok(())
    }

    /// Makes a file that must not be there yet; a folder that is missing is made, too.
    pub(crate) fn create(&self, path: &Path) -> io::Result<File> {
        self.call(Op::Create, path)?;
        let whole = self.0.path.join(path);
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).create_new(true);
        let file = match options.open(&whole) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if let Some(parent) = whole.parent() {
                    fs::create_dir_all(parent)?;
                }
                options.open(&whole)?
            }
            opened => opened?,
        };
        Ok(self.file(file, path))
    }

    /// Opens a file for reading and writing.
    pub(crate) fn open(&self, path: &Path) -> io::Result<File> {
        self.call(Op::Open, path)?;
        let file = (fs::OpenOptions::new().read(true).write(true)).open(self.0.path.join(path))?;
        Ok(self.file(file, path))
    }

    /// Whether something is there that is no file: a folder, a link.
    pub(crate) fn is_no_file(&self, path: &Path) -> bool {
        let there = self.call(Op::Len, path).and_then(|()| {
            let path = self.0.path.join(path);
            fs::symlink_metadata(path)
        });
        there.is_ok_and(|there| !there.is_file())
    }

    fn file(&self, file: fs::File, path: &Path) -> File {
        let _ = path;
        File {
            file,
            medium: self.clone(),
            #[cfg(test)]
            path: path.to_owned(),
        }
    }

    /// Removes a file; one that is gone already is no error.
    pub(crate) fn remove(&self, path: &Path) -> io::Result<()> {
        self.call(Op::Remove, path)?;
        let path = self.0.path.join(path);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            // Somebody has put a folder in its place, which is not ours unless it is empty.
            Err(_) if path.is_dir() => {
                let _ = fs::remove_dir(&path);
                Ok(())
            }
            removed => removed,
        }
    }

    /// The names in a folder, without order; a folder that is missing is empty.
    pub(crate) fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.call(Op::List, path)?;
        let entries = match fs::read_dir(self.0.path.join(path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let name =
            |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
        entries.map(name).collect()
    }

    pub(crate) fn make_dir(&self, path: &Path) -> io::Result<()> {
        self.call(Op::MakeDir, path)?;
        fs::create_dir_all(self.0.path.join(path))
    }

    pub(crate) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call(Op::Rename, from)?;
        fs::rename(self.0.path.join(from), self.0.path.join(to))
    }

    /// Makes the names in a folder survive the loss of power.
    pub(crate) fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.call(Op::Sync, path)?;
        fs::File::open(self.0.path.join(path))?.sync_all()
    }
}

impl File {
    #[allow(clippy::unused_self, clippy::unnecessary_wraps)] // In tests it does something.
    fn call(&self, op: Op) -> io::Result<()> {
        #[cfg(test)]
        self.medium.call(op, &self.path)?;
        let _ = op;
        Ok(())
    }

    /// As [`call`](Self::call), for so many bytes.
    #[allow(clippy::unused_self, clippy::unnecessary_wraps)] // In tests it does something.
    fn pass(&self, op: Op, len: usize) -> io::Result<Pass> {
        #[cfg(test)]
        if let Some((len, error)) = self.medium.0.faults.transfer(op, &self.path, len)? {
            let then = Err(error);
            return Ok(Pass { len, then });
        }
        let _ = op;
        Ok(Pass { len, then: Ok(()) })
    }

    /// Fills the buffer, waiting for the disk; `UnexpectedEof` where there is less.
    pub(crate) fn read_exact_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        let Pass { len, then } = self.pass(Op::Read, into.len())?;
        self.file.read_exact_at(&mut into[..len], offset)?;
        then
    }

    /// Fills the buffer with what is in the system's page cache; `false` where not all of it is
    /// there, or where this cannot be asked. Never waits for the disk.
    #[cfg(target_os = "linux")]
    pub(crate) fn try_read_at(&self, into: &mut [u8], offset: u64) -> io::Result<bool> {
        use rustix::io::{Errno, ReadWriteFlags, preadv2};

        if !self.medium.0.nowait.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let len = into.len();
        let into = &mut into[..self.pass(Op::ReadNow, len)?.len];
        let mut buffers = [io::IoSliceMut::new(into)];
        match preadv2(&self.file, &mut buffers, offset, ReadWriteFlags::NOWAIT) {
            Ok(read) => Ok(read == len),
            Err(Errno::AGAIN | Errno::INTR) => Ok(false),
            Err(Errno::PERM | Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL) => {
                self.medium.0.nowait.store(false, Ordering::Relaxed);
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// As on Linux, where there is no such call.
    #[cfg(not(target_os = "linux"))]
    #[allow(clippy::unused_self, clippy::unnecessary_wraps)]
    pub(crate) fn try_read_at(&self, _: &mut [u8], _: u64) -> io::Result<bool> {
        let _ = Ordering::Relaxed;
        Ok(false)
    }

    /// Writes all of it; it may wait for the disk.
    pub(crate) fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let Pass { len, then } = self.pass(Op::Write, bytes.len())?;
        self.file.write_all_at(&bytes[..len], offset)?;
        then
    }

    /// Keeps others from doing the same, until this file is closed; `false` where another has done
    /// so.
    pub(crate) fn try_lock(&self) -> io::Result<bool> {
        self.call(Op::Lock)?;
        match self.file.try_lock() {
            Ok(()) => Ok(true),
            Err(fs::TryLockError::WouldBlock) => Ok(false),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    pub(crate) fn sync_data(&self) -> io::Result<()> {
        self.call(Op::Sync)?;
        self.file.sync_data()
    }

    pub(crate) fn len(&self) -> io::Result<u64> {
        self.call(Op::Len)?;
        Ok(self.file.metadata()?.len())
    }

    pub(crate) fn set_len(&self, len: u64) -> io::Result<()> {
        self.call(Op::SetLen)?;
        self.file.set_len(len)
    }

    /// Gives the file this length, with room on the disk for all of it where the file system can
    /// promise that.
    pub(crate) fn allocate(&self, len: u64) -> io::Result<()> {
        self.call(Op::Allocate)?;
        #[cfg(target_os = "linux")]
        {
            use rustix::{fs::FallocateFlags, io::Errno};
            match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, len) {
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
                allocated => return Ok(allocated?),
            }
        }
        self.file.set_len(len)
    }

    /// Says that this part will not be read again soon; zero is all that follows.
    pub(crate) fn drop_cached(&self, offset: u64, len: u64) {
        #[cfg(target_os = "linux")]
        {
            let len = std::num::NonZeroU64::new(len);
            // Advice only.
            let _ = rustix::fs::fadvise(&self.file, offset, len, rustix::fs::Advice::DontNeed);
        }
        let _ = (offset, len);
    }
}
