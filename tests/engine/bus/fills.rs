//! Fills that were begun before something was heard, or missed.

use larder::{Cache, Draft, Error, Fetched, Response};
use larder_conformance::{Fault, Faulty, Op};
use tokio::{sync::oneshot, task::JoinHandle, time::sleep};

use super::{BOUND, SOON, World, get, source, spread};
use crate::support::{Origin, SECOND, settle, text};

/// A read whose fetch waits until it is told to give `v1`.
async fn begins(cache: &Cache) -> (oneshot::Sender<()>, JoinHandle<Result<Response, Error>>) {
    let (go, wait) = oneshot::channel();
    let (began, begun) = oneshot::channel();
    let cache = cache.clone();
    let read = tokio::spawn(async move {
        let fetch = async move |_| {
            began.send(()).unwrap();
            wait.await.unwrap();
            Ok::<_, Error>(Fetched::bytes("v1"))
        };
        cache.get_or_fetch("a", fetch).await
    });
    begun.await.unwrap();
    (go, read)
}

#[tokio::test(start_paused = true)]
async fn s20_a_fill_begun_before_a_delete_elsewhere_is_published_nowhere() {
    let world = World::new();
    let (a, b) = (world.process().await, world.process().await);
    let (go, read) = begins(&b).await;
    a.delete("a").await.unwrap();
    sleep(SOON).await;
    go.send(()).unwrap();
    assert_eq!(text(read.await.unwrap().unwrap()).await, "v1");
    settle(&b).await;
    for cache in [&a, &b] {
        assert_eq!(get(cache).await, None);
    }
    assert!(b.usage().iter().all(|usage| usage.entries == 0));
}

#[tokio::test(start_paused = true)]
async fn s13_without_a_shared_tier_neither() {
    let world = World::new();
    let lone = || world.builder().tier(world.memory()).bus(world.line.clone());
    let (a, b) = (lone().build().unwrap(), lone().build().unwrap());
    sleep(SOON).await;
    let (go, read) = begins(&b).await;
    a.delete("a").await.unwrap();
    sleep(SOON).await;
    go.send(()).unwrap();
    assert_eq!(text(read.await.unwrap().unwrap()).await, "v1");
    settle(&b).await;
    assert_eq!(get(&b).await, None);
    assert_eq!(b.usage()[0].entries, 0);
}

#[tokio::test(start_paused = true)]
async fn s74_nobody_joins_a_flight_begun_before_a_delete_elsewhere() {
    let world = World::new();
    let (a, b) = (world.process().await, world.process().await);
    let (go, read) = begins(&b).await;
    a.delete("a").await.unwrap();
    sleep(SOON).await;
    let origin = Origin::default();
    let newer = b.get_or_fetch("a", origin.gives("v2")).await.unwrap();
    assert_eq!((text(newer).await.as_str(), origin.fetches()), ("v2", 1));
    go.send(()).unwrap();
    assert_eq!(text(read.await.unwrap().unwrap()).await, "v1");
    settle(&b).await;
    assert_eq!(get(&b).await.as_deref(), Some("v2"));
}

#[tokio::test(start_paused = true)]
async fn s67_what_was_begun_before_a_loss_is_checked() {
    let world = World::new();
    let lone = world.builder().tier(world.memory()).bus(world.line.clone());
    let cache = lone.build().unwrap();
    sleep(SOON).await;
    let (go, read) = begins(&cache).await;
    let mut writer = cache.set_with_writer("b", Draft::new()).await.unwrap();
    world.line.lose();
    sleep(SOON).await;
    go.send(()).unwrap();
    text(read.await.unwrap().unwrap()).await;
    writer.write("v1").await.unwrap();
    writer.commit().await.unwrap();
    settle(&cache).await;
    assert_eq!(cache.usage()[0].entries, 2, "they are there");
    for key in ["a", "b"] {
        assert!(cache.get(key).await.unwrap().is_absent(), "{key}");
    }
}

#[tokio::test(start_paused = true)]
async fn s67_an_old_flight_is_not_joined_once_something_was_lost() {
    let world = World::new();
    let b = world.process().await;
    let (go, read) = begins(&b).await;
    let origin = Origin::default();
    // A young one is: what it gives is within the bound.
    world.line.lose();
    sleep(SOON).await;
    let joined = tokio::spawn({
        let (b, fetch) = (b.clone(), origin.gives("v2"));
        async move { b.get_or_fetch("a", fetch).await }
    });
    sleep(BOUND + SOON).await;
    let newer = b.get_or_fetch("a", origin.gives("v3")).await.unwrap();
    assert_eq!((text(newer).await.as_str(), origin.fetches()), ("v3", 1));
    go.send(()).unwrap();
    assert_eq!(text(read.await.unwrap().unwrap()).await, "v1");
    assert_eq!(text(joined.await.unwrap().unwrap()).await, "v1");
    settle(&b).await;
    assert_eq!(get(&b).await.as_deref(), Some("v3"));
}

#[tokio::test(start_paused = true)]
async fn s67_a_private_tier_that_does_not_delete_in_time_is_not_served() {
    let world = World::new();
    let a = world.process().await;
    let memory = Faulty::new(world.memory());
    let shared = larder::Tier::new(world.line.clone()).shared();
    let patient = larder::Tier::new(memory.clone()).timeout(3600 * SECOND);
    let b = world.builder().tier(patient).tier(shared);
    let b = b.bus(world.line.clone()).build().unwrap();
    // It has heard the others, too.
    sleep(BOUND / 2).await;
    spread("v1", &a, &[&b]).await;
    memory.faults().on(Op::Delete).inject(Fault::Stall);
    a.delete("a").await.unwrap();
    sleep(SOON).await;
    assert_eq!(
        (b.in_flight().inbox, get(&b).await.as_deref()),
        (1, Some("v1"))
    );
    sleep(BOUND).await;
    assert_eq!(get(&b).await, None);
    memory.faults().release();
    sleep(SOON).await;
    assert_eq!(b.in_flight().inbox, 0);
}

#[tokio::test(start_paused = true)]
async fn s67_more_keys_than_can_wait_are_checked_instead() {
    let world = World::new();
    let a = world.process().await;
    let memory = Faulty::new(world.memory());
    let shared = larder::Tier::new(world.line.clone()).shared();
    let b = world.builder().tier(memory.clone()).tier(shared);
    let b = b.bus(world.line.clone()).build().unwrap();
    // It has heard the others, too.
    sleep(BOUND / 2).await;
    spread("v1", &a, &[&b]).await;
    let before = b.counters().bus_gaps;
    memory.faults().on(Op::Delete).always(Fault::Stall);
    let publisher = 77;
    for sequence in 1..=70 {
        let key = |number| larder::KeyBuf::new(&format!("{sequence}/{number}")).unwrap();
        let keys = (0..256).map(key).collect();
        world.line.say(&larder_store::Message {
            publisher,
            epoch: 1,
            sequence,
            notice: larder_store::Notice::Keys(keys),
        });
    }
    sleep(SOON).await;
    assert_eq!(b.counters().bus_gaps, before + 1);
    assert!(b.in_flight().inbox < 2 * 16_384);
    assert_eq!(source(&b).await, 1);
    memory.faults().clear();
    memory.faults().release();
    sleep(BOUND).await;
    assert_eq!(b.in_flight().inbox, 0);
}
