//! What is checked: renewed where it is right, and never served meanwhile.

use larder::{Draft, EntityTag, Error, Fetched, Policy, Stale};
use tokio::time::sleep;

use super::{SOON, World, get, lives, source, spread};
use crate::support::{Origin, SECOND, settle, text};

#[tokio::test(start_paused = true)]
async fn s67_an_entry_that_is_still_right_is_renewed_without_its_body() {
    let world = World::new();
    let (a, b) = (world.process().await, world.process().await);
    spread("v1", &a, &[&b]).await;
    let fills = b.tiers()[0].counters.fills;
    world.line.lose();
    sleep(SOON).await;
    assert_eq!(source(&b).await, 1, "it is checked");
    settle(&b).await;
    assert_eq!(source(&b).await, 0, "and trusted again");
    let counters = b.tiers()[0].counters;
    assert_eq!((counters.fills, counters.touched), (fills, 1));
    assert_eq!(b.counters().bus_checked, 1);
}

#[tokio::test(start_paused = true)]
async fn s67_an_entry_that_was_replaced_is_not_renewed() {
    let world = World::new();
    let (a, b) = (world.process().await, world.process().await);
    spread("v1", &a, &[&b]).await;
    // The same length, the same moment, no tag: only the bytes differ.
    world.line.rule(|_, message| match message.notice {
        larder_store::Notice::Keys(_) => super::line::Fate::Dropped,
        _ => super::line::Fate::Heard,
    });
    a.insert("a", "v2", Draft::new()).await.unwrap();
    world.line.lose();
    sleep(SOON).await;
    assert_eq!(get(&b).await.as_deref(), Some("v2"));
    settle(&b).await;
    assert_eq!(
        (source(&b).await, get(&b).await.as_deref()),
        (0, Some("v2"))
    );
    assert_eq!(b.tiers()[0].counters.touched, 0);
}

#[tokio::test(start_paused = true)]
async fn without_a_shared_tier_the_origin_is_asked_with_the_validators() {
    let world = World::new();
    let cache = world.builder().tier(world.memory()).bus(world.line.clone());
    let cache = cache.build().unwrap();
    sleep(SOON).await;
    let tag = || EntityTag::strong("1").unwrap();
    let first = async move |_| Ok::<_, Error>(Fetched::bytes("v1").etag(tag()));
    text(cache.get_or_fetch("a", first).await.unwrap()).await;
    settle(&cache).await;
    world.line.lose();
    sleep(SOON).await;
    assert_eq!(get(&cache).await, None, "nobody to ask");
    let origin = Origin::default();
    let asked = origin.does(async move |context: larder::FetchContext| {
        assert_eq!(context.stale().unwrap().etag, Some(tag()));
        Ok(Fetched::not_modified())
    });
    let response = cache.get_or_fetch("a", asked).await.unwrap();
    assert!(response.status().is_revalidated());
    assert_eq!(text(response).await, "v1");
    settle(&cache).await;
    assert_eq!(source(&cache).await, 0);
    let counters = cache.tiers()[0].counters;
    assert_eq!((counters.fills, counters.touched), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn s67_what_is_to_be_checked_is_served_neither_while_it_is_nor_on_an_error() {
    let world = World::new();
    let forgiving = Policy::new()
        .ttl(SECOND)
        .stale_while_revalidate(3600 * SECOND)
        .stale_if_error(3600 * SECOND);
    let cache = world.builder().policy(lives(forgiving));
    let cache = cache.tier(world.memory()).bus(world.line.clone());
    let cache = cache.build().unwrap();
    sleep(SOON).await;
    let origin = Origin::default();
    text(cache.get_or_fetch("a", origin.gives("v1")).await.unwrap()).await;
    settle(&cache).await;
    sleep(2 * SECOND).await;
    let stale = cache.get("a").allow_stale().await.unwrap();
    assert!(matches!(
        stale.status().stale(),
        Some(Stale::WhileRevalidate)
    ));
    world.line.lose();
    sleep(SOON).await;
    assert_eq!(get(&cache).await, None);
    assert!(cache.stat("a").await.unwrap().is_none());
    let failed = cache.get_or_fetch("a", origin.fails()).await;
    assert!(failed.is_err(), "{failed:?}");
}

#[tokio::test(start_paused = true)]
async fn s67_what_a_refresh_behind_asks_about_is_not_served_once_something_was_lost() {
    let world = World::new();
    let stale = Policy::new()
        .ttl(SECOND)
        .stale_while_revalidate(3600 * SECOND);
    let cache = world.builder().policy(lives(stale));
    let cache = cache.tier(world.memory()).bus(world.line.clone());
    let cache = cache.build().unwrap();
    sleep(SOON).await;
    let origin = Origin::default();
    text(cache.get_or_fetch("a", origin.gives("v1")).await.unwrap()).await;
    settle(&cache).await;
    sleep(2 * SECOND).await;
    let slow = origin.does(async |_| {
        sleep(SECOND).await;
        Ok(Fetched::bytes("v2"))
    });
    let served = cache.get_or_fetch("a", slow).await.unwrap();
    assert_eq!(text(served).await, "v1");
    sleep(SOON).await;
    world.line.lose();
    sleep(SOON).await;
    assert_eq!(get(&cache).await, None);
    let joined = cache.get_or_fetch("a", origin.gives("v3")).await.unwrap();
    assert_eq!(text(joined).await, "v2");
}

#[tokio::test(start_paused = true)]
async fn s67_what_is_lost_while_the_origin_fails_is_not_served_on_its_error() {
    let world = World::new();
    let forgiving = Policy::new().ttl(SECOND).stale_if_error(3600 * SECOND);
    let cache = world.builder().policy(lives(forgiving));
    let cache = cache.tier(world.memory()).bus(world.line.clone());
    let cache = cache.build().unwrap();
    sleep(SOON).await;
    let origin = Origin::default();
    text(cache.get_or_fetch("a", origin.gives("v1")).await.unwrap()).await;
    settle(&cache).await;
    sleep(2 * SECOND).await;
    let slow = || {
        origin.does(async |_| {
            sleep(SECOND).await;
            Err(crate::support::broken())
        })
    };
    let served = cache.get_or_fetch("a", slow()).await.unwrap();
    assert!(matches!(served.status().stale(), Some(Stale::Error(_))));
    let asked = cache.get_or_fetch("a", slow());
    let lost = async {
        sleep(SECOND / 2).await;
        world.line.lose();
    };
    let (failed, ()) = tokio::join!(asked, lost);
    assert!(failed.is_err(), "{failed:?}");
}

#[tokio::test(start_paused = true)]
async fn without_a_bus_nothing_is_stamped_checked_or_counted() {
    let world = World::new();
    let shared = larder::Tier::new(world.line.clone()).shared();
    let (memory, bussed) = (world.memory(), world.process().await);
    let cache = world.builder().tier(memory.clone()).tier(shared);
    let cache = cache.build().unwrap();
    bussed.insert("a", "v1", Draft::new()).await.unwrap();
    assert_eq!(get(&cache).await.as_deref(), Some("v1"));
    settle(&cache).await;
    let header = larder::Store::stat(&memory, larder::Key::new("a").unwrap());
    assert_eq!(header.await.unwrap().unwrap().generation, 0);
    bussed.delete("a").await.unwrap();
    world.line.lose();
    sleep(SOON).await;
    assert_eq!(get(&cache).await.as_deref(), Some("v1"), "it hears nothing");
    let counters = cache.counters();
    assert_eq!((counters.bus_gaps, counters.bus_checked), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn private_entries_bear_a_generation_and_shared_ones_none() {
    let world = World::new();
    let memory = world.memory();
    let shared = larder::Tier::new(world.line.clone()).shared();
    let cache = world.builder().tier(memory.clone()).tier(shared);
    let cache = cache.bus(world.line.clone()).build().unwrap();
    sleep(SOON).await;
    let key = larder::Key::new("a").unwrap();
    let stamp = async |store: &dyn larder::Store| {
        let found = store.stat(key).await.unwrap();
        found.expect("an entry").generation
    };
    let origin = Origin::default();
    text(cache.get_or_fetch("a", origin.gives("v1")).await.unwrap()).await;
    settle(&cache).await;
    let filled = stamp(&memory).await;
    assert_ne!(filled, 0);
    assert_eq!(stamp(&world.line.store).await, 0);
    world.line.lose();
    sleep(SOON).await;
    let draft = Draft::new().with(|header| header.generation = filled);
    cache.insert("a", "v2", draft).await.unwrap();
    assert_eq!(stamp(&memory).await, filled + 1);
    assert_eq!(stamp(&world.line.store).await, 0);
}
