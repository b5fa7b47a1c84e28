//! S55: the process is killed at any moment, and what it had acknowledged is there.
//!
//! A child process works on a store under load and tells of each change before and after it, until
//! it is killed. Then the folder is opened here and held against what was told; then the next child
//! goes on in the same folder.
//!
//! `cargo test -p larder-disk --release --test kill -- --ignored long` kills it 240 times.

#![allow(clippy::unwrap_used)] // The helpers below are tests, too.
#![allow(clippy::print_stdout)] // A test that fails shows what it printed: its seed.

#[path = "../common/mod.rs"]
mod common;

mod age;
mod history;
mod load;
mod verdict;

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::Stdio,
    thread,
    time::Duration,
};

use common::{Random, Scratch, child, open_again};
use history::History;
use larder_disk::Disk;
use larder_store::Store;
use load::Load;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s55_killed_while_it_evicts() {
    kills(Load::EVICTING, 5, Scratch::in_memory).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s55_killed_with_room_for_everything() {
    kills(Load::AMPLE, 5, Scratch::in_memory).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn long_s55_killed_again_and_again() {
    for load in [Load::EVICTING, Load::AMPLE] {
        kills(load, 60, Scratch::in_memory).await;
        kills(load, 60, Scratch::new).await;
    }
}

/// Kills in one folder, before there is a new one.
const A_FOLDER: u64 = 20;

/// So many kills.
async fn kills(load: Load, count: u64, scratch: fn() -> Scratch) {
    let mut random = Random::seeded();
    let mut folder = scratch();
    let mut history = History::default();
    for round in 1..=count {
        println!("kill {round} of {count}, {load:?}");
        let seed = random.next();
        let life = Duration::from_millis(50 + random.below(350));
        killed(
            &folder.store(),
            &load,
            seed,
            round * 1_000_000,
            life,
            &mut history,
        );
        let builder = || load.builder(&folder.store());
        let store = open_again(builder).await;
        verdict::check(&store, &load, &mut history).await;
        // The next child begins with what was closed, or with what was dropped.
        if random.below(2) == 0 {
            store.close().await.unwrap();
        }
        drop(store);
        if round % A_FOLDER == 0 {
            folder = scratch();
            history = History::default();
        }
        drop(open_again(|| load.builder(&folder.store())).await);
    }
}

/// Lets a child work for so long, and adds what it told to the history.
fn killed(
    root: &Path,
    load: &Load,
    seed: u64,
    first_version: u64,
    life: Duration,
    history: &mut History,
) {
    let what = load.tell(root, seed, first_version);
    let mut command = child("works_until_it_is_killed", &what);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap());
    let (ready, started) = std::sync::mpsc::channel();
    let reader = thread::spawn(move || {
        let mut told = Vec::new();
        for line in lines.lines() {
            let line = line.unwrap();
            if line.ends_with(load::READY) {
                ready.send(()).unwrap();
            }
            told.push(line);
        }
        told
    });
    let ready = started.recv_timeout(Duration::from_secs(20));
    let state = child.try_wait();
    assert!(ready.is_ok(), "the child does not start: {state:?}");
    pause(life);
    assert!(child.try_wait().unwrap().is_none(), "the child has ended");
    child.kill().unwrap();
    child.wait().unwrap();
    history.add(&reader.join().unwrap());
}

#[allow(clippy::disallowed_methods)] // The other process has a clock of its own.
pub(crate) fn pause(time: Duration) {
    thread::sleep(time);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the process that is killed"]
async fn works_until_it_is_killed() {
    if let Ok(told) = std::env::var(common::CHILD) {
        load::work(&told).await;
    }
}

/// What the tests above say of a store that forgets: they would see it.
#[tokio::test]
async fn a_store_that_forgets_is_found_out() {
    let folder = Scratch::in_memory();
    let store: Disk = Load::AMPLE.builder(&folder.store()).open().await.unwrap();
    let mut told = vec!["begin k0 7 set 100".to_owned(), "done k0 7".to_owned()];
    told.extend(vec![load::BEAT.to_owned(); 20]);
    let mut history = History::default();
    history.add(&told);
    let check = tokio::spawn(async move {
        verdict::check(&store, &Load::AMPLE, &mut history).await;
        store.close().await.unwrap();
    });
    assert!(check.await.unwrap_err().is_panic());
}
