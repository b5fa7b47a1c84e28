//! A source into the tiers that admit it, and what else must happen there when it is published.
//!
//! Each tier that takes part has a lane. Lanes are opened and written together, and committed one
//! by one, in the engine's order, under the key's turn. A lane that fails costs its tier the
//! object, never the reader a byte.
//!
//! Invariants:
//! 1. Nothing is published before [`Fill::commit`], which is called under the key's turn.
//! 2. After it no tier that could be asked holds an older copy than what was published, or the key
//!    is suspect there. A tier that could not gave no fence; its copy is bounded by its lifetimes.
//! 3. A lane that finds itself superseded ends the fill: what is above is aborted, and older copies
//!    there go; what was published or queued is taken back.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use larder_store::{Error, ErrorKind, Header, KeyBuf};

use super::{
    flight::{Flight, Refence},
    lane::{Lane, Settled, Step, draft},
    refence::Change,
};
use crate::{counters::count, engine::Engine, tier::Tier};

pub(crate) struct Fill {
    pub(crate) header: Arc<Header>,
    len: Option<u64>,
    lanes: Vec<Lane>,
    written: u64,
}

/// How a commit went.
#[derive(Default)]
pub(crate) struct Published {
    pub(crate) tiers: usize,
    pub(crate) first_error: Option<Error>,
    /// The tiers that it changed, and the object that it left in each; none if it was superseded.
    pub(crate) changed: Vec<Change>,
}

impl Fill {
    /// A fill with these lanes, put in the engine's order.
    pub(crate) fn new(
        engine: &Engine,
        header: Arc<Header>,
        len: Option<u64>,
        mut lanes: Vec<Lane>,
    ) -> Self {
        if !lanes.iter().any(Lane::keeps) {
            // Nothing is published that something newer would forbid.
            lanes.retain(|lane| !matches!(lane.step, Step::Failed(None)));
        }
        sort(engine, &mut lanes);
        Self {
            header,
            len,
            lanes,
            written: 0,
        }
    }

    /// Whether nothing at all is to be done.
    pub(crate) fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Whether some tier takes the bytes.
    pub(crate) fn is_writing(&self) -> bool {
        self.lanes.iter().any(Lane::adds)
    }

    /// Whether other processes will find what is published.
    pub(crate) fn is_shared(&self, engine: &Engine) -> bool {
        let is_shared = |lane: &Lane| engine.tiers[lane.tier].tier.shared && lane.keeps();
        self.lanes.iter().any(is_shared)
    }

    /// Opens the writers, each within its tier's time-out; where readers wait behind, not patiently
    /// but no longer than a write may stall.
    pub(crate) async fn open(&mut self, engine: &Engine, key: &KeyBuf, patient: bool) {
        let (header, len) = (&self.header, self.len);
        let open = async |lane: &mut Lane| {
            let place = &engine.tiers[lane.tier];
            if place.tier.behind {
                lane.step = Step::Hold(engine.behind.hold());
                return;
            }
            let Tier {
                timeout,
                write_stall,
                ..
            } = place.tier;
            let bound = if patient {
                timeout
            } else {
                timeout.min(write_stall)
            };
            let fence = lane.fence.as_ref();
            let open = || {
                let draft = draft(place, fence, header, len);
                place.store().set_with_writer(key.as_key(), draft)
            };
            let opened = place.within(bound, "opening a writer", open).await;
            lane.step = match opened {
                Ok(writer) => Step::Writing {
                    staged: writer.staged(),
                    writer,
                },
                Err(error) => Step::Failed(Some(error)),
            };
        };
        together(
            self.lanes
                .iter_mut()
                .filter(|lane| lane.is_write())
                .map(open),
        )
        .await;
    }

    /// Has the flight read back what the lanes stage, within the cache's runtime: whoever reads may
    /// be in another.
    pub(crate) fn back(&mut self, engine: &Engine, flight: &Flight) {
        for lane in &mut self.lanes {
            if let Step::Writing {
                staged: Some(staged),
                ..
            } = &mut lane.step
            {
                *staged = engine.tasks.runtime().staged(Arc::clone(staged));
                flight.add_backing(Arc::clone(staged));
            }
        }
    }

    /// Writes a chunk to all lanes at once; one that stalls or fails leaves.
    pub(crate) async fn write(&mut self, engine: &Engine, flight: Option<&Flight>, chunk: &Bytes) {
        self.written += chunk.len() as u64;
        let written = self.written;
        let push = |lane| Lane::push(lane, engine, flight, chunk, written);
        together(self.lanes.iter_mut().map(push)).await;
    }

    /// Gives the lanes up that only add: a newer write, delete or refresh has come.
    pub(crate) fn abandon(&mut self) {
        self.lanes.clear();
    }

    /// Goes on under new fences, for tiers in which this process has published something older.
    pub(crate) async fn refence(
        &mut self,
        engine: &Arc<Engine>,
        key: &KeyBuf,
        refences: Vec<Refence>,
    ) {
        let Self {
            header,
            len,
            written,
            ..
        } = self;
        for refence in refences {
            let place = &engine.tiers[refence.tier];
            let lane = self.lanes.iter_mut().find(|lane| lane.tier == place.index);
            match lane {
                Some(lane) => {
                    let restaged = lane.refence(place, key, refence, header, *len, *written);
                    restaged.await;
                }
                None if refence.there.is_some() => {
                    self.lanes.push(Lane::delete(place, Some(refence.fence)));
                }
                None => {}
            }
        }
        sort(engine, &mut self.lanes);
    }

    /// Gives up the lanes that would add something to a shared tier; with `later`, only those that
    /// would add it after this commit. Older copies there still go, and entries that are still there
    /// are still renewed: neither brings anything back.
    pub(crate) fn leave_shared(&mut self, engine: &Engine, later: bool) {
        self.lanes.retain_mut(|lane| {
            let is_later = matches!(lane.step, Step::Hold(_));
            let adds = lane.adds() && (is_later || !later);
            if !adds || !engine.tiers[lane.tier].tier.shared {
                return true;
            }
            // Dropping the writer aborts it, without a wait.
            lane.step = Step::Delete;
            lane.older
        });
    }

    /// Publishes, once. To be called under the key's turn.
    pub(crate) async fn commit(&mut self, engine: &Arc<Engine>, key: &KeyBuf) -> Published {
        let mut done = Published::default();
        let (mut published, mut queued) = (Vec::new(), false);
        for at in 0..self.lanes.len() {
            let lane = &mut self.lanes[at];
            let place = &engine.tiers[lane.tier];
            let settled = lane.settle(engine, place, key, &self.header, self.len, self.written);
            let settled = settled.await;
            if !matches!(settled, Ok(Settled::Left | Settled::Superseded)) {
                let version = match &settled {
                    Ok(Settled::Published(version, _)) => *version,
                    _ => None,
                };
                done.changed.push((place.index, version));
            }
            match settled {
                Ok(Settled::Published(_, counter)) => {
                    engine.suspects.clear(place.index, key);
                    done.tiers += 1;
                    published.push((done.changed.len() - 1, counter));
                }
                Ok(Settled::Held) => {
                    done.tiers += 1;
                    queued = true;
                }
                Ok(Settled::Removed | Settled::Left) => {}
                Ok(Settled::Superseded) => {
                    count(&place.counts.superseded);
                    if queued {
                        engine.behind.forget(key);
                    }
                    let above = self.lanes.split_off(at + 1);
                    let published = published.iter().map(|&(at, _)| done.changed[at]);
                    // Boxed, as all that is rare.
                    Box::pin(give_way(engine, key, published.collect(), above)).await;
                    let message = format!("the tier {} has something newer", place.name);
                    let error = Error::new(ErrorKind::Unavailable, message);
                    return Published {
                        first_error: Some(error),
                        ..Published::default()
                    };
                }
                Err(error) => {
                    done.first_error.get_or_insert(error);
                }
            }
        }
        for (_, counter) in published {
            count(counter);
        }
        done
    }
}

/// Forgets writes that are queued for shared tiers.
pub(crate) fn forget_shared(engine: &Engine, key: &KeyBuf) {
    let is_shared = |tier: usize| engine.tiers[tier].tier.shared;
    engine.behind.forget_in(key, is_shared);
}

/// Takes back what was added to shared tiers, or queued for them, and tells the other processes. To
/// be called under the key's turn.
pub(crate) async fn recall(engine: &Engine, key: &KeyBuf, changed: &[Change]) {
    forget_shared(engine, key);
    let is_shared = |tier: usize| engine.tiers[tier].tier.shared;
    let is_there = |&&(tier, version): &&Change| is_shared(tier) && version.is_some();
    let shared: Vec<_> = changed.iter().filter(is_there).copied().collect();
    if !shared.is_empty() {
        take_back(engine, key, shared).await;
        // They may have copied it.
        engine.tell_behind(key);
    }
}

/// Something newer was found: what was published is taken back, and what is above adds nothing.
async fn give_way(engine: &Engine, key: &KeyBuf, published: Vec<Change>, above: Vec<Lane>) {
    take_back(engine, key, published).await;
    for lane in above {
        lane.give_way(engine, key).await;
    }
}

/// Puts lanes in the engine's order.
fn sort(engine: &Engine, lanes: &mut [Lane]) {
    let rank = |tier| engine.order.iter().position(|&other| other == tier);
    lanes.sort_by_key(|lane| rank(lane.tier));
}

/// Runs all to their end: at once, but a single one without gathering.
async fn together<F: Future<Output = ()>>(mut futures: impl Iterator<Item = F>) {
    let Some(first) = futures.next() else { return };
    match futures.next() {
        None => first.await,
        Some(second) => drop(join_all([first, second].into_iter().chain(futures)).await),
    }
}

/// Removes what a fill has published, where it is still that.
async fn take_back(engine: &Engine, key: &KeyBuf, published: Vec<Change>) {
    for (tier, version) in published {
        let place = &engine.tiers[tier];
        let store = place.store();
        let result = async {
            let fence = place
                .attempt("taking a fence", || store.fence(key.as_key()))
                .await?;
            let stat = place
                .attempt("asking for metadata", || store.stat(key.as_key()))
                .await?;
            if stat.map(|metadata| metadata.version()) == version {
                let delete = || store.delete(key.as_key(), Some(fence));
                let _ = place.attempt("deleting", delete).await?;
            }
            Ok::<_, Error>(())
        };
        if result.await.is_err() {
            engine.suspects.add(tier, key);
            count(&engine.counts.suspects);
        }
    }
}
