//! Serves a folder from an HTTP origin of its own, reads it through a Larder cache in five
//! passes, checks every byte, and tells where the answers came from.
//!
//! ```text
//! cargo run --release --example quickstart -- [--dir DIR] [--json]
//! ```
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
    pantry::Pantry,
    passes::Run,
    report::Report,
};

/// Bad words or a bad folder, as opposed to a run that failed.
const USAGE_ERROR: u8 = 2;

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
    let pantry = Pantry::open(origin.address())?;
    let mut report = Report::new(options.json);
    report.introduce(&catalog, &origin);
    let run = Run::new(catalog, &origin, pantry.clone(), report.progress());
    for pass in passes::ALL {
        report.add(&run.pass(*pass).await?);
    }
    report.finish();
    pantry.close().await
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
