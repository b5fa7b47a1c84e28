//! Which steps to run, in which order, and how they went.

use std::time::{Duration, Instant};

use crate::{
    steps::{self, Step},
    workspace::Workspace,
};

/// The steps that were asked for, in their usual order.
#[derive(Debug)]
pub(crate) struct Plan(Vec<&'static Step>);

impl Plan {
    /// Reads the words after `test`.
    pub(crate) fn parse(options: &[&str]) -> Result<Self, String> {
        let names = match options {
            [] => return Ok(Self(steps::ALL.iter().collect())),
            ["--only"] => return Err("`--only` wants the names of steps".into()),
            ["--only", names] => names,
            [option] if option.starts_with("--only=") => &option["--only=".len()..],
            ["--only", _, word, ..] | [word, ..] => {
                return Err(format!("`test` does not know `{word}`"));
            }
        };
        let names: Vec<&str> = names.split(',').collect();
        if let Some(unknown) = names
            .iter()
            .find(|name| steps::ALL.iter().all(|step| step.name != **name))
        {
            return Err(format!("no step is called `{unknown}`"));
        }
        let chosen = steps::ALL
            .iter()
            .filter(|step| names.contains(&step.name))
            .collect();
        Ok(Self(chosen))
    }

    /// Runs all steps, also after one that failed, and reports how long each took. The error names
    /// every step that failed.
    pub(crate) fn run(&self, workspace: &Workspace) -> Result<(), String> {
        let mut times = Vec::with_capacity(self.0.len());
        let mut failures = Vec::new();
        for (index, step) in self.0.iter().enumerate() {
            println!(
                "== {}/{} {}: {}",
                index + 1,
                self.0.len(),
                step.name,
                step.what
            );
            let start = now();
            let result = (step.run)(workspace);
            times.push((step.name, start.elapsed(), result.is_ok()));
            if let Err(message) = result {
                eprintln!("step `{}` failed: {message}", step.name);
                failures.push(format!("step `{}` failed: {message}", step.name));
            }
        }
        summarise(&times);
        if failures.is_empty() {
            Ok(())
        } else {
            Err(failures.join("\n"))
        }
    }
}

fn summarise(times: &[(&str, Duration, bool)]) {
    println!("== summary");
    for (name, time, passed) in times {
        let verdict = if *passed { "ok" } else { "FAILED" };
        println!("  {name:<11} {verdict:<7} {:>7.1} s", time.as_secs_f64());
    }
    let total: Duration = times.iter().map(|(_, time, _)| *time).sum();
    println!("  {:<19} {:>7.1} s", "total", total.as_secs_f64());
}

#[expect(
    clippy::disallowed_methods,
    reason = "a build tool measures wall time; nothing here is simulated"
)]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(options: &[&str]) -> Result<Vec<&'static str>, String> {
        Plan::parse(options).map(|plan| plan.0.iter().map(|step| step.name).collect())
    }

    #[test]
    fn steps_keep_their_order_and_run_once() {
        let wanted = Ok(vec!["clippy", "tests"]);
        assert_eq!(names(&["--only", "tests,clippy,tests"]), wanted);
        assert_eq!(names(&["--only=tests,clippy"]), wanted);
        assert_eq!(names(&[]).unwrap().len(), steps::ALL.len());
    }

    #[test]
    fn unknown_words_are_errors() {
        let cases: [(&[&str], &str); 5] = [
            (&["--only"], "`--only` wants the names of steps"),
            (&["--only", "tests,tess"], "no step is called `tess`"),
            (&["--only="], "no step is called ``"),
            (&["--fast"], "`test` does not know `--fast`"),
            (&["--only", "fmt", "docs"], "`test` does not know `docs`"),
        ];
        for (options, message) in cases {
            assert_eq!(names(options).unwrap_err(), message, "{options:?}");
        }
    }
}
