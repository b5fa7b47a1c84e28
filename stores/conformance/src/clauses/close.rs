//! Clauses 15 and 16: the end of a store, and handles to it.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, future::join_all};
use larder_store::{
    Bus, ByteRange, Delivery, Fence, Lease, Leased, Message, Notice, Result, Store, Terms,
};

use crate::{
    Setup, Subject,
    probe::{
        bounded, delete, draft, eventually, expect_err, fence, finds, hit, id_of, key, open,
        pattern, set, within, write,
    },
};

/// Clause 15: close can be called by many and again, ends in time, and then everything says so.
pub async fn clause_15_close(subject: &impl Subject) {
    const LEN: usize = 200_000;
    let store = Arc::new(subject.make(Setup::default()).await);
    set(&*store, "a", 1, LEN).await;
    let held = fence(&*store, "a").await;
    let unread = hit(&*store, "a").await;
    let mut begun = hit(&*store, "a").await.body;
    begun.chunk().await.expect("a chunk can be read");
    let mut writing = open(&*store, "a", draft(2)).await;
    write(&mut *writing, &pattern(2, 100)).await;
    let mut committing = open(&*store, "a", draft(3)).await;
    write(&mut *committing, &pattern(3, 100)).await;
    let aborting = open(&*store, "a", draft(4)).await;
    let dropped = open(&*store, "a", draft(5)).await;

    let closes = join_all((0..4).map(|_| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.close().await })
    }));
    for closed in within(Duration::from_secs(10), "a close", closes).await {
        closed
            .expect("a close does not panic")
            .expect("a close succeeds");
    }
    store.close().await.expect("a close can be repeated");

    closed(
        store.get_stream(key("a"), ByteRange::FULL).await,
        "get_stream",
    );
    closed(
        store.get_stream(key("b"), ByteRange::FULL).await,
        "get_stream of an absent key",
    );
    closed(
        store.set_with_writer(key("a"), draft(6)).await,
        "set_with_writer",
    );
    closed(store.delete(key("a"), None).await, "delete");
    let before = held.clone();
    closed(store.delete(key("a"), Some(held)).await, "a fenced delete");
    closed(store.stat(key("a")).await, "stat");
    closed(store.fence(key("a")).await, "fence");
    if let Some(touch) = store.as_touch() {
        closed(touch.touch(key("a"), draft(7)).await, "touch");
    }
    if let Some(list) = store.as_list() {
        let first = list.list("").next().await;
        closed(first.expect("the end is not an answer"), "list");
    }
    capabilities_are_closed(&*store, &before).await;
    closed(writing.write("x".into()).await, "write");
    closed(committing.commit().await, "commit");
    // There is nothing that could be left behind; to say so or to say closed are both right.
    let _ = within(Duration::from_secs(5), "an abort", async {
        aborting.abort().await
    })
    .await;
    drop((writing, dropped));

    // They may finish; a clean end that is none is what they may not have.
    let id = id_of(&unread.metadata);
    if let Ok(bytes) = unread.body.bytes(LEN as u64).await {
        assert!(
            bytes == pattern(id, LEN),
            "an open body ends early, or otherwise"
        );
    }
    while let Ok(Some(_)) = begun.chunk().await {}
    let _ = store.usage();
    store.close().await.expect("a close can be repeated");
}

/// Of those that are shared with other processes.
async fn capabilities_are_closed<S: Store>(store: &S, before: &Fence) {
    if let Some(lease) = store.as_lease() {
        let ttl = Duration::from_secs(1);
        let (who, why) = ("a".into(), "fill".into());
        let terms = Terms { who, why, ttl };
        closed(lease.acquire(key("a"), before, &terms).await, "acquire");
        closed(lease.renew(key("a"), before, ttl).await, "renew");
        closed(lease.release(key("a"), before).await, "release");
    }
    if let Some(bus) = store.as_bus() {
        closed(bus.publish(&beat(1)).await, "publish");
        closed(bus.subscribe().await.map(drop), "subscribe");
    }
}

fn beat(sequence: u64) -> Message {
    Message {
        publisher: 1,
        epoch: 1,
        sequence,
        notice: Notice::Beat,
    }
}

fn closed<T>(result: Result<T>, what: &str) {
    let error = expect_err(result, &format!("{what} after close"));
    assert!(error.is_closed(), "{what} after close says {error:?}");
}

/// Clause 16: through a pointer a store is the same store; and a store knows itself.
///
/// What a layer hides of the store beneath it only its author can know: there is
/// [`assert_forwards`] for that.
pub async fn clause_16_wrappers_forward(subject: &impl Subject) {
    let store = Arc::new(subject.make(Setup::default()).await);
    let other = subject.make(Setup::default()).await;
    assert_eq!(store.identity(), store.identity(), "a store is itself");
    assert_ne!(
        store.identity(),
        other.identity(),
        "two stores are not the same"
    );
    assert!(!store.kind().is_empty(), "it has a name");
    let arc: Arc<dyn Store> = Arc::clone(&store) as Arc<dyn Store>;
    let boxed: Box<dyn Store> = Box::new(Arc::clone(&store));
    let twice: Box<dyn Store> = Box::new(Arc::new(boxed));
    assert_forwards(&*store, &*store).await;
    assert_forwards(&arc, &*store).await;
    assert_forwards(&twice, &*store).await;
    twice.close().await.expect("a close succeeds");
    let deleted = store.delete(key("a"), None).await;
    closed(deleted, "a delete in the store whose wrapper was closed");
}

/// Asserts that a wrapper forwards every answer and capability of the store beneath: for the tests
/// of a layer, which call it with both.
///
/// Layers that change something on purpose (names, bytes, counts) test that part by themselves.
pub async fn assert_forwards(wrapper: &dyn Store, inner: &dyn Store) {
    let claims = |store: &dyn Store| {
        let capabilities = [
            store.as_touch().is_some(),
            store.as_list().is_some(),
            store.as_lease().is_some(),
            store.as_bus().is_some(),
        ];
        (
            store.kind(),
            store.identity(),
            store.fencing(),
            store.object_max(),
            capabilities,
        )
    };
    assert_eq!(
        claims(wrapper),
        claims(inner),
        "kind, identity, fencing, object_max, [touch, list, lease, bus]"
    );
    set(wrapper, "forwarded", 1, 3000).await;
    finds(inner, "forwarded", 1).await;
    finds(wrapper, "forwarded", 1).await;
    // What the store does in the background may come between the two.
    let same_usage = || wrapper.usage() == inner.usage();
    eventually("usage is handed on", same_usage).await;
    let held = fence(wrapper, "forwarded").await;
    if let (Some(through), Some(beneath)) = (wrapper.as_touch(), inner.as_touch()) {
        for touch in [through, beneath] {
            let touched = touch.touch(key("forwarded"), draft(1)).await;
            assert!(touched.expect("a touch succeeds").is_done());
        }
    } else {
        set(inner, "forwarded", 1, 3000).await;
    }
    let refused = wrapper.delete(key("forwarded"), Some(held)).await;
    let refused = refused.expect("superseded is not an error");
    assert!(!refused.is_done(), "a wrapper hands fences on");
    if let (Some(through), Some(beneath)) = (wrapper.as_list(), inner.as_list()) {
        for list in [through, beneath] {
            assert_eq!(list.list("forwarded").count().await, 1);
        }
    }
    if let (Some(through), Some(beneath)) = (wrapper.as_lease(), inner.as_lease()) {
        let fence = fence(inner, "leased").await;
        assert_leases_forwarded(through, beneath, &fence).await;
    }
    if let (Some(through), Some(beneath)) = (wrapper.as_bus(), inner.as_bus()) {
        assert_bus_forwarded(through, beneath).await;
    }
    let staged = [
        open(wrapper, "forwarded", draft(2)).await,
        open(inner, "x", draft(2)).await,
    ]
    .map(|writer| writer.staged().is_some());
    assert_eq!(staged[0], staged[1], "a wrapper hands staged bytes on");
    delete(wrapper, "forwarded").await;
    finds(inner, "forwarded", None).await;
    eventually("usage is handed on", same_usage).await;
}

async fn assert_leases_forwarded(through: &dyn Lease, beneath: &dyn Lease, fence: &Fence) {
    let ttl = Duration::from_secs(60);
    let name = key("leased");
    for (one, other) in [(through, beneath), (beneath, through)] {
        let (who, why) = ("a".into(), "fill".into());
        let terms = Terms { who, why, ttl };
        let acquired = one.acquire(name, fence, &terms).await;
        let Ok(Leased::Granted(grant)) = acquired else {
            panic!("the lease is free, and not {acquired:?}");
        };
        let again = other.acquire(name, fence, &terms).await;
        let again = again.expect("a lease can be asked for");
        assert!(
            matches!(again, Leased::Taken(_)),
            "one lease, not {again:?}"
        );
        let renewed = other.renew(name, &grant, ttl).await;
        assert!(renewed.expect("it is held"), "a wrapper hands renewals on");
        let released = other.release(name, &grant).await;
        released.expect("it is held");
    }
}

async fn assert_bus_forwarded(through: &dyn Bus, beneath: &dyn Bus) {
    let subscribed = [through.subscribe().await, beneath.subscribe().await];
    let mut subscribed = subscribed.map(|it| it.expect("a store can be listened to"));
    for (bus, sequence) in [(through, 1), (beneath, 2)] {
        let published = bus.publish(&beat(sequence)).await;
        published.expect("a message can be published");
        for deliveries in &mut subscribed {
            let heard = bounded(Duration::from_secs(5), "a message", deliveries.next()).await;
            assert_eq!(heard, Some(Delivery::Message(beat(sequence))));
        }
    }
}
