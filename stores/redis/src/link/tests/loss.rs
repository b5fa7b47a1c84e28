//! S65: the server is paused, killed or hangs up.

use std::{sync::atomic::AtomicBool, time::Duration};

use larder_servers::{Proxy, Server, Way};
use tokio::time::{Instant, timeout};

use super::{
    super::{Link, backoff::PAUSE_MAX, dialer::Dialer, request::Request},
    PATIENCE, get, id, link_to, set, settings, until_served,
};

/// The time-out, and what a busy machine adds.
const WITHIN: Duration = Duration::from_secs(5);

#[tokio::test]
async fn s65_a_paused_server_costs_the_time_out_and_is_found_again() {
    let server = Server::start();
    let link = link_to(&server).await;
    server.pause();
    let start = Instant::now();
    let late = link
        .command::<()>(0, &set("key", "value"))
        .await
        .unwrap_err();
    assert!(late.is_timeout(), "{late:?}");
    assert!(start.elapsed() < WITHIN);
    // Long enough for the link to give the connection up, and to fail to restore it.
    let down = async {
        loop {
            let start = Instant::now();
            let refused = link.read::<()>(0, &get("key")).await.unwrap_err();
            assert!(start.elapsed() < WITHIN);
            if refused.is_unavailable() {
                return;
            }
        }
    };
    timeout(PATIENCE, down)
        .await
        .expect("callers come to fail at once");
    server.resume();
    until_served(&link).await;
}

#[tokio::test]
async fn s65_a_short_pause_loses_nothing() {
    let server = Server::start();
    let link = link_to(&server).await;
    let before = id(&link).await;
    server.pause();
    let slow = tokio::spawn({
        let link = link.clone();
        async move { link.command::<()>(0, &set("key", "value")).await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    server.resume();
    slow.await.unwrap().unwrap();
    assert_eq!(id(&link).await, before);
}

#[tokio::test]
async fn s65_a_restarted_server_is_found_again() {
    let server = Server::start();
    let link = link_to(&server).await;
    server.kill();
    let down = async {
        while link.read::<()>(0, &get("key")).await.is_ok() {}
        let refused = link
            .command::<()>(0, &set("key", "value"))
            .await
            .unwrap_err();
        assert!(refused.is_unavailable(), "{refused:?}");
    };
    timeout(PATIENCE, down).await.unwrap();
    server.restart();
    until_served(&link).await;
    link.command::<()>(0, &set("key", "value")).await.unwrap();
}

#[tokio::test]
async fn s65_a_restart_kills_nobody_who_took_the_old_id() {
    let server = Server::start();
    let proxy = Proxy::start(server.address()).await;
    for _ in 0..10 {
        server.ask::<()>(&["PING"]);
    }
    let link = Link::connect(settings(&proxy.url())).await.unwrap();
    let old = id(&link).await;
    proxy.refuse().await;
    server.kill();
    server.restart();
    // Somebody else has the old id when the link comes back.
    let mut others = Vec::new();
    let mut other = loop {
        let mut other = server.connection();
        let id: u64 = redis::cmd("CLIENT").arg("ID").query(&mut other).unwrap();
        if id == old {
            break other;
        }
        assert!(id < old, "the ids count anew");
        others.push(other);
    };
    proxy.accept().await;
    until_served(&link).await;
    let pong: String = redis::cmd("PING").query(&mut other).unwrap();
    assert_eq!(pong, "PONG");
}

#[tokio::test]
async fn s65_a_connection_that_was_killed_while_idle_costs_nobody_an_error() {
    let server = Server::start();
    let link = link_to(&server).await;
    for round in 0..5 {
        let before = id(&link).await;
        let killed: u32 = server.ask(&["CLIENT", "KILL", "ID", &before.to_string()]);
        assert_eq!(killed, 1);
        // The link must find out by itself: nothing is asked before.
        let found = async {
            let list = || server.ask::<String>(&["CLIENT", "LIST", "TYPE", "normal"]);
            while list().lines().count() < 2 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, found)
            .await
            .expect("an idle link reconnects");
        until_served(&link).await;
        assert_ne!(id(&link).await, before, "round {round}");
    }
}

#[tokio::test]
async fn s65_a_read_survives_the_loss_of_its_connection_and_a_write_does_not() {
    let server = Server::start();
    let proxy = Proxy::start(server.address()).await;
    let mut settings = settings(&proxy.url());
    settings.response_timeout = PATIENCE;
    let link = Link::connect(settings).await.unwrap();
    link.command::<()>(0, &set("key", "value")).await.unwrap();

    proxy.hold_only(Way::Replies);
    let read = tokio::spawn({
        let link = link.clone();
        async move { link.read::<String>(0, &get("key")).await }
    });
    let write = tokio::spawn({
        let link = link.clone();
        async move { link.command::<()>(0, redis::cmd("INCR").arg("n")).await }
    });
    let ran = async {
        while server.ask::<Option<i64>>(&["GET", "n"]).is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, ran).await.unwrap();
    let accepted = proxy.accepted();
    proxy.cut();
    // The answers are lost for good once the link dials again.
    let dialed = async {
        while proxy.accepted() == accepted {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, dialed).await.unwrap();
    proxy.pass();
    assert_eq!(read.await.unwrap().unwrap(), "value");
    let lost = write.await.unwrap().unwrap_err();
    assert!(lost.is_unavailable(), "{lost:?}");
    assert_eq!(server.ask::<i64>(&["GET", "n"]), 1, "it was not sent again");
}

#[tokio::test]
async fn a_server_that_hangs_up_is_not_stormed() {
    let server = Server::start();
    let proxy = Proxy::start(server.address()).await;
    let link = Link::connect(settings(&proxy.url())).await.unwrap();
    let before = proxy.accepted();
    // Each connection is cut as soon as it stands.
    let cutting = async {
        loop {
            proxy.cut();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(2), cutting).await.unwrap_err();
    // Pauses of at least 25, 50, 100, 200, 400 and 800 ms, after one attempt at once.
    let attempts = proxy.accepted() - before;
    assert!((1..=8).contains(&attempts), "{attempts} attempts");
    until_served(&link).await;
}

#[tokio::test]
async fn a_server_that_became_a_replica_is_left_after_a_while() {
    let server = Server::start();
    let info = redis::IntoConnectionInfo::into_connection_info(server.url()).unwrap();
    let (live, _) = Dialer::new(info, &settings("")).open(None).await.unwrap();
    server.ask::<()>(&["REPLICAOF", "127.0.0.1", "1"]);
    let write = async || {
        let sent = AtomicBool::new(false);
        let command = set("key", "value");
        let reply = live.exchange(Request::Command(&command), &sent).await;
        assert!(reply.is_ok_and(|reply| reply.is_read_only()));
    };
    write().await;
    assert!(
        !live.is_lost(),
        "a server that stays a replica is not stormed"
    );
    tokio::time::pause();
    tokio::time::advance(2 * PAUSE_MAX).await;
    tokio::time::resume();
    write().await;
    assert!(live.is_lost(), "the name may lead to the new primary now");
}
