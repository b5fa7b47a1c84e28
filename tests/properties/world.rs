//! A cache over tiers that fail, and the tasks that use it.

use std::{future::poll_fn, pin::pin, sync::Arc, task::Poll, time::Duration};

use bytes::Bytes;
use futures_util::stream;
use larder::{
    Cache, Draft, EntityTag, Error, ErrorKind, FetchContext, Fetched, ManualClock, Memory, Policy,
    Response, Result, Store, StoreExt, Tier, Timestamp,
};
use larder_conformance::{Faults, Faulty, Model};

use crate::{
    history::{History, body},
    ops::{Len, Op, Outcome, Patience, Script, TierKind},
};

/// A minute of virtual time is more than all time-outs of all tiers together.
const LONG: Duration = Duration::from_secs(600);

struct World {
    cache: Cache,
    clock: ManualClock,
    stores: Vec<Arc<dyn Store>>,
    faults: Vec<Faults>,
    history: Arc<History>,
}

pub(crate) fn run(script: &Script) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let world = Arc::new(World::new(script).map_err(|error| error.to_string())?);
        let tasks: Vec<_> = (script.tasks.iter().cloned())
            .map(|ops| {
                let world = Arc::clone(&world);
                tokio::spawn(async move {
                    for op in ops {
                        let done = tokio::time::timeout(LONG, world.act(op)).await;
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
        world.rest().await;
        world.history.verdict()
    })
}

impl World {
    fn new(script: &Script) -> Result<Self> {
        let (mut stores, mut faults) = (Vec::new(), Vec::new());
        let clock = ManualClock::new(Timestamp::from_millis(1_700_000_000_000));
        let policy = Policy::new()
            .ttl(Duration::from_secs(60))
            .stale_while_revalidate(Duration::from_secs(60))
            .stale_if_error(Duration::from_secs(120))
            .negative_ttl(Duration::from_secs(30));
        let mut builder = Cache::builder().clock(clock.clone()).policy(policy).seed(1);
        for (index, kind) in script.tiers.iter().enumerate() {
            let store: Arc<dyn Store> = match kind {
                TierKind::Small => {
                    Arc::new(Memory::builder(256 << 10).object_max(100_000).build()?)
                }
                TierKind::Memory => Arc::new(Memory::new(8 << 20)),
                TierKind::Model => Arc::new(Model::new().chunked(7_000)),
            };
            let faulty = Faulty::new(Arc::clone(&store));
            faults.push(faulty.faults().clone());
            stores.push(store);
            let is_last = index + 1 == script.tiers.len();
            let mut tier = Tier::new(faulty);
            if is_last && script.behind {
                tier = tier.behind();
            }
            if is_last && script.shared {
                tier = tier.shared();
            }
            builder = builder.tier(tier);
        }
        let history = Arc::new(History::default());
        Ok(Self {
            cache: builder.build()?,
            clock,
            stores,
            faults,
            history,
        })
    }

    async fn act(&self, op: Op) {
        let name = |key: u8| format!("key {key}");
        match op {
            Op::Get { key, patience } => {
                let (began, name) = (self.history.tick(), name(key));
                let read = async { self.drain(key, began, self.cache.get(&name).await).await };
                leave(read, patience).await;
            }
            Op::Fetch {
                key,
                len,
                patience,
                outcome,
            } => {
                let (began, name) = (self.history.tick(), name(key));
                let request = self
                    .cache
                    .get_or_fetch(&name, self.origin(key, len, outcome));
                let read = async { self.drain(key, began, request.await).await };
                leave(read, patience).await;
            }
            Op::Refresh { key, len, outcome } => {
                let began = self.history.tick();
                let response = self
                    .cache
                    .refresh(&name(key), self.origin(key, len, outcome))
                    .await;
                self.drain(key, began, response).await;
            }
            Op::Insert { key, len, patience } => {
                let number = self.history.value(key, len.bytes(), false);
                let place = self.history.replaces(Some(key), "write");
                let (name, bytes) = (name(key), body(number, len.bytes()));
                let write = self.cache.insert(&name, bytes, Draft::new());
                if leave(write, patience).await.is_some() {
                    self.history.replaced(place);
                    self.history.written(number);
                }
            }
            Op::Write { key, len, commit } => self.write(key, &name(key), len, commit).await,
            Op::Delete { key, patience } => {
                let place = self.history.replaces(Some(key), "delete");
                let name = name(key);
                if leave(self.cache.delete(&name), patience).await.is_some() {
                    // Also where a tier failed: it is suspect, and not read.
                    self.history.replaced(place);
                }
            }
            Op::Clear => {
                let place = self.history.replaces(None, "clear");
                if self.cache.clear().await.is_ok() {
                    self.history.replaced(place);
                }
            }
            Op::Evict { tier, key } => {
                let store = &self.stores[usize::from(tier) % self.stores.len()];
                let _ = store.remove(&name(key)).await;
            }
            Op::Fail { tier, op, fault } => {
                self.faults[usize::from(tier) % self.faults.len()]
                    .on(op)
                    .inject(fault);
            }
            Op::Advance { seconds } => self.clock.advance(Duration::from_secs(seconds.into())),
            Op::Rest { turns } => {
                for _ in 0..turns {
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    async fn write(&self, key: u8, name: &str, len: Len, commit: bool) {
        let number = self.history.value(key, len.bytes(), false);
        let Ok(mut writer) = self.cache.set_with_writer(name, Draft::new()).await else {
            return;
        };
        for chunk in body(number, len.bytes()).chunks(9_000) {
            tokio::task::yield_now().await;
            if writer.write(Bytes::copy_from_slice(chunk)).await.is_err() {
                return;
            }
        }
        if commit {
            let place = self.history.replaces(Some(key), "commit");
            let _ = writer.commit().await;
            self.history.replaced(place);
            self.history.written(number);
        }
    }

    /// Reads what an answer has, and tells the history.
    async fn drain(&self, key: u8, began: u64, response: Result<Response>) {
        let Some(mut body) = response.ok().and_then(Response::into_body) else {
            return;
        };
        let mut bytes = Vec::new();
        loop {
            match body.chunk().await {
                Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
                Ok(None) => break self.history.read(key, began, &bytes),
                // What breaks off says so.
                Err(_) => break,
            }
        }
    }

    fn origin(
        &self,
        key: u8,
        len: Len,
        outcome: Outcome,
    ) -> impl FnOnce(FetchContext) -> futures_util::future::BoxFuture<'static, Result<Fetched>>
    + Send
    + 'static {
        let history = Arc::clone(&self.history);
        move |context| {
            Box::pin(async move {
                let number = history.value(key, len.bytes(), true);
                let bytes = body(number, len.bytes());
                tokio::task::yield_now().await;
                let failed = || Error::new(ErrorKind::Other, "the origin failed");
                let fetched = match outcome {
                    Outcome::Unchanged if context.etag().is_some() => Fetched::not_modified(),
                    Outcome::Whole | Outcome::Unchanged => Fetched::bytes(bytes),
                    Outcome::Stream | Outcome::Breaks => {
                        let breaks = matches!(outcome, Outcome::Breaks);
                        let sent = if breaks { bytes.len() / 2 } else { bytes.len() };
                        let chunks = bytes[..sent].chunks(11_000).map(Bytes::copy_from_slice);
                        let mut items: Vec<_> = chunks.map(Ok).collect();
                        if breaks {
                            items.push(Err(failed()));
                        }
                        Fetched::stream(None, stream::iter(items))
                    }
                    Outcome::Fails => return Err(failed()),
                    Outcome::Panics => panic!("the origin panics"),
                    Outcome::Absent => Fetched::absent(),
                };
                Ok(fetched.etag(EntityTag::strong(format!("v{number}"))?))
            })
        }
    }

    /// In the end all that is stalled goes on, and nothing stays.
    async fn rest(&self) {
        for faults in &self.faults {
            faults.clear();
            faults.release();
        }
        for _ in 0..10_000 {
            let flying = self.cache.in_flight();
            if (
                flying.flights,
                flying.turns,
                flying.refreshes,
                flying.behind,
            ) == (0, 0, 0, 0)
            {
                return self.read_all().await;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.history
            .violation(format!("never at rest: {:?}", self.cache.in_flight()));
    }

    /// Whatever is found in the end obeys the history too.
    async fn read_all(&self) {
        for key in 0..3 {
            let began = self.history.tick();
            let response = self.cache.get(&format!("key {key}")).await;
            self.drain(key, began, response).await;
        }
    }
}

/// Polls a future until it ends, or its caller leaves.
async fn leave<T>(future: impl Future<Output = T>, patience: Patience) -> Option<T> {
    let Patience::Leaves(polls) = patience else {
        return Some(future.await);
    };
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending if left == 0 => Poll::Ready(None),
        Poll::Pending => {
            left -= 1;
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await
}
