//! What the targets share: a runtime, and small stores that stay open from one input to the next.

#![allow(dead_code)] // Each target uses a part of it.

use std::{path::Path, sync::OnceLock};

use larder_disk::Disk;
use larder_memory::Memory;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// One runtime for all inputs.
pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_time().build();
        runtime.expect("a runtime with one thread")
    })
}

pub(crate) fn memory() -> Memory {
    Memory::new(4 << 20)
}

/// A disk store whose large objects begin at 16 KiB, in a folder in memory where there is such a
/// place.
pub(crate) async fn disk(folder: &Path) -> Disk {
    let builder = Disk::builder(folder, 4 << 20)
        .segment_size(128 << 10)
        .large_object(16 << 10);
    builder.open().await.expect("the store opens")
}

/// The folder of this process' disk store, removed when it ends.
pub(crate) fn folder() -> TempDir {
    let shared = Path::new("/dev/shm");
    let folder = if shared.is_dir() {
        tempfile::tempdir_in(shared)
    } else {
        tempfile::tempdir()
    };
    folder.expect("a temporary folder")
}
