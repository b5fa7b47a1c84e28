//! The steps of `cargo xtask test`. A new one is a line in [`ALL`] and a function.

use crate::{command, fuzz, servers, workspace::Workspace};

/// One thing to check.
#[derive(Debug)]
pub(crate) struct Step {
    /// What `--only` calls it.
    pub(crate) name: &'static str,
    /// What it checks, in a few words.
    pub(crate) what: &'static str,
    pub(crate) run: fn(&Workspace) -> Result<(), String>,
}

/// Every step, in order: what fails fast comes first.
pub(crate) const ALL: &[Step] = &[
    Step {
        name: "fmt",
        what: "the code is formatted",
        run: fmt,
    },
    Step {
        name: "clippy",
        what: "no warnings from rustc or clippy",
        run: clippy,
    },
    Step {
        name: "tests",
        what: "unit and integration tests",
        run: tests,
    },
    Step {
        name: "valkey",
        what: "the Redis store's tests with Valkey, where there is one",
        run: servers::valkey,
    },
    Step {
        name: "doctests",
        what: "the examples in the documentation",
        run: doctests,
    },
    Step {
        name: "models",
        what: "the model-checked tests, under shuttle",
        run: models,
    },
    Step {
        name: "docs",
        what: "the documentation builds without warnings",
        run: docs,
    },
    Step {
        name: "features",
        what: "each package builds with each feature alone",
        run: features,
    },
    Step {
        name: "quickstart",
        what: "the quickstart runs, and finds what it should",
        run: quickstart,
    },
    Step {
        name: "fuzz",
        what: "each fuzz target holds for 10 s, from its seeds",
        run: fuzz::step,
    },
];

fn fmt(workspace: &Workspace) -> Result<(), String> {
    if !workspace.cargo("fmt --version").succeeds() {
        command::add_component(&workspace.root, "rustfmt")?;
    }
    workspace.cargo("fmt --all --check").run()
}

fn clippy(workspace: &Workspace) -> Result<(), String> {
    ensure_clippy(workspace)?;
    workspace
        .cargo("clippy --workspace --all-targets --all-features -- -D warnings")
        .run()
}

fn ensure_clippy(workspace: &Workspace) -> Result<(), String> {
    if workspace.cargo("clippy --version").succeeds() {
        return Ok(());
    }
    command::add_component(&workspace.root, "clippy")
}

/// With nextest where there is one; a fresh machine needs nothing installed.
fn tests(workspace: &Workspace) -> Result<(), String> {
    servers::ensure_redis()?;
    let words = if workspace.cargo("nextest --version").succeeds() {
        "nextest run --workspace --all-features --no-fail-fast"
    } else {
        println!("cargo-nextest is not installed: these are run by `cargo test`");
        "test --workspace --all-features --lib --bins --tests --examples --no-fail-fast"
    };
    workspace.cargo(words).run()
}

fn doctests(workspace: &Workspace) -> Result<(), String> {
    servers::ensure_redis()?;
    workspace
        .cargo("test --doc --workspace --all-features")
        .run()
}

/// They build into a folder of their own, since `--cfg shuttle` changes every dependency; and
/// optimised, since they run the same code thousands of times, but with debug assertions.
fn models(workspace: &Workspace) -> Result<(), String> {
    let cargo = |words: &str| {
        workspace
            .cargo(words)
            .flags("RUSTFLAGS", "--cfg shuttle")
            .env("CARGO_TARGET_DIR", workspace.target.join("shuttle"))
            .env("CARGO_PROFILE_DEV_OPT_LEVEL", "1")
    };
    let words = "test --lib -p larder -p larder-store model";
    // A filter that matches nothing passes: make sure that it does match.
    let list = cargo(&format!("{words} -- --list")).capture()?;
    if !list.lines().any(|line| line.ends_with(": test")) {
        return Err("no test is in a module named `model`".into());
    }
    cargo(words).run()
}

fn docs(workspace: &Workspace) -> Result<(), String> {
    workspace
        .cargo("doc --workspace --no-deps --all-features")
        .flags("RUSTDOCFLAGS", "-D warnings")
        .run()
}

/// Clippy rather than `check`: it fails on warnings and rebuilds no dependency for that.
fn features(workspace: &Workspace) -> Result<(), String> {
    ensure_clippy(workspace)?;
    for package in &workspace.packages {
        let name = &package.name;
        let bare = String::new();
        let alone = package
            .features
            .iter()
            .map(|feature| format!(" --features {feature}"));
        for features in std::iter::once(bare).chain(alone) {
            workspace
                .cargo(&format!(
                    "clippy --quiet -p {name} --no-default-features{features} -- -D warnings"
                ))
                .run()?;
        }
    }
    Ok(())
}

fn quickstart(workspace: &Workspace) -> Result<(), String> {
    workspace
        .cargo("run --release --example quickstart -- --json --dir stores/contract")
        .run()
}
