//! S67: whatever the bus does, no private tier serves an entry past the bound after a delete.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use larder::{Cache, Draft, ManualClock, Timestamp};
use larder_store::{Message, Notice};
use tokio::time::sleep;

use super::{
    BOUND, SOON, World, asks_for, get,
    line::{Fate, Way},
    source, spread,
};
use crate::support::SECOND;

/// Who published first, second and so on.
pub(super) fn publishers(world: &World) -> Vec<u64> {
    let mut publishers = Vec::new();
    for message in world.line.messages() {
        if !publishers.contains(&message.publisher) {
            publishers.push(message.publisher);
        }
    }
    publishers
}

/// A deletes what B has a copy of, while `harm` is done. B's copy is seen to outlive the delete, so
/// that there is something to find, and is not served once the bound is over.
async fn outlives_no_bound(a: &Cache, b: &Cache, harm: impl FnOnce()) {
    spread("v1", a, &[b]).await;
    harm();
    a.delete("a").await.unwrap();
    sleep(SOON).await;
    assert_eq!(get(b).await.as_deref(), Some("v1"), "nothing was lost");
    let before = b.counters();
    asks_for(b, BOUND * 99 / 100).await;
    sleep(BOUND / 100).await;
    assert_eq!(get(b).await, None, "the bound is over");
    assert!(b.counters().bus_gaps > before.bus_gaps);
    // Not by chance: it stays so.
    asks_for(b, 2 * BOUND).await;
    assert_eq!(get(b).await, None);
}

fn names(message: &Message) -> bool {
    matches!(message.notice, Notice::Keys(_))
}

#[tokio::test(start_paused = true)]
async fn s67_a_message_is_dropped() {
    let world = World::new();
    let (a, b) = (world.process().await, world.process().await);
    let harm = || {
        let drop = |ear, message: &Message| match (ear, names(message)) {
            (1, true) => Fate::Dropped,
            _ => Fate::Heard,
        };
        world.line.rule(drop);
    };
    outlives_no_bound(&a, &b, harm).await;
}

#[tokio::test(start_paused = true)]
async fn s67_a_publisher_is_heard_no_more() {
    let world = World::new();
    let (a, b) = (world.process().await, world.process().await);
    let gone = publishers(&world)[0];
    let harm = || {
        let drop = move |ear, message: &Message| match (ear, message.publisher == gone) {
            (1, true) => Fate::Dropped,
            _ => Fate::Heard,
        };
        world.line.rule(drop);
    };
    outlives_no_bound(&a, &b, harm).await;
}

#[tokio::test(start_paused = true)]
async fn s67_nothing_is_heard_any_more() {
    let world = World::new();
    let (a, b) = (world.process().await, world.process().await);
    let harm = || {
        world
            .line
            .rule(|ear, _| if ear == 1 { Fate::Dropped } else { Fate::Heard });
    };
    outlives_no_bound(&a, &b, harm).await;
}

#[tokio::test(start_paused = true)]
async fn s67_everything_comes_late() {
    let world = World::new();
    let (a, b) = (world.process().await, world.process().await);
    let harm = || world.line.rule(|_, _| Fate::Late(10 * BOUND));
    outlives_no_bound(&a, &b, harm).await;
}

#[tokio::test(start_paused = true)]
async fn s67_the_bus_takes_nothing_any_more() {
    let world = World::new();
    let (a, b) = (world.process().await, world.process().await);
    spread("v1", &a, &[&b]).await;
    world.line.publishing(Way::Refused);
    a.delete("a").await.unwrap();
    assert_eq!(a.counters().bus_late, 1);
    asks_for(&b, BOUND).await;
    assert_eq!(get(&b).await, None);
}

#[tokio::test(start_paused = true)]
async fn s67_a_publisher_dies_with_its_message() {
    let world = World::new();
    let (a, b) = (world.process().await, world.process().await);
    let dead = publishers(&world)[0];
    let died = Arc::new(AtomicBool::new(false));
    let harm = || {
        let drop = move |_, message: &Message| {
            if message.publisher == dead && names(message) {
                died.store(true, Ordering::SeqCst);
            }
            if message.publisher == dead && died.load(Ordering::SeqCst) {
                Fate::Dropped
            } else {
                Fate::Heard
            }
        };
        world.line.rule(drop);
    };
    outlives_no_bound(&a, &b, harm).await;
}

#[tokio::test(start_paused = true)]
async fn s67_subscriptions_end_and_cannot_be_had_again() {
    let world = World::new();
    let (a, b) = (world.process().await, world.process().await);
    let harm = || {
        world.line.subscribing(Way::Stuck);
        world.line.hang_up();
    };
    outlives_no_bound(&a, &b, harm).await;
    // It comes back, and B trusts itself again.
    world.line.subscribing(Way::Open);
    sleep(3 * BOUND).await;
    spread("v2", &a, &[&b]).await;
}

#[tokio::test(start_paused = true)]
async fn s67_a_subscription_that_hangs_is_replaced() {
    let world = World::new();
    let (a, b) = (world.process().await, world.process().await);
    let harm = || {
        world.line.subscribing(Way::Mute);
        world.line.hang_up();
    };
    outlives_no_bound(&a, &b, harm).await;
    world.line.subscribing(Way::Open);
    sleep(4 * BOUND).await;
    spread("v2", &a, &[&b]).await;
}

#[tokio::test(start_paused = true)]
async fn s67_the_bus_tells_that_messages_were_lost() {
    let world = World::new();
    let (a, b) = (world.process().await, world.process().await);
    spread("v1", &a, &[&b]).await;
    world
        .line
        .rule(|ear, _| if ear == 1 { Fate::Dropped } else { Fate::Heard });
    a.delete("a").await.unwrap();
    sleep(SOON).await;
    assert_eq!(get(&b).await.as_deref(), Some("v1"));
    world.line.rule(|_, _| Fate::Heard);
    world.line.lose();
    sleep(SOON).await;
    assert_eq!(get(&b).await, None, "at once");
}

#[tokio::test(start_paused = true)]
async fn s67_a_message_that_comes_again_or_out_of_its_order_costs_nothing() {
    let world = World::new();
    let (a, b) = (world.process().await, world.process().await);
    spread("v1", &a, &[&b]).await;
    let before = b.counters().bus_gaps;
    world.line.rule(|_, _| Fate::Twice);
    a.delete("a").await.unwrap();
    sleep(SOON).await;
    assert_eq!(get(&b).await, None);
    // Each key overtakes, and is overtaken.
    world.line.rule(|_, message| match message.sequence % 2 {
        0 => Fate::Late(SECOND / 4),
        _ => Fate::Heard,
    });
    for number in 0..20 {
        a.insert(&format!("k{number}"), "v", Draft::new())
            .await
            .unwrap();
    }
    spread_late("v2", &a, &b).await;
    a.delete("a").await.unwrap();
    sleep(SECOND).await;
    assert_eq!(get(&b).await, None);
    assert_eq!(b.counters().bus_gaps, before, "nothing was missing");
}

async fn spread_late(bytes: &'static str, a: &Cache, b: &Cache) {
    a.insert("a", bytes, Draft::new()).await.unwrap();
    sleep(SECOND).await;
    assert_eq!(get(b).await.as_deref(), Some(bytes));
    sleep(SOON).await;
    assert_eq!(source(b).await, 0);
}

#[tokio::test(start_paused = true)]
async fn s67_a_message_that_comes_too_late_is_missing_until_then() {
    let world = World::new();
    let (a, b) = (world.process().await, world.process().await);
    let harm = || {
        world.line.rule(|ear, message| match (ear, names(message)) {
            (1, true) => Fate::Late(3 * BOUND),
            _ => Fate::Heard,
        });
    };
    outlives_no_bound(&a, &b, harm).await;
}

/// B's wall clock is its own: that it jumps ahead is what B sees first when it was stopped, before
/// any of its tasks has run.
#[tokio::test(start_paused = true)]
async fn s67_a_process_that_was_paused_serves_nothing_before_it_has_listened() {
    let world = World::new();
    let clock = ManualClock::new(Timestamp::from_millis(1_700_000_000_000));
    let own = clock.clone();
    let a = world.process().await;
    let b = world.process_with(move |builder| builder.clock(own)).await;
    spread("v1", &a, &[&b]).await;
    // What A says while B is stopped has not come when B goes on.
    world.line.rule(|ear, _| match ear {
        1 => Fate::Late(SECOND),
        _ => Fate::Heard,
    });
    a.delete("a").await.unwrap();
    assert_eq!(get(&b).await.as_deref(), Some("v1"));
    clock.advance(60 * SECOND);
    assert_eq!(get(&b).await, None);
    // And where nothing was missed it is trusted again by and by.
    world.line.rule(|_, _| Fate::Heard);
    sleep(2 * BOUND).await;
    spread("v2", &a, &[&b]).await;
}

#[tokio::test(start_paused = true)]
async fn s67_while_the_bus_is_away_a_copy_is_checked_now_and_then() {
    let world = World::new();
    let a = world.process().await;
    world.line.subscribing(Way::Stuck);
    let b = world.process().await;
    a.insert("a", "v1", Draft::new()).await.unwrap();
    let (mut own, mut checked) = (0, 0);
    for _ in 0..1000 {
        assert_eq!(get(&b).await.as_deref(), Some("v1"));
        match source(&b).await {
            0 => own += 1,
            _ => checked += 1,
        }
        sleep(SOON).await;
    }
    // 20 s, in which one begins every two.
    assert!(own > 900 && checked <= 20, "{own} {checked}");
    a.delete("a").await.unwrap();
    asks_for(&b, BOUND * 99 / 100).await;
    sleep(BOUND / 100).await;
    assert_eq!(get(&b).await, None);
    world.line.subscribing(Way::Open);
    sleep(BOUND).await;
    spread("v2", &a, &[&b]).await;
}

#[tokio::test(start_paused = true)]
async fn s67_who_comes_later_does_not_disturb_and_trusts_nobody_it_has_not_heard() {
    let world = World::new();
    let (a, b) = (world.process().await, world.process().await);
    spread("v1", &a, &[&b]).await;
    let before = [a.counters().bus_gaps, b.counters().bus_gaps];
    let c = world.process().await;
    sleep(BOUND).await;
    assert_eq!([a.counters().bus_gaps, b.counters().bus_gaps], before);
    spread("v2", &a, &[&b, &c]).await;
    let quiet = c.counters().bus_gaps;
    sleep(5 * BOUND).await;
    assert_eq!(c.counters().bus_gaps, quiet);
    assert_eq!(source(&c).await, 0);
}

#[tokio::test(start_paused = true)]
async fn s67_who_is_heard_for_the_first_time_may_have_said_something_before() {
    let world = World::new();
    let a = world.process().await;
    let known = publishers(&world)[0];
    world.line.rule(move |ear, message| match ear {
        1 if message.publisher == known => Fate::Dropped,
        _ => Fate::Heard,
    });
    let b = world.process().await;
    spread("v1", &a, &[&b]).await;
    a.delete("a").await.unwrap();
    sleep(SOON).await;
    assert_eq!(get(&b).await.as_deref(), Some("v1"));
    world.line.rule(|_, _| Fate::Heard);
    sleep(BOUND / 2).await;
    assert_eq!(get(&b).await, None);
}

#[tokio::test(start_paused = true)]
async fn s67_what_was_said_between_two_subscriptions_was_not_heard() {
    let world = World::new();
    let (a, b) = (world.process().await, world.process().await);
    spread("v1", &a, &[&b]).await;
    world.line.hang_up();
    a.delete("a").await.unwrap();
    assert_eq!(get(&b).await.as_deref(), Some("v1"));
    sleep(SECOND / 5).await;
    assert_eq!(get(&b).await, None, "as soon as it listens again");
}

#[tokio::test(start_paused = true)]
async fn s67_many_processes_that_lose_the_bus_at_once_begin_few_generations() {
    let world = World::new();
    let a = world.process().await;
    for publisher in 0..500 {
        world.line.say(&beat(publisher, 1));
    }
    sleep(SOON).await;
    let before = a.counters().bus_gaps;
    for publisher in 0..500 {
        world.line.say(&beat(publisher, 3));
        sleep(Duration::from_millis(1)).await;
    }
    sleep(SECOND).await;
    assert!((1..=2).contains(&(a.counters().bus_gaps - before)));
}

fn beat(publisher: u64, sequence: u64) -> Message {
    Message {
        publisher,
        epoch: 1,
        sequence,
        notice: Notice::Beat,
    }
}
