//! What the clauses are written in: objects that describe themselves, and waits with an end.

use std::{future::poll_fn, pin::pin, sync::Arc, task::Poll, time::Duration};

use bytes::Bytes;
use futures_util::future::{Either, select};
use larder_store::{
    ByteRange, Commit, Draft, Error, Fence, Key, Lookup, Metadata, Object, Store, Usage, Writer,
};

/// How long an operation may take that must not wait for anyone.
pub(crate) const PROMPT: Duration = Duration::from_millis(500);

pub(crate) fn key(text: &str) -> Key<'_> {
    Key::new(text).expect("the clauses use valid keys")
}

/// The body that belongs to an id: every byte depends on the id and its own place, so that neither
/// a mixture nor a part nor a shift of bodies is taken for one.
pub(crate) fn pattern(id: u64, len: usize) -> Bytes {
    let word = |place: u64| {
        let mixed = place ^ id.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mixed = mixed.wrapping_mul(0xD6E8_FEB8_6659_FD93);
        (mixed ^ (mixed >> 32)).to_be_bytes()
    };
    let mut bytes: Vec<u8> = (0..len.div_ceil(8) as u64).flat_map(word).collect();
    bytes.truncate(len);
    bytes.into()
}

/// A draft whose metadata says which body belongs to it.
pub(crate) fn draft(id: u64) -> Draft {
    Draft::new().with(|header| {
        let bytes = Bytes::copy_from_slice(&id.to_be_bytes());
        header.attributes.push(("id".into(), bytes));
    })
}

/// The id that metadata speaks of.
pub(crate) fn id_of(metadata: &Metadata) -> u64 {
    let id = metadata.attribute("id").expect("the attribute was set");
    u64::from_be_bytes(id[..].try_into().expect("it has eight bytes"))
}

pub(crate) async fn open<S: Store + ?Sized>(
    store: &S,
    name: &str,
    draft: Draft,
) -> Box<dyn Writer> {
    let opened = store.set_with_writer(key(name), draft).await;
    opened.expect("a writer can be opened")
}

/// Writes the bytes in three chunks of different lengths.
pub(crate) async fn write(writer: &mut dyn Writer, bytes: &Bytes) {
    let (first, second) = (bytes.len() / 5, bytes.len() / 2);
    for chunk in [0..first, first..second, second..bytes.len()] {
        let written = writer.write(bytes.slice(chunk)).await;
        written.expect("a chunk within the limits is taken");
    }
}

/// Writes and commits; the draft may carry a fence.
pub(crate) async fn put<S: Store + ?Sized>(
    store: &S,
    name: &str,
    draft: Draft,
    bytes: &Bytes,
) -> Commit {
    let mut writer = open(store, name, draft).await;
    write(&mut *writer, bytes).await;
    writer.commit().await.expect("a whole object is committed")
}

/// Puts the object of an id under a key, which must succeed.
pub(crate) async fn set<S: Store + ?Sized>(
    store: &S,
    name: &str,
    id: u64,
    len: usize,
) -> Arc<Metadata> {
    match put(store, name, draft(id), &pattern(id, len)).await {
        Commit::Done(metadata) => metadata.expect("a commit gives the metadata"),
        Commit::Superseded => panic!("a set without a fence was superseded, of {name:?}"),
    }
}

/// Puts the object of an id under a key if the fence holds, and tells whether it did.
pub(crate) async fn set_fenced<S: Store + ?Sized>(
    store: &S,
    name: &str,
    id: u64,
    fence: &Fence,
) -> bool {
    let draft = draft(id).fence(fence.clone());
    put(store, name, draft, &pattern(id, 300)).await.is_done()
}

pub(crate) async fn delete<S: Store + ?Sized>(store: &S, name: &str) {
    let deleted = store.delete(key(name), None).await;
    let deleted = deleted.expect("a delete succeeds");
    assert!(
        deleted.is_done(),
        "a delete without a fence was superseded, of {name:?}"
    );
}

pub(crate) async fn fence<S: Store + ?Sized>(store: &S, name: &str) -> Fence {
    let fence = store.fence(key(name)).await;
    fence.expect("a fence can be taken")
}

pub(crate) async fn look<S: Store + ?Sized>(store: &S, name: &str) -> Option<Object> {
    let found = store.get_stream(key(name), ByteRange::FULL).await;
    match found.expect("a look-up succeeds") {
        Lookup::Hit(object) => Some(object),
        Lookup::Miss(_) => None,
    }
}

pub(crate) async fn hit<S: Store + ?Sized>(store: &S, name: &str) -> Object {
    let found = look(store, name).await;
    found.unwrap_or_else(|| panic!("{name:?} is absent"))
}

pub(crate) async fn stat<S: Store + ?Sized>(store: &S, name: &str) -> Option<Arc<Metadata>> {
    let metadata = store.stat(key(name)).await;
    metadata.expect("a stat succeeds")
}

/// Reads an object to its end, checks it against what its metadata says, and gives its id.
pub(crate) async fn read_whole(object: Object) -> u64 {
    let id = id_of(&object.metadata);
    let len = object.metadata.len();
    assert_eq!(object.range, 0..len, "the full range");
    assert_eq!(object.body.len(), Some(len), "a body knows its length");
    let bytes = object.body.bytes(len).await;
    let bytes = bytes.expect("a whole body can be read");
    assert_eq!(bytes.len() as u64, len, "the body of id {id}");
    assert!(
        bytes == pattern(id, bytes.len()),
        "the body is not that of id {id}"
    );
    id
}

/// The id of what a reader finds, whole, by both ways of looking.
pub(crate) async fn found<S: Store + ?Sized>(store: &S, name: &str) -> Option<u64> {
    let stat = stat(store, name).await.map(|metadata| id_of(&metadata));
    let read = match look(store, name).await {
        Some(object) => Some(read_whole(object).await),
        None => None,
    };
    assert_eq!(stat, read, "stat and get_stream of {name:?}");
    read
}

/// Asserts that a reader finds the object of this id, or nothing.
pub(crate) async fn finds<S: Store + ?Sized>(store: &S, name: &str, id: impl Into<Option<u64>>) {
    let id = id.into();
    assert_eq!(found(store, name).await, id, "the object under {name:?}");
}

/// Runs in a task of its own, so that what blocks its thread is found too.
pub(crate) async fn within<T: Send + 'static>(
    time: Duration,
    what: &str,
    future: impl Future<Output = T> + Send + 'static,
) -> T {
    let joined = bounded(time, what, tokio::spawn(future)).await;
    joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

/// Waits so long, in short turns: on a machine that starves this process the turns take longer as
/// well, while what waits for a stranger waits for ever.
pub(crate) async fn bounded<T>(time: Duration, what: &str, future: impl Future<Output = T>) -> T {
    const TURN: Duration = Duration::from_millis(5);
    let turns = async {
        for _ in 0..time.as_millis() / TURN.as_millis() {
            tokio::time::sleep(TURN).await;
        }
    };
    match select(pin!(future), pin!(turns)).await {
        Either::Left((output, _)) => output,
        Either::Right(_) => panic!("{what} is not done after {time:?}: it waits for others"),
    }
}

/// Waits for what may take a moment, because a drop does not wait for it.
pub(crate) async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..400 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("even after two seconds, not so: {what}");
}

/// Polls so many times, and then drops. Between polls whatever runs behind may go on.
pub(crate) async fn cancelled<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    for _ in 0..polls {
        let polled = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await;
        if let Poll::Ready(output) = polled {
            return Some(output);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    None
}

/// Asserts something of what the store counts of its objects. Where that is counted elsewhere
/// nothing can be said but that the store does not pretend to know.
pub(crate) fn counts<S: Store + ?Sized>(store: &S, what: &str, is_so: impl FnOnce(&Usage) -> bool) {
    let usage = store.usage();
    if usage.elsewhere {
        let told = [usage.entries, usage.live, usage.stored, usage.evictions];
        assert_eq!(told, [0; 4], "counted elsewhere, and told all the same");
    } else {
        assert!(is_so(&usage), "{what}, but the store counts {usage:?}");
    }
}

/// Writes more than the store can hold, several times over, so that what was there is evicted.
/// Where objects are counted elsewhere, nobody knows how much that would be: then it does nothing.
pub(crate) async fn flood<S: Store + ?Sized>(store: &S, len: usize) {
    let usage = store.usage();
    if usage.elsewhere {
        return;
    }
    let capacity = usage.capacity.expect("the store was made with a capacity");
    for id in 0..4 * capacity / len as u64 {
        set(store, &format!("flood/{id}"), id, len).await;
    }
    let evictions = store.usage().evictions;
    assert!(evictions > 0, "four times the capacity evicts something");
}

pub(crate) fn expect_err<T>(result: Result<T, Error>, what: &str) -> Error {
    match result {
        Ok(_) => panic!("this must fail: {what}"),
        Err(error) => error,
    }
}
