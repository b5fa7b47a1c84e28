//! One flaw for each clause, of the kind that real stores have.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use larder_conformance::Model;
use larder_store::{
    Body, ByteRange, Commit, Draft, Error, ErrorKind, Fence, Identity, Key, KeyBuf, Keys, Lookup,
    Metadata, Object, Reply, Result, Staged, Store, Usage, Writer,
};
use tokio::sync::Semaphore;

use crate::flaw::Flaw;

/// The model answers at once.
fn now<T>(reply: Reply<'_, T>) -> Result<T> {
    reply.now_or_never().expect("the model's replies are ready")
}

/// A writer around the model's, for a flaw that needs one.
fn wrap<W: Writer>(
    reply: Reply<'_, Box<dyn Writer>>,
    wrap: impl FnOnce(Box<dyn Writer>) -> W,
) -> Reply<'_, Box<dyn Writer>> {
    Reply::ready(now(reply).map(|inner| Box::new(wrap(inner)) as Box<dyn Writer>))
}

fn hit(reply: Reply<'_, Lookup>, change: impl FnOnce(Object) -> Object) -> Reply<'_, Lookup> {
    Reply::ready(now(reply).map(|found| match found {
        Lookup::Hit(object) => Lookup::Hit(change(object)),
        miss @ Lookup::Miss(_) => miss,
    }))
}

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

/// Removes the old object first, and publishes the new one then.
#[derive(Debug, Default)]
pub(crate) struct GapWhileReplacing;

struct GapWriter {
    inner: Box<dyn Writer>,
    model: Model,
    key: KeyBuf,
    written: usize,
    fenced: bool,
    declared: Option<u64>,
}

impl Flaw for GapWhileReplacing {
    fn set<'a>(
        &'a self,
        model: &'a Model,
        key: Key<'a>,
        mut draft: Draft,
    ) -> Reply<'a, Box<dyn Writer>> {
        let declared = draft.expected_len();
        let fence = draft.take_fence();
        let fenced = fence.is_some();
        let draft = match fence {
            Some(fence) => draft.fence(fence),
            None => draft,
        };
        wrap(model.set_with_writer(key, draft), |inner| GapWriter {
            inner,
            model: model.clone(),
            key: key.to_buf(),
            written: 0,
            fenced,
            declared,
        })
    }
}

impl Writer for GapWriter {
    fn write(&mut self, chunk: Bytes) -> Reply<'_, ()> {
        self.written += chunk.len();
        self.inner.write(chunk)
    }

    fn commit(self: Box<Self>) -> Reply<'static, Commit> {
        let whole = self.declared.is_none_or(|len| len == self.written as u64);
        let present = now(self.model.stat(self.key.as_key())).is_ok_and(|found| found.is_some());
        if present && whole && !self.fenced && self.written > 9000 {
            drop(now(self.model.delete(self.key.as_key(), None)));
            for _ in 0..500 {
                std::thread::yield_now();
            }
        }
        Reply::ready(now(self.inner.commit()))
    }

    fn abort(self: Box<Self>) -> Reply<'static, ()> {
        self.inner.abort()
    }

    fn staged(&self) -> Option<Arc<dyn Staged>> {
        self.inner.staged()
    }
}

/// Cleans up in a task, and forgets that a drop can happen anywhere.
#[derive(Debug, Default)]
pub(crate) struct DropNeedsRuntime;

impl Flaw for DropNeedsRuntime {
    fn set<'a>(
        &'a self,
        model: &'a Model,
        key: Key<'a>,
        draft: Draft,
    ) -> Reply<'a, Box<dyn Writer>> {
        wrap(model.set_with_writer(key, draft), |inner| OnDrop {
            inner: Some(inner),
            then: |inner| drop(tokio::spawn(async { drop(inner) })),
        })
    }
}

/// A writer that does something else when it is dropped.
struct OnDrop<F: FnMut(Box<dyn Writer>) + Send + 'static> {
    inner: Option<Box<dyn Writer>>,
    then: F,
}

impl<F: FnMut(Box<dyn Writer>) + Send + 'static> OnDrop<F> {
    fn take(&mut self) -> Box<dyn Writer> {
        self.inner.take().expect("only its end takes it")
    }
}

impl<F: FnMut(Box<dyn Writer>) + Send + 'static> Writer for OnDrop<F> {
    fn write(&mut self, chunk: Bytes) -> Reply<'_, ()> {
        self.inner
            .as_mut()
            .expect("only its end takes it")
            .write(chunk)
    }

    fn commit(mut self: Box<Self>) -> Reply<'static, Commit> {
        self.take().commit()
    }

    fn abort(mut self: Box<Self>) -> Reply<'static, ()> {
        self.take().abort()
    }

    fn staged(&self) -> Option<Arc<dyn Staged>> {
        self.inner.as_ref().and_then(|inner| inner.staged())
    }
}

impl<F: FnMut(Box<dyn Writer>) + Send + 'static> Drop for OnDrop<F> {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.take() {
            (self.then)(inner);
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

/// S16: ends the fences of the key when a writer gives up.
#[derive(Debug, Default)]
pub(crate) struct AbortCounts;

impl Flaw for AbortCounts {
    fn set<'a>(
        &'a self,
        model: &'a Model,
        key: Key<'a>,
        draft: Draft,
    ) -> Reply<'a, Box<dyn Writer>> {
        let (model_then, key_then) = (model.clone(), key.to_buf());
        wrap(model.set_with_writer(key, draft), |inner| OnDrop {
            inner: Some(inner),
            then: move |inner| {
                drop(inner);
                if matches!(now(model_then.stat(key_then.as_key())), Ok(None)) {
                    drop(now(model_then.delete(key_then.as_key(), None)));
                }
            },
        })
    }
}

/// Hands the commit to a queue when nobody waits for it any more.
#[derive(Debug, Default)]
pub(crate) struct LateCommit;

struct LateWriter(Box<dyn Writer>);

impl Flaw for LateCommit {
    fn set<'a>(
        &'a self,
        model: &'a Model,
        key: Key<'a>,
        draft: Draft,
    ) -> Reply<'a, Box<dyn Writer>> {
        wrap(model.set_with_writer(key, draft), LateWriter)
    }
}

impl Writer for LateWriter {
    fn write(&mut self, chunk: Bytes) -> Reply<'_, ()> {
        self.0.write(chunk)
    }

    fn commit(self: Box<Self>) -> Reply<'static, Commit> {
        let mut queued = OnDrop {
            inner: Some(self.0),
            then: |inner: Box<dyn Writer>| {
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(4)).await;
                    drop(inner.commit().await);
                });
            },
        };
        Reply::later(async move {
            tokio::task::yield_now().await;
            queued.take().commit().await
        })
    }

    fn abort(self: Box<Self>) -> Reply<'static, ()> {
        self.0.abort()
    }

    fn staged(&self) -> Option<Arc<dyn Staged>> {
        self.0.staged()
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

/// Notices a short body, but not one that runs past its declared length.
#[derive(Debug, Default)]
pub(crate) struct LengthExceeded;

struct UpToWriter {
    inner: Box<dyn Writer>,
    declared: u64,
    written: u64,
}

impl Flaw for LengthExceeded {
    fn set<'a>(
        &'a self,
        model: &'a Model,
        key: Key<'a>,
        mut draft: Draft,
    ) -> Reply<'a, Box<dyn Writer>> {
        // Whatever is wrong at the start is said.
        if let Err(error) = now(model.set_with_writer(key, draft.clone())) {
            return Reply::ready(Err(error));
        }
        let declared = draft.expected_len().unwrap_or(0);
        let fence = draft.take_fence();
        let mut undeclared = Draft::from(draft.header().clone());
        if let Some(fence) = fence {
            undeclared = undeclared.fence(fence);
        }
        wrap(model.set_with_writer(key, undeclared), |inner| UpToWriter {
            inner,
            declared,
            written: 0,
        })
    }
}

impl Writer for UpToWriter {
    fn write(&mut self, chunk: Bytes) -> Reply<'_, ()> {
        self.written += chunk.len() as u64;
        self.inner.write(chunk)
    }

    fn commit(self: Box<Self>) -> Reply<'static, Commit> {
        if self.written < self.declared {
            return Reply::ready(Err(Error::corrupt("the object is short")));
        }
        self.inner.commit()
    }

    fn abort(self: Box<Self>) -> Reply<'static, ()> {
        self.inner.abort()
    }

    fn staged(&self) -> Option<Arc<dyn Staged>> {
        self.inner.staged()
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

/// Says that there is no room now, as if there could be later.
#[derive(Debug, Default)]
pub(crate) struct LargeIsFull;

struct FullWriter(Box<dyn Writer>);

fn full(error: Error) -> Error {
    if error.is_too_large() {
        return Error::new(ErrorKind::Full, error.to_string());
    }
    error
}

impl Flaw for LargeIsFull {
    fn set<'a>(
        &'a self,
        model: &'a Model,
        key: Key<'a>,
        draft: Draft,
    ) -> Reply<'a, Box<dyn Writer>> {
        let opened = now(model.set_with_writer(key, draft)).map_err(full);
        wrap(Reply::ready(opened), FullWriter)
    }
}

impl Writer for FullWriter {
    fn write(&mut self, chunk: Bytes) -> Reply<'_, ()> {
        Reply::ready(now(self.0.write(chunk)).map_err(full))
    }

    fn commit(self: Box<Self>) -> Reply<'static, Commit> {
        self.0.commit()
    }

    fn abort(self: Box<Self>) -> Reply<'static, ()> {
        self.0.abort()
    }

    fn staged(&self) -> Option<Arc<dyn Staged>> {
        self.0.staged()
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

/// Removes the staged bytes when the writer ends.
#[derive(Debug, Default)]
pub(crate) struct StagedGoes;

struct GoingWriter {
    inner: Box<dyn Writer>,
    alive: Arc<()>,
}

struct Going {
    inner: Arc<dyn Staged>,
    alive: std::sync::Weak<()>,
}

impl Flaw for StagedGoes {
    fn set<'a>(
        &'a self,
        model: &'a Model,
        key: Key<'a>,
        draft: Draft,
    ) -> Reply<'a, Box<dyn Writer>> {
        wrap(model.set_with_writer(key, draft), |inner| GoingWriter {
            inner,
            alive: Arc::new(()),
        })
    }
}

impl Writer for GoingWriter {
    fn write(&mut self, chunk: Bytes) -> Reply<'_, ()> {
        self.inner.write(chunk)
    }

    fn commit(self: Box<Self>) -> Reply<'static, Commit> {
        self.inner.commit()
    }

    fn abort(self: Box<Self>) -> Reply<'static, ()> {
        self.inner.abort()
    }

    fn staged(&self) -> Option<Arc<dyn Staged>> {
        let alive = Arc::downgrade(&self.alive);
        let inner = self.inner.staged()?;
        Some(Arc::new(Going { inner, alive }))
    }
}

impl Staged for Going {
    fn read(self: Arc<Self>, offset: u64, max: usize) -> Reply<'static, Bytes> {
        if self.alive.strong_count() == 0 {
            return Reply::ready(Err(Error::invalid("the writer is gone")));
        }
        Arc::clone(&self.inner).read(offset, max)
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
    fn touches(&self) -> bool {
        false
    }
}

/// A drop that publishes what there is.
#[derive(Debug, Default)]
pub(crate) struct DropPublishes;

impl Flaw for DropPublishes {
    fn set<'a>(
        &'a self,
        model: &'a Model,
        key: Key<'a>,
        draft: Draft,
    ) -> Reply<'a, Box<dyn Writer>> {
        wrap(model.set_with_writer(key, draft), |inner| OnDrop {
            inner: Some(inner),
            then: |inner| drop(now(inner.commit())),
        })
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

/// A fence that compares versions, so that a key which is absent again looks as before; and that
/// checks before it acts, so that two can pass at once.
#[derive(Debug, Default)]
pub(crate) struct VersionFence;

impl Flaw for VersionFence {
    fn get<'a>(&'a self, model: &'a Model, key: Key<'a>, range: ByteRange) -> Reply<'a, Lookup> {
        match now(model.get_stream(key, range)) {
            Ok(Lookup::Miss(_)) => Reply::ready(now(self.fence(model, key)).map(Lookup::Miss)),
            found => Reply::ready(found),
        }
    }

    fn set<'a>(
        &'a self,
        model: &'a Model,
        key: Key<'a>,
        mut draft: Draft,
    ) -> Reply<'a, Box<dyn Writer>> {
        let Some(then) = draft.take_fence() else {
            return model.set_with_writer(key, draft);
        };
        // Opened anew under a fence of the commit's own moment, if nothing seems to have happened.
        let (model_then, key_then) = (model.clone(), key.to_buf());
        wrap(model.set_with_writer(key, draft), |inner| VersionWriter {
            inner,
            model: model_then,
            key: key_then,
            then,
        })
    }

    fn fence<'a>(&'a self, model: &'a Model, key: Key<'a>) -> Reply<'a, Fence> {
        let version = now(model.stat(key)).map(|found| found.map(|metadata| metadata.version()));
        Reply::ready(version.map(Fence::new))
    }
}

struct VersionWriter {
    inner: Box<dyn Writer>,
    model: Model,
    key: KeyBuf,
    then: Fence,
}

impl Writer for VersionWriter {
    fn write(&mut self, chunk: Bytes) -> Reply<'_, ()> {
        self.inner.write(chunk)
    }

    fn commit(self: Box<Self>) -> Reply<'static, Commit> {
        let version = now(self.model.stat(self.key.as_key()));
        let version = version.map(|found| found.map(|metadata| metadata.version()));
        match version {
            Err(error) => Reply::ready(Err(error)),
            Ok(version) if self.then.downcast_ref() == Some(&version) => self.inner.commit(),
            Ok(_) => Reply::ready(Ok(Commit::Superseded)),
        }
    }

    fn abort(self: Box<Self>) -> Reply<'static, ()> {
        self.inner.abort()
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
