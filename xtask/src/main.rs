//! Tasks of this repository: `cargo xtask test` is the one test command, here and in CI.
//! `cargo xtask fuzz` runs the fuzz targets.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool speaks to its user"
)]

mod command;
mod fuzz;
mod instructions;
mod plan;
mod servers;
mod steps;
mod workspace;

use std::process::ExitCode;

use crate::{fuzz::Fuzz, instructions::Instructions, plan::Plan, workspace::Workspace};

/// Bad words on the command line, as opposed to a step that failed.
const USAGE_ERROR: u8 = 2;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["-h" | "--help" | "help"] | ["test" | "fuzz" | "instructions", "-h" | "--help"] => {
            print!("{}", usage());
            ExitCode::SUCCESS
        }
        [] => {
            eprint!("{}", usage());
            ExitCode::from(USAGE_ERROR)
        }
        ["test", options @ ..] => match Plan::parse(options) {
            Ok(plan) => done(|workspace| plan.run(workspace)),
            Err(message) => refuse(&message),
        },
        ["fuzz", options @ ..] => match Fuzz::parse(options) {
            Ok(fuzz) => done(|workspace| fuzz.run(workspace)),
            Err(message) => refuse(&message),
        },
        ["instructions", options @ ..] => match Instructions::parse(options) {
            Ok(instructions) => done(|workspace| instructions.run(workspace)),
            Err(message) => refuse(&message),
        },
        [word, ..] => refuse(&format!("no task is called `{word}`")),
    }
}

fn done(task: impl FnOnce(&Workspace) -> Result<(), String>) -> ExitCode {
    let outcome = Workspace::load().and_then(|workspace| task(&workspace));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

fn refuse(message: &str) -> ExitCode {
    eprintln!("xtask: {message}\n\n{}", usage());
    ExitCode::from(USAGE_ERROR)
}

fn usage() -> String {
    let steps: Vec<String> = steps::ALL
        .iter()
        .map(|step| format!("  {:<11} {}\n", step.name, step.what))
        .collect();
    format!(
        "Usage: cargo xtask test [--only STEP[,STEP...]]\n       \
                cargo xtask fuzz [--seconds N] [--plain] [TARGET...]\n       \
                cargo xtask instructions [--save]\n\n\
         `test` runs these steps in order, goes on after a failure and lists all of them:\n{}\n\
         `fuzz` runs each target in fuzz/ for N seconds (60), with ASan, or without if `--plain`;\n\
         it installs cargo-fuzz where that is missing.\n\
         `instructions` counts those of single operations under valgrind, beside the saved counts.\n",
        steps.concat()
    )
}
