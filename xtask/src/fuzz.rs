//! `cargo xtask fuzz`: builds the targets in `fuzz/`, and runs each for a while, from its seeds.
//!
//! By hand with `ASan`, which only a nightly compiler offers, or a stable one that is told to be
//! one. The step `fuzz` of `cargo xtask test` is shorter and does without: our code has no
//! `unsafe`, and without it the same time runs more inputs, see `fuzz/README.md`.

use std::{env, fs, path::Path};

use crate::{
    command::{self, Cargo},
    workspace::Workspace,
};

/// What to run, and how long.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fuzz {
    seconds: u64,
    sanitizer: Sanitizer,
    /// All when there are none.
    targets: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sanitizer {
    Address,
    None,
}

const SECONDS: u64 = 60;
/// In `cargo xtask test`, which is to find what broke since it last passed, and no more.
const SECONDS_IN_TEST: u64 = 10;

/// Of libFuzzer. Leaks: the buffers of threads that are idle count as such.
const FLAGS: &str = "-timeout=60 -detect_leaks=0 -print_final_stats=1";

/// The release of cargo-fuzz whose words are written here.
const CARGO_FUZZ: &str = "0.13.2";

/// The step of `cargo xtask test`.
pub(crate) fn step(workspace: &Workspace) -> Result<(), String> {
    workspace
        .cargo("fmt --manifest-path fuzz/Cargo.toml --check")
        .run()?;
    let fuzz = Fuzz {
        seconds: SECONDS_IN_TEST,
        sanitizer: Sanitizer::None,
        targets: Vec::new(),
    };
    fuzz.run(workspace)
}

impl Fuzz {
    pub(crate) fn parse(words: &[&str]) -> Result<Self, String> {
        let mut fuzz = Self {
            seconds: SECONDS,
            sanitizer: Sanitizer::Address,
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
                "--plain" => fuzz.sanitizer = Sanitizer::None,
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
        ensure_compiler()?;
        ensure_cargo_fuzz(workspace)?;
        for target in targets {
            self.cargo(workspace, "build", target).run()?;
        }
        for target in targets {
            let corpus = corpus(&folder, target)?;
            let (seconds, options) = (self.seconds, options(&folder, target)?);
            let words = format!("{target} {corpus} -- -max_total_time={seconds} {FLAGS}{options}");
            self.cargo(workspace, "run", &words).run()?;
        }
        Ok(())
    }

    /// They build beside all else, and not in `fuzz/`.
    fn cargo(&self, workspace: &Workspace, task: &str, words: &str) -> Cargo {
        let target = workspace.target.join("fuzz");
        let call = |sanitizer: &str| {
            workspace
                .cargo(&format!("fuzz {task}{sanitizer} {words}"))
                .env("CARGO_TARGET_DIR", &target)
        };
        match self.sanitizer {
            Sanitizer::Address => call("").env("RUSTC_BOOTSTRAP", "1"),
            Sanitizer::None => call(" -s none"),
        }
    }
}

/// libFuzzer is C++, and is compiled with the targets.
fn ensure_compiler() -> Result<(), String> {
    let compiler = env::var("CXX").unwrap_or_else(|_| "c++".into());
    if command::succeeds(&compiler, &["--version"]) || command::add_package("g++") {
        return Ok(());
    }
    Err(format!(
        "the fuzz targets need a C++ compiler: there is no `{compiler}`, and apt-get could not \
         install one; install g++ or clang, or name one in CXX"
    ))
}

fn ensure_cargo_fuzz(workspace: &Workspace) -> Result<(), String> {
    if workspace.cargo("fuzz --version").succeeds() {
        return Ok(());
    }
    workspace
        .cargo(&format!(
            "install --locked cargo-fuzz --version {CARGO_FUZZ}"
        ))
        .run()
}

/// The folders of inputs to begin with: what was found here before, to which what is found now is
/// added, and the seeds, of which every target has some.
fn corpus(folder: &Path, target: &str) -> Result<String, String> {
    let (found, seeds) = (
        folder.join("corpus").join(target),
        folder.join("seeds").join(target),
    );
    let has_seeds = fs::read_dir(&seeds).is_ok_and(|mut seeds| seeds.next().is_some());
    if !has_seeds {
        return Err(format!("{} has no seeds", seeds.display()));
    }
    fs::create_dir_all(&found)
        .map_err(|error| format!("{} cannot be made: {error}", found.display()))?;
    // From the root of the repository, whose own path may hold spaces.
    Ok(format!("fuzz/corpus/{target} fuzz/seeds/{target}"))
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
        let fuzz = |seconds, sanitizer, targets: &[&str]| Fuzz {
            seconds,
            sanitizer,
            targets: targets.iter().map(|target| (*target).to_owned()).collect(),
        };
        let (asan, plain) = (Sanitizer::Address, Sanitizer::None);
        assert_eq!(Fuzz::parse(&[]), Ok(fuzz(60, asan, &[])));
        let words = ["range", "--seconds", "5", "--plain", "key"];
        assert_eq!(Fuzz::parse(&words), Ok(fuzz(5, plain, &["range", "key"])));
        for wrong in [&["--seconds"][..], &["--seconds", "0"], &["--second", "1"]] {
            assert!(Fuzz::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_targets_of_this_repository_have_seeds_and_are_built() {
        let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
        let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
        let known = known(&fuzz).unwrap();
        assert!(known.contains(&"disk_recover".to_owned()));
        for target in known {
            let seeds = fs::read_dir(fuzz.join("seeds").join(&target));
            assert!(seeds.is_ok_and(|seeds| seeds.count() > 0), "{target}");
            let path = format!("path = \"fuzz_targets/{target}.rs\"");
            assert!(manifest.contains(&path), "{target} is not in the manifest");
        }
    }
}
