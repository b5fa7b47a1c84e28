//! What the user sees: a bar while it works, then a table, or JSON.

use std::time::Duration;

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::{catalog::Catalog, origin::Origin, tally::Outcome};

/// Collects the outcomes; as JSON each is told at once.
pub(crate) struct Report {
    json: bool,
    /// How many objects the disk tier held at the start.
    found: u64,
    rows: Vec<[String; COLUMNS]>,
}

const COLUMNS: usize = 12;
const HEADINGS: [&str; COLUMNS] = [
    "pass", "reads", "fetches", "304s", "memory", "disk", "joined", "bytes", "p50", "p99", "took",
    "peak",
];

impl Report {
    pub(crate) fn new(json: bool, found: u64) -> Self {
        Self {
            json,
            found,
            rows: vec![HEADINGS.map(str::to_owned)],
        }
    }

    pub(crate) fn introduce(&self, catalog: &Catalog, origin: &Origin) {
        if self.json {
            return;
        }
        let bytes: u64 = catalog.files.iter().map(|item| item.digest.len).sum();
        println!(
            "{} files, {}, and one object of {} at http://{}",
            catalog.files.len(),
            HumanBytes(bytes),
            HumanBytes(catalog.large.digest.len),
            origin.address()
        );
        match self.found {
            0 => println!("The disk tier is empty.\n"),
            found => println!("The disk tier is warm: it holds {found} objects already.\n"),
        }
    }

    /// A bar on standard error; hidden with JSON and where that is no terminal.
    pub(crate) fn progress(&self) -> Progress {
        let target = if self.json {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr()
        };
        Progress(ProgressBar::with_draw_target(None, target))
    }

    pub(crate) fn add(&mut self, outcome: &Outcome) {
        if self.json {
            println!("{}", json(outcome, self.found > 0));
        } else {
            self.rows.push(row(outcome));
        }
    }

    /// Prints the table.
    pub(crate) fn finish(&self) {
        if self.json {
            return;
        }
        let widths: [usize; COLUMNS] = std::array::from_fn(|column| {
            let cells = self.rows.iter().map(|row| row[column].chars().count());
            cells.max().unwrap_or_default()
        });
        for row in &self.rows {
            let mut line = format!("{:<width$}", row[0], width = widths[0]);
            for (cell, width) in row.iter().zip(widths).skip(1) {
                line = format!("{line}  {cell:>width$}");
            }
            println!("{line}");
        }
        println!("\nEvery body was checked against its checksum.");
    }
}

fn row(outcome: &Outcome) -> [String; COLUMNS] {
    let peak = outcome
        .peak_rss_mib
        .map_or_else(|| "-".to_owned(), |mib| format!("{mib} MiB"));
    [
        outcome.pass.to_owned(),
        outcome.reads.to_string(),
        outcome.origin_fetches.to_string(),
        outcome.not_modified.to_string(),
        outcome.hits["memory"].to_string(),
        outcome.hits["disk"].to_string(),
        outcome.joined.to_string(),
        HumanBytes(outcome.bytes).to_string(),
        time(outcome.p50),
        time(outcome.p99),
        time(outcome.elapsed),
        peak,
    ]
}

fn time(time: Duration) -> String {
    match time.as_nanos() {
        nanos @ 0..1_000 => format!("{nanos} ns"),
        1_000..1_000_000 => format!("{:.1} us", time.as_secs_f64() * 1e6),
        1_000_000..1_000_000_000 => format!("{:.1} ms", time.as_secs_f64() * 1e3),
        _ => format!("{:.2} s", time.as_secs_f64()),
    }
}

/// One line. The keys up to `peak_rss_mib` are a promise to scripts.
fn json(outcome: &Outcome, warm_start: bool) -> String {
    let hits: Vec<String> = outcome
        .hits
        .iter()
        .map(|(tier, hits)| format!("{tier:?}:{hits}"))
        .collect();
    format!(
        "{{\"pass\":{:?},\"reads\":{},\"origin_fetches\":{},\"hits\":{{{}}},\"joined\":{},\
         \"bytes\":{},\"p50_us\":{:.1},\"p99_us\":{:.1},\"peak_rss_mib\":{},\
         \"not_modified\":{},\"elapsed_ms\":{},\"warm_start\":{warm_start}}}",
        outcome.pass,
        outcome.reads,
        outcome.origin_fetches,
        hits.join(","),
        outcome.joined,
        outcome.bytes,
        outcome.p50.as_secs_f64() * 1e6,
        outcome.p99.as_secs_f64() * 1e6,
        outcome.peak_rss_mib.unwrap_or_default(),
        outcome.not_modified,
        outcome.elapsed.as_millis(),
    )
}

/// The bar; clones share it.
#[derive(Clone)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Starts over and counts reads.
    pub(crate) fn reads(&self, pass: &'static str, reads: u64) {
        self.start(pass, reads, "{msg:<9} {wide_bar} {pos}/{len} reads");
    }

    /// Starts over and counts bytes.
    pub(crate) fn bytes(&self, pass: &'static str, bytes: u64) {
        self.start(
            pass,
            bytes,
            "{msg:<9} {wide_bar} {binary_bytes}/{binary_total_bytes}",
        );
    }

    fn start(&self, pass: &'static str, len: u64, template: &str) {
        let style = ProgressStyle::with_template(template).expect("the template is right");
        self.0.set_style(style);
        self.0.set_length(len);
        self.0.set_message(pass);
        self.0.reset();
    }

    pub(crate) fn add(&self, done: u64) {
        self.0.inc(done);
    }

    pub(crate) fn clear(&self) {
        self.0.finish_and_clear();
    }
}
