//! Samples of all rounds, and what is printed of them.
#![allow(clippy::print_stdout)] // This is where the program speaks.
#![allow(clippy::print_stderr)] // Notes, beside the figures.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::{budgets, measure::median, options::Options};

/// The figures of one peer in one case, one a round.
#[derive(Clone, Debug)]
struct Series {
    case: String,
    peer: String,
    unit: String,
    samples: Vec<f64>,
}

/// What was measured so far.
#[derive(Debug)]
pub struct Report {
    json: bool,
    series: Vec<Series>,
    missed: usize,
    failed: usize,
}

impl Report {
    /// An empty one.
    pub fn new(options: &Options) -> Self {
        Self {
            json: options.json,
            series: Vec::new(),
            missed: 0,
            failed: 0,
        }
    }

    /// Adds the figure of one round.
    pub fn record(&mut self, case: &str, peer: &str, value: f64, unit: &str) {
        let same = |series: &&mut Series| series.case == case && series.peer == peer;
        match self.series.iter_mut().find(same) {
            Some(series) => series.samples.push(value),
            None => self.series.push(Series {
                case: case.to_owned(),
                peer: peer.to_owned(),
                unit: unit.to_owned(),
                samples: vec![value],
            }),
        }
    }

    /// Says something beside the figures.
    pub fn note(&self, text: &str) {
        eprintln!("# {text}");
    }

    /// Says that a case could not be measured to its end.
    pub fn fail(&mut self, case: &str, error: &anyhow::Error) {
        self.failed += 1;
        self.note(&format!("{case} FAILED: {error:#}"));
    }

    /// Prints the cases that are complete, and forgets them.
    pub fn print(&mut self) {
        let series = std::mem::take(&mut self.series);
        let mut cases: Vec<&str> = Vec::new();
        for one in &series {
            if !cases.contains(&one.case.as_str()) {
                cases.push(&one.case);
            }
        }
        for case in cases {
            self.print_case(case, &series);
        }
    }

    fn print_case(&mut self, case: &str, series: &[Series]) {
        let of_case = || series.iter().filter(|series| series.case == case);
        let larder = of_case()
            .find(|series| series.peer == "larder")
            .map(|series| median(&series.samples));
        if !self.json {
            println!("\n{case}");
        }
        for series in of_case() {
            let value = median(&series.samples);
            let ratio = larder.filter(|&of| of > 0.0).map(|of| value / of);
            let budget = budgets::of(case, &series.peer);
            let met = budget.and_then(|budget| budget.is_met(value, larder));
            let budget = budget.map(|budget| budget.describe(&series.unit));
            self.missed += usize::from(met == Some(false));
            if self.json {
                let line = json!({
                    "case": case, "peer": series.peer, "value": value, "unit": series.unit,
                    "ratio_to_larder": ratio, "budget": budget, "met": met,
                });
                println!("{line}");
            } else {
                println!("{}", row(series, value, ratio, budget, met));
            }
        }
    }

    /// Says how many budgets were missed; an error when a case failed. A missed budget is none: on
    /// a busy machine it says little.
    pub fn conclude(&self) -> Result<()> {
        if !self.json {
            println!("\nbudgets missed: {}", self.missed);
        }
        ensure!(self.failed == 0, "cases that failed: {}", self.failed);
        Ok(())
    }
}

fn row(
    series: &Series,
    value: f64,
    ratio: Option<f64>,
    budget: Option<String>,
    met: Option<bool>,
) -> String {
    let ratio = ratio.map_or(String::new(), |ratio| format!("{ratio:.2}x"));
    let verdict = match met {
        Some(true) => "met",
        Some(false) => "missed",
        None => "",
    };
    let text = format!(
        "  {:<24} {:>12} {:<6} {:>9}  {:<18} {:<22} {verdict}",
        series.peer,
        rounded(value),
        series.unit,
        ratio,
        spread(&series.samples),
        budget.unwrap_or_default(),
    );
    text.trim_end().to_owned()
}

/// The least and the most of all rounds.
fn spread(samples: &[f64]) -> String {
    if samples.len() < 2 {
        return String::new();
    }
    let least = samples.iter().copied().fold(f64::INFINITY, f64::min);
    let most = samples.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{} .. {}", rounded(least), rounded(most))
}

fn rounded(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}
