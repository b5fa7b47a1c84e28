//! One fetch among several processes, and what becomes of a holder that is not heard of.

use std::time::Duration;

use futures_util::future::join_all;
use larder_servers::Server;

use crate::{
    origin::Origin,
    process::{Process, Seen},
    settings::{Private, Settings},
};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_processes_fetch_a_thousand_keys_once_each() {
    let (server, origin) = (Server::start(), Origin::start(SECOND / 200).await);
    let settings = Settings::new(origin.address, server.url());
    let members = Process::start_all(vec![settings; 4]).await;
    let rushes = members.iter().map(async |member| {
        let rush = member.ask_within(5 * crate::PATIENCE, "rush 1000 10");
        rush.await.unwrap()
    });
    assert_eq!(join_all(rushes).await, ["10000"; 4]);
    let mut fetches = origin.fetches();
    assert_eq!(fetches.len(), 1_000);
    fetches.retain(|_, fetches| *fetches > 1);
    if !fetches.is_empty() {
        for member in &members {
            println!("{}", member.ask("counts").await.unwrap());
        }
        panic!("fetched more than once: {fetches:?}");
    }
}

/// Three of one fleet: two with memory, and one that sees only what is shared. They do not tell each
/// other of anything, so that fences alone keep things right.
async fn three(server: &Server, origin: &Origin, lease_ttl: Duration) -> Vec<Process> {
    let settings = Settings {
        lease_ttl,
        bus: None,
        ..Settings::new(origin.address, server.url())
    };
    let bare = Settings {
        private: Private::None,
        ..settings.clone()
    };
    Process::start_all([settings.clone(), settings, bare]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s68_a_holder_that_was_stopped_past_its_expiry_is_fenced_off() {
    let (server, origin) = (Server::start(), Origin::start(Duration::ZERO).await);
    let members = three(&server, &origin, SECOND / 2).await;
    let [a, b, bare] = &members[..] else {
        unreachable!("they are three")
    };
    for (key, resumed_first, times) in [("filled", false, 1), ("under-way", true, 2)] {
        let (old, new) = (origin.gate(key), origin.gate(key));
        let first = a.read(key);
        let others = async {
            old.reached().await;
            a.pause();
            origin.publish(key);
            // It waits until the lease has expired, and has it then.
            let second = b.read(key);
            let stopped = async {
                new.reached().await;
                old.open();
                if resumed_first {
                    // The fence that it had holds yet, but not its lease.
                    a.resume();
                    superseded(a, times).await;
                    assert_eq!(bare.look(key).await, None);
                }
                new.open();
            };
            let (second, ()) = tokio::join!(second, stopped);
            assert_eq!(second, Seen::new(2, "origin"));
            b.settle().await;
            assert_eq!(bare.look(key).await, Some(Seen::new(2, "redis")));
            if !resumed_first {
                a.resume();
            }
        };
        let (first, ()) = tokio::join!(first, others);
        assert_eq!(
            first,
            Seen::new(1, "origin"),
            "its reader gets it all the same"
        );
        superseded(a, times).await;
        assert_eq!(bare.look(key).await, Some(Seen::new(2, "redis")));
        assert_eq!(
            a.look(key).await,
            Some(Seen::new(2, "redis")),
            "nor in its own memory"
        );
        assert_eq!(origin.fetches_of(key), 2);
    }
}

/// Waits until nothing is under way in a member, and sees that it was refused so often by now.
async fn superseded(member: &Process, times: u32) {
    member.settle().await;
    let superseded = member.ask("superseded").await.unwrap();
    assert_eq!(superseded, times.to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_that_was_killed_is_waited_for_no_longer_than_its_lease_lasts() {
    let (server, origin) = (Server::start(), Origin::start(Duration::ZERO).await);
    let mut members = three(&server, &origin, SECOND / 2).await;
    let held = origin.gate("page");
    let killed = members.remove(0);
    tokio::select! {
        read = killed.read("page") => panic!("nobody has answered: {read:?}"),
        () = held.reached() => drop(killed),
    }
    // It waits for a minute, were it not for the lease, and then the test is out of patience.
    assert_eq!(members[0].read("page").await, Seen::new(1, "origin"));
    members[0].settle().await;
    let found = members[1].look("page").await;
    assert_eq!(found, Some(Seen::new(1, "redis")));
    assert_eq!(origin.fetches_of("page"), 2);
    held.open();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s20_a_fill_begun_before_another_process_deletes_is_not_published() {
    let (server, origin) = (Server::start(), Origin::start(Duration::ZERO).await);
    let members = three(&server, &origin, 30 * SECOND).await;
    let [a, b, bare] = &members[..] else {
        unreachable!("they are three")
    };
    let old = origin.gate("page");
    let others = async {
        old.reached().await;
        origin.publish("page");
        b.delete("page").await;
        // The delete has ended the lease: who comes now need not wait for it.
        assert_eq!(b.read("page").await, Seen::new(2, "origin"));
        b.settle().await;
        old.open();
    };
    let (first, ()) = tokio::join!(a.read("page"), others);
    assert_eq!(first, Seen::new(1, "origin"));
    superseded(a, 1).await;
    assert_eq!(bare.look("page").await, Some(Seen::new(2, "redis")));
    assert_eq!(a.look("page").await, Some(Seen::new(2, "redis")));

    // As well where nobody has filled it since.
    let old = origin.gate("other");
    let others = async {
        old.reached().await;
        b.delete("other").await;
        old.open();
    };
    tokio::join!(a.read("other"), others);
    superseded(a, 2).await;
    for member in &members {
        assert_eq!(member.look("other").await, None);
    }
}
