//! Checks a store's files and lists what they hold, without opening it.
//!
//! ```text
//! cargo run --release -p larder-disk --example inspect -- DIR [--keys]
//! ```
//!
//! It ends with 0 if all is well, with 1 if something is damaged, and with 2 if the folder cannot
//! be read as a store.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool speaks to its user"
)]

use std::{error::Error, process::ExitCode};

use larder_disk::{Inspection, inspect};

const USAGE: &str = "Usage: inspect DIR [--keys]";

fn main() -> ExitCode {
    let mut keys = false;
    let mut dir = None;
    for word in std::env::args_os().skip(1) {
        match word.to_str() {
            Some("--keys") => keys = true,
            Some("-h" | "--help") => {
                println!("{USAGE}");
                return ExitCode::SUCCESS;
            }
            _ if dir.is_none() => dir = Some(word),
            _ => dir = None,
        }
    }
    let Some(dir) = dir else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match inspect(dir) {
        Ok(found) => {
            tell(&found, keys);
            ExitCode::from(u8::from(!found.problems.is_empty()))
        }
        Err(error) => {
            let cause = error
                .source()
                .map_or_else(String::new, |cause| format!(": {cause}"));
            eprintln!("inspect: {error}{cause}");
            ExitCode::from(2)
        }
    }
}

fn tell(found: &Inspection, keys: bool) {
    println!(
        "{:>10}  {:<9}  {:<6}  {:>12}  {:>9}  {:>10}  {:>9}",
        "segment", "queue", "sealed", "bytes", "records", "tombstones", "live"
    );
    for segment in &found.segments {
        println!(
            "{:>10}  {:<9}  {:<6}  {:>12}  {:>9}  {:>10}  {:>9}",
            segment.id,
            if segment.is_main { "main" } else { "probation" },
            if segment.is_sealed { "yes" } else { "no" },
            segment.len,
            segment.records,
            segment.tombstones,
            segment.live,
        );
    }
    let large = found
        .objects
        .iter()
        .filter(|object| object.blob.is_some())
        .count();
    println!(
        "{} objects, {large} of them in files of their own ({} bytes); snapshots: {:?}",
        found.objects.len(),
        found.blob_bytes,
        found.snapshots,
    );
    if keys {
        for object in &found.objects {
            let place = match &object.blob {
                Some(blob) => blob.display().to_string(),
                None => format!("segment {}", object.segment),
            };
            println!("{:>12}  {place}  {:?}", object.metadata.len(), object.key);
        }
    }
    for problem in &found.problems {
        println!("damaged: {problem}");
    }
}
