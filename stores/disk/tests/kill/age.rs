//! How old the new objects are that a kill takes: a measurement, beside busy loops.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, SystemTime},
};

use larder_disk::Disk;
use larder_store::Store;

use crate::{
    common::{CHILD, Random, Scratch, child, found, open_again, set},
    pause,
};

const CAPACITY: u64 = 64 << 20;
const KILLS: u64 = 100;

/// Says at which time, after the epoch, a new object was acknowledged.
#[tokio::test]
#[ignore = "the process that is killed"]
async fn sets_until_it_is_killed() {
    let Ok(root) = std::env::var(CHILD) else {
        return;
    };
    let store = Disk::open(root, CAPACITY).await.unwrap();
    for id in 0.. {
        set(&store, &format!("{id}"), 1, 100).await;
        println!("acknowledged {id} {}", now().as_nanos());
        if id % 16 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

#[allow(clippy::disallowed_methods)] // Two processes have this clock in common.
fn now() -> Duration {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap()
}

/// `cargo test -p larder-disk --release --test kill -- --ignored --nocapture how_old`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn s103_how_old_the_objects_are_that_a_kill_takes() {
    for loops in [0, 4, 8] {
        let stop = Arc::new(AtomicBool::new(false));
        let busy = || {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        };
        let busy: Vec<_> = (0..loops).map(|_| busy()).collect();
        let mut random = Random::seeded();
        let mut ages = Vec::new();
        for _ in 0..KILLS {
            ages.push(oldest_lost(Duration::from_millis(30 + random.below(100))).await);
        }
        stop.store(true, Ordering::Relaxed);
        for busy in busy {
            busy.join().unwrap();
        }
        ages.sort_unstable();
        let lost = ages.iter().filter(|age| !age.is_zero()).count();
        let at = |share: usize| ages[(ages.len() - 1) * share / 100];
        println!(
            "beside {loops} busy loops: {lost} of {KILLS} kills took any; the oldest was {:?} in \
             the middle, {:?} at 90 %, {:?} at most",
            at(50),
            at(90),
            at(100)
        );
    }
}

/// The age, at the kill, of the oldest acknowledged object that is gone; zero where none is.
async fn oldest_lost(life: Duration) -> Duration {
    let folder = Scratch::in_memory();
    let root = folder.store();
    let mut command = child("age::sets_until_it_is_killed", root.to_str().unwrap());
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap());
    let (ready, started) = std::sync::mpsc::channel();
    let reader = thread::spawn(move || {
        let mut told = Vec::new();
        for line in lines.lines() {
            let line = line.unwrap();
            let Some(at) = line.find("acknowledged ") else {
                continue;
            };
            let words: Vec<_> = line[at..].split(' ').collect();
            if told.is_empty() {
                let _ = ready.send(());
            }
            let (id, nanos): (u64, u64) = (words[1].parse().unwrap(), words[2].parse().unwrap());
            told.push((id, Duration::from_nanos(nanos)));
        }
        told
    });
    started.recv_timeout(Duration::from_secs(60)).unwrap();
    pause(life);
    let killed = now();
    child.kill().unwrap();
    child.wait().unwrap();
    let told = reader.join().unwrap();
    let store = open_again(|| Disk::builder(&root, CAPACITY)).await;
    let mut oldest = Duration::ZERO;
    for (id, at) in told {
        if found(&store, &format!("{id}")).await.unwrap().is_none() {
            oldest = oldest.max(killed.saturating_sub(at));
        }
    }
    store.close().await.unwrap();
    oldest
}
