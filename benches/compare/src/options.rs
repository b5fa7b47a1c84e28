//! What the command line says.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use lexopt::prelude::*;

/// Which of the two programs this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// The one that measures time, memory and space.
    Compare,
    /// The one that counts allocations.
    Allocations,
}

/// Told by `--help`.
pub const HELP: &str = "\
Larder beside other caches, in the same run.

usage: larder-compare [CASE-PREFIX ...] [options]

  CASE-PREFIX    run only the cases whose names begin so, such as disk/hit/4KiB
  --rounds N     rounds of every case, peers taking turns within each (5)
  --peer NAME    only this peer, may be repeated; Larder is always among them
  --json         one object a line instead of a table
  --dir DIR      where the data goes, on a disk (a folder in the package's target folder)
  --quick        a tenth of the work and no case above 1 million entries, to try things out
  --large        also the stream of 10 GiB
  --trace FILE   for hit-ratio/trace: one key, optional size, a line; also .zst
  --capacity N   for hit-ratio: how much each may keep, such as 64MiB (the default)
";

/// What the command line says.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools)] // Switches, each for itself.
pub struct Options {
    /// Prefixes of the cases to run; all when there are none.
    pub prefixes: Vec<String>,
    /// Rounds of every case.
    pub rounds: usize,
    /// Peers beside Larder; all when there are none.
    pub peers: Vec<String>,
    /// Whether to print objects, one a line.
    pub json: bool,
    /// Where the data goes.
    pub dir: Option<PathBuf>,
    /// Whether to do a tenth of the work.
    pub quick: bool,
    /// Whether to run what takes 20 GB.
    pub large: bool,
    /// Requests for the hit ratio.
    pub trace: Option<PathBuf>,
    /// Bytes that each may keep for the hit ratio.
    pub capacity: Option<u64>,
    /// Whether to only tell how the program is used.
    pub help: bool,
    /// A job for this process, as [`child`](crate::child) passes it to the process that it starts.
    pub job: Option<String>,
}

impl Options {
    /// Reads the command line.
    pub fn parse() -> Result<Self> {
        let mut options = Self {
            prefixes: Vec::new(),
            rounds: 5,
            peers: Vec::new(),
            json: false,
            dir: None,
            quick: false,
            large: false,
            trace: None,
            capacity: None,
            help: false,
            job: None,
        };
        let mut arguments = lexopt::Parser::from_env();
        while let Some(argument) = arguments.next()? {
            match argument {
                Value(prefix) => options.prefixes.push(prefix.string()?),
                Long("rounds") => options.rounds = arguments.value()?.parse()?,
                Long("peer") => options.peers.push(arguments.value()?.string()?),
                Long("json") => options.json = true,
                Long("dir") => options.dir = Some(arguments.value()?.into()),
                Long("quick") => options.quick = true,
                Long("large") => options.large = true,
                Long("trace") => options.trace = Some(arguments.value()?.into()),
                Long("capacity") => {
                    let text = arguments.value()?.string()?;
                    let size = larder_bench::parse_size(&text);
                    options.capacity = Some(size.with_context(|| format!("--capacity {text}"))?);
                }
                Long("help") | Short('h') => options.help = true,
                Long("job") => options.job = Some(arguments.value()?.string()?),
                _ => bail!("{}\n\n{HELP}", argument.unexpected()),
            }
        }
        Ok(options)
    }

    /// Whether a case, or any of those whose names begin with this one, is to be run.
    pub fn wants(&self, case: &str) -> bool {
        let wanted = |prefix: &String| case.starts_with(prefix) || prefix.starts_with(case);
        self.prefixes.is_empty() || self.prefixes.iter().any(wanted)
    }

    /// Whether a peer takes part.
    pub fn invites(&self, peer: &str) -> bool {
        peer == "larder" || self.peers.is_empty() || self.peers.iter().any(|name| name == peer)
    }

    /// So much work, or a tenth of it.
    pub fn scaled(&self, work: u64) -> u64 {
        if self.quick { work / 10 } else { work }
    }
}
