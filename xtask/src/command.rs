//! Runs cargo and its friends, with their output left as it is.

use std::{
    env,
    ffi::OsString,
    path::Path,
    process::{Command, Stdio},
};

/// One call of cargo, at the root of the workspace.
pub(crate) struct Cargo {
    command: Command,
    /// As a reader could type it.
    line: String,
}

impl Cargo {
    /// `cargo` with these words, which hold no spaces of their own.
    pub(crate) fn new(root: &Path, words: &str) -> Self {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(root).args(words.split_whitespace());
        Self {
            command,
            line: format!("cargo {words}"),
        }
    }

    /// Sets a variable.
    pub(crate) fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        let value = value.into();
        self.line = format!("{name}='{}' {}", value.display(), self.line);
        self.command.env(name, value);
        self
    }

    /// Adds words to a variable that holds flags, and keeps those that the user has set.
    pub(crate) fn flags(self, name: &str, flags: &str) -> Self {
        let value = match env::var(name) {
            Ok(own) if !own.trim().is_empty() => format!("{own} {flags}"),
            _ => flags.to_owned(),
        };
        self.env(name, value)
    }

    /// Runs it in the open; an error when it cannot start or ends badly.
    pub(crate) fn run(mut self) -> Result<(), String> {
        println!("$ {}", self.line);
        match self.command.status() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("`{}` ended with {status}", self.line)),
            Err(error) => Err(format!("`{}` cannot start: {error}", self.line)),
        }
    }

    /// Runs it and gives what it prints on standard output; its errors stay visible.
    pub(crate) fn capture(mut self) -> Result<String, String> {
        let output = self
            .command
            .stderr(Stdio::inherit())
            .output()
            .map_err(|error| format!("`{}` cannot start: {error}", self.line))?;
        if !output.status.success() {
            return Err(format!("`{}` ended with {}", self.line, output.status));
        }
        String::from_utf8(output.stdout)
            .map_err(|_| format!("`{}` prints something that is not UTF-8", self.line))
    }

    /// Whether it runs and succeeds; says nothing.
    pub(crate) fn succeeds(mut self) -> bool {
        self.command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    }
}

/// Whether a program is there, runs and succeeds; says nothing.
pub(crate) fn succeeds(program: &str, words: &[&str]) -> bool {
    Command::new(program)
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Whether a Debian package could be installed, by root or by one who may become root unasked.
pub(crate) fn add_package(package: &str) -> bool {
    ["apt-get", "sudo -n apt-get"].iter().any(|apt| {
        // A fresh machine has no list of packages yet.
        let script = format!("{apt} -qq update; {apt} -qq install -y --no-install-recommends");
        let line = format!("{script} {package}");
        println!("$ {line}");
        Command::new("sh")
            .args(["-c", &line])
            .env("DEBIAN_FRONTEND", "noninteractive")
            .status()
            .is_ok_and(|status| status.success())
    })
}

/// Asks rustup for a component of the toolchain; an error says what is missing.
pub(crate) fn add_component(root: &Path, component: &str) -> Result<(), String> {
    println!("$ rustup component add {component}");
    let added = Command::new("rustup")
        .current_dir(root)
        .args(["component", "add", component])
        .status()
        .is_ok_and(|status| status.success());
    if added {
        Ok(())
    } else {
        Err(format!(
            "{component} is missing and rustup could not add it; install the `{component}` \
             component of this toolchain"
        ))
    }
}
