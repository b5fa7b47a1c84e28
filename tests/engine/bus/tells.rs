//! What one process does reaches the others.

use larder::{Disk, Draft, Error, Fetched, Tier};
use larder_store::Notice;
use tokio::time::sleep;

use super::{BOUND, SOON, World, get, spread};
use crate::support::{Origin, settle, text};

#[tokio::test(start_paused = true)]
async fn a_delete_reaches_the_private_tiers_of_all() {
    let world = World::new();
    let (a, b, c) = (
        world.process().await,
        world.process().await,
        world.process().await,
    );
    spread("v1", &a, &[&b, &c]).await;
    b.delete("a").await.unwrap();
    sleep(SOON).await;
    for cache in [&a, &b, &c] {
        assert_eq!(get(cache).await, None);
        assert_eq!(cache.usage()[0].entries, 0, "it was deleted");
        assert_eq!(cache.counters().bus_checked, 0, "and not merely checked");
    }
}

#[tokio::test(start_paused = true)]
async fn a_set_replaces_the_copies_of_the_others() {
    let world = World::new();
    let (a, b) = (world.process().await, world.process().await);
    spread("v1", &a, &[&b]).await;
    b.insert("a", "v2", Draft::new()).await.unwrap();
    sleep(SOON).await;
    assert_eq!(get(&a).await.as_deref(), Some("v2"));
    let mut writer = a.set_with_writer("a", Draft::new()).await.unwrap();
    writer.write("v3").await.unwrap();
    writer.commit().await.unwrap();
    sleep(SOON).await;
    assert_eq!(get(&b).await.as_deref(), Some("v3"));
    assert_eq!(get(&a).await.as_deref(), Some("v3"), "its own copy stays");
    assert_eq!(a.usage()[0].entries, 1);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_is_asked_for_reaches_the_others() {
    let world = World::new();
    let (a, b) = (world.process().await, world.process().await);
    spread("v1", &a, &[&b]).await;
    let origin = Origin::default();
    let response = a.refresh("a", origin.gives("v2")).await.unwrap();
    assert_eq!(text(response).await, "v2");
    settle(&a).await;
    sleep(SOON).await;
    assert_eq!(get(&b).await.as_deref(), Some("v2"));
}

#[tokio::test(start_paused = true)]
async fn a_clear_is_one_message_before_it_and_one_after_it() {
    let world = World::new();
    let (a, b) = (world.process().await, world.process().await);
    for number in 0..50 {
        let key = format!("k{number}");
        a.insert(&key, "v", Draft::new()).await.unwrap();
    }
    spread("v1", &a, &[&b]).await;
    let before = world.line.said().len();
    a.clear().await.unwrap();
    assert_eq!(world.line.said()[before..], [Notice::All, Notice::All]);
    sleep(SOON).await;
    assert_eq!(get(&b).await, None);
    assert_eq!(b.counters().bus_checked, 1);
}

#[tokio::test(start_paused = true)]
async fn fills_and_reads_say_nothing() {
    let world = World::new();
    let (a, b) = (world.process().await, world.process().await);
    let origin = Origin::default();
    for cache in [&a, &b, &a] {
        let response = cache.get_or_fetch("a", origin.gives("v1")).await.unwrap();
        assert_eq!(text(response).await, "v1");
        settle(cache).await;
    }
    assert_eq!((world.line.said(), origin.fetches()), (vec![], 1));
}

#[tokio::test(start_paused = true)]
async fn keys_that_wait_go_together() {
    let world = World::new();
    let (a, _b) = (world.process().await, world.process().await);
    let keys: Vec<_> = (0..300).map(|number| format!("k{number}")).collect();
    let deletes = keys.iter().map(|key| a.delete(key));
    for deleted in futures_util::future::join_all(deletes).await {
        deleted.unwrap();
    }
    let said = world.line.said();
    let named = said.iter().map(|notice| match notice {
        Notice::Keys(keys) => keys.len(),
        other => panic!("{other:?}"),
    });
    assert_eq!(named.sum::<usize>(), 300);
    assert!(said.len() < 30, "{} messages", said.len());
}

#[tokio::test]
async fn a_disk_tier_is_private_as_well() {
    let world = World::new();
    let folder = tempfile::tempdir().unwrap();
    let clock = world.clock.clone();
    let disk = Disk::builder(folder.path(), 64 << 20)
        .clock(move || larder::Clock::now(&clock))
        .open()
        .await
        .unwrap();
    let a = world.process().await;
    let shared = Tier::new(world.line.clone()).shared();
    let b = world
        .builder()
        .tier(world.memory())
        .tier(disk)
        .tier(shared)
        .bus(world.line.clone())
        .build()
        .unwrap();
    sleep(SOON).await;
    spread("v1", &a, &[&b]).await;
    let held = |b: &larder::Cache| {
        b.usage()[..2]
            .iter()
            .map(|usage| usage.entries)
            .sum::<u64>()
    };
    assert_eq!(held(&b), 2);
    a.delete("a").await.unwrap();
    while b.in_flight().inbox > 0 || held(&b) > 0 {
        sleep(SOON).await;
    }
    assert_eq!(get(&b).await, None);
    a.insert("a", "v2", Draft::new()).await.unwrap();
    sleep(SOON).await;
    let never = async |_| Err::<Fetched, _>(Error::invalid("not asked"));
    assert_eq!(text(b.get_or_fetch("a", never).await.unwrap()).await, "v2");
    b.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_memory_store_is_a_bus() {
    let world = World::new();
    let shared = world.memory();
    let process = || {
        let tier = Tier::new(shared.clone()).shared();
        let builder = world.builder().tier(world.memory()).tier(tier);
        builder.bus(shared.clone()).build().unwrap()
    };
    let (a, b) = (process(), process());
    sleep(BOUND).await;
    spread("v1", &a, &[&b]).await;
    a.delete("a").await.unwrap();
    sleep(SOON).await;
    assert_eq!((get(&b).await, b.usage()[0].entries), (None, 0));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_only_the_bus_needs_no_shared_tier() {
    let world = World::new();
    let lone = || world.builder().tier(world.memory()).bus(world.line.clone());
    let (a, b) = (lone().build().unwrap(), lone().build().unwrap());
    sleep(SOON).await;
    let origin = Origin::default();
    for cache in [&a, &b] {
        text(cache.get_or_fetch("a", origin.gives("v1")).await.unwrap()).await;
        settle(cache).await;
    }
    assert_eq!(get(&b).await.as_deref(), Some("v1"));
    a.delete("a").await.unwrap();
    sleep(SOON).await;
    assert_eq!(get(&b).await, None);
}
