//! The command line.

use std::{path::PathBuf, time::Duration};

use lexopt::{Arg, Parser, ValueExt};

pub(crate) const USAGE: &str = "\
Usage: quickstart [OPTIONS]

  --dir DIR        serve and read the files below DIR (default: this repository);
                   folders named `target` or `.git` are skipped
  --disk DIR       keep the cache's disk tier in DIR, for later runs to find
                   (default: a temporary folder, removed at the end)
  --delay-ms N     the origin waits N milliseconds before it answers (default: 2)
  --large-mib N    the size of the large object in MiB (default: 256)
  --json           print one JSON object per pass and line, and no table
  -h, --help       print this
";

pub(crate) struct Options {
    pub(crate) dir: PathBuf,
    /// Where the disk tier stays; `None` for a temporary folder.
    pub(crate) disk: Option<PathBuf>,
    pub(crate) delay: Duration,
    /// In bytes.
    pub(crate) large: u64,
    pub(crate) json: bool,
}

pub(crate) enum Parsed {
    Options(Options),
    Help,
}

const MIB: u64 = 1 << 20;

impl Options {
    pub(crate) fn parse() -> Result<Parsed, lexopt::Error> {
        let mut options = Self {
            dir: env!("CARGO_MANIFEST_DIR").into(),
            disk: None,
            delay: Duration::from_millis(2),
            large: 256 * MIB,
            json: false,
        };
        let mut words = Parser::from_env();
        while let Some(word) = words.next()? {
            match word {
                Arg::Long("dir") => options.dir = words.value()?.into(),
                Arg::Long("disk") => options.disk = Some(words.value()?.into()),
                Arg::Long("delay-ms") => {
                    let millis: u32 = words.value()?.parse()?;
                    options.delay = Duration::from_millis(millis.into());
                }
                Arg::Long("large-mib") => {
                    let mib: u32 = words.value()?.parse()?;
                    options.large = u64::from(mib) * MIB;
                }
                Arg::Long("json") => options.json = true,
                Arg::Short('h') | Arg::Long("help") => return Ok(Parsed::Help),
                _ => return Err(word.unexpected()),
            }
        }
        Ok(Parsed::Options(options))
    }
}
