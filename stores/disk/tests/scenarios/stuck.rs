//! Nobody waits on a stranger, and nothing locks up.

use std::{sync::Arc, time::Duration};

use larder_disk::Disk;
use larder_store::Store;

use crate::{
    KIB, KINDS, MIB,
    common::{PROMPT, Random, delete, finds, found, open_body, read, set, within},
    new, set_each_kind, with,
};

/// So long that whatever takes longer hangs.
const HANGS: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s08_sixteen_writers_and_room_for_three_go_on() {
    // Objects in files of their own, objects in the log, and both.
    for (least, most) in [(300, 310), (20, 30), (10, 300)] {
        let (_folder, store) = with(MIB, |builder| builder).await;
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let mut random = Random::seeded();
        let writers: Vec<_> = (0..16)
            .map(|_| {
                let random = Random::new(random.next());
                tokio::spawn(work(store.clone(), random, least..most, Arc::clone(&stop)))
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(1200)).await;
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        let mut turns = 0;
        for writer in writers {
            let done = within(HANGS, "a writer", writer).await.unwrap();
            assert!(done > 0, "a writer got no turn at all");
            turns += done;
        }
        let usage = store.usage();
        assert!(
            turns > 100 && usage.evictions > 0,
            "{turns} turns, {usage:?}"
        );
        assert!(usage.live <= MIB, "{usage:?}");
        within(HANGS, "a close", store.close()).await.unwrap();
    }
}

async fn work(
    store: Disk,
    mut random: Random,
    kib: std::ops::Range<u64>,
    stop: Arc<std::sync::atomic::AtomicBool>,
) -> u64 {
    let mut turns = 0;
    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
        let name = format!("{}", random.below(64));
        let len = (kib.start + random.below(kib.end - kib.start)) * 1024;
        let what = async {
            match random.below(8) {
                0 => delete(&store, &name).await,
                1..4 => drop(found(&store, &name).await.unwrap()),
                _ => set(&store, &name, random.next(), usize::try_from(len).unwrap()).await,
            }
        };
        within(HANGS, "an operation", what).await;
        turns += 1;
    }
    turns
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s10_an_unread_body_holds_nobody_up() {
    let (_folder, store) = new(64 * MIB).await;
    set_each_kind(&store, 1).await;
    for (name, len) in KINDS {
        let unread = open_body(&store, name).await;
        let mut begun = open_body(&store, name).await;
        let first = begun.body.chunk().await.unwrap().unwrap();
        within(PROMPT, "a get", finds(&store, name, 1)).await;
        within(PROMPT, "a set", set(&store, name, 2, len)).await;
        within(PROMPT, "a get", finds(&store, name, 2)).await;
        within(PROMPT, "a delete", delete(&store, name)).await;
        within(PROMPT, "a get", finds(&store, name, None)).await;
        // Enough keys for each stripe to have some.
        for id in 0..2_000 {
            let other = format!("{id}");
            within(PROMPT, "a set", set(&store, &other, 1, 10)).await;
            within(PROMPT, "a get", finds(&store, &other, 1)).await;
            within(PROMPT, "a delete", delete(&store, &other)).await;
        }
        assert_eq!(read(name, unread).await.unwrap(), 1);
        let rest = begun.body.bytes(4 * MIB).await.unwrap();
        assert_eq!(first.len() + rest.len(), len);
        assert!(crate::common::body(name, 1, len).ends_with(&rest));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unread_body_does_not_keep_the_store_from_making_room() {
    let (_folder, store) = new(4 * MIB).await;
    let mut unread = Vec::new();
    for id in 0..60_u64 {
        let name = format!("{id}");
        // Some go to the log, and some to files of their own.
        let len = usize::try_from(id % 3).unwrap() * 150 * KIB + 50 * KIB;
        within(HANGS, "a set", set(&store, &name, id, len)).await;
        unread.push((name.clone(), open_body(&store, &name).await));
    }
    assert!(store.usage().evictions > 0);
    for (id, (name, object)) in (0..).zip(unread) {
        assert_eq!(read(&name, object).await.unwrap(), id);
    }
}
