//! The bus of one process fails while another deletes.

use std::time::Duration;

use futures_util::future::join_all;
use larder_servers::{Proxy, Server, Way};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    PATIENCE,
    origin::Origin,
    process::{Process, Seen},
    settings::Settings,
};

const BOUND: Duration = Duration::from_millis(1500);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s67_who_does_not_hear_the_bus_serves_nothing_past_the_bound() {
    let (server, origin) = (Server::start(), Origin::start(Duration::ZERO).await);
    let settings = Settings {
        bound: BOUND,
        ..Settings::new(origin.address, server.url())
    };
    let teller = Process::start(&settings).await;
    let mut deaf = Vec::new();
    for way in 0..4 {
        let proxy = Proxy::start(server.address()).await;
        let settings = Settings {
            bus: Some(proxy.url()),
            ..settings.clone()
        };
        deaf.push((way, proxy, Process::start(&settings).await));
    }
    let tests = deaf.iter().map(async |(way, proxy, deaf)| {
        let key = format!("page{way}");
        from_memory(deaf, &key).await;
        fail(*way, proxy).await;
        let version = origin.publish(&key);
        teller.delete(&key).await;
        let deleted = Instant::now();
        let mut late = Duration::ZERO;
        while deleted.elapsed() < 2 * BOUND {
            let began = deleted.elapsed();
            let read = deaf.read(&key).await;
            if read.version < version {
                assert!(
                    began <= BOUND,
                    "way {way}: {read:?} {began:?} after the delete"
                );
                late = began;
            }
            sleep(BOUND / 100).await;
        }
        println!("way {way}: the older version until {late:?} after the delete");
        // It hears again, and its memory serves.
        proxy.pass();
        proxy.accept().await;
        from_memory(deaf, &key).await;
        assert_eq!(deaf.read(&key).await.version, version);
    });
    join_all(tests).await;
}

async fn fail(way: u32, proxy: &Proxy) {
    match way {
        0 => proxy.hold(),
        1 => {
            proxy.refuse().await;
            proxy.cut();
        }
        2 => proxy.hold_only(Way::Requests),
        _ => proxy.hold_only(Way::Replies),
    }
}

/// Waits until a member has a page in its memory, and trusts what it has.
async fn from_memory(member: &Process, key: &str) -> Seen {
    let reads = async {
        loop {
            let read = member.read(key).await;
            if read.source == "memory" {
                return read;
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    let read = timeout(PATIENCE, reads).await;
    read.expect("its memory serves in time")
}
