//! Settings, a bus that takes nothing, and the end of a process.

use larder::{Cache, Disk, Draft, Tier};
use larder_store::Notice;
use tokio::time::{Instant, sleep};

use super::{BOUND, SOON, World, get, line::Way, source, spread};
use crate::support::{SECOND, memory, settle, text};

#[tokio::test]
async fn what_cannot_be_a_bus_is_invalid() {
    let world = World::new();
    let refused = |builder: larder::Builder| {
        let error = builder.build().unwrap_err();
        assert!(error.is_invalid(), "{error}");
        error.to_string()
    };
    let folder = tempfile::tempdir().unwrap();
    let deaf = Disk::open(folder.path(), 64 << 20).await.unwrap();
    assert!(refused(Cache::builder().tier(memory()).bus(deaf)).contains("no bus"));
    let private = Cache::builder().tier(memory()).tier(world.line.clone());
    assert!(refused(private.bus(world.line.clone())).contains("shared"));
    let hasty = Cache::builder().tier(memory()).bus(world.line.clone());
    let short = SECOND / 11;
    assert!(refused(hasty.bus_bound(short)).contains("100"));
}

#[tokio::test(start_paused = true)]
async fn a_verb_waits_a_second_for_the_bus_and_its_message_follows() {
    let world = World::new();
    let (a, b) = (world.process().await, world.process().await);
    spread("v1", &a, &[&b]).await;
    world.line.publishing(Way::Refused);
    let before = Instant::now();
    a.delete("a").await.unwrap();
    assert_eq!(before.elapsed().as_secs(), 1);
    assert_eq!((a.counters().bus_late, a.in_flight().outbox), (1, 1));
    world.line.publishing(Way::Open);
    sleep(SECOND).await;
    assert_eq!((a.in_flight().outbox, b.usage()[0].entries), (0, 0));
    assert_eq!(get(&b).await, None);
}

#[tokio::test(start_paused = true)]
async fn s67_a_delete_of_which_the_others_may_never_hear_is_an_error() {
    let world = World::new();
    let (a, b) = (world.process().await, world.process().await);
    let alone = || world.line.publishing(Way::Refused);
    alone();
    // They miss it for now, and distrust what they have when they give it up.
    a.delete("a").await.unwrap();
    sleep(2 * BOUND).await;
    // What they fetched since then they would keep.
    let deleted = a.delete("a").await.unwrap_err();
    assert!(deleted.is_unavailable(), "{deleted}");
    assert!(a.clear().await.unwrap_err().is_unavailable());
    a.insert("a", "v1", Draft::new()).await.unwrap();
    assert_eq!(a.counters().bus_late, 4);
    world.line.publishing(Way::Open);
    sleep(2 * BOUND).await;
    a.delete("a").await.unwrap();
    assert_eq!((a.counters().bus_late, get(&b).await), (4, None));
    alone();
    let new = world.process().await;
    assert!(new.delete("a").await.is_err(), "nobody ever heard of it");
}

#[tokio::test(start_paused = true)]
async fn s67_a_message_whose_answer_was_lost_is_sent_again_under_its_number() {
    let world = World::new();
    let (a, b) = (world.process().await, world.process().await);
    spread("v1", &a, &[&b]).await;
    let (gaps, since) = (b.counters().bus_gaps, world.line.messages().len());
    world.line.publishing(Way::Mute);
    let delete = tokio::spawn({
        let a = a.clone();
        async move { a.delete("a").await }
    });
    sleep(SECOND / 2).await;
    world.line.publishing(Way::Open);
    delete.await.unwrap().unwrap();
    sleep(2 * SECOND).await;
    let named = |message: &&larder_store::Message| matches!(message.notice, Notice::Keys(_));
    let messages = world.line.messages();
    let sent: Vec<_> = messages[since..].iter().filter(named).collect();
    assert!(sent.len() == 2 && sent[0] == sent[1], "{sent:?}");
    assert_eq!((b.counters().bus_gaps, get(&b).await), (gaps, None));
}

#[tokio::test(start_paused = true)]
async fn more_keys_than_can_wait_become_one_message_for_all() {
    let world = World::new();
    let (a, b) = (world.process().await, world.process().await);
    spread("v1", &a, &[&b]).await;
    world.line.publishing(Way::Stuck);
    let before = world.line.said().len();
    let keys: Vec<_> = (0..5000).map(|number| format!("k{number}")).collect();
    let deletes = keys.iter().map(|key| a.delete(key));
    let deletes = futures_util::future::join_all(deletes);
    let ((), deletes) = tokio::join!(
        async {
            sleep(SECOND / 2).await;
            world.line.publishing(Way::Open);
        },
        deletes
    );
    assert!(deletes.iter().all(Result::is_ok));
    sleep(SOON).await;
    assert_eq!((a.in_flight().outbox, a.counters().bus_late), (0, 0));
    assert!(world.line.said()[before..].contains(&Notice::All));
    assert_eq!(source(&b).await, 1, "it is checked");
}

#[tokio::test(start_paused = true)]
async fn who_leaves_is_not_missed() {
    let world = World::new();
    let (a, b, c) = (
        world.process().await,
        world.process().await,
        world.process().await,
    );
    spread("v1", &a, &[&b]).await;
    let before = b.counters().bus_gaps;
    a.close().await.unwrap();
    // Dropped without a close, its writes behind it.
    drop(c);
    sleep(SOON).await;
    let said = world.line.said();
    assert_eq!(said[said.len() - 2..], [Notice::Leave, Notice::Leave]);
    sleep(5 * BOUND).await;
    assert_eq!((b.counters().bus_gaps, source(&b).await), (before, 0));
}

#[tokio::test(start_paused = true)]
async fn a_close_is_not_held_up_by_the_bus() {
    let world = World::new();
    let a = world.process().await;
    world.line.publishing(Way::Stuck);
    let before = Instant::now();
    a.close().await.unwrap();
    assert!(before.elapsed() <= 3 * SECOND, "{:?}", before.elapsed());
    world.line.subscribing(Way::Stuck);
    let b = world.process().await;
    let before = Instant::now();
    b.close().await.unwrap();
    assert!(before.elapsed() <= 3 * SECOND, "{:?}", before.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_a_delete_says_is_said_before_a_close_ends() {
    let world = World::new();
    let (a, b) = (world.process().await, world.process().await);
    spread("v1", &a, &[&b]).await;
    let delete = tokio::spawn({
        let a = a.clone();
        async move { a.delete("a").await }
    });
    tokio::task::yield_now().await;
    a.close().await.unwrap();
    delete.await.unwrap().unwrap();
    sleep(SOON).await;
    assert_eq!(get(&b).await, None);
}

#[tokio::test]
async fn s67_what_a_disk_kept_over_a_restart_is_checked() {
    let world = World::new();
    let folder = tempfile::tempdir().unwrap();
    let process = async || {
        let clock = world.clock.clone();
        let disk = Disk::builder(folder.path(), 64 << 20)
            .clock(move || larder::Clock::now(&clock))
            .open()
            .await
            .unwrap();
        let shared = Tier::new(world.line.clone()).shared();
        // One seed: what tells the two apart is not drawn from it.
        let builder = world.builder().seed(7).tier(disk).tier(shared);
        let cache = builder.bus(world.line.clone()).build().unwrap();
        sleep(SOON).await;
        cache
    };
    let first = process().await;
    first.insert("a", "v1", Draft::new()).await.unwrap();
    first.insert("b", "v1", Draft::new()).await.unwrap();
    assert_eq!(source(&first).await, 0);
    first.close().await.unwrap();
    let other = world.process().await;
    other.delete("a").await.unwrap();
    let again = process().await;
    assert_eq!(again.usage()[0].entries, 2, "the disk has them yet");
    assert_eq!(get(&again).await, None);
    let kept = again.get("b").await.unwrap();
    assert_eq!(text(kept).await, "v1");
    settle(&again).await;
    let counters = again.tiers()[0].counters;
    assert_eq!((counters.fills, counters.touched), (0, 1));
    again.close().await.unwrap();
}
