//! The handle that users hold, and its verbs.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use futures_util::{
    FutureExt,
    future::{self, BoxFuture},
};
use larder_store::{BoxError, Draft, Error, Key, KeyBuf, Metadata, Result, Usage};

use crate::{
    builder::Builder,
    bus::{self, Bus},
    counters::{Counters, TierCounters},
    engine::Engine,
    fetch::{FetchContext, FetchWith, Fetched, NoFetch},
    policy::Policy,
    request::Request,
    sync::Ordering,
    within::ended,
    write::{self, CacheWriter, Written},
};

/// A tiered, streaming read-through cache. Cloning gives another handle to the same cache.
///
/// ```
/// use std::time::Duration;
/// use larder::{Cache, Fetched, Memory};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
/// let cache = Cache::builder().tier(Memory::new(64 << 20)).build()?;
/// let page = cache
///     .get_or_fetch("docs/index.html", async |_| {
///         Ok::<_, std::io::Error>(Fetched::bytes("<html>"))
///     })
///     .ttl(Duration::from_secs(60))
///     .await?;
/// assert_eq!(page.into_body().unwrap().bytes(1024).await?, "<html>");
/// cache.close().await?;
/// # Ok(())
/// # }
/// ```
///
/// The last handle, dropped without [`close`](Self::close), stops background refreshes. Writes and
/// flights that are under way go on while the runtime does, so that nothing acknowledged is lost.
#[derive(Clone)]
pub struct Cache(Arc<Shared>);

struct Shared {
    engine: Arc<Engine>,
    closing: OnceLock<future::Shared<BoxFuture<'static, Result<()>>>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.engine.tasks.stop_idle();
        self.engine.tasks.runtime().unwatch();
    }
}

/// A tier, as [`Cache::tiers`] tells of it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TierReport {
    /// Its name; by default the store's kind.
    pub name: &'static str,
    /// What its store holds.
    pub usage: Usage,
    /// What happened in it.
    pub counters: TierCounters,
}

/// How much is under way, for tests and dashboards; zeros when the cache is at rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct InFlight {
    /// Flights that have not landed: those that reads join, those that later ones took the place
    /// of, and those that a write or a delete retired and that still have readers or a source.
    pub flights: usize,
    /// Keys whose commit phase is under way or waited for.
    pub turns: usize,
    /// Refreshes queued or running.
    pub refreshes: usize,
    /// Keys with writes behind queued or running.
    pub behind: usize,
    /// Keys that are suspect in some tier.
    pub suspects: usize,
    /// Keys whose last fetch failed not long ago, see `error_ttl`.
    pub failures: usize,
    /// Keys of which other processes were not told yet, see [`Builder::bus`](crate::Builder::bus).
    pub outbox: usize,
    /// Keys of which other processes told, not yet deleted here.
    pub inbox: usize,
}

impl Cache {
    pub(crate) fn new(engine: Engine) -> Result<Self> {
        let (engine, closing) = (Arc::new(engine), OnceLock::new());
        let runtime = engine.tasks.runtime();
        runtime.watch(Arc::downgrade(&engine));
        if runtime.has_ended() {
            return Err(Error::invalid("the cache's tokio runtime has ended"));
        }
        bus::start(&engine);
        Ok(Self(Arc::new(Shared { engine, closing })))
    }

    /// A cache to be configured.
    pub fn builder() -> Builder {
        Builder::new()
    }

    fn engine(&self) -> &Arc<Engine> {
        &self.0.engine
    }

    /// Reads from the tiers only. Absent from all of them is an answer, not an error.
    ///
    /// It joins a flight that has its object, but does not wait for a fetch.
    pub fn get<'a>(&'a self, key: &'a str) -> Request<'a, NoFetch> {
        Request::new(self.engine(), key, NoFetch)
    }

    /// Reads from the tiers, and from `fetch` what they do not have.
    ///
    /// However many ask for a key at once, one fetcher runs. Its error is given to all of them and
    /// is found again by [`find_source`](larder_store::Error::find_source).
    ///
    /// The fetcher begins where the request is polled; when it has to wait it goes on in a task of
    /// the cache's, and ends there though its caller has left. It runs with the cache's runtime
    /// throughout. What belongs to a task or a thread, such as task locals, it finds only at first.
    pub fn get_or_fetch<'a, F, Fut, E>(
        &'a self,
        key: &'a str,
        fetch: F,
    ) -> Request<'a, FetchWith<F>>
    where
        F: FnOnce(FetchContext) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Fetched, E>> + Send + 'static,
        E: Into<BoxError> + 'static,
    {
        Request::new(self.engine(), key, FetchWith(fetch))
    }

    /// Asks the origin whatever the tiers hold, and gives the answer. It never joins a fetch that
    /// began before it; a flight that is under way goes on for its readers and publishes nothing.
    pub fn refresh<'a, F, Fut, E>(&'a self, key: &'a str, fetch: F) -> Request<'a, FetchWith<F>>
    where
        F: FnOnce(FetchContext) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Fetched, E>> + Send + 'static,
        E: Into<BoxError> + 'static,
    {
        Request::new(self.engine(), key, FetchWith(fetch)).refresh()
    }

    /// Writes a whole object to every tier. It is stamped as fetched now, with the draft's
    /// lifetimes over the cache's; a length that the draft declares is checked.
    ///
    /// Cancel safety: the write goes on in the background once it was polled.
    pub async fn insert(
        &self,
        key: &str,
        bytes: impl Into<Bytes>,
        draft: impl Into<Draft>,
    ) -> Result<Written> {
        self.engine().check_open()?;
        let key = KeyBuf::new(key)?;
        let (bytes, draft) = (bytes.into(), draft.into());
        write::insert(self.engine(), key, bytes, draft, Policy::new()).await
    }

    /// Opens a writer that streams an object to every tier. Nothing of it can be read before its
    /// commit; what is there stays until then, and nobody waits for it.
    pub async fn set_with_writer(&self, key: &str, draft: impl Into<Draft>) -> Result<CacheWriter> {
        CacheWriter::open(
            self.engine(),
            KeyBuf::new(key)?,
            draft.into(),
            Policy::new(),
        )
        .await
    }

    /// Deletes the object in every tier. When it returns no read gives it any more, and nothing
    /// that was begun before brings it back.
    ///
    /// Every tier is tried; the error is the first failure. A tier that failed is not read for
    /// this key until a delete there has succeeded. With a [bus](crate::Builder::bus) that takes
    /// nothing it is `Unavailable` as well: the tiers of other processes may have the object yet.
    ///
    /// Cancel safety: the delete goes on in the background once it was polled.
    pub async fn delete(&self, key: &str) -> Result<()> {
        self.engine().check_open()?;
        write::delete(self.engine(), KeyBuf::new(key)?).await
    }

    /// Deletes everything that is in the tiers when it is called.
    ///
    /// With a [bus](crate::Builder::bus) and a shared tier it first tells the other processes and
    /// waits for the [`bus_bound`](crate::Builder::bus_bound), so it takes that much longer: by then
    /// no process stores in a shared tier what it began to fetch before. Then it deletes. When it
    /// has returned `Ok`, no process serves what was there past the bound.
    ///
    /// # Errors
    ///
    /// - `Unsupported` where a tier cannot list its keys; nothing was deleted.
    /// - `Unavailable` where the bus took no message: what was found is deleted, but the private
    ///   tiers of other processes may still hold it, and these processes may have stored again what
    ///   they were fetching. Clear again when the bus is back.
    /// - `Closed` where a `close` ran out of time before anything was deleted.
    /// - Otherwise the first failure of a tier. The other keys and tiers are deleted all the same.
    ///
    /// # Cancel safety
    ///
    /// The clear goes on in the background once it was polled.
    pub async fn clear(&self) -> Result<()> {
        self.engine().check_open()?;
        write::clear(self.engine()).await
    }

    /// The metadata of the object in the hottest tier that has it, whatever its age. An entry that
    /// would be checked because the [bus](crate::Builder::bus) may have missed something counts as
    /// absent.
    pub async fn stat(&self, key: &str) -> Result<Option<Arc<Metadata>>> {
        let engine = self.engine();
        engine.check_open()?;
        let name = Key::new(key)?;
        let mut failed = None;
        for place in &engine.tiers {
            if !engine.suspects.trusts(place.index, key) {
                continue;
            }
            let asked = place.attempt("asking for metadata", || place.store().stat(name));
            match place.runtime.inside(asked).await {
                Ok(Some(metadata)) if engine.trusts(place, &metadata, engine.now()) => {
                    return Ok(Some(metadata));
                }
                // What would be checked before it is served may be gone elsewhere.
                Ok(_) => {}
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(None), Err)
    }

    /// The tiers, from hot to cold.
    pub fn tiers(&self) -> Vec<TierReport> {
        let report = |place: &crate::tier::Place| TierReport {
            name: place.name,
            usage: place.store().usage(),
            counters: place.counts.snapshot(),
        };
        self.engine().tiers.iter().map(report).collect()
    }

    /// What the tiers hold, from hot to cold.
    pub fn usage(&self) -> Vec<Usage> {
        self.engine()
            .tiers
            .iter()
            .map(|place| place.store().usage())
            .collect()
    }

    /// What happened since the cache was built.
    pub fn counters(&self) -> Counters {
        let mut counters = self.engine().counts.snapshot();
        for place in &self.engine().tiers {
            let tier = place.counts.snapshot();
            counters.hits += tier.hits;
            counters.hit_bytes += tier.hit_bytes;
        }
        counters
    }

    /// How much is under way.
    pub fn in_flight(&self) -> InFlight {
        let engine = self.engine();
        InFlight {
            flights: engine.flights.len(),
            turns: engine.turns.len(),
            refreshes: engine.refreshes.len(),
            behind: engine.behind.len(),
            suspects: engine.suspects.len(),
            failures: engine.failures.len(),
            outbox: engine.bus.as_ref().map_or(0, Bus::outbox_len),
            inbox: engine.bus.as_ref().map_or(0, Bus::inbox_len),
        }
    }

    /// Closes the cache and its stores, in order: no new work is taken, what is under way ends or
    /// is cut at the deadline (`close_timeout`), the stores flush and close.
    ///
    /// Idempotent; all who call it wait for the same end. `Timeout` when work had to be cut; what
    /// a write or a delete told its own caller stands.
    pub async fn close(&self) -> Result<()> {
        let close = || {
            let engine = Arc::clone(self.engine());
            engine.closed.store(true, Ordering::Release);
            let runtime = engine.tasks.runtime().handle().clone();
            // A task of its own: it goes on when whoever called it has left.
            let closed = runtime.spawn(async move { close(&engine).await });
            let lost = |_| Err(ended());
            closed
                .map(move |closed| closed.unwrap_or_else(lost))
                .boxed()
                .shared()
        };
        self.0.closing.get_or_init(close).clone().await
    }
}

async fn close(engine: &Engine) -> Result<()> {
    let deadline = engine.settings.close_timeout;
    let drained = engine.tasks.drain(deadline).await;
    let mut result = if drained {
        Ok(())
    } else {
        Err(Error::timeout(format!(
            "work was still under way after {deadline:?} and was cut"
        )))
    };
    if let Some(bus) = &engine.bus {
        result = result.and(bus.end(deadline).await);
    }
    if let Some(leases) = &engine.leases {
        result = result.and(leases.close(deadline).await);
    }
    for place in &engine.tiers {
        let bound = deadline.min(place.tier.timeout);
        let closed = place.bounded(bound, "closing", || place.store().close());
        result = result.and(closed.await);
    }
    engine.tasks.runtime().unwatch();
    result
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tiers = self.engine().tiers.iter().map(|place| place.name);
        f.write_str("Cache")?;
        f.debug_list().entries(tiers).finish()
    }
}
