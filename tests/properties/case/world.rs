//! A cache over tiers that fail, and the tasks that use it.

use std::{
    path::Path,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use bytes::Bytes;
use larder::{
    Builder, Cache, Clock, Draft, Error, ManualClock, Memory, OnAbandon, Policy, Promote, Result,
    Store, StoreExt, Tier, Timestamp, Written,
};
use larder_conformance::{Fault, Faults, Faulty, Model, Op as StoreOp};
use tokio::time::{Instant, sleep, timeout};

use super::{
    history::{History, Read, body, number, tag},
    ops::{Ask, Declared, End, Len, Op, Part, Patience, Script, Settings, Spill, TierKind, WINDOW},
    origin::{origin, pass},
    panics,
    reads::leave,
};

/// Ten minutes of virtual time are more than all time-outs of all tiers together.
pub(crate) const LONG: Duration = Duration::from_secs(600);

/// How long objects are fresh, and how long after that they may be served.
pub(crate) const TTL: Duration = Duration::from_secs(60);
pub(crate) const STALE: Duration = Duration::from_secs(60);
pub(crate) const STALE_IF_ERROR: Duration = Duration::from_secs(120);
/// How long an absence is fresh.
pub(crate) const NEGATIVE: Duration = Duration::from_secs(30);

/// Longer than a subscription takes, and the first messages.
const LISTENING: Duration = Duration::from_secs(10);

/// A process: its cache, and what it shares with the other one.
pub(crate) struct World {
    pub(crate) process: usize,
    pub(crate) cache: Cache,
    pub(crate) clock: ManualClock,
    pub(crate) stores: Vec<Arc<dyn Store>>,
    pub(crate) faults: Vec<Faults>,
    pub(crate) history: Arc<History>,
    /// Nothing fails, and no read may.
    pub(crate) fair: bool,
    /// Where there is no spill file: a flight keeps so many bytes.
    pub(crate) kept: Option<u64>,
    /// Reads that began.
    pub(crate) reads: AtomicU64,
}

/// Runs a script; an error tells what was not as it must be.
pub(crate) fn run(script: &Script) -> Result<(), String> {
    let panicked = panics::seen();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .map_err(|error| error.to_string())?;
    let verdict = runtime.block_on(async {
        let worlds = World::all(script).map_err(|error| error.to_string())?;
        if worlds.len() > 1 {
            // They have heard each other.
            sleep(LISTENING).await;
        }
        let tasks: Vec<_> = (script.tasks.iter().cloned().enumerate())
            .map(|(task, ops)| {
                let world = Arc::clone(&worlds[task % worlds.len()]);
                tokio::spawn(async move {
                    for op in ops {
                        let done = timeout(LONG, world.act(op)).await;
                        if done.is_err() {
                            world.history.violation(format!("{op:?} hangs"));
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.map_err(|error| error.to_string())?;
        }
        World::end(&worlds).await;
        worlds[0].history.verdict()
    });
    verdict?;
    if panics::seen() == panicked {
        Ok(())
    } else {
        Err("something panicked".into())
    }
}

impl World {
    /// The processes of a script: one, or two over one shared tier.
    fn all(script: &Script) -> Result<Vec<Arc<Self>>> {
        let history = Arc::new(History::default());
        let clock = ManualClock::new(Timestamp::from_millis(1_700_000_000_000));
        let last = *script.tiers.last().expect("a script has tiers");
        let shared = store(last, &clock)?;
        (0..=usize::from(script.settings.several))
            .map(|process| {
                let world = Self::new(script, process, &clock, &shared, &history)?;
                Ok(Arc::new(world))
            })
            .collect()
    }

    fn new(
        script: &Script,
        process: usize,
        clock: &ManualClock,
        last: &Arc<dyn Store>,
        history: &Arc<History>,
    ) -> Result<Self> {
        let (mut stores, mut faults) = (Vec::new(), Vec::new());
        let settings = script.settings;
        // It goes when the cache is built: then nothing can be created there.
        let spool = tempfile::tempdir().map_err(|error| Error::invalid(error.to_string()))?;
        let mut builder = builder(settings, clock, spool.path());
        for (index, kind) in script.tiers.iter().enumerate() {
            let is_last = index + 1 == script.tiers.len();
            let store = if is_last {
                Arc::clone(last)
            } else {
                store(*kind, clock)?
            };
            let faulty = Faulty::new(Arc::clone(&store));
            faults.push(faulty.faults().clone());
            stores.push(store);
            let mut tier = Tier::new(faulty);
            if is_last && settings.behind {
                tier = tier.behind();
            }
            if is_last && (settings.shared || settings.several) {
                tier = tier.shared();
            }
            if index == 0 && settings.no_negatives {
                tier = tier.negatives(false);
            }
            if settings.second_hit {
                tier = tier.promote(Promote::OnSecondHit);
            }
            builder = builder.tier(tier);
        }
        if settings.several {
            builder = builder.bus(Arc::clone(last));
        }
        Ok(Self {
            process,
            cache: builder.build()?,
            clock: clock.clone(),
            stores,
            faults,
            history: Arc::clone(history),
            fair: script.is_fair(),
            kept: settings.kept(),
            reads: AtomicU64::new(0),
        })
    }

    async fn act(&self, op: Op) {
        match op {
            Op::Get { key, ask } => self.get(key, ask).await,
            Op::Fetch { order, ask } => {
                let (name, fetch) = (name(order.key), origin(&self.history, &self.clock, order));
                let request = self.cache.get_or_fetch(&name, fetch);
                self.read(order.key, request, ask).await;
            }
            Op::Refresh { order } => {
                let (name, fetch) = (name(order.key), origin(&self.history, &self.clock, order));
                let request = self.cache.refresh(&name, fetch);
                self.read(order.key, request, Ask::default()).await;
            }
            Op::Stat { key } => self.stat(key).await,
            Op::Insert { key, len, patience } => self.insert(key, len, patience).await,
            Op::Write {
                key,
                len,
                declared,
                end,
            } => self.write(key, len, declared, end).await,
            Op::Delete { key, patience } => {
                let place = self.replaces(Some(key), "delete");
                let name = name(key);
                if let Some(deleted) = leave(self.cache.delete(&name), patience).await {
                    // Also where a tier failed: it is suspect, and not read here.
                    self.history.replaced(place, deleted.is_ok());
                }
            }
            Op::Clear => {
                let place = self.replaces(None, "clear");
                if self.cache.clear().await.is_ok() {
                    self.history.replaced(place, true);
                }
            }
            Op::Advance { seconds } => self.clock.advance(Duration::from_secs(seconds.into())),
            Op::Pass { seconds } => pass(&self.clock, seconds).await,
            Op::Rest { turns } => {
                for _ in 0..turns {
                    tokio::task::yield_now().await;
                }
            }
            Op::Evict { .. } | Op::Fill { .. } | Op::Fail { .. } => self.disturb(op).await,
        }
    }

    /// What happens to a tier, and not by the cache.
    async fn disturb(&self, op: Op) {
        match op {
            Op::Evict { tier, key } => {
                let store = &self.stores[usize::from(tier) % self.stores.len()];
                let _ = store.remove(&name(key)).await;
            }
            Op::Fill { tier } => {
                let store = &self.stores[usize::from(tier) % self.stores.len()];
                for other in 0..4 {
                    let key = format!("other {other}");
                    let _ = store.write(&key, vec![0; 60_000], Draft::new()).await;
                }
            }
            Op::Fail {
                tier,
                op,
                nth,
                fault,
            } => {
                let tier = usize::from(tier) % self.faults.len();
                let has_body = matches!(op, StoreOp::Get | StoreOp::Body);
                let op = match fault {
                    Fault::Shorten(_) if !has_body => StoreOp::Body,
                    _ => op,
                };
                self.faults[tier].on(op).nth(nth.into()).inject(fault);
            }
            _ => {}
        }
    }

    pub(crate) async fn get(&self, key: u8, ask: Ask) {
        let name = name(key);
        self.read(key, self.cache.get(&name), ask).await;
    }

    async fn stat(&self, key: u8) {
        let (began, at) = (self.history.tick(), Instant::now());
        let Ok(Some(metadata)) = self.cache.stat(&name(key)).await else {
            return;
        };
        self.history.found(Read {
            process: self.process,
            key,
            began,
            at,
            part: Part::Whole,
            hit: true,
            number: number(&metadata),
            start: None,
        });
    }

    async fn insert(&self, key: u8, len: Len, patience: Patience) {
        let number = self.history.writes(key, len.bytes());
        let place = self.replaces(Some(key), "write");
        self.history.commits(number);
        let (name, bytes) = (name(key), body(number, len.bytes()));
        let write = self.cache.insert(&name, bytes, draft(number));
        if let Some(written) = leave(write, patience).await {
            self.history.replaced(place, self.is_whole(&written));
            self.history.written(number);
            self.check(written);
        }
    }

    async fn write(&self, key: u8, len: Len, declared: Declared, end: End) {
        let len = len.bytes();
        let number = self.history.writes(key, len);
        let draft = match declared {
            Declared::Nothing => draft(number),
            Declared::Right => draft(number).len(len as u64),
            Declared::TooLong => draft(number).len(len as u64 + 1),
            Declared::TooShort => draft(number).len((len as u64).saturating_sub(1)),
        };
        let is_right = draft.expected_len().is_none_or(|said| said == len as u64);
        let mut writer = match self.cache.set_with_writer(&name(key), draft).await {
            Ok(writer) => writer,
            Err(error) => return self.failed("a writer", &error),
        };
        for chunk in body(number, len).chunks(9_000) {
            tokio::task::yield_now().await;
            if let Err(error) = writer.write(Bytes::copy_from_slice(chunk)).await {
                if is_right {
                    self.failed("a write", &error);
                }
                return;
            }
        }
        match end {
            End::Drop => drop(writer),
            End::Abort => writer.abort(),
            End::Commit if is_right => {
                self.history.commits(number);
                let place = self.replaces(Some(key), "commit");
                let written = writer.commit().await;
                self.history.replaced(place, self.is_whole(&written));
                self.history.written(number);
                self.check(written);
            }
            End::Commit => {
                if let Ok(written) = writer.commit().await {
                    let what = format!("{declared:?} for {len} bytes was committed: {written:?}");
                    self.history.violation(what);
                }
            }
        }
    }

    fn replaces(&self, key: Option<u8>, what: &'static str) -> usize {
        self.history.replaces(self.process, key, what)
    }

    /// Whether every tier took it, the shared one among them.
    fn is_whole(&self, written: &Result<Written>) -> bool {
        let tiers = self.stores.len();
        written.as_ref().is_ok_and(|written| written.tiers == tiers)
    }

    fn check(&self, written: Result<Written>) {
        match written {
            // Where each tier is a small one.
            Err(error) if error.is_too_large() => {}
            Err(error) => self.failed("a write", &error),
            Ok(_) => {}
        }
    }

    /// Something failed: where nothing was made to fail, it may not.
    pub(crate) fn failed(&self, what: &str, error: &Error) {
        if self.fair {
            self.history
                .violation(format!("nothing was broken, but {what} failed: {error:?}"));
        }
    }
}

impl Settings {
    /// Bytes that a flight keeps of an object which no tier takes, where it cannot spill.
    fn kept(self) -> Option<u64> {
        let window = if self.small_window { WINDOW } else { 1 << 20 };
        (self.spill != Spill::Allowed).then_some(window)
    }
}

/// A cache without tiers.
fn builder(settings: Settings, clock: &ManualClock, spool: &Path) -> Builder {
    let policy = Policy::new()
        .ttl(TTL)
        .stale_while_revalidate(STALE)
        .stale_if_error(STALE_IF_ERROR)
        .negative_ttl(NEGATIVE);
    let mut builder = Cache::builder().clock(clock.clone()).policy(policy).seed(1);
    if settings.small_window {
        builder = builder.spool_memory(WINDOW);
    }
    builder = match settings.spill {
        Spill::Allowed => builder,
        Spill::Forbidden => builder.spool_disk_max(0),
        Spill::Unwritable => builder.spool_dir(spool),
    };
    if settings.abandon {
        builder = builder.on_abandon(OnAbandon::Abort);
    }
    builder
}

fn store(kind: TierKind, clock: &ManualClock) -> Result<Arc<dyn Store>> {
    // The cache's clock: by another one all would have expired before it was read.
    let clock = clock.clone();
    let now = move || clock.now();
    Ok(match kind {
        TierKind::Small => Arc::new(
            Memory::builder(256 << 10)
                .object_max(100_000)
                .clock(now)
                .build()?,
        ),
        TierKind::Memory => Arc::new(Memory::builder(8 << 20).clock(now).build()?),
        TierKind::Model => Arc::new(Model::new().chunked(7_000).clock(now)),
    })
}

pub(crate) fn name(key: u8) -> String {
    format!("key {key}")
}

fn draft(number: u64) -> Draft {
    Draft::new().with(|header| header.etag = tag(number).ok())
}
