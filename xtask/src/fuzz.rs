//! `cargo xtask fuzz`: builds the targets in `fuzz/`, and runs each for a while.
//!
//! With `ASan`, which only a nightly compiler offers, or a stable one that is told to be one. Not a
//! step of `cargo xtask test`: it needs cargo-fuzz, and time.

use std::{fs, path::Path};

use crate::{command::Cargo, workspace::Workspace};

/// What to run, and how long.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fuzz {
    seconds: u64,
    /// All when there are none.
    targets: Vec<String>,
}

const SECONDS: u64 = 60;

/// Of libFuzzer. Leaks: the buffers of threads that are idle count as such.
const FLAGS: &str = "-timeout=60 -detect_leaks=0 -print_final_stats=1";

impl Fuzz {
    pub(crate) fn parse(words: &[&str]) -> Result<Self, String> {
        let mut fuzz = Self {
            seconds: SECONDS,
            targets: Vec::new(),
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match *word {
                "--seconds" => {
                    let seconds = words.next().ok_or("--seconds wants a number")?;
                    fuzz.seconds = (seconds.parse().ok())
                        .filter(|seconds| *seconds > 0)
                        .ok_or_else(|| format!("--seconds: `{seconds}` is no number above zero"))?;
                }
                option if option.starts_with('-') => {
                    return Err(format!("`{option}` is no option of fuzz"));
                }
                target => fuzz.targets.push(target.to_owned()),
            }
        }
        Ok(fuzz)
    }

    /// Builds first, so that a target that does not compile is not found after an hour.
    pub(crate) fn run(&self, workspace: &Workspace) -> Result<(), String> {
        let folder = workspace.root.join("fuzz");
        let known = known(&folder)?;
        let targets = if self.targets.is_empty() {
            &known
        } else {
            &self.targets
        };
        if let Some(target) = targets.iter().find(|target| !known.contains(target)) {
            let known = known.join(", ");
            return Err(format!(
                "there is no target `{target}` in fuzz, only {known}"
            ));
        }
        ensure_cargo_fuzz(workspace)?;
        for target in targets {
            cargo(workspace, &format!("fuzz build {target}")).run()?;
        }
        for target in targets {
            let seconds = self.seconds;
            let options = options(&folder, target)?;
            let words = format!("fuzz run {target} -- -max_total_time={seconds} {FLAGS}{options}");
            cargo(workspace, &words).run()?;
        }
        Ok(())
    }
}

fn cargo(workspace: &Workspace, words: &str) -> Cargo {
    workspace.cargo(words).env("RUSTC_BOOTSTRAP", "1")
}

fn ensure_cargo_fuzz(workspace: &Workspace) -> Result<(), String> {
    if workspace.cargo("fuzz --version").succeeds() {
        return Ok(());
    }
    workspace.cargo("install --locked cargo-fuzz").run()
}

/// The targets: the files of the folder that has them.
fn known(folder: &Path) -> Result<Vec<String>, String> {
    let folder = folder.join("fuzz_targets");
    let entries = fs::read_dir(&folder)
        .map_err(|error| format!("{} cannot be read: {error}", folder.display()))?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let is_rust = path.extension().is_some_and(|end| end == "rs");
            let name = path.file_stem()?.to_str()?.to_owned();
            is_rust.then_some(name)
        })
        .collect();
    names.sort();
    Ok(names)
}

/// What libFuzzer is told for this target beside, from its file `fuzz_targets/TARGET.options`.
fn options(folder: &Path, target: &str) -> Result<String, String> {
    let path = folder
        .join("fuzz_targets")
        .join(format!("{target}.options"));
    match fs::read_to_string(&path) {
        Ok(text) => Ok(text
            .split_whitespace()
            .fold(String::new(), |all, word| all + " " + word)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(format!("{} cannot be read: {error}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_seconds_and_targets() {
        let fuzz = |seconds, targets: &[&str]| Fuzz {
            seconds,
            targets: targets.iter().map(|target| (*target).to_owned()).collect(),
        };
        assert_eq!(Fuzz::parse(&[]), Ok(fuzz(60, &[])));
        let words = ["range", "--seconds", "5", "key"];
        assert_eq!(Fuzz::parse(&words), Ok(fuzz(5, &["range", "key"])));
        for wrong in [&["--seconds"][..], &["--seconds", "0"], &["--second", "1"]] {
            assert!(Fuzz::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn finds_the_targets_of_this_repository() {
        let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
        assert!(known(&fuzz).unwrap().contains(&"disk_recover".to_owned()));
    }
}
