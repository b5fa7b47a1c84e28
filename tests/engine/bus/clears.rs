//! S85: `clear` while other processes fetch, write and commit.

use futures_util::future::join_all;
use larder::{Cache, Draft, Error, Fetched, Key, Store, StoreExt, Tier};
use larder_conformance::{Fault, Faulty, Op};
use larder_store::{Message, Notice};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

use super::{
    BOUND, SOON, World, get,
    line::{Fate, Line, Way},
    losses::publishers,
    source,
};
use crate::{
    levers::{Gate, breathe, stalled},
    support::{Origin, SECOND, settle, text},
};

/// A process whose operations on the shared store can be held up.
async fn process(world: &World) -> (Cache, Faulty<Line>) {
    let shared = Faulty::new(world.line.clone());
    let patient = Tier::new(shared.clone()).shared().timeout(3600 * SECOND);
    let builder = world.builder().tier(world.memory()).tier(patient);
    let cache = builder.bus(world.line.clone()).build().unwrap();
    sleep(BOUND / 2).await;
    (cache, shared)
}

fn clearing(cache: &Cache) -> JoinHandle<larder::Result<()>> {
    let cache = cache.clone();
    tokio::spawn(async move { cache.clear().await })
}

fn reading(cache: &Cache, gate: &Gate, bytes: &'static str) -> JoinHandle<String> {
    let fetch = Origin::default().gives_after(gate, move || Fetched::bytes(bytes));
    let cache = cache.clone();
    tokio::spawn(async move { text(cache.get_or_fetch("a", fetch).await.unwrap()).await })
}

/// Whether the shared store has `a`.
async fn is_shared(world: &World) -> bool {
    world.line.store.exists("a").await.unwrap()
}

/// Many fetches begin at two processes before a third one clears, and end at all times around it.
/// How many keys are served after the bound with what was fetched before.
async fn late(harm: impl FnOnce(&World)) -> usize {
    const KEYS: u32 = 240;
    let world = World::new();
    let ((a, slow), (b, _)) = (process(&world).await, process(&world).await);
    // Without the bus's help a clear takes as long as some fetches.
    slow.faults()
        .on(Op::Delete)
        .always(Fault::Delay(BOUND / 50));
    slow.faults().on(Op::List).always(Fault::Delay(BOUND / 50));
    let (c, _) = process(&world).await;
    sleep(BOUND).await;
    let fetches = (0..KEYS).map(|number| {
        let cache = [&b, &c][number as usize % 2].clone();
        tokio::spawn(async move {
            let fetch = async move |_| {
                sleep(BOUND * 3 * number / KEYS).await;
                Ok::<_, Error>(Fetched::bytes("before"))
            };
            let read = cache.get_or_fetch(&number.to_string(), fetch).await;
            assert_eq!(text(read.unwrap()).await, "before");
        })
    });
    let fetches: Vec<_> = fetches.collect();
    sleep(BOUND / 4).await;
    harm(&world);
    a.clear().await.unwrap();
    let cleared = Instant::now();
    for fetch in join_all(fetches).await {
        fetch.unwrap();
    }
    sleep((cleared + BOUND).saturating_duration_since(Instant::now()) + SOON).await;
    let mut late = 0;
    for number in 0..KEYS {
        for cache in [&a, &b, &c] {
            let read = cache.get(&number.to_string()).await.unwrap();
            late += usize::from(!read.is_absent());
        }
    }
    late
}

#[tokio::test(start_paused = true)]
async fn s85_what_others_began_to_fetch_before_a_clear_is_not_served_past_the_bound() {
    assert_eq!(late(|_| {}).await, 0);
}

#[tokio::test(start_paused = true)]
async fn s85_nor_by_a_process_that_lost_the_announcement() {
    let lost = |world: &World| {
        world
            .line
            .rule(|ear, message: &Message| match (ear, &message.notice) {
                (1, Notice::All) => Fate::Dropped,
                _ => Fate::Heard,
            });
    };
    assert_eq!(late(lost).await, 0);
}

/// It knows only late that it lost something: half the bound would not be enough to wait for.
#[tokio::test(start_paused = true)]
async fn s85_nor_by_a_process_that_lost_the_messages_after_it_as_well() {
    let lost = |world: &World| {
        let (gone, from) = (publishers(world)[0], Instant::now());
        world.line.rule(move |ear, message: &Message| {
            let is_lost = ear == 1 && message.publisher == gone;
            if is_lost && from.elapsed() < BOUND * 39 / 100 {
                Fate::Dropped
            } else {
                Fate::Heard
            }
        });
    };
    assert_eq!(late(lost).await, 0);
}

#[tokio::test(start_paused = true)]
async fn s85_nor_by_a_process_that_hears_nothing() {
    let deaf = |world: &World| {
        let hears = |ear, _: &Message| if ear == 1 { Fate::Dropped } else { Fate::Heard };
        world.line.rule(hears);
    };
    assert_eq!(late(deaf).await, 0);
}

#[tokio::test(start_paused = true)]
async fn s85_nor_by_a_process_that_cannot_subscribe() {
    let unsubscribed = |world: &World| {
        world.line.subscribing(Way::Refused);
        world.line.hang_up();
    };
    assert_eq!(late(unsubscribed).await, 0);
}

#[tokio::test(start_paused = true)]
async fn s85_a_commit_under_way_when_another_process_clears_is_taken_back() {
    for fault in [Fault::Stall, Fault::StallAfter] {
        let world = World::new();
        let ((a, _), (b, slow)) = (process(&world).await, process(&world).await);
        let (c, _) = process(&world).await;
        slow.faults().on(Op::Commit).inject(fault);
        let origin = Origin::default();
        let read = b.get_or_fetch("a", origin.gives("v1")).await.unwrap();
        assert_eq!(text(read).await, "v1");
        stalled(&slow, 1).await;
        a.clear().await.unwrap();
        slow.faults().release();
        settle(&b).await;
        assert!(!is_shared(&world).await, "{fault:?}");
        sleep(SOON).await;
        for cache in [&a, &b, &c] {
            assert_eq!(get(cache).await, None, "{fault:?}");
        }
    }
}

/// Another process has copied the object to its private tier before it was taken back.
#[tokio::test(start_paused = true)]
async fn s85_copies_of_what_is_taken_back_go_as_well() {
    let world = World::new();
    let ((a, _), (b, slow)) = (process(&world).await, process(&world).await);
    let (c, _) = process(&world).await;
    slow.faults().on(Op::Commit).inject(Fault::Delay(BOUND * 2));
    let origin = Origin::default();
    text(b.get_or_fetch("a", origin.gives("v1")).await.unwrap()).await;
    a.clear().await.unwrap();
    // It lands only now.
    slow.faults().on(Op::Fence).inject(Fault::Stall);
    stalled(&slow, 1).await;
    assert_eq!(get(&c).await.as_deref(), Some("v1"));
    settle(&c).await;
    assert_eq!(source(&c).await, 0);
    slow.faults().release();
    settle(&b).await;
    sleep(SOON).await;
    assert_eq!((is_shared(&world).await, get(&c).await), (false, None));
}

/// What another process wrote meanwhile is newer, and stays.
#[tokio::test(start_paused = true)]
async fn s85_nothing_newer_is_taken_back() {
    let world = World::new();
    let ((a, _), (b, slow)) = (process(&world).await, process(&world).await);
    slow.faults().on(Op::Commit).inject(Fault::StallAfter);
    let origin = Origin::default();
    text(b.get_or_fetch("a", origin.gives("v1")).await.unwrap()).await;
    stalled(&slow, 1).await;
    a.clear().await.unwrap();
    a.insert("a", "v2", Draft::new()).await.unwrap();
    slow.faults().release();
    settle(&b).await;
    for cache in [&a, &b] {
        assert_eq!(get(cache).await.as_deref(), Some("v2"));
    }
}

#[tokio::test(start_paused = true)]
async fn s85_a_fetch_that_outlived_its_generation_is_kept_from_shared_tiers() {
    let world = World::new();
    let ((_, _), (b, _)) = (process(&world).await, process(&world).await);
    let gate = Gate::new();
    let read = reading(&b, &gate, "v1");
    gate.reached().await;
    world.line.lose();
    sleep(BOUND).await;
    gate.open();
    assert_eq!(read.await.unwrap(), "v1");
    settle(&b).await;
    assert_eq!(b.usage()[0].entries, 1, "its private copy is checked");
    assert_eq!((is_shared(&world).await, get(&b).await), (false, None));
    // The next one is shared again.
    let read = b.get_or_fetch("a", Origin::default().gives("v2"));
    text(read.await.unwrap()).await;
    settle(&b).await;
    assert!(is_shared(&world).await);
}

/// A `clear` that it missed has not deleted anything yet.
#[tokio::test(start_paused = true)]
async fn s85_a_young_fetch_is_shared_although_its_generation_ended() {
    let world = World::new();
    let ((_, _), (b, _)) = (process(&world).await, process(&world).await);
    let gate = Gate::new();
    let read = reading(&b, &gate, "v1");
    gate.reached().await;
    world.line.lose();
    sleep(SOON).await;
    gate.open();
    assert_eq!(read.await.unwrap(), "v1");
    settle(&b).await;
    assert!(is_shared(&world).await);
}

#[tokio::test(start_paused = true)]
async fn s85_a_refresh_that_outlived_its_generation_leaves_no_older_copy() {
    let world = World::new();
    let ((a, _), (b, _)) = (process(&world).await, process(&world).await);
    a.insert("a", "v1", Draft::new()).await.unwrap();
    let gate = Gate::new();
    let fetch = Origin::default().gives_after(&gate, || Fetched::bytes("v2"));
    let refresh = tokio::spawn({
        let b = b.clone();
        async move { text(b.refresh("a", fetch).await.unwrap()).await }
    });
    gate.reached().await;
    world.line.lose();
    sleep(BOUND).await;
    gate.open();
    assert_eq!(refresh.await.unwrap(), "v2");
    settle(&b).await;
    sleep(SOON).await;
    for cache in [&a, &b] {
        assert_eq!(get(cache).await, None, "the older one");
    }
}

#[tokio::test(start_paused = true)]
async fn s85_what_is_queued_for_a_shared_tier_never_lands_after_a_clear_elsewhere() {
    for step in [Op::Set, Op::Write, Op::Commit] {
        let world = World::new();
        let (a, _) = process(&world).await;
        let shared = Faulty::new(world.line.clone());
        let behind = Tier::new(shared.clone()).shared().behind();
        let behind = behind.timeout(3600 * SECOND);
        let builder = world.builder().tier(world.memory()).tier(behind);
        let b = builder.bus(world.line.clone()).build().unwrap();
        sleep(BOUND / 2).await;
        shared.faults().on(step).inject(Fault::Stall);
        b.insert("a", "v1", Draft::new()).await.unwrap();
        stalled(&shared, 1).await;
        a.clear().await.unwrap();
        shared.faults().release();
        settle(&b).await;
        assert!(!is_shared(&world).await, "{step:?}");
        sleep(SOON).await;
        for cache in [&a, &b] {
            assert_eq!(get(cache).await, None, "{step:?}");
        }
    }
}

/// It may be before the clear or after it, but all processes see the same.
#[tokio::test(start_paused = true)]
async fn s85_a_write_during_a_clear_elsewhere_is_there_for_all_or_for_nobody() {
    for (part, slow) in (0..30).flat_map(|part| [(part, false), (part, true)]) {
        let world = World::new();
        let ((a, clears), (b, writes)) = (process(&world).await, process(&world).await);
        let took = Fault::Delay(BOUND / 10);
        for op in [Op::List, Op::Delete] {
            clears.faults().on(op).always(took);
        }
        if slow {
            writes.faults().on(Op::Commit).always(took);
        }
        a.insert("other", "v0", Draft::new()).await.unwrap();
        let clear = clearing(&a);
        sleep(BOUND * part / 20).await;
        b.insert("a", "v1", Draft::new()).await.unwrap();
        clear.await.unwrap().unwrap();
        sleep(BOUND).await;
        let seen = [get(&a).await, get(&b).await];
        assert_eq!(seen[0], seen[1], "{part}, {slow}");
        assert_eq!(seen[0].is_some(), is_shared(&world).await);
    }
}

#[tokio::test(start_paused = true)]
async fn s85_two_processes_clear_at_once() {
    let world = World::new();
    let ((a, _), (b, _)) = (process(&world).await, process(&world).await);
    a.insert("a", "v1", Draft::new()).await.unwrap();
    let gate = Gate::new();
    let read = tokio::spawn({
        let fetch = Origin::default().gives_after(&gate, || Fetched::bytes("v1"));
        let b = b.clone();
        async move { text(b.get_or_fetch("b", fetch).await.unwrap()).await }
    });
    gate.reached().await;
    let clears = [clearing(&a), clearing(&a), clearing(&b)];
    sleep(BOUND / 2).await;
    gate.open();
    read.await.unwrap();
    for clear in clears {
        clear.await.unwrap().unwrap();
    }
    for cache in [&a, &b] {
        settle(cache).await;
        assert_eq!(get(cache).await, None);
        assert!(cache.get("b").await.unwrap().is_absent());
    }
    assert_eq!(world.line.store.usage().entries, 0);
}

#[tokio::test(start_paused = true)]
async fn s85_a_clear_waits_only_where_others_share_a_tier() {
    let world = World::new();
    let lone = world.builder().tier(world.memory()).bus(world.line.clone());
    let shared = Tier::new(world.line.clone()).shared();
    let unheard = world.builder().tier(world.memory()).tier(shared);
    for builder in [lone, unheard] {
        let cache = builder.build().unwrap();
        sleep(SOON).await;
        let began = Instant::now();
        cache.clear().await.unwrap();
        assert!(began.elapsed() < SOON);
    }
}

#[tokio::test(start_paused = true)]
async fn s85_a_clear_that_was_not_announced_is_not_acknowledged() {
    let world = World::new();
    let ((a, _), (b, _)) = (process(&world).await, process(&world).await);
    b.insert("a", "v1", Draft::new()).await.unwrap();
    world.line.publishing(Way::Refused);
    let clear = clearing(&a);
    // The bus takes messages again, but only when the deletes have begun.
    sleep(BOUND * 3 / 2).await;
    world.line.publishing(Way::Open);
    let cleared = clear.await.unwrap().unwrap_err();
    assert!(cleared.is_unavailable(), "{cleared}");
    assert!(!is_shared(&world).await, "it was deleted all the same");
    // One that the bus takes late is announced late.
    world.line.publishing(Way::Refused);
    b.insert("a", "v2", Draft::new()).await.unwrap();
    let clear = clearing(&a);
    sleep(BOUND / 2).await;
    world.line.publishing(Way::Open);
    clear.await.unwrap().unwrap();
    assert!(!is_shared(&world).await);
}

#[tokio::test(start_paused = true)]
async fn s85_a_clear_goes_on_without_its_caller() {
    let world = World::new();
    let ((a, _), (b, _)) = (process(&world).await, process(&world).await);
    b.insert("a", "v1", Draft::new()).await.unwrap();
    let clear = clearing(&a);
    breathe().await;
    clear.abort();
    sleep(BOUND * 2).await;
    assert!(!is_shared(&world).await);
    assert_eq!(get(&b).await, None);
}

#[tokio::test(start_paused = true)]
async fn s85_a_close_waits_for_a_clear_and_cuts_one_that_takes_too_long() {
    for patient in [true, false] {
        let world = World::new();
        let (b, _) = process(&world).await;
        let timeout = if patient { 2 * BOUND } else { BOUND / 2 };
        let a = world.process_with(|builder| builder.close_timeout(timeout));
        let a = a.await;
        b.insert("a", "v1", Draft::new()).await.unwrap();
        let clear = clearing(&a);
        breathe().await;
        let closed = a.close().await;
        let cleared = clear.await.unwrap();
        if patient {
            closed.unwrap();
            cleared.unwrap();
        } else {
            assert!(closed.unwrap_err().is_timeout());
            assert!(cleared.unwrap_err().is_closed());
        }
        assert_eq!(is_shared(&world).await, !patient);
        sleep(BOUND).await;
        let seen = get(&b).await;
        assert_eq!(seen.is_some(), !patient, "{seen:?}");
    }
}

/// The shared store's fence is of no help: a key that it does not list is not deleted.
#[tokio::test(start_paused = true)]
async fn s85_a_clear_ends_no_fence_of_a_key_that_is_not_there() {
    let world = World::new();
    let (a, _) = process(&world).await;
    let fence = world
        .line
        .store
        .fence(Key::new("a").unwrap())
        .await
        .unwrap();
    a.clear().await.unwrap();
    let delete = world.line.store.delete(Key::new("a").unwrap(), Some(fence));
    assert!(delete.await.unwrap().is_done());
}
