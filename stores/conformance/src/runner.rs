//! Running a clause by itself.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    time::Duration,
};

/// How long a clause may take in all; one that takes longer hangs.
const CLAUSE_MAX: Duration = Duration::from_secs(120);

/// Runs a future to its end in a runtime of its own with two workers: what [`suite!`](crate::suite)
/// does with each clause.
///
/// # Panics
///
/// When the future does, and when it takes more than two minutes.
pub fn run<T>(what: &str, clause: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime can be built");
    let result = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async { tokio::time::timeout(CLAUSE_MAX, clause).await })
    }));
    // What hangs in a thread of its own is no reason to wait for it.
    runtime.shutdown_timeout(Duration::from_secs(1));
    match result {
        Ok(Ok(value)) => value,
        Ok(Err(_)) => panic!("{what} takes more than {CLAUSE_MAX:?}"),
        Err(panic) => resume_unwind(panic),
    }
}
