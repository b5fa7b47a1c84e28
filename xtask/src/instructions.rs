//! `cargo xtask instructions`: counts the instructions of single operations under valgrind.
//!
//! A count hardly moves where a time does, so that a regression shows on a noisy machine. Each case
//! of `benches/instructions.rs` runs twice, with a count and with twice that count; the difference
//! is what the operations took, without the start. The compiler has its part in the numbers: after
//! an update of it they are saved anew.

use std::{fmt::Write as _, fs, path::Path, process::Command};

use serde_json::Value;

use crate::{command, workspace::Workspace};

/// What to do with the counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Instructions {
    /// Compare them with those that were saved.
    Compare,
    Save,
}

const CASES: [(&str, u64); 3] = [("memory-hit", 20_000), ("disk-hit", 2_000), ("miss", 1_000)];

/// By how much a count may exceed the saved one.
const MARGIN_PERCENT: u64 = 3;

const SAVED: &str = "benches/instructions.txt";

impl Instructions {
    pub(crate) fn parse(words: &[&str]) -> Result<Self, String> {
        match words {
            [] => Ok(Self::Compare),
            ["--save"] => Ok(Self::Save),
            [word, ..] => Err(format!("`{word}` is no option of instructions")),
        }
    }

    pub(crate) fn run(self, workspace: &Workspace) -> Result<(), String> {
        let is_there = || command::succeeds("valgrind", &["--version"]);
        if !is_there() {
            command::add_package("valgrind");
        }
        if !is_there() {
            return Err("valgrind is missing and could not be installed".into());
        }
        let program = build(workspace)?;
        let saved_at = workspace.root.join(SAVED);
        let saved = fs::read_to_string(&saved_at).unwrap_or_default();
        let (mut text, mut worse) = (String::new(), Vec::new());
        for (case, count) in CASES {
            let single = (refs(&program, case, 2 * count)? - refs(&program, case, count)?) / count;
            let before = before(&saved, case);
            println!("{case:<11} {single:>7} instructions, saved {before:?}");
            if before.is_none_or(|before| single > before + before * MARGIN_PERCENT / 100) {
                worse.push(case);
            }
            let _ = writeln!(text, "{case} {single}");
        }
        match self {
            Self::Save => fs::write(&saved_at, text).map_err(|error| format!("{SAVED}: {error}")),
            Self::Compare if worse.is_empty() => Ok(()),
            Self::Compare => Err(format!(
                "{} took {MARGIN_PERCENT} % more than saved in {SAVED}; if that is meant, --save",
                worse.join(", ")
            )),
        }
    }
}

/// Builds the program; gives its path.
fn build(workspace: &Workspace) -> Result<String, String> {
    let words = "bench --bench instructions --no-run --message-format json-render-diagnostics";
    let messages = workspace.cargo(words).capture()?;
    let program = |line: &str| {
        let message: Value = serde_json::from_str(line).ok()?;
        let is_it = message["target"]["name"] == "instructions";
        let program = message["executable"].as_str()?;
        is_it.then(|| program.to_owned())
    };
    let built = messages.lines().find_map(program);
    built.ok_or_else(|| "cargo does not say where it put the program".into())
}

/// How many instructions a run takes.
fn refs(program: &str, case: &str, count: u64) -> Result<u64, String> {
    let output = Command::new("valgrind")
        .args([
            "--tool=cachegrind",
            "--cache-sim=no",
            "--cachegrind-out-file=/dev/null",
        ])
        .args([program, case, &count.to_string()])
        .output()
        .map_err(|error| format!("valgrind cannot start: {error}"))?;
    let report = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let name = Path::new(program).display();
        return Err(format!(
            "{name} {case} {count} failed under valgrind:\n{report}"
        ));
    }
    total(&report).ok_or_else(|| format!("valgrind does not tell the count:\n{report}"))
}

/// The number in `==1== I   refs:      1,234`.
fn total(report: &str) -> Option<u64> {
    let line = report
        .lines()
        .find(|line| line.contains(" refs:") && line.contains(" I "))?;
    let (_, number) = line.rsplit_once(':')?;
    number.trim().replace(',', "").parse().ok()
}

fn before(saved: &str, case: &str) -> Option<u64> {
    let of_case = |line: &str| line.strip_prefix(case)?.trim().parse().ok();
    saved.lines().find_map(of_case)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_valgrind_and_the_saved_file_say() {
        let report = "==7== Cachegrind\n==7== I   refs:      1,234,567\n";
        assert_eq!(total(report), Some(1_234_567));
        assert_eq!(total("==7== D   refs: 5"), None);
        assert_eq!(before("miss 5\nmemory-hit 77\n", "memory-hit"), Some(77));
        assert_eq!(before("", "miss"), None);
    }

    #[test]
    fn knows_one_option() {
        assert_eq!(Instructions::parse(&["--save"]), Ok(Instructions::Save));
        assert!(Instructions::parse(&["--sav"]).is_err());
    }
}
