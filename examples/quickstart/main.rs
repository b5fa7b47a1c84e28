//! Serves a folder from an HTTP origin of its own, reads it through a Larder cache, memory over
//! disk, in seven passes, checks every byte, and tells where the answers came from.
//!
//! ```text
//! cargo run --release --example quickstart -- [--dir DIR] [--disk DIR] [--json]
//! ```
//!
//! Run it twice with the same `--disk DIR`, and the first pass of the second run finds on disk what
//! the first run has left there.
//!
//! The cache itself is in `pantry.rs` and its fetcher in `client.rs`; the rest is there to show
//! what they do.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool speaks to its user"
)]

mod catalog;
mod client;
mod noise;
mod options;
mod origin;
mod pantry;
mod passes;
mod report;
mod tally;

use std::{error::Error, process::ExitCode};

use larder::BoxError;

use crate::{
    catalog::Catalog,
    options::{Options, Parsed},
    origin::Origin,
    pantry::{Pantry, Place},
    passes::Run,
    report::Report,
};

/// Bad words or a bad folder, as opposed to a run that failed.
const USAGE_ERROR: u8 = 2;

/// What the disk tier may take, in bytes, or four times the large object if that is more.
const DISK: u64 = 10 << 30;

#[tokio::main]
async fn main() -> ExitCode {
    let options = match Options::parse() {
        Ok(Parsed::Options(options)) => options,
        Ok(Parsed::Help) => {
            print!("{}", options::USAGE);
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("quickstart: {error}\n\n{}", options::USAGE);
            return ExitCode::from(USAGE_ERROR);
        }
    };
    let catalog = match Catalog::load(&options).await {
        Ok(catalog) => catalog,
        Err(message) => {
            eprintln!("quickstart: {message}");
            return ExitCode::from(USAGE_ERROR);
        }
    };
    match run(&options, catalog).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("quickstart: {}", chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

async fn run(options: &Options, catalog: Catalog) -> Result<(), BoxError> {
    let origin = Origin::start(&catalog, options.delay).await?;
    // Removed when it is dropped.
    let temporary = tempfile::Builder::new()
        .prefix("larder-quickstart-")
        .tempdir()?;
    let pantry = Pantry::open(Place {
        origin: origin.address(),
        folder: (options.disk.as_deref().unwrap_or(temporary.path())).to_owned(),
        capacity: DISK.max(4 * options.large),
    })
    .await?;
    let mut report = Report::new(options.json, pantry.found());
    report.introduce(&catalog, &origin);
    let mut run = Run::new(catalog, &origin, pantry, report.progress());
    let passed = run_all(&mut run, &mut report).await;
    let closed = run.close().await;
    passed?;
    report.finish();
    closed
}

async fn run_all(run: &mut Run<'_>, report: &mut Report) -> Result<(), BoxError> {
    for pass in passes::ALL {
        report.add(&run.pass(*pass).await?);
    }
    Ok(())
}

/// The error and its causes in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
