//! Writes, deletes and `clear`: what replaces objects by the user's word.
//!
//! Each runs in an engine task that survives its caller, under the key's turn, bottom-up. The key's
//! flight is retired when the turn begins and again when it ends, so that nothing begun before the
//! write returned can publish after it.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, future::join_all};
use larder_store::{Draft, Error, ErrorKind, Header, KeyBuf, Result};
use tokio::task::coop::consume_budget;

use crate::{
    engine::{Engine, refused},
    policy::Policy,
    read::{
        fill::{Fill, Published},
        lane::{Lane, remove},
    },
    tasks::Begun,
    turns::TakeTurn,
};

/// How many keys a `clear` deletes at a time.
const CLEAR_CONCURRENCY: usize = 16;

/// What a write did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Written {
    /// The tiers that have the object now, or will have it when what is behind has been written.
    pub tiers: usize,
}

/// An object being written to all tiers at once.
///
/// Nothing of it can be read before [`commit`](Self::commit). Dropped, it leaves no trace.
#[must_use = "a writer that is not committed leaves no trace"]
pub struct CacheWriter {
    engine: Arc<Engine>,
    key: KeyBuf,
    draft: Draft,
    fill: Fill,
    written: u64,
    /// A write began and did not end: it was dropped half-way.
    torn: bool,
}

impl CacheWriter {
    pub(crate) async fn open(
        engine: &Arc<Engine>,
        key: KeyBuf,
        draft: Draft,
        policy: Policy,
    ) -> Result<Self> {
        engine.check_open()?;
        draft.check()?;
        let draft = stamp(engine, draft, policy)?;
        let (header, len) = (Arc::new(draft.header().clone()), draft.expected_len());
        let lane = |place| Lane::write(place, &header, len, None, true);
        let lanes = engine.tiers.iter().filter_map(lane).collect();
        let mut fill = Fill::new(engine, Arc::clone(&header), len, lanes);
        let opening = fill.open(engine, &key, true);
        engine.tasks.runtime().inside(opening).await;
        let engine = Arc::clone(engine);
        Ok(Self {
            engine,
            key,
            draft,
            fill,
            written: 0,
            torn: false,
        })
    }

    /// Appends a chunk. A tier that fails or stalls is left out, and its older copy is removed at
    /// the commit; the write goes on.
    ///
    /// Cancel safety: after a dropped write the writer cannot be committed any more.
    pub async fn write(&mut self, chunk: impl Into<Bytes>) -> Result<()> {
        self.engine.check_open()?;
        let chunk = chunk.into();
        self.written += chunk.len() as u64;
        if self
            .draft
            .expected_len()
            .is_some_and(|len| self.written > len)
        {
            self.torn = true;
            return Err(Error::corrupt("more bytes were written than were declared"));
        }
        if !chunk.is_empty() {
            self.torn = true;
            // Tiers that take all at once must not keep the caller's task from giving way.
            consume_budget().await;
            let writing = self.fill.write(&self.engine, None, &chunk);
            self.engine.tasks.runtime().inside(writing).await;
            self.torn = false;
        }
        Ok(())
    }

    /// Publishes the object in every tier that took it and removes older copies from the others.
    ///
    /// When it returns, no read gives an older object. A tier that failed is counted; it is an
    /// error only when no tier has the object: the first tier's reason.
    ///
    /// Cancel safety: the commit goes on in the background; later operations on the key follow it.
    pub async fn commit(self) -> Result<Written> {
        self.engine.check_open()?;
        if self.torn {
            return Err(Error::invalid(
                "the writer was spoilt by a write that failed or did not end",
            ));
        }
        self.draft.check_len(self.written)?;
        let Self {
            engine, key, fill, ..
        } = self;
        // Its place among the key's turns is taken here and now: what comes later follows it.
        let turn = engine.turns.take(&key);
        let task = publish(Arc::clone(&engine), key, turn, fill);
        engine.tasks.begin(task).await.ended().await
    }

    /// Gives up; what a drop does too.
    pub fn abort(self) {}
}

impl fmt::Debug for CacheWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CacheWriter({:?}, {} bytes)", self.key, self.written)
    }
}

/// Stamps what the user left open, as a fetch that began now. Lifetimes that the draft has are
/// nearest, as those of a fetch result are. `Invalid` where the merged lifetimes contradict.
fn stamp(engine: &Engine, draft: Draft, policy: Policy) -> Result<Draft> {
    let Header {
        ttl,
        stale_while_revalidate,
        stale_if_error,
        absent,
        ..
    } = *draft.header();
    let set = |window: Duration| (!window.is_zero()).then_some(window);
    let nearest = Policy {
        ttl,
        negative_ttl: ttl,
        stale_while_revalidate: set(stale_while_revalidate),
        stale_if_error: set(stale_if_error),
        ..Policy::new()
    };
    let merged = nearest.over(policy).over(engine.policy);
    // An absence has a `negative_ttl` alone.
    if !absent {
        merged.check()?;
    }
    let lifetimes = merged.lifetimes();
    Ok(draft.with(|header: &mut Header| {
        header.generation = engine.generation();
        lifetimes.stamp(header, engine.now(), engine.dice.roll());
    }))
}

async fn publish(
    engine: Arc<Engine>,
    key: KeyBuf,
    turn: TakeTurn,
    mut fill: Fill,
) -> Result<Written> {
    let turn = turn.await;
    engine.flights.retire(&key);
    engine.behind.forget(&key);
    let absent = fill.header.absent;
    let Published {
        tiers, first_error, ..
    } = fill.commit(&engine, &key).await;
    engine.failures.clear(&key);
    engine.flights.retire(&key);
    drop(turn);
    // Where the others cannot be told it is counted: a write that reached a tier has succeeded.
    let _ = engine.tell(&key).await;
    match first_error {
        Some(error) if tiers == 0 => Err(error),
        None if tiers == 0 && !absent => Err(Error::too_large(
            "the object is above the limit of each tier, see `Tier::object_max`",
        )),
        _ => Ok(Written { tiers }),
    }
}

/// Deletes in every tier; gives the first failure.
pub(crate) async fn delete(engine: &Arc<Engine>, key: KeyBuf) -> Result<()> {
    let turn = engine.turns.take(&key);
    let task = {
        let engine = Arc::clone(engine);
        async move {
            let deleted = delete_in_turn(&engine, &key, turn).await;
            let told = engine.tell(&key).await;
            deleted.and(told)
        }
    };
    engine.tasks.begin(task).await.ended().await
}

async fn delete_in_turn(engine: &Engine, key: &KeyBuf, turn: TakeTurn) -> Result<()> {
    let turn = turn.await;
    engine.flights.retire(key);
    engine.behind.forget(key);
    let mut first_error = None;
    for &tier in &engine.order {
        let place = &engine.tiers[tier];
        if let Err(error) = remove(engine, place, key, None).await {
            first_error.get_or_insert(error);
        }
    }
    engine.failures.clear(key);
    engine.flights.retire(key);
    drop(turn);
    first_error.map_or(Ok(()), Err)
}

/// Deletes everything there was when it was called.
pub(crate) async fn clear(engine: &Arc<Engine>) -> Result<()> {
    if let Some(place) = engine
        .tiers
        .iter()
        .find(|place| place.store().as_list().is_none())
    {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "the tier {} cannot list its keys, nothing was cleared",
                place.name
            ),
        ));
    }
    // A task in any case: it may take long without waiting once.
    let task = engine.tasks.spawn(clear_all(Arc::clone(engine)));
    Begun::Running(task).ended().await
}

async fn clear_all(engine: Arc<Engine>) -> Result<()> {
    let announced = engine.announce_clear().await;
    if engine.tasks.cut.is_cancelled() {
        return Err(refused(
            ErrorKind::Closed,
            "the cache was closed before anything was cleared",
        ));
    }
    // What is suspect may be gone from its tier, and then is in no list.
    let mut result = delete_each(&engine, engine.suspects.keys()).await;
    for &tier in &engine.order {
        result = result.and(outdate(&engine).await);
        let overflows = engine.suspects.overflows(tier);
        let cleared = clear_tier(&engine, tier).await;
        if cleared.is_ok() {
            engine.suspects.trust_again(tier, overflows);
        }
        result = result.and(cleared);
    }
    // Once, instead of each key. Other processes may have copied entries of a shared tier before
    // they were deleted there.
    result.and(announced).and(engine.tell_all().await)
}

/// Sees to it that nothing which was begun before is stored in a tier that is about to be cleared:
/// it may hold an object that was in a tier before, and that no list names any more.
async fn outdate(engine: &Arc<Engine>) -> Result<()> {
    engine.flights.retire_all();
    for key in engine.behind.keys() {
        engine.behind.forget(&key);
    }
    // What is in its commit phase now was not stopped, and may not be in any list yet.
    delete_each(engine, engine.turns.keys()).await
}

/// Deletes these keys one by one; gives the first failure.
async fn delete_each(engine: &Arc<Engine>, keys: Vec<KeyBuf>) -> Result<()> {
    let mut result = Ok(());
    for key in keys {
        let turn = engine.turns.take(&key);
        result = result.and(delete_in_turn(engine, &key, turn).await);
        consume_budget().await;
    }
    result
}

async fn clear_tier(engine: &Arc<Engine>, tier: usize) -> Result<()> {
    let place = &engine.tiers[tier];
    let Some(list) = place.store().as_list() else {
        return Ok(());
    };
    let mut keys = list.list("").ready_chunks(CLEAR_CONCURRENCY);
    let mut result = Ok(());
    loop {
        // Each step is bounded: a list that hangs is an error, not a hang. The deletes take their
        // time from the tiers' own time-outs.
        let next = place.attempt("listing", async || Ok(keys.next().await));
        let Some(keys) = next.await? else {
            return result;
        };
        let deletes = keys.into_iter().map(async |key| {
            // A list that always has more, of a tier that deletes at once, must not keep its thread.
            consume_budget().await;
            let key = key?;
            let turn = engine.turns.take(&key);
            delete_in_turn(engine, &key, turn).await
        });
        for deleted in join_all(deletes).await {
            result = result.and(deleted);
        }
        if engine.tasks.cut.is_cancelled() {
            return Err(Error::closed("the cache"));
        }
    }
}

/// Writes a whole object; the task survives its caller.
pub(crate) async fn insert(
    engine: &Arc<Engine>,
    key: KeyBuf,
    bytes: Bytes,
    draft: Draft,
    policy: Policy,
) -> Result<Written> {
    let task = {
        let engine = Arc::clone(engine);
        async move {
            draft.check_len(bytes.len() as u64)?;
            let draft = draft.len(bytes.len() as u64);
            let mut writer = CacheWriter::open(&engine, key, draft, policy).await?;
            writer.write(bytes).await?;
            writer.draft.check_len(writer.written)?;
            let CacheWriter {
                engine, key, fill, ..
            } = writer;
            let turn = engine.turns.take(&key);
            publish(engine, key, turn, fill).await
        }
    };
    engine.tasks.begin(task).await.ended().await
}
