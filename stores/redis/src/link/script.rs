//! Lua scripts, which the server runs as one step.

use redis::Cmd;

/// A Lua script and its SHA-1, by which the server knows it; a `static` of it stands in a
/// `LazyLock`.
pub(crate) struct Script {
    source: &'static str,
    sha1: String,
}

impl Script {
    pub(crate) fn new(source: &'static str) -> Self {
        let sha1 = redis::Script::new(source).get_hash().to_owned();
        Self { source, sha1 }
    }

    /// Runs the script if the server has it.
    pub(super) fn by_hash(&self, keys: &[&[u8]], args: &[&[u8]]) -> Cmd {
        command("EVALSHA", &self.sha1, keys, args)
    }

    /// Runs the script, which the server then has.
    pub(super) fn by_source(&self, keys: &[&[u8]], args: &[&[u8]]) -> Cmd {
        command("EVAL", self.source, keys, args)
    }
}

fn command(name: &str, script: &str, keys: &[&[u8]], args: &[&[u8]]) -> Cmd {
    let count = keys.len() + args.len() + 3;
    let bytes: usize = keys.iter().chain(args).map(|arg| arg.len()).sum();
    let mut command = Cmd::with_capacity(count, bytes + script.len() + 16);
    command.arg(name).arg(script).arg(keys.len());
    for arg in keys.iter().chain(args) {
        command.arg(*arg);
    }
    command
}
