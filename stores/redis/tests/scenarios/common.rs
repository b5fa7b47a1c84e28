//! A server, stores in it, and a look at what it holds.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use larder_redis::{Builder, Redis};
use larder_servers::Server;
use larder_store::{
    ByteRange, Commit, Draft, Fence, Key, Lookup, Metadata, Object, Store, StoreExt, Writer,
};

/// The length of a chunk in most tests.
pub(crate) const CHUNK: usize = 4 << 10;

/// A store with small chunks. A second one is another process, as far as the server can tell.
pub(crate) async fn store(server: &Server) -> Redis {
    store_with(server, |builder| builder).await
}

pub(crate) async fn store_with(
    server: &Server,
    settings: impl FnOnce(Builder) -> Builder,
) -> Redis {
    let builder = Redis::builder(server.url()).chunk_size(4 << 10);
    // A machine that runs many tests at once may be slow.
    let builder = builder.response_timeout(Duration::from_secs(10));
    let store = settings(builder).connect().await;
    store.expect("the server is there")
}

pub(crate) fn key(text: &str) -> Key<'_> {
    Key::new(text).unwrap()
}

/// Bytes that depend on the id and on their place.
pub(crate) fn pattern(id: u64, len: usize) -> Bytes {
    let byte = |place: usize| (place as u64 * 31 + place as u64 / 251 + id * 7) % 251;
    (0..len)
        .map(|place| u8::try_from(byte(place)).unwrap())
        .collect()
}

pub(crate) async fn set(store: &Redis, name: &str, id: u64, len: usize) -> Arc<Metadata> {
    let commit = store.write(name, pattern(id, len), Draft::new()).await;
    match commit.unwrap() {
        Commit::Done(Some(metadata)) => metadata,
        other => panic!("a set without a fence gave {other:?}"),
    }
}

/// Sets under a fence, and tells whether it held.
pub(crate) async fn set_fenced(store: &Redis, name: &str, id: u64, fence: &Fence) -> bool {
    let draft = Draft::new().fence(fence.clone());
    let commit = store.write(name, pattern(id, 3 * CHUNK), draft).await;
    commit.unwrap().is_done()
}

pub(crate) async fn writer(store: &Redis, name: &str, draft: Draft) -> Box<dyn Writer> {
    store.set_with_writer(key(name), draft).await.unwrap()
}

pub(crate) async fn look(store: &Redis, name: &str) -> Lookup {
    store.get_stream(key(name), ByteRange::FULL).await.unwrap()
}

pub(crate) async fn hit(store: &Redis, name: &str) -> Object {
    match look(store, name).await {
        Lookup::Hit(object) => object,
        Lookup::Miss(_) => panic!("{name:?} is absent"),
    }
}

pub(crate) async fn miss(store: &Redis, name: &str) -> Fence {
    match look(store, name).await {
        Lookup::Miss(fence) => fence,
        Lookup::Hit(object) => panic!("{name:?} is there: {object:?}"),
    }
}

/// Asserts that the object of this id and length is there, whole.
pub(crate) async fn finds(store: &Redis, name: &str, id: u64, len: usize) {
    let object = hit(store, name).await;
    assert_eq!(object.metadata.len(), len as u64);
    let stat = store.stat(key(name)).await.unwrap();
    assert_eq!(stat.as_ref(), Some(&object.metadata), "stat agrees");
    let body = object.body.bytes(len as u64).await.unwrap();
    assert!(body == pattern(id, len), "the body is not that of {id}");
}

pub(crate) async fn is_absent(store: &Redis, name: &str) {
    assert_eq!(store.stat(key(name)).await.unwrap(), None);
    miss(store, name).await;
}

/// The names in the server that match.
pub(crate) fn names(server: &Server, pattern: &str) -> Vec<String> {
    let mut names: Vec<String> = server.ask(&["KEYS", pattern]);
    names.sort_by_key(|name| (name.len(), name.clone()));
    names
}

/// The chunks of all objects, in the order of their numbers.
pub(crate) fn chunks(server: &Server) -> Vec<String> {
    names(server, "*}:c:*")
}

/// The one name of this kind: `m` a manifest, `f` a marker, `l` a lease.
pub(crate) fn name(server: &Server, kind: &str) -> String {
    let names = names(server, &format!("*}}:{kind}:*"));
    assert_eq!(names.len(), 1, "one of {kind}: {names:?}");
    names.into_iter().next().unwrap()
}

/// What is left to a name, in milliseconds; `None` where it stays for ever.
pub(crate) fn left(server: &Server, name: &str) -> Option<u64> {
    match server.ask::<i64>(&["PTTL", name]) {
        -1 => None,
        left => Some(u64::try_from(left).unwrap_or_else(|_| panic!("{name} is gone"))),
    }
}

/// The names that would stay for ever.
pub(crate) fn lasting(server: &Server) -> Vec<String> {
    let mut names = names(server, "*");
    names.retain(|name| server.ask::<i64>(&["PTTL", name]) == -1);
    names
}

/// Waits for what happens in the background, or in the server.
pub(crate) async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("even after ten seconds, not so: {what}");
}
