//! Benchmarks a store from the command line.

mod options;
mod program;
mod scratch;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<std::alloc::System> = &INSTRUMENTED_SYSTEM;

/// Bad words, as opposed to a run that failed.
const USAGE_ERROR: u8 = 2;
/// What shells say of a program that ctrl-C has ended.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let command = match options::parse() {
        Ok(command) => command,
        Err(error) => {
            complain(&format!("{error}\n\n{}", options::USAGE));
            return ExitCode::from(USAGE_ERROR);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let done = runtime.map_err(Into::into).and_then(|runtime| {
        let done = runtime.block_on(async {
            tokio::select! {
                // First, so that the signals are caught before there is anything to remove.
                biased;
                () = scratch::interrupted() => None,
                done = program::run(command) => Some(done),
            }
        });
        // What hangs in a thread of its own is no reason to wait for it.
        runtime.shutdown_timeout(std::time::Duration::from_secs(1));
        done.transpose()
    });
    scratch::sweep();
    match done {
        Ok(Some(())) => ExitCode::SUCCESS,
        Ok(None) => ExitCode::from(INTERRUPTED),
        // The reader has seen enough.
        Err(error) if program::is_broken_pipe(&*error) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&program::chain(&*error));
            ExitCode::FAILURE
        }
    }
}

/// Unlike `eprintln!`, which panics when nobody reads it.
fn complain(text: &str) {
    let _ = writeln!(io::stderr().lock(), "larder-bench: {text}");
}
