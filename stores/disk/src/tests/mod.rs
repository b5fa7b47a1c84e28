//! The store on a file system that fails on command.
//!
//! `run` repeats one workload and holds what it reads against what was acknowledged; `sweep` makes
//! each call of that workload fail in turn, `restart` each of a start; `full_disk` and `broken` have
//! a fault each, `old` what may bring an older object back.

#![allow(clippy::unwrap_used)] // All of it is tests.

mod broken;
mod full_disk;
mod objects;
mod old;
mod one_object;
mod panics;
mod restart;
mod run;
mod sweep;

use std::{path::Path, time::Duration};

use larder_store::{Error, Result};

use crate::{Builder, Disk, faults::Faults, medium::Medium};

/// Longer than anything here takes on a slow machine: past it something hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// A store of 1 MiB with eight small segments, in which bodies above 16 KiB are large.
fn small(path: &Path) -> Builder {
    sized(path, 1 << 20)
}

fn sized(path: &Path, capacity: u64) -> Builder {
    Disk::builder(path, capacity)
        .segment_size(128 << 10)
        .large_object(16 << 10)
}

/// Opens a store on a file system with these faults.
async fn open(builder: Builder, path: &Path, faults: &Faults) -> Result<Disk> {
    let settings = builder.settings()?;
    let medium = Medium::with_faults(path, faults.clone());
    Disk::start_on(medium, settings).await
}

/// Runs a test on a runtime of its own, and fails where it hangs.
fn bounded(test: impl Future<Output = ()>) {
    panics::watch();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .unwrap();
    let ended = runtime.block_on(async { tokio::time::timeout(PATIENCE * 4, test).await });
    // Not by its drop, which would wait for what hangs.
    runtime.shutdown_background();
    assert!(ended.is_ok(), "it hangs");
    panics::none();
}

/// Waits until something holds.
async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let ended = tokio::time::timeout(PATIENCE, waiting).await;
    assert!(ended.is_ok(), "it never came to be that {what}");
}

/// Whether this is what a caller of a failing disk is to see.
fn is_clear(error: &Error) -> bool {
    (error.is_unavailable() || error.is_full()) && !error.to_string().is_empty()
}
