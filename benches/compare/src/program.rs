//! From arguments to report.
#![allow(clippy::print_stdout)] // The answers of a job, and the help.
#![allow(clippy::print_stderr)] // What went wrong.

use std::{io::Write as _, process::ExitCode};

use anyhow::{Context as _, Result};

use crate::{
    cases::{self, Bench},
    data::Values,
    folder::Folder,
    jobs,
    options::{HELP, Options, Program},
    report::Report,
};

/// Runs one of the programs as the command line says.
pub fn run(program: Program) -> ExitCode {
    match try_run(program) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn try_run(program: Program) -> Result<()> {
    let options = Options::parse()?;
    if options.help {
        println!("{HELP}");
        return Ok(());
    }
    // The runtime that all peers share: as many workers as cores.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    match &options.job {
        Some(job) => runtime.block_on(do_job(job)),
        None => runtime.block_on(measure(program, options)),
    }
}

async fn do_job(job: &str) -> Result<()> {
    let job = serde_json::from_str(job).context("reading the job")?;
    // In a task: the thread that waits for it is not one of the workers.
    let done = tokio::spawn(jobs::run(job, |figures| {
        println!("{}", serde_json::to_string(&figures)?);
        Ok(std::io::stdout().flush()?)
    }));
    done.await?
}

async fn measure(program: Program, options: Options) -> Result<()> {
    let mut report = Report::new(&options);
    let bench = Bench {
        folder: Folder::new(options.dir.as_deref())?,
        values: Values::new(),
        options,
    };
    match program {
        Program::Compare => {
            cases::run(&bench, &mut report).await;
            report.conclude()
        }
        Program::Allocations => {
            cases::counting::count(&bench, &mut report).await?;
            report.print();
            Ok(())
        }
    }
}
