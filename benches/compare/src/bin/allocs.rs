//! The cases `disk/allocs` and `memory/allocs`, in a program of their own: the allocator that counts
//! is slow, and must not stand under what is timed.

use std::process::ExitCode;

use larder_compare::options::Program;

#[global_allocator]
static COUNTING: dhat::Alloc = dhat::Alloc;

fn main() -> ExitCode {
    let _counting = dhat::Profiler::builder().testing().build();
    larder_compare::run(Program::Allocations)
}
