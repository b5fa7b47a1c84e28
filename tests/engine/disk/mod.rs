//! Memory over a disk store: what only the two together can get wrong.

mod failing;
mod restart;
mod stream;
mod tiers;
mod unreadable;

use std::path::{Path, PathBuf};

use larder::{
    Cache, Clock, Disk, DiskBuilder, Draft, ManualClock, Memory, Policy, Response, Source, Store,
    StoreExt, Tier,
};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::{
    source::memory_at,
    support::{SECOND, clock, strict},
};

/// How a body is kept, by the longest that goes to the log: packed there, or in its own file.
const KEPT: [u64; 2] = [256 << 10, 0];

/// Of a store, where a test does not say otherwise.
const CAPACITY: u64 = 64 << 20;

/// A folder for a disk store, which outlives every store in it.
struct Place {
    folder: TempDir,
    large_object: u64,
    clock: ManualClock,
}

/// Memory over disk.
struct Stack {
    cache: Cache,
    memory: Memory,
    disk: Disk,
}

impl Place {
    fn new(large_object: u64) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            large_object,
            clock: clock(),
        }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A store of so many bytes.
    fn builder(&self, capacity: u64) -> DiskBuilder {
        let clock = self.clock.clone();
        Disk::builder(self.path(), capacity)
            .large_object(self.large_object)
            .clock(move || clock.now())
    }

    /// Opens the store as a new process would: the memory is empty.
    async fn open(&self, policy: Policy) -> Stack {
        // A store that was dropped without being closed may still be writing.
        let opened = async {
            loop {
                match self.builder(CAPACITY).open().await {
                    Err(error) if error.is_unavailable() => tokio::time::sleep(SECOND / 100).await,
                    opened => return opened.unwrap(),
                }
            }
        };
        let disk = timeout(10 * SECOND, opened).await.expect("a free folder");
        self.stack(disk, policy)
    }

    fn stack(&self, disk: Disk, policy: Policy) -> Stack {
        let memory = memory_at(&self.clock);
        let builder = Cache::builder().tier(memory.clone());
        let builder = builder.tier(patient(disk.clone()));
        let builder = builder.policy(policy).clock(self.clock.clone());
        let cache = builder.build().unwrap();
        Stack {
            cache,
            memory,
            disk,
        }
    }

    async fn open_strict(&self) -> Stack {
        self.open(strict()).await
    }

    /// The files below the folder, but for empty ones.
    fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut folders = vec![self.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let entry = entry.unwrap();
                let metadata = entry.metadata().unwrap();
                if metadata.is_dir() {
                    folders.push(entry.path());
                } else if metadata.len() > 0 {
                    files.push(entry.path());
                }
            }
        }
        files
    }
}

impl Stack {
    async fn close(self) {
        self.cache.close().await.unwrap();
    }

    /// How many objects the disk holds, and how many bytes are staged there.
    fn disk_entries(&self) -> (u64, u64) {
        let usage = self.disk.usage();
        (usage.entries, usage.staged)
    }

    /// Closes it in order, or only lets go of it.
    async fn end(self, closed: bool) {
        if closed {
            self.close().await;
        }
    }
}

/// Has the memory evict a key, as others would that are in greater demand.
async fn evict(memory: &Memory, key: &str) {
    for filler in 0..10_000 {
        if !memory.exists(key).await.unwrap() {
            return;
        }
        let (name, draft) = (format!("filler {filler}"), Draft::new());
        let bytes = vec![b'.'; 64 << 10];
        let written = memory.write(&name, bytes, draft).await.unwrap();
        assert!(written.is_done());
        for _ in 0..4 {
            memory.read(&name, 1 << 20).await.unwrap();
        }
    }
    panic!("`{key}` is never evicted");
}

/// A tier that no neighbour's load on the machine's disk makes time out.
fn patient(store: impl Store) -> Tier {
    Tier::new(store)
        .timeout(60 * SECOND)
        .write_stall(60 * SECOND)
}

fn is_from_disk(response: &Response) -> bool {
    matches!(
        response.status().source(),
        Source::Tier {
            index: 1,
            name: "disk"
        }
    )
}
