//! A member of the fleet: a process with a cache that does what its standard input says.
//!
//! A command is a line, `NUMBER VERB ...`. Each is done by itself and answered by a line,
//! `@NUMBER ok ...` or `@NUMBER failed ...`. The process ends with its input.

use std::{
    io::{self, Write},
    process, thread,
    time::Duration,
};

use futures_util::{StreamExt, future::join_all, stream};
use larder::{Cache, Draft, Error, Policy, Response, Source, TierCounters};
use rustix::process::{Signal, set_parent_process_death_signal};
use tokio::{sync::mpsc, time::sleep};

use crate::{
    content,
    pages::{self, Pages},
    settings::Settings,
    work,
};

pub(crate) async fn serve(told: &str) {
    // One that is stopped does not see the end of its input.
    set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
    let settings = Settings::parse(told);
    let member = Member {
        pages: Pages::of(settings.origin),
        cache: settings.open().await,
    };
    let (heard, mut commands) = mpsc::channel(1024);
    thread::spawn(move || {
        for line in io::stdin().lines() {
            heard.blocking_send(line.unwrap()).unwrap();
        }
        process::exit(0);
    });
    say("@0 ok");
    while let Some(line) = commands.recv().await {
        let member = member.clone();
        tokio::spawn(async move {
            let (number, command) = line.split_once(' ').expect("a number and a command");
            match member.run(command).await {
                Ok(answer) => say(&format!("@{number} ok {answer}")),
                Err(why) => say(&format!("@{number} failed {why}")),
            }
        });
    }
}

/// In one call, so that lines are not mixed.
fn say(line: &str) {
    let mut out = io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

#[derive(Clone)]
pub(crate) struct Member {
    pub(crate) cache: Cache,
    pub(crate) pages: Pages,
}

/// Which version a read gave, and whence.
pub(crate) struct Seen {
    pub(crate) version: u64,
    pub(crate) source: &'static str,
    pub(crate) joined: bool,
}

/// Why a read gave nothing whole.
pub(crate) struct Failed {
    /// Of the page whose body broke off; zero where it did not come to that.
    pub(crate) version: u64,
    pub(crate) why: String,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self {
            version: 0,
            why: error.to_string(),
        }
    }
}

/// What the failure of a body begins with whose fetcher has said "not modified": it cannot be asked
/// for the rest.
pub(crate) const REVALIDATED: &str = "revalidated";

/// How many pages a rush asks for at a time.
const RUSH: usize = 25;

impl Member {
    async fn run(&self, command: &str) -> Result<String, String> {
        let words: Vec<&str> = command.split(' ').collect();
        let number = |word: &str| word.parse::<u64>().unwrap();
        let error = |error: Error| error.to_string();
        match words[..] {
            ["read", key] => {
                let read = self.read(key, Policy::new()).await;
                read.map(|seen| seen.to_string())
                    .map_err(|failed| failed.why)
            }
            ["look", key] => {
                let found = self.look(key).await.map_err(|failed| failed.why)?;
                Ok(found.map_or("absent".to_owned(), |seen| seen.to_string()))
            }
            ["set", key, version] => {
                let written = self.insert(key, number(version)).await;
                written.map(|tiers| tiers.to_string()).map_err(error)
            }
            ["delete", key] => {
                let deleted = self.cache.delete(key).await;
                deleted.map(|()| String::new()).map_err(error)
            }
            ["clear"] => {
                let cleared = self.cache.clear().await;
                cleared.map(|()| String::new()).map_err(error)
            }
            ["rush", keys, callers] => self.rush(number(keys), number(callers)).await,
            ["work", seed, millis, keys] => {
                let time = Duration::from_millis(number(millis));
                Ok(work::work(self, number(seed), time, number(keys)).await)
            }
            ["settle"] => {
                while !is_settled(&self.cache) {
                    sleep(Duration::from_millis(2)).await;
                }
                Ok(String::new())
            }
            ["spared"] => Ok(self.total(|counters| counters.spared)),
            ["superseded"] => Ok(self.total(|counters| counters.superseded)),
            ["counts"] => Ok(format!(
                "{:?} {:?}",
                self.cache.counters(),
                self.cache.tiers()
            )),
            _ => panic!("no such command: {command}"),
        }
    }

    /// Of all tiers together.
    fn total(&self, counter: fn(&TierCounters) -> u64) -> String {
        let tiers = self.cache.tiers();
        let total: u64 = tiers.iter().map(|tier| counter(&tier.counters)).sum();
        total.to_string()
    }

    /// Reads a page, from the origin where no tier has it.
    pub(crate) async fn read(&self, key: &str, lifetimes: Policy) -> Result<Seen, Failed> {
        let pages = self.pages.clone();
        let read = self.cache.get_or_fetch(key, |context| pages.fetch(context));
        let seen = seen(key, read.policy(lifetimes).await?).await?;
        seen.ok_or_else(|| Failed {
            version: 0,
            why: "absent, though the origin has it".to_owned(),
        })
    }

    /// Reads a page from the tiers.
    pub(crate) async fn look(&self, key: &str) -> Result<Option<Seen>, Failed> {
        seen(key, self.cache.get(key).await?).await
    }

    /// Puts a version of a page into the cache, and gives how many tiers have it.
    pub(crate) async fn insert(&self, key: &str, version: u64) -> Result<usize, Error> {
        let bytes = content::body(key, version);
        let draft = Draft::new().with(|header| header.etag = Some(pages::tag(version)));
        let written = self.cache.insert(key, bytes, draft).await?;
        Ok(written.tiers)
    }

    /// Each page is asked for by so many callers at once.
    async fn rush(&self, keys: u64, callers: u64) -> Result<String, String> {
        let page = async |key: u64| {
            let key = format!("page{key}");
            let calls = (0..callers).map(|_| self.read(&key, Policy::new()));
            join_all(calls).await
        };
        let mut pages = stream::iter((0..keys).map(page)).buffered(RUSH);
        let mut read = 0;
        while let Some(calls) = pages.next().await {
            for call in calls {
                call.map_err(|failed| failed.why)?;
                read += 1;
            }
        }
        Ok(read.to_string())
    }
}

fn is_settled(cache: &Cache) -> bool {
    let at_work = cache.in_flight();
    (at_work.flights, at_work.turns, at_work.inbox) == (0, 0, 0)
}

/// What was read; `None` where there is nothing.
async fn seen(key: &str, read: Response) -> Result<Option<Seen>, Failed> {
    let status = read.status();
    let (source, joined) = match *status.source() {
        Source::Tier { name, .. } => (name, status.is_joined()),
        _ => ("origin", status.is_joined()),
    };
    let revalidated = status.is_revalidated();
    let tag = read.metadata().and_then(|header| header.etag.clone());
    let Some(body) = read.into_body() else {
        return Ok(None);
    };
    let whole = body.bytes(8 << 20).await.map_err(|error| {
        let what = if revalidated { REVALIDATED } else { "cut" };
        format!("{what}: {error}")
    });
    match whole.and_then(|bytes| content::version_of(key, &bytes)) {
        Ok(version) => Ok(Some(Seen {
            version,
            source,
            joined,
        })),
        Err(why) => {
            let version = tag.and_then(|tag| tag.opaque().parse().ok());
            let version = version.unwrap_or_default();
            Err(Failed { version, why })
        }
    }
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.version, self.source)
    }
}
