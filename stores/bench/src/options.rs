//! The command line.

use std::{ffi::OsString, path::PathBuf, str::FromStr, sync::Arc};

use larder_bench::{Length, Popularity, Sizes, Trace, Workload, parse_duration, parse_size};
use lexopt::{Arg, Parser, ValueExt};

pub(crate) const USAGE: &str = "\
Usage: larder-bench URL [OPTIONS]
       larder-bench --compare A.json B.json
       larder-bench hit-ratio TRACE --capacity SIZE [--size SIZE] [--json]

URL: memory:?capacity=64MiB&policy=s3-fifo|tiny-lfu|lru&object_max=16MiB
     disk:./cache?capacity=1GiB&durability=relaxed|on-commit&object_max=..
     redis://localhost?prefix=larder-bench&chunk_size=1MiB&connections=2
     redis+cluster://host,host    with the feature `cluster`
     null:?size=4KiB     no cache: shows what the benchmark itself costs

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
  --warm-up T       before it counts (default: 1s, or a tenth of the count)
  --no-preload      begin with an empty store
  --rounds N        repeat, the store opened anew each time (for --compare: 5 or more)
  --fresh           each round of a disk store in a new folder within that of the URL, removed
                    afterwards; without it, a round finds what the one before has left
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
    pub(crate) fresh: bool,
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
    second: Option<OsString>,
    workload: Option<String>,
    keys: Option<usize>,
    zipf: Option<f64>,
    uniform: bool,
    trace: Option<PathBuf>,
    size: Option<u64>,
    log_normal: Option<(u64, f64)>,
    tasks: Option<usize>,
    rate: Option<f64>,
    duration: Option<Length>,
    count: Option<u64>,
    warm_up: Option<Length>,
    no_preload: bool,
    rounds: Option<u32>,
    fresh: bool,
    seed: Option<u64>,
    json: bool,
    svg: Option<PathBuf>,
    capacity: Option<u64>,
    compare: Option<Compare>,
    help: bool,
}

/// Sizes of objects for which neither the trace nor the user has one.
const DEFAULT_SIZE: u64 = 4 << 10;

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
        let capacity = words.capacity.ok_or("there is no --capacity")?;
        return Ok(Command::HitRatio(HitRatio {
            trace: words.second.ok_or("there is no trace")?.into(),
            capacity,
            default_size: words.size.unwrap_or(DEFAULT_SIZE),
            json: words.json,
        }));
    }
    if let Some(second) = &words.second {
        return Err(format!("`{}` is one word too many", second.display()).into());
    }
    if words.capacity.is_some() {
        return Err("--capacity is for hit-ratio; a store has it in its URL".into());
    }
    let rounds = words.rounds.unwrap_or(1);
    if rounds == 0 {
        return Err("--rounds: there must be one at least".into());
    }
    Ok(Command::Run(Box::new(Run {
        url: first,
        workload: words.workload()?,
        rounds,
        fresh: words.fresh,
        json: words.json,
        svg: words.svg,
    })))
}

impl Words {
    fn read(mut parser: Parser) -> Result<Self> {
        let mut words = Self::default();
        while let Some(word) = parser.next()? {
            match word {
                Arg::Short('h') | Arg::Long("help") => words.help = true,
                Arg::Long(name) => {
                    let name = name.to_owned();
                    words
                        .option(&name, &mut parser)
                        .map_err(|error| format!("--{name}: {error}"))?;
                }
                Arg::Value(value) if words.first.is_none() => words.first = Some(value.string()?),
                Arg::Value(value) if words.second.is_none() => words.second = Some(value),
                Arg::Value(_) | Arg::Short(_) => return Err(word.unexpected().into()),
            }
        }
        Ok(words)
    }

    fn option(&mut self, name: &str, parser: &mut Parser) -> Result<()> {
        match name {
            "workload" => self.workload = Some(parser.value()?.string()?),
            "keys" => self.keys = Some(number(parser)?),
            "zipf" => self.zipf = Some(number(parser)?),
            "uniform" => self.uniform = true,
            "trace" => self.trace = Some(parser.value()?.into()),
            "size" => self.size = Some(size(&parser.value()?.string()?)?),
            "log-normal" => self.log_normal = Some(log_normal(&parser.value()?.string()?)?),
            "tasks" => self.tasks = Some(number(parser)?),
            "rate" => self.rate = Some(number(parser)?),
            "duration" => self.duration = Some(time(&parser.value()?.string()?)?),
            "count" => self.count = Some(number(parser)?),
            "warm-up" => self.warm_up = Some(time(&parser.value()?.string()?)?),
            "no-preload" => self.no_preload = true,
            "rounds" => self.rounds = Some(number(parser)?),
            "fresh" => self.fresh = true,
            "seed" => self.seed = Some(number(parser)?),
            "json" => self.json = true,
            "svg" => self.svg = Some(parser.value()?.into()),
            "capacity" => self.capacity = Some(size(&parser.value()?.string()?)?),
            "compare" => {
                let before = parser.value()?.into();
                let after = parser.value().map_err(|_| "it wants two files")?.into();
                self.compare = Some(Compare { before, after });
            }
            _ => return Err("there is no such option".into()),
        }
        Ok(())
    }

    fn workload(&self) -> Result<Workload> {
        let name = self.workload.as_deref().unwrap_or("read-mostly");
        let mut workload = Workload::by_name(name).ok_or_else(|| {
            let known = Workload::NAMES.join(", ");
            format!("--workload: there is no `{name}`, only {known}")
        })?;
        self.set_popularity(&mut workload)?;
        self.set_sizes(&mut workload)?;
        self.set_lengths(&mut workload)?;
        workload.tasks = self.tasks.unwrap_or(workload.tasks);
        workload.rate = self.rate.or(workload.rate);
        workload.preload &= !self.no_preload;
        workload.seed = self.seed.unwrap_or(workload.seed);
        workload.check()?;
        Ok(workload)
    }

    fn set_popularity(&self, workload: &mut Workload) -> Result<()> {
        let keys = self.keys.unwrap_or_else(|| workload.popularity.keys());
        workload.popularity = match (&self.trace, self.uniform, self.zipf) {
            (Some(_), false, None) if self.keys.is_some() => {
                return Err("--trace has its own keys: leave out --keys".into());
            }
            (Some(path), false, None) => {
                let trace = Trace::open(path);
                let trace = trace.map_err(|error| format!("{}: {error}", path.display()))?;
                Popularity::Trace(Arc::new(trace))
            }
            (None, true, None) => Popularity::Uniform { keys },
            (None, false, Some(exponent)) => Popularity::Zipf { keys, exponent },
            (None, false, None) => workload.popularity.clone().with_keys(keys),
            _ => return Err("--trace, --uniform and --zipf exclude each other".into()),
        };
        Ok(())
    }

    fn set_sizes(&self, workload: &mut Workload) -> Result<()> {
        workload.sizes = match (self.size, self.log_normal, &self.trace) {
            (Some(_), Some(_), _) => {
                return Err("--size and --log-normal exclude each other".into());
            }
            (None, Some((median, sigma)), _) => {
                let max = median.saturating_mul(1024);
                Sizes::LogNormal { median, sigma, max }
            }
            (size, None, Some(_)) => Sizes::Trace(size.unwrap_or(DEFAULT_SIZE)),
            (Some(size), None, None) => Sizes::Fixed(size),
            (None, None, None) => workload.sizes,
        };
        Ok(())
    }

    fn set_lengths(&self, workload: &mut Workload) -> Result<()> {
        match (self.duration, self.count) {
            (Some(_), Some(_)) => return Err("--duration and --count exclude each other".into()),
            (Some(duration), None) => workload.length = duration,
            (None, Some(count)) => {
                workload.length = Length::Count(count);
                workload.warm_up = Length::Count(count / 10);
            }
            (None, None) => {}
        }
        workload.warm_up = self.warm_up.unwrap_or(workload.warm_up);
        Ok(())
    }
}

fn number<T: FromStr<Err: std::fmt::Display>>(parser: &mut Parser) -> Result<T> {
    let text = parser.value()?.string()?;
    let value = text.parse::<T>();
    value.map_err(|error| format!("`{text}`: {error}").into())
}

fn size(text: &str) -> Result<u64> {
    let wrong = || format!("`{text}` is no size, such as 65536, 64KiB or 1.5GiB");
    Ok(parse_size(text).ok_or_else(wrong)?)
}

fn time(text: &str) -> Result<Length> {
    let wrong = || format!("`{text}` is no time, such as 500ms, 10s or 2m");
    Ok(Length::Duration(parse_duration(text).ok_or_else(wrong)?))
}

fn log_normal(text: &str) -> Result<(u64, f64)> {
    let wrong = || format!("`{text}` is no median and sigma, such as 4KiB,1.2");
    let (median, sigma) = text.split_once(',').ok_or_else(wrong)?;
    Ok((size(median)?, sigma.trim().parse().map_err(|_| wrong())?))
}
