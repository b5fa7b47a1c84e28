//! The command line.

use std::{path::PathBuf, sync::Arc};

use larder_bench::{Length, Popularity, Sizes, Trace, Workload, parse_duration, parse_size};
use lexopt::{Arg, Parser, ValueExt};

pub(crate) const USAGE: &str = "\
Usage: larder-bench URL [OPTIONS]
       larder-bench --compare A.json B.json
       larder-bench hit-ratio TRACE --capacity SIZE [--size SIZE] [--json]

URL: memory:?capacity=64MiB&policy=s3-fifo|tiny-lfu|lru
     disk:./cache?capacity=1GiB&durability=relaxed|on-commit

  --workload NAME   read-mostly (default), write-burst, mixed, scan, large-streams, stampede,
                    prod-like
  --keys N          how many keys there are
  --zipf S          popularity: zipf of this exponent (default: 0.9)
  --uniform         popularity: all alike
  --trace FILE      popularity and sizes from a trace: one key, optional size, a line; also .zst
  --size SIZE       all objects of this size; with a trace, those without one
  --log-normal M,S  sizes around the median M with the sigma S
  --tasks N         operations at once
  --rate R          open loop: R operations begin each second
  --duration T      10s, 500ms, 2m        --count N    operations instead of a duration
  --warm-up T       before it counts
  --no-preload      begin with an empty store
  --rounds N        repeat, the store opened anew each time (for --compare: 5 or more)
  --seed N          another sequence of operations
  --json            one JSON object a run and line, and no table
  --svg FILE        draw the latency by percentile
  --compare A B     two files of --json lines: ratios of medians, and what is noise
  -h, --help        print this
";

pub(crate) enum Command {
    Help,
    Run(Box<Run>),
    Compare(Compare),
    HitRatio(HitRatio),
}

pub(crate) struct Run {
    pub(crate) url: String,
    pub(crate) workload: Workload,
    pub(crate) rounds: u32,
    pub(crate) json: bool,
    pub(crate) svg: Option<PathBuf>,
}

pub(crate) struct Compare {
    pub(crate) before: PathBuf,
    pub(crate) after: PathBuf,
}

pub(crate) struct HitRatio {
    pub(crate) trace: PathBuf,
    pub(crate) capacity: u64,
    pub(crate) default_size: u64,
    pub(crate) json: bool,
}

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// What was said; what was not is as the workload has it.
#[derive(Default)]
#[allow(clippy::struct_excessive_bools)] // Each is a word of the command line.
struct Words {
    first: Option<String>,
    second: Option<String>,
    workload: Option<String>,
    keys: Option<usize>,
    zipf: Option<f64>,
    uniform: bool,
    trace: Option<PathBuf>,
    size: Option<u64>,
    log_normal: Option<(u64, f64)>,
    tasks: Option<usize>,
    rate: Option<f64>,
    length: Option<Length>,
    warm_up: Option<Length>,
    no_preload: bool,
    rounds: Option<u32>,
    seed: Option<u64>,
    json: bool,
    svg: Option<PathBuf>,
    capacity: Option<u64>,
    compare: Option<Compare>,
    help: bool,
}

pub(crate) fn parse() -> Result<Command> {
    let words = Words::read(Parser::from_env())?;
    if words.help {
        return Ok(Command::Help);
    }
    if let Some(compare) = words.compare {
        return Ok(Command::Compare(compare));
    }
    let first = words.first.clone().ok_or("there is no URL")?;
    if first == "hit-ratio" {
        return Ok(Command::HitRatio(HitRatio {
            trace: words.second.ok_or("there is no trace")?.into(),
            capacity: words.capacity.ok_or("there is no --capacity")?,
            default_size: words.size.unwrap_or(4 << 10),
            json: words.json,
        }));
    }
    if let Some(second) = &words.second {
        return Err(format!("`{second}` is one word too many").into());
    }
    Ok(Command::Run(Box::new(Run {
        url: first,
        workload: words.workload()?,
        rounds: words.rounds.unwrap_or(1).max(1),
        json: words.json,
        svg: words.svg,
    })))
}

impl Words {
    fn read(mut parser: Parser) -> Result<Self> {
        let mut words = Self::default();
        while let Some(word) = parser.next()? {
            match word {
                Arg::Long("workload") => words.workload = Some(parser.value()?.string()?),
                Arg::Long("keys") => words.keys = Some(parser.value()?.parse()?),
                Arg::Long("zipf") => words.zipf = Some(parser.value()?.parse()?),
                Arg::Long("uniform") => words.uniform = true,
                Arg::Long("trace") => words.trace = Some(parser.value()?.into()),
                Arg::Long("size") => words.size = Some(size(&parser.value()?.string()?)?),
                Arg::Long("log-normal") => {
                    let text = parser.value()?.string()?;
                    let (median, sigma) = text.split_once(',').ok_or("--log-normal wants M,S")?;
                    words.log_normal = Some((size(median)?, sigma.parse()?));
                }
                Arg::Long("tasks") => words.tasks = Some(parser.value()?.parse()?),
                Arg::Long("rate") => words.rate = Some(parser.value()?.parse()?),
                Arg::Long("duration") => words.length = Some(time(&parser.value()?.string()?)?),
                Arg::Long("count") => words.length = Some(Length::Count(parser.value()?.parse()?)),
                Arg::Long("warm-up") => words.warm_up = Some(time(&parser.value()?.string()?)?),
                Arg::Long("no-preload") => words.no_preload = true,
                Arg::Long("rounds") => words.rounds = Some(parser.value()?.parse()?),
                Arg::Long("seed") => words.seed = Some(parser.value()?.parse()?),
                Arg::Long("json") => words.json = true,
                Arg::Long("svg") => words.svg = Some(parser.value()?.into()),
                Arg::Long("capacity") => words.capacity = Some(size(&parser.value()?.string()?)?),
                Arg::Long("compare") => {
                    let before = parser.value()?.into();
                    let after = parser.value()?.into();
                    words.compare = Some(Compare { before, after });
                }
                Arg::Short('h') | Arg::Long("help") => words.help = true,
                Arg::Value(value) if words.first.is_none() => words.first = Some(value.string()?),
                Arg::Value(value) if words.second.is_none() => words.second = Some(value.string()?),
                _ => return Err(word.unexpected().into()),
            }
        }
        Ok(words)
    }

    fn workload(&self) -> Result<Workload> {
        let name = self.workload.as_deref().unwrap_or("read-mostly");
        let mut workload = Workload::by_name(name)
            .ok_or_else(|| format!("there is no workload `{name}`, only {:?}", Workload::NAMES))?;
        let keys = self.keys.unwrap_or_else(|| workload.popularity.keys());
        if let Some(path) = &self.trace {
            let trace =
                Trace::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
            workload.popularity = Popularity::Trace(Arc::new(trace));
            workload.sizes = Sizes::Trace(self.size.unwrap_or(4 << 10));
        } else if self.uniform {
            workload.popularity = Popularity::Uniform { keys };
        } else if let Some(exponent) = self.zipf {
            workload.popularity = Popularity::Zipf { keys, exponent };
        } else if self.keys.is_some() {
            match &mut workload.popularity {
                Popularity::Uniform { keys: count }
                | Popularity::Zipf { keys: count, .. }
                | Popularity::Scan { keys: count } => *count = keys,
                _ => {}
            }
        }
        match (self.size, self.log_normal) {
            (Some(_), Some(_)) => return Err("--size and --log-normal exclude each other".into()),
            (Some(size), None) if self.trace.is_none() => workload.sizes = Sizes::Fixed(size),
            (None, Some((median, sigma))) => {
                let max = median.saturating_mul(1024);
                workload.sizes = Sizes::LogNormal { median, sigma, max };
            }
            _ => {}
        }
        workload.tasks = self.tasks.unwrap_or(workload.tasks);
        workload.rate = self.rate.or(workload.rate);
        workload.length = self.length.unwrap_or(workload.length);
        workload.warm_up = self.warm_up.unwrap_or(workload.warm_up);
        workload.preload &= !self.no_preload;
        workload.seed = self.seed.unwrap_or(workload.seed);
        workload.check()?;
        Ok(workload)
    }
}

fn size(text: &str) -> Result<u64> {
    parse_size(text).ok_or_else(|| format!("`{text}` is no size").into())
}

fn time(text: &str) -> Result<Length> {
    let time = parse_duration(text).ok_or_else(|| format!("`{text}` is no time"))?;
    Ok(Length::Duration(time))
}
