//! What a server takes in only after its sender has given up.

use std::time::Duration;

use larder_redis::Redis;
use larder_servers::{Proxy, Server, Way};
use larder_store::{Draft, StoreExt};

use crate::common::{CHUNK, chunks, eventually, finds, is_absent, lasting, pattern, set, store};

/// How long the server may take to answer the store behind the proxy.
const RESPONSE: Duration = Duration::from_secs(1);

async fn behind(proxy: &Proxy) -> Redis {
    let builder = Redis::builder(proxy.url()).chunk_size(4 << 10);
    // One connection: whatever it is, the commit is ahead of what waits for it.
    let builder = builder.connections(1).response_timeout(RESPONSE);
    let store = builder.connect_timeout(Duration::from_secs(30)).connect();
    store.await.unwrap()
}

#[tokio::test]
async fn s73_a_commit_that_was_given_up_does_not_take_effect_later() {
    let server = Server::start();
    let proxy = Proxy::start(server.address()).await;
    let (apart, other) = (behind(&proxy).await, store(&server).await);
    // Within the command, ahead of it, and in chunks that are staged before.
    for (name, len) in [("a", 10), ("b", CHUNK), ("c", 3 * CHUNK + 1)] {
        set(&apart, name, 1, 10).await;
        let mut writer = crate::common::writer(&apart, name, Draft::new()).await;
        writer.write(pattern(2, len)).await.unwrap();
        let sent = len.div_ceil(CHUNK) - 1;
        eventually("all but the last is there", || {
            chunks(&server).len() == sent
        })
        .await;
        proxy.hold_only(Way::Requests);
        writer.commit().await.unwrap_err();
        other.remove(name).await.unwrap();
        is_absent(&other, name).await;
        proxy.pass();
        // What was held is there when what comes after it is answered.
        let back = async { while apart.write("z", "z", Draft::new()).await.is_err() {} };
        tokio::time::timeout(Duration::from_secs(30), back)
            .await
            .expect("the connection is restored");
        for _ in 0..20 {
            is_absent(&other, name).await;
            tokio::time::sleep(RESPONSE / 40).await;
        }
    }
    assert_eq!(lasting(&server).len(), 1, "the one after them");
}

/// The store's first answer about the time is so slow that it is over before the store knows it.
#[tokio::test]
async fn a_commit_that_is_wrongly_refused_is_sent_again() {
    let server = Server::start();
    let proxy = Proxy::start(server.address()).await;
    proxy.delay(3 * RESPONSE / 2);
    let slow = behind(&proxy).await;
    proxy.pass();
    for (name, len) in [("a", 10), ("b", CHUNK)] {
        set(&slow, name, 1, len).await;
        finds(&slow, name, 1, len).await;
    }
    let asked = |command: &str| {
        let about: String = server.ask(&["INFO", "commandstats"]);
        let line = format!("cmdstat_{command}:calls=");
        let calls = about.split_once(&line).unwrap().1;
        let calls = calls.split_once(',').unwrap().0;
        calls.parse::<u32>().unwrap()
    };
    // For the connection and after the refusal; and in the script, of which one more has run.
    assert_eq!(asked("time"), 2 + 3);
    assert_eq!(lasting(&server).len(), 2);
}

/// As before there were deadlines.
#[tokio::test]
async fn a_user_who_may_not_ask_for_the_time_can_write() {
    let server = Server::start();
    server.ask::<()>(&["ACL", "SETUSER", "default", "-time"]);
    let store = store(&server).await;
    set(&store, "a", 1, 10).await;
    finds(&store, "a", 1, 10).await;
}
