//! What the tests of fences and of order pull at: gates, evictions, looks into a tier.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, future::BoxFuture, stream};
use larder::{Cache, Draft, EntityTag, FetchContext, Fetched, Response, Result, Store, StoreExt};
use larder_conformance::{Faulty, Model, Setup};
use tokio::{sync::Semaphore, task::JoinHandle, time::timeout};

use crate::support::{Origin, SECOND, text};

/// The key that a test is about.
pub(crate) const KEY: &str = "k";

/// A point that a task reaches and that it passes only when it is told to.
#[derive(Clone)]
pub(crate) struct Gate {
    reached: Arc<Semaphore>,
    passes: Arc<Semaphore>,
}

impl Gate {
    pub(crate) fn new() -> Self {
        let (reached, passes) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        Self { reached, passes }
    }

    /// Stands at the gate until it opens.
    pub(crate) async fn pass(&self) {
        self.reached.add_permits(1);
        self.passes.acquire().await.expect("a gate").forget();
    }

    /// Waits until someone stands there.
    pub(crate) async fn reached(&self) {
        let reached = timeout(3600 * SECOND, self.reached.acquire()).await;
        reached.expect("someone comes").expect("a gate").forget();
    }

    /// Lets one pass.
    pub(crate) fn open(&self) {
        self.passes.add_permits(1);
    }
}

impl Origin {
    /// A fetcher that stands at a gate before it answers.
    pub(crate) fn gives_after(
        &self,
        gate: &Gate,
        answer: impl FnOnce() -> Fetched + Send + 'static,
    ) -> impl FnOnce(FetchContext) -> BoxFuture<'static, Result<Fetched>> + Send + 'static {
        let gate = gate.clone();
        self.does(async move |_| {
            gate.pass().await;
            Ok(answer())
        })
    }
}

/// A body of two chunks with a gate between them.
pub(crate) fn halves(gate: &Gate, first: &'static str, second: &'static str) -> Fetched {
    let gate = gate.clone();
    let rest = stream::once(async move {
        gate.pass().await;
        Ok(Bytes::from_static(second.as_bytes()))
    });
    let first = Ok::<_, larder::Error>(Bytes::from_static(first.as_bytes()));
    Fetched::stream(None, stream::iter([first]).chain(Box::pin(rest)))
}

/// Reads the key in a task of its own, with this fetcher.
pub(crate) fn reading(
    cache: &Cache,
    fetch: impl FnOnce(FetchContext) -> BoxFuture<'static, Result<Fetched>> + Send + 'static,
) -> JoinHandle<String> {
    let cache = cache.clone();
    tokio::spawn(async move { text(cache.get_or_fetch(KEY, fetch).await.unwrap()).await })
}

/// Refreshes the key in a task of its own, with this fetcher.
pub(crate) fn refreshing(
    cache: &Cache,
    fetch: impl FnOnce(FetchContext) -> BoxFuture<'static, Result<Fetched>> + Send + 'static,
) -> JoinHandle<String> {
    let cache = cache.clone();
    tokio::spawn(async move { text(cache.refresh(KEY, fetch).await.unwrap()).await })
}

/// Deletes the key in a task of its own.
pub(crate) fn deleting(cache: &Cache) -> JoinHandle<Result<()>> {
    let cache = cache.clone();
    tokio::spawn(async move { cache.delete(KEY).await })
}

/// Writes the key in a task of its own.
pub(crate) fn inserting(cache: &Cache, bytes: &'static str) -> JoinHandle<Result<usize>> {
    let cache = cache.clone();
    tokio::spawn(async move { Ok(cache.insert(KEY, bytes, Draft::new()).await?.tiers) })
}

/// What a plain read of the key gives; `None` is absent.
pub(crate) async fn seen(cache: &Cache) -> Option<String> {
    body(cache.get(KEY).await.unwrap()).await
}

pub(crate) async fn body(response: Response) -> Option<String> {
    if response.is_absent() {
        return None;
    }
    Some(text(response).await)
}

/// What a store holds under the key, whatever the cache thinks of it.
pub(crate) async fn held(store: &impl Store) -> Option<String> {
    let bytes = store.read(KEY, 1 << 20).await.unwrap()?;
    Some(String::from_utf8(bytes.into()).unwrap())
}

/// Waits until so many operations of a store are stalled.
pub(crate) async fn stalled(store: &Faulty<impl Store>, count: usize) {
    let stalled = timeout(3600 * SECOND, store.faults().until_stalled(count)).await;
    stalled.expect("an operation that stalls");
}

/// Lets every task run as far as it can. No time passes.
pub(crate) async fn breathe() {
    for _ in 0..500 {
        tokio::task::yield_now().await;
    }
}

/// A small store from which [`evict`] can push everything. Its bodies come whole.
pub(crate) fn small() -> Model {
    Model::with(Setup::new(4096, 3900)).whole()
}

/// A small store with faults.
pub(crate) fn faulty() -> Faulty<Model> {
    Faulty::new(small())
}

/// Has a [`small`] store evict all that it holds, as another key's write would: no fence ends.
pub(crate) async fn evict(store: &Model) {
    let filler = vec![b'.'; 3900];
    assert!(
        store
            .write("filler", filler, Draft::new())
            .await
            .unwrap()
            .is_done()
    );
    assert!(!store.exists(KEY).await.unwrap());
}

/// A draft with this entity tag.
pub(crate) fn tagged(tag: &str) -> Draft {
    let tag = EntityTag::strong(tag).unwrap();
    Draft::new().with(|header| header.etag = Some(tag))
}

/// An entity tag.
pub(crate) fn tag(tag: &str) -> EntityTag {
    EntityTag::strong(tag).unwrap()
}
