//! One damaged store: a small store that was prepared, changes to its files that an input tells,
//! and what must hold of it then.

#![allow(clippy::unwrap_used)] // All of it is tests.

mod bodies;
mod damage;
mod examine;
mod forge;
pub(crate) mod panics;
mod prepare;

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
    time::Duration,
};

pub(crate) use examine::Report;
use prepare::Prepared;
use tokio::runtime::Runtime;

/// The files of a store: the path within its folder and the bytes.
pub(crate) type Files = Vec<(PathBuf, Vec<u8>)>;

/// How a store was left: closed; killed; closed, opened again and killed.
pub(crate) const STATES: usize = 3;

/// The whole case takes no longer, however slow the machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs the case that these bytes tell.
///
/// # Panics
///
/// Where the store does what it must not.
pub(crate) fn run(input: &[u8]) {
    let (&first, rest) = input.split_first().unwrap_or((&0, &[]));
    let prepared = prepared(usize::from(first) % STATES);
    let damaged = damage::apply(&prepared.files, rest);
    examine(prepared, &damaged.files, damaged.forged);
}

/// Runs a case with the files of this state, changed.
///
/// # Panics
///
/// As [`run`].
#[allow(dead_code)] // The fuzz target has no use for it.
pub(crate) fn run_edited(state: usize, edit: impl FnOnce(&Files) -> Files) -> Option<Report> {
    let prepared = prepared(state);
    examine(prepared, &edit(&prepared.files), false)
}

/// The number of files in this state.
#[allow(dead_code)] // The fuzz target has no use for it.
pub(crate) fn files(state: usize) -> usize {
    prepared(state).files.len()
}

fn examine(prepared: &Prepared, files: &Files, forged: bool) -> Option<Report> {
    panics::watch();
    let folder = temporary();
    write(folder.path(), files);
    let examined = examine::examine(folder.path(), prepared, forged);
    let ended = runtime().block_on(async { tokio::time::timeout(PATIENCE, examined).await });
    ended.expect("it hangs")
}

fn prepared(state: usize) -> &'static Prepared {
    static PREPARED: OnceLock<Vec<Prepared>> = OnceLock::new();
    let all = PREPARED.get_or_init(|| runtime().block_on(prepare::all()));
    &all[state]
}

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).enable_time().build().unwrap()
    })
}

/// A folder in memory, where there is such a place.
fn temporary() -> tempfile::TempDir {
    let shared = Path::new("/dev/shm");
    if shared.is_dir()
        && let Ok(folder) = tempfile::tempdir_in(shared)
    {
        return folder;
    }
    tempfile::tempdir().unwrap()
}

fn write(folder: &Path, files: &Files) {
    for (path, bytes) in files {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let file = std::fs::File::create(&path).unwrap();
        // Segments are mostly zeros, which take no time as a hole.
        let end = bytes.iter().rposition(|byte| *byte != 0);
        let end = end.map_or(0, |last| last + 1);
        std::io::Write::write_all(&mut &file, &bytes[..end]).unwrap();
        file.set_len(bytes.len() as u64).unwrap();
    }
}

/// All files of a folder, in the order of their names.
fn read(folder: &Path) -> Files {
    let mut files = Files::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(bytes) = std::fs::read(&path) {
                // One that was removed meanwhile is none.
                files.push((path.strip_prefix(folder).unwrap().to_owned(), bytes));
            }
        }
    }
    files.sort();
    files
}
