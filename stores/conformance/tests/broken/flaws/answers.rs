//! Flaws in what a store answers.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures_util::StreamExt;
use larder_conformance::Model;
use larder_store::{
    Body, ByteRange, Commit, Draft, Error, Fence, Identity, Key, KeyBuf, Keys, Lookup, Metadata,
    Object, Reply, Store, Usage, Writer,
};
use tokio::sync::Semaphore;

use super::{hit, now};
use crate::flaw::Flaw;

#[derive(Debug, Default)]
pub(crate) struct NoFlaw;

impl Flaw for NoFlaw {}

/// Checks the range before it knows whether there is anything.
#[derive(Debug, Default)]
pub(crate) struct RangedMissFails;

impl Flaw for RangedMissFails {
    fn get<'a>(&'a self, model: &'a Model, key: Key<'a>, range: ByteRange) -> Reply<'a, Lookup> {
        match now(model.get_stream(key, range)) {
            Ok(Lookup::Miss(_)) if !range.is_full() => {
                Reply::ready(Err(Error::invalid("the range reaches past the end")))
            }
            found => Reply::ready(found),
        }
    }
}

/// Reads on from the entry, which an eviction takes away.
#[derive(Debug, Default)]
pub(crate) struct BodyEndsWithEntry;

impl Flaw for BodyEndsWithEntry {
    fn get<'a>(&'a self, model: &'a Model, key: Key<'a>, range: ByteRange) -> Reply<'a, Lookup> {
        let (model_then, key_then) = (model.clone(), key.to_buf());
        hit(model.get_stream(key, range), move |object| {
            let evictions = model_then.usage().evictions;
            let len = object.body.len();
            let chunks = object.body.map(move |chunk| {
                let present = now(model_then.stat(key_then.as_key())).is_ok_and(|it| it.is_some());
                if !present && model_then.usage().evictions > evictions {
                    return Err(Error::corrupt("the entry was evicted"));
                }
                chunk
            });
            let body = Body::stream(len, chunks);
            Object { body, ..object }
        })
    }
}

/// Finds nothing to delete, and so tells nobody.
#[derive(Debug, Default)]
pub(crate) struct DeleteOfNothing;

impl Flaw for DeleteOfNothing {
    fn delete<'a>(
        &'a self,
        model: &'a Model,
        key: Key<'a>,
        fence: Option<Fence>,
    ) -> Reply<'a, Commit> {
        match now(model.stat(key)) {
            Ok(None) if fence.is_none() => Reply::ready(Ok(Commit::Done(None))),
            _ => model.delete(key, fence),
        }
    }
}

/// Has so many handles for open bodies, and waits for one to come back.
#[derive(Debug)]
pub(crate) struct PoolOfBodies(Arc<Semaphore>);

impl Default for PoolOfBodies {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(64)))
    }
}

impl Flaw for PoolOfBodies {
    fn get<'a>(&'a self, model: &'a Model, key: Key<'a>, range: ByteRange) -> Reply<'a, Lookup> {
        Reply::later(async move {
            let permit = Arc::clone(&self.0).acquire_owned().await;
            now(hit(model.get_stream(key, range), |object| {
                let len = object.body.len();
                let chunks = object.body.inspect(move |_| assert!(permit.is_ok()));
                let body = Body::stream(len, chunks);
                Object { body, ..object }
            }))
        })
    }
}

/// Gives what there is of a range.
#[derive(Debug, Default)]
pub(crate) struct ClampedRange;

impl Flaw for ClampedRange {
    fn get<'a>(&'a self, model: &'a Model, key: Key<'a>, range: ByteRange) -> Reply<'a, Lookup> {
        match now(model.get_stream(key, range)) {
            Err(error) if error.is_invalid() => model.get_stream(key, ByteRange::FULL),
            found => Reply::ready(found),
        }
    }
}

/// Counts what is committed only.
#[derive(Debug, Default)]
pub(crate) struct StagedNotCounted;

impl Flaw for StagedNotCounted {
    fn usage(&self, model: &Model) -> Usage {
        let mut usage = model.usage();
        usage.staged = 0;
        usage
    }
}

/// No flaw: a server holds the objects, and others use it too.
#[derive(Debug, Default)]
pub(crate) struct CountedElsewhere;

impl Flaw for CountedElsewhere {
    fn usage(&self, model: &Model) -> Usage {
        let mut usage = Usage::default();
        usage.staged = model.usage().staged;
        usage.elsewhere = true;
        usage
    }
}

/// Takes what it has staged itself for somebody else's.
#[derive(Debug, Default)]
pub(crate) struct StagedElsewhere;

impl Flaw for StagedElsewhere {
    fn usage(&self, _: &Model) -> Usage {
        let mut usage = Usage::default();
        usage.elsewhere = true;
        usage
    }
}

/// Says that it cannot tell, and tells.
#[derive(Debug, Default)]
pub(crate) struct ElsewhereAndHere;

impl Flaw for ElsewhereAndHere {
    fn usage(&self, model: &Model) -> Usage {
        let mut usage = model.usage();
        usage.elsewhere = true;
        usage
    }
}

/// Keeps its entries in a file system that does not tell case apart.
#[derive(Debug, Default)]
pub(crate) struct KeysWithoutCase;

fn lower(key: Key<'_>) -> KeyBuf {
    KeyBuf::new(&key.as_str().to_ascii_lowercase()).expect("it is as long as before")
}

impl Flaw for KeysWithoutCase {
    fn get<'a>(&'a self, model: &'a Model, key: Key<'a>, range: ByteRange) -> Reply<'a, Lookup> {
        Reply::ready(now(model.get_stream(lower(key).as_key(), range)))
    }

    fn set<'a>(
        &'a self,
        model: &'a Model,
        key: Key<'a>,
        draft: Draft,
    ) -> Reply<'a, Box<dyn Writer>> {
        Reply::ready(now(model.set_with_writer(lower(key).as_key(), draft)))
    }

    fn delete<'a>(
        &'a self,
        model: &'a Model,
        key: Key<'a>,
        fence: Option<Fence>,
    ) -> Reply<'a, Commit> {
        Reply::ready(now(model.delete(lower(key).as_key(), fence)))
    }

    fn stat<'a>(&'a self, model: &'a Model, key: Key<'a>) -> Reply<'a, Option<Arc<Metadata>>> {
        Reply::ready(now(model.stat(lower(key).as_key())))
    }

    fn fence<'a>(&'a self, model: &'a Model, key: Key<'a>) -> Reply<'a, Fence> {
        Reply::ready(now(model.fence(lower(key).as_key())))
    }
}

/// Has an index that keeps less than the object does.
#[derive(Debug, Default)]
pub(crate) struct StatKnowsLess;

impl Flaw for StatKnowsLess {
    fn stat<'a>(&'a self, model: &'a Model, key: Key<'a>) -> Reply<'a, Option<Arc<Metadata>>> {
        Reply::ready(now(model.stat(key)).map(|found| {
            found.map(|metadata| {
                let mut header = metadata.header().clone();
                header.last_modified = None;
                Arc::new(metadata.touched(Draft::from(header), metadata.version()))
            })
        }))
    }
}

/// Answers from what it still has in memory.
#[derive(Debug, Default)]
pub(crate) struct StatAfterClose;

impl Flaw for StatAfterClose {
    fn stat<'a>(&'a self, model: &'a Model, key: Key<'a>) -> Reply<'a, Option<Arc<Metadata>>> {
        match now(model.stat(key)) {
            Err(error) if error.is_closed() => Reply::ready(Ok(None)),
            found => Reply::ready(found),
        }
    }
}

/// Takes the address of something else each time.
#[derive(Debug, Default)]
pub(crate) struct ChangingIdentity(AtomicUsize);

impl Flaw for ChangingIdentity {
    fn identity(&self, _: &Model) -> Identity {
        static PLACES: [u8; 64] = [0; 64];
        let next = self.0.fetch_add(1, Ordering::Relaxed);
        Identity::of(&PLACES[next % PLACES.len()])
    }
}

/// Adds to the header where it should replace it.
#[derive(Debug, Default)]
pub(crate) struct TouchKeepsTags;

impl Flaw for TouchKeepsTags {
    fn touch<'a>(&'a self, model: &'a Model, key: Key<'a>, draft: Draft) -> Reply<'a, Commit> {
        let old = now(model.stat(key)).ok().flatten();
        let tags = old
            .map(|metadata| metadata.tags.clone())
            .unwrap_or_default();
        let draft = draft.with(|header| header.tags.extend(tags));
        model
            .as_touch()
            .expect("the model has it")
            .touch(key, draft)
    }
}

/// Takes a prefix for a folder.
#[derive(Debug, Default)]
pub(crate) struct ListKnowsFolders;

impl Flaw for ListKnowsFolders {
    fn list(&self, model: &Model, prefix: &str) -> Keys {
        let folder = prefix.to_owned();
        let keys = model.as_list().expect("the model has it").list(prefix);
        Box::pin(keys.filter(move |key| {
            let rest = key.as_ref().ok().and_then(|key| key.strip_prefix(&folder));
            let within = folder.is_empty()
                || folder.ends_with('/')
                || rest.is_none_or(|rest| rest.is_empty() || rest.starts_with('/'));
            std::future::ready(within)
        }))
    }
}

/// A layer that forgot to forward a capability.
#[derive(Debug, Default)]
pub(crate) struct HidesTouch;

impl Flaw for HidesTouch {
    fn hides(&self) -> &'static str {
        "touch"
    }
}

/// A layer that is older than leases.
#[derive(Debug, Default)]
pub(crate) struct HidesLease;

impl Flaw for HidesLease {
    fn hides(&self) -> &'static str {
        "lease"
    }
}

/// A layer that is older than the bus.
#[derive(Debug, Default)]
pub(crate) struct HidesBus;

impl Flaw for HidesBus {
    fn hides(&self) -> &'static str {
        "bus"
    }
}

/// A layer that is older than the limit that a store reports.
#[derive(Debug, Default)]
pub(crate) struct HidesObjectMax;

impl Flaw for HidesObjectMax {
    fn object_max(&self, _: &Model) -> Option<u64> {
        None
    }
}

/// Reports a limit above its own, so that it refuses what it said it takes.
#[derive(Debug, Default)]
pub(crate) struct ObjectMaxTooHigh;

impl Flaw for ObjectMaxTooHigh {
    fn object_max(&self, model: &Model) -> Option<u64> {
        model.object_max().map(|max| max + 1)
    }
}

/// Reports a limit below its own, so that nobody gives it what it would take.
#[derive(Debug, Default)]
pub(crate) struct ObjectMaxTooLow;

impl Flaw for ObjectMaxTooLow {
    fn object_max(&self, model: &Model) -> Option<u64> {
        model.object_max().map(|max| max - 1)
    }
}

/// Takes a delete's fence, and deletes.
#[derive(Debug, Default)]
pub(crate) struct DeleteWithoutFence;

impl Flaw for DeleteWithoutFence {
    fn delete<'a>(&'a self, model: &'a Model, key: Key<'a>, _: Option<Fence>) -> Reply<'a, Commit> {
        model.delete(key, None)
    }
}

/// Forgets to take off what an overwrite replaces.
#[derive(Debug, Default)]
pub(crate) struct OverwriteLeaks(Arc<AtomicUsize>);

impl Flaw for OverwriteLeaks {
    fn set<'a>(
        &'a self,
        model: &'a Model,
        key: Key<'a>,
        draft: Draft,
    ) -> Reply<'a, Box<dyn Writer>> {
        if matches!(now(model.stat(key)), Ok(Some(_))) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
        model.set_with_writer(key, draft)
    }

    fn usage(&self, model: &Model) -> Usage {
        let mut usage = model.usage();
        usage.live += self.0.load(Ordering::Relaxed) as u64;
        usage
    }
}

/// Gives the first part of a long body, and then a clean end.
#[derive(Debug, Default)]
pub(crate) struct CutBody;

impl Flaw for CutBody {
    fn get<'a>(&'a self, model: &'a Model, key: Key<'a>, range: ByteRange) -> Reply<'a, Lookup> {
        hit(model.get_stream(key, range), |object| {
            let body = Body::stream(None, object.body.take(100));
            Object { body, ..object }
        })
    }
}
