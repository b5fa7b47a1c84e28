//! S65: the server is away, or the network breaks, and readers do not notice.

use std::time::Duration;

use futures_util::future::join_all;
use larder_servers::{Proxy, Server};
use tokio::time::{sleep, timeout};

use crate::{
    PATIENCE,
    origin::Origin,
    process::{Process, Seen},
    settings::{Private, Settings},
};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s65_the_server_is_killed_and_comes_back() {
    outage(Server::kill, Server::restart, Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s65_the_server_is_stopped_and_goes_on() {
    outage(Server::pause, Server::resume, Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes ten seconds, twice"]
async fn long_s65_the_server_is_away_for_ten_seconds() {
    outage(Server::kill, Server::restart, 10 * SECOND).await;
    outage(Server::pause, Server::resume, 10 * SECOND).await;
}

/// The server is away until the readers have been served, and for so long.
async fn outage(away: fn(&Server), back: fn(&Server), long: Duration) {
    let (server, origin) = (Server::start(), Origin::start(Duration::ZERO).await);
    let settings = Settings {
        response: SECOND / 2,
        bound: 2 * SECOND,
        lease_ttl: SECOND,
        lease_wait: SECOND,
        ..Settings::new(origin.address, server.url())
    };
    let members = Process::start_all(vec![settings; 2]).await;
    let keys = |name: &str| {
        (0..10)
            .map(|key| format!("{name}{key}"))
            .collect::<Vec<_>>()
    };
    let read_all = async |names: &[&str]| {
        for key in names.iter().flat_map(|name| keys(name)) {
            for seen in join_all(members.iter().map(|member| member.read(&key))).await {
                assert_eq!(seen.version, 1);
            }
        }
    };
    read_all(&["old"]).await;
    away(&server);
    read_all(&["old", "new"]).await;
    // What the server refuses is kept from operations; a delete must not be said to be done.
    members[0].ask("set new0 1").await.unwrap();
    members[0].ask("delete old0").await.unwrap_err();
    for member in &members {
        let spared: u64 = member.ask("spared").await.unwrap().parse().unwrap();
        assert!(spared > 0, "its breaker is open");
    }
    sleep(long).await;
    read_all(&["old", "newer"]).await;
    back(&server);
    is_shared_again("back", &members[0], &members[1]).await;
    read_all(&["old", "new", "newer"]).await;
    members[0].delete("old0").await;
}

/// Waits until one member finds in the server what another has fetched.
pub(crate) async fn is_shared_again(name: &str, fetching: &Process, reading: &Process) {
    let back = async {
        for round in 0.. {
            let key = format!("{name}{round}");
            fetching.read(&key).await;
            fetching.settle().await;
            if reading.read(&key).await.source == "redis" {
                return;
            }
            sleep(SECOND / 50).await;
        }
    };
    let back = timeout(PATIENCE, back).await;
    back.expect("it recovers by itself");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s65_the_connection_is_cut_within_a_body() {
    let (server, origin) = (Server::start(), Origin::start(Duration::ZERO).await);
    let proxy = Proxy::start(server.address()).await;
    let settings = Settings {
        chunk: 64 << 10,
        // What works for one key works for all.
        connections: 1,
        ..Settings::new(origin.address, server.url())
    };
    let apart = Settings {
        redis: proxy.url(),
        ..settings.clone()
    };
    let bare = Settings {
        private: Private::None,
        ..apart.clone()
    };
    let members = Process::start_all([settings, apart, bare]).await;
    let [filler, reader, bare] = &members[..] else {
        unreachable!("they are three")
    };
    for (round, cut) in [100, 70 << 10, 300 << 10, 900 << 10]
        .into_iter()
        .enumerate()
    {
        let key = format!("large{round}");
        assert_eq!(filler.read(&key).await, Seen::new(1, "origin"));
        filler.settle().await;
        // What a fetcher can continue is whole. The store cannot: it cannot connect again.
        proxy.refuse().await;
        proxy.cut_after(cut);
        let begun = if cut > 100 { "redis" } else { "origin" };
        assert_eq!(reader.read(&key).await, Seen::new(1, begun));
        assert_eq!(origin.fetches_of(&key), 2, "it was continued");
        proxy.accept().await;
        is_shared_again(&format!("for-reader{round}-"), filler, reader).await;
        is_shared_again(&format!("for-bare{round}-"), filler, bare).await;
        // What nobody can continue is an error or nothing, never a clean end.
        let looked = format!("look {key}");
        assert_eq!(bare.ask(&looked).await.as_deref(), Ok("1 redis"));
        proxy.refuse().await;
        proxy.cut_after(cut);
        match bare.ask(&looked).await {
            Ok(found) => assert_eq!(found, "absent"),
            Err(why) => assert!(!why.starts_with("torn"), "{why}"),
        }
        proxy.accept().await;
        is_shared_again(&format!("again{round}-"), filler, reader).await;
        is_shared_again(&format!("bare-again{round}-"), filler, bare).await;
    }
}

/// The reader's memory has the page, but must check it, since it does not hear the bus. The server
/// says that it is still right, and then the connection is cut.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s65_a_body_that_was_only_checked_is_cut() {
    let (server, origin) = (Server::start(), Origin::start(Duration::ZERO).await);
    let proxy = Proxy::start(server.address()).await;
    let bus = Proxy::start(server.address()).await;
    let settings = Settings {
        redis: proxy.url(),
        bus: Some(bus.url()),
        bound: SECOND / 2,
        chunk: 64 << 10,
        connections: 1,
        ..Settings::new(origin.address, server.url())
    };
    let reader = Process::start(&settings).await;
    let from_memory = async { while reader.read("large").await.source != "memory" {} };
    timeout(PATIENCE, from_memory).await.unwrap();
    bus.refuse().await;
    bus.cut();
    sleep(SECOND).await;
    proxy.refuse().await;
    proxy.cut_after(300 << 10);
    assert_eq!(reader.read("large").await.version, 1);
}
