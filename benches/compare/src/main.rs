//! `cargo run --release -- [CASE-PREFIX ...]`; `--help` tells the rest.

use std::process::ExitCode;

fn main() -> ExitCode {
    larder_compare::run(larder_compare::options::Program::Compare)
}
