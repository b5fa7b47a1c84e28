//! The file system, as this store uses it: the one place that touches files.
//!
//! Every call goes through [`Medium::call`] or [`File::pass`], where tests make it fail.
//
// Invariants:
// 1. The path is resolved once. From then on each call names its file relative to a folder that is
//    open, so neither the working directory nor a link on the path matters any more.
// 2. The store's folder and the two in it are made at most once, when the store is opened. If one
//    of them goes, nothing makes it again.
// 3. After `retire` no call changes anything.

use std::{
    fs, io,
    os::{fd::OwnedFd, unix::fs::FileExt},
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat},
    io::{Errno, retry_on_intr},
};

#[cfg(test)]
use crate::faults::Faults;
use crate::space::{BlockSize, OutOfInodes, Space};

/// A folder in which the store lives.
#[derive(Clone)]
pub(crate) struct Medium(Arc<Root>);

struct Root {
    /// As it was given, made absolute.
    path: PathBuf,
    /// The store's folder, once it was opened.
    folder: OnceLock<Folder>,
    /// The folders in it: those of [`FOLDERS`].
    folders: [OnceLock<Folder>; FOLDERS.len()],
    block: OnceLock<BlockSize>,
    /// Whether nothing may be changed any more.
    retired: AtomicBool,
    /// Whether reads that do not wait work here.
    nowait: AtomicBool,
    #[cfg(test)]
    faults: Faults,
}

/// A folder that is open.
struct Folder {
    file: fs::File,
    /// Without links.
    path: PathBuf,
}

/// The folders of the store that stay open, too.
const FOLDERS: [&str; 2] = ["seg", "blob"];
/// Attempts to make a file in a folder that others may be removing since it is empty.
const CREATE_TRIES: u32 = 16;

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
    RemoveDir,
    Lock,
    /// Looks at a folder or at the file system, and changes nothing.
    Look,
}

impl Op {
    fn changes(self) -> bool {
        use Op::{Allocate, Create, MakeDir, Remove, RemoveDir, Rename, SetLen, Write};

        matches!(
            self,
            Create | Remove | Write | Allocate | SetLen | Rename | MakeDir | RemoveDir
        )
    }
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
    /// The store's folder at this path. Nothing is done before the first call.
    pub(crate) fn new(path: &Path) -> Self {
        Self(Arc::new(Root {
            // It fails for an empty path, or without a working directory: opening it does, too.
            path: std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
            folder: OnceLock::new(),
            folders: [const { OnceLock::new() }; FOLDERS.len()],
            block: OnceLock::new(),
            retired: AtomicBool::new(false),
            nowait: AtomicBool::new(cfg!(target_os = "linux")),
            #[cfg(test)]
            faults: Faults::default(),
        }))
    }

    #[cfg(test)]
    pub(crate) fn with_faults(path: &Path, faults: Faults) -> Self {
        let Self(root) = Self::new(path);
        let root = Arc::into_inner(root).unwrap();
        Self(Arc::new(Root { faults, ..root }))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0.path
    }

    /// Every call passes here first, or through [`File::pass`].
    fn call(&self, op: Op, path: &Path) -> io::Result<()> {
        if op.changes() && self.is_retired() {
            return Err(io::Error::other("the folder is no longer the store's"));
        }
        #[cfg(test)]
        self.0.faults.call(op, path)?;
        let _ = path;
        Ok(())
    }

    /// From now on every call that would change something fails. One that has begun may still end.
    pub(crate) fn retire(&self) {
        self.0.retired.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.0.retired.load(Ordering::SeqCst)
    }

    /// The store's folder. It is opened once, and must be there then.
    fn folder(&self) -> io::Result<&Folder> {
        let Root { path, folder, .. } = &*self.0;
        if let Some(folder) = folder.get() {
            return Ok(folder);
        }
        let path = fs::canonicalize(path)?;
        let file = open_folder(rustix::fs::CWD, &path)?.into();
        Ok(folder.get_or_init(|| Folder { file, path }))
    }

    /// One of [`FOLDERS`], which is opened once, and must be there then.
    fn folder_within(&self, number: usize) -> io::Result<&Folder> {
        let folder = &self.0.folders[number];
        if let Some(folder) = folder.get() {
            return Ok(folder);
        }
        let root = self.folder()?;
        let file = open_folder(&root.file, FOLDERS[number].as_ref())?.into();
        let path = root.path.join(FOLDERS[number]);
        Ok(folder.get_or_init(|| Folder { file, path }))
    }

    /// The folder that is open and that this path begins in, and the rest of the path.
    fn base<'a>(&self, path: &'a Path) -> io::Result<(&Folder, &'a Path)> {
        for (number, name) in FOLDERS.into_iter().enumerate() {
            if let Ok(rest) = path.strip_prefix(name) {
                return Ok((self.folder_within(number)?, rest));
            }
        }
        Ok((self.folder()?, path))
    }

    /// As [`base`](Self::base), with `.` for the folder itself.
    fn base_of_folder<'a>(&self, path: &'a Path) -> io::Result<(&Folder, &'a Path)> {
        let (folder, rest) = self.base(path)?;
        let rest = if rest.as_os_str().is_empty() {
            Path::new(".")
        } else {
            rest
        };
        Ok((folder, rest))
    }

    /// Makes the store's folder if it is missing, with all that it is in, and opens it.
    pub(crate) fn make(&self) -> io::Result<()> {
        self.call(Op::MakeDir, "".as_ref())?;
        if self.0.folder.get().is_none() {
            fs::create_dir_all(self.path())?;
        }
        self.folder().map(drop)
    }

    /// Makes the folders within, where they are missing, and opens them.
    pub(crate) fn make_within(&self) -> io::Result<()> {
        for (number, name) in FOLDERS.into_iter().enumerate() {
            if self.0.folders[number].get().is_none() {
                self.call(Op::MakeDir, name.as_ref())?;
                make_folder(self.folder()?, name.as_ref())?;
                self.folder_within(number)?;
            }
        }
        Ok(())
    }

    /// Makes a file that must not be there yet. Of the folders that it is in only the one among
    /// the blobs is made with it.
    pub(crate) fn create(&self, path: &Path) -> io::Result<File> {
        self.call(Op::Create, path)?;
        #[cfg(test)] // Which may begin without a store.
        if path.parent() != Some(Path::new("")) {
            self.make_within()?;
        }
        let (folder, rest) = self.base(path)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        let mut tries = CREATE_TRIES;
        loop {
            tries -= 1;
            match open_at(folder, rest, flags) {
                Err(error) if error.kind() == io::ErrorKind::NotFound && tries > 0 => {
                    let parent = rest.parent().filter(|parent| *parent != Path::new(""));
                    let made = make_folder(folder, parent.ok_or(error)?);
                    made.map_err(|error| self.explained(error))?;
                }
                Ok(file) => return Ok(self.file(file, path)),
                Err(error) => return Err(self.explained(error)),
            }
        }
    }

    /// Tells the want of inodes from that of room, which the system calls by the same name.
    fn explained(&self, error: io::Error) -> io::Error {
        let is_full = error.kind() == io::ErrorKind::StorageFull;
        if is_full && self.space().is_ok_and(|space| space.lacks_inodes) {
            return io::Error::new(io::ErrorKind::StorageFull, OutOfInodes);
        }
        error
    }

    /// Opens a file for reading and writing.
    pub(crate) fn open(&self, path: &Path) -> io::Result<File> {
        self.call(Op::Open, path)?;
        let (folder, rest) = self.base(path)?;
        let file = open_at(folder, rest, OFlags::RDWR)?;
        Ok(self.file(file, path))
    }

    /// Whether something is there that is no file: a folder, a link.
    pub(crate) fn is_no_file(&self, path: &Path) -> bool {
        let there = self.call(Op::Len, path).and_then(|()| self.kind(path));
        there.is_ok_and(|kind| !kind.is_file())
    }

    /// What a path names; a link is not followed.
    fn kind(&self, path: &Path) -> io::Result<FileType> {
        let (folder, rest) = self.base(path)?;
        let stat = rustix::fs::statat(&folder.file, rest, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(FileType::from_raw_mode(stat.st_mode))
    }

    /// The store's folder itself, to be locked.
    pub(crate) fn open_itself(&self) -> io::Result<File> {
        let path = Path::new("");
        self.call(Op::Open, path)?;
        let file = open_folder(&self.folder()?.file, ".".as_ref())?;
        Ok(self.file(file.into(), path))
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
        let removed = self.base(path).and_then(|(folder, rest)| {
            let removed = rustix::fs::unlinkat(&folder.file, rest, AtFlags::empty());
            Ok(removed?)
        });
        match removed {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            // Somebody has put a folder in its place, which is not ours unless it is empty.
            Err(_) if self.kind(path).is_ok_and(FileType::is_dir) => {
                self.remove_if_empty(path);
                Ok(())
            }
            removed => removed,
        }
    }

    /// Removes a folder, unless something is in it.
    pub(crate) fn remove_if_empty(&self, path: &Path) {
        let removed = self.call(Op::RemoveDir, path).and_then(|()| {
            let (folder, rest) = self.base(path)?;
            let removed = rustix::fs::unlinkat(&folder.file, rest, AtFlags::REMOVEDIR);
            Ok(removed?)
        });
        // Most are not empty. One that stays although it is goes with its next file.
        drop(removed);
    }

    /// The names in a folder, without order; a folder that is missing is empty.
    pub(crate) fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.call(Op::List, path)?;
        let opened = self
            .base_of_folder(path)
            .and_then(|(folder, rest)| open_folder(&folder.file, rest));
        let folder = match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            folder => folder?,
        };
        let mut names = Vec::new();
        for entry in Dir::new(folder)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// Whether a path names a folder; `false` where it names nothing.
    pub(crate) fn is_folder(&self, path: &Path) -> io::Result<bool> {
        self.call(Op::Look, path)?;
        let found = stat_at(self.folder()?, path)?;
        Ok(found.is_some_and(|stat| FileType::from_raw_mode(stat.st_mode).is_dir()))
    }

    pub(crate) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call(Op::Rename, from)?;
        let ((old, from), (new, to)) = (self.base(from)?, self.base(to)?);
        Ok(rustix::fs::renameat(&old.file, from, &new.file, to)?)
    }

    /// Makes the names in a folder survive the loss of power.
    pub(crate) fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.call(Op::Sync, path)?;
        let (folder, rest) = self.base_of_folder(path)?;
        if rest == Path::new(".") {
            return folder.file.sync_all();
        }
        fs::File::from(open_folder(&folder.file, rest)?).sync_all()
    }

    /// Whether the folders that are open are still those that their paths name.
    pub(crate) fn is_in_place(&self) -> io::Result<bool> {
        self.call(Op::Look, "".as_ref())?;
        let root = self.folder()?;
        for (folder, name) in [(&self.0.folder, None)]
            .into_iter()
            .chain((self.0.folders.iter().zip(FOLDERS)).map(|(folder, name)| (folder, Some(name))))
        {
            let Some(folder) = folder.get() else { continue };
            let named = match name {
                None => stat_at(root, &root.path)?,
                Some(name) => stat_at(root, name.as_ref())?,
            };
            if !is_same(named, &folder.file)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether a path within the folder still names this file.
    pub(crate) fn names(&self, path: &Path, file: &File) -> io::Result<bool> {
        self.call(Op::Look, path)?;
        is_same(stat_at(self.folder()?, path)?, &file.file)
    }

    /// The unit in which files take room.
    pub(crate) fn block(&self) -> BlockSize {
        let block = || self.space().map(|space| space.block).unwrap_or_default();
        *self.0.block.get_or_init(block)
    }

    /// What the file system has, and has left.
    pub(crate) fn space(&self) -> io::Result<Space> {
        self.call(Op::Look, "".as_ref())?;
        let stat = rustix::fs::fstatvfs(&self.folder()?.file)?;
        Ok(Space {
            block: BlockSize::new(stat.f_frsize),
            total: stat.f_blocks.saturating_mul(stat.f_frsize),
            free: stat.f_bavail.saturating_mul(stat.f_frsize),
            // Zero of zero: these are made as they are needed.
            lacks_inodes: stat.f_files > 0 && stat.f_favail == 0,
        })
    }
}

/// Errors that tell that a path names nothing, or not what it did.
fn names_nothing(error: Errno) -> bool {
    matches!(error, Errno::NOENT | Errno::NOTDIR | Errno::LOOP)
}

/// What a path names, as it stands beneath this folder; `None` where it names nothing.
fn stat_at(folder: &Folder, path: &Path) -> io::Result<Option<Stat>> {
    match rustix::fs::statat(&folder.file, path, AtFlags::empty()) {
        Err(error) if names_nothing(error) => Ok(None),
        stat => Ok(Some(stat?)),
    }
}

fn is_same(named: Option<Stat>, file: &fs::File) -> io::Result<bool> {
    let open = rustix::fs::fstat(file)?;
    Ok(named.is_some_and(|named| (named.st_dev, named.st_ino) == (open.st_dev, open.st_ino)))
}

fn open_at(folder: &Folder, path: &Path, flags: OFlags) -> io::Result<fs::File> {
    let mode = Mode::from_raw_mode(0o666);
    let opened =
        retry_on_intr(|| rustix::fs::openat(&folder.file, path, flags | OFlags::CLOEXEC, mode));
    Ok(opened?.into())
}

fn open_folder(base: impl std::os::fd::AsFd, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = retry_on_intr(|| rustix::fs::openat(&base, path, flags, Mode::empty()));
    Ok(opened?)
}

/// Makes a folder, unless it is there.
fn make_folder(base: &Folder, path: &Path) -> io::Result<()> {
    match rustix::fs::mkdirat(&base.file, path, Mode::from_raw_mode(0o777)) {
        Err(Errno::EXIST) => Ok(()),
        made => Ok(made?),
    }
}

impl File {
    fn call(&self, op: Op) -> io::Result<()> {
        #[cfg(test)]
        let path = &self.path;
        #[cfg(not(test))]
        let path = Path::new("");
        self.medium.call(op, path)
    }

    /// As [`call`](Self::call), for so many bytes.
    fn pass(&self, op: Op, len: usize) -> io::Result<Pass> {
        if op.changes() && self.medium.is_retired() {
            return Err(io::Error::other("the folder is no longer the store's"));
        }
        #[cfg(test)]
        if let Some((len, error)) = self.medium.0.faults.transfer(op, &self.path, len)? {
            let then = Err(error);
            return Ok(Pass { len, then });
        }
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

    /// Keeps others from doing the same, until it is [unlocked](Self::unlock); `false` where another
    /// has done so.
    pub(crate) fn try_lock(&self) -> io::Result<bool> {
        self.call(Op::Lock)?;
        match self.file.try_lock() {
            Ok(()) => Ok(true),
            Err(fs::TryLockError::WouldBlock) => Ok(false),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    /// The same open file once more, as a child process has it that this one has forked.
    #[cfg(test)]
    pub(crate) fn forked(&self) -> fs::File {
        self.file.try_clone().unwrap()
    }

    /// Lets others lock it, also where a child of this process holds the file open.
    pub(crate) fn unlock(&self) -> io::Result<()> {
        self.file.unlock()
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
