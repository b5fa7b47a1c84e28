//! What a server that does not answer may cost in memory.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::Poll,
};

use larder_servers::{Proxy, Server};
use tokio::time::{Duration, timeout};

use super::{
    super::{
        Link,
        dialer::Dialer,
        live::Live,
        request::{Failure, Reply, Request, UNITS_MAX},
    },
    PATIENCE, link_to, settings,
};

async fn live(server: &Server) -> Live {
    live_at(server.url()).await
}

async fn live_at(url: String) -> Live {
    let info = redis::IntoConnectionInfo::into_connection_info(url).unwrap();
    let (live, _) = Dialer::new(info, &settings("")).open(None).await.unwrap();
    live
}

/// Sends and goes away, as a caller does whose time is over.
async fn abandon(live: &Live, command: &redis::Cmd) -> Poll<Result<Reply, Failure>> {
    let sent = AtomicBool::new(false);
    let mut sending = pin!(live.exchange(Request::Command(command), &sent));
    let polled = std::future::poll_fn(|cx| Poll::Ready(sending.as_mut().poll(cx))).await;
    // Lets the library write it.
    tokio::task::yield_now().await;
    polled
}

#[tokio::test]
async fn abandoned_requests_are_limited_until_the_server_answers() {
    let server = Server::start();
    let live = live(&server).await;
    let ping = redis::cmd("PING");
    server.pause();
    for _ in 0..UNITS_MAX {
        assert!(abandon(&live, &ping).await.is_pending());
    }
    assert_eq!(live.units_left(), 0);
    let sent = AtomicBool::new(false);
    let mut waiting = pin!(live.exchange(Request::Command(&ping), &sent));
    let refused = timeout(Duration::from_millis(100), &mut waiting).await;
    assert!(refused.is_err(), "there is no room for another");
    assert!(!sent.load(Relaxed), "and it was not sent");
}

#[tokio::test]
async fn abandoned_requests_make_room_once_answered() {
    let server = Server::start();
    let live = live(&server).await;
    let ping = redis::cmd("PING");
    server.pause();
    for _ in 0..UNITS_MAX {
        assert!(abandon(&live, &ping).await.is_pending());
    }
    server.resume();
    let sent = AtomicBool::new(false);
    let watching = live.watch(PATIENCE);
    let asking = timeout(PATIENCE, live.exchange(Request::Command(&ping), &sent));
    tokio::select! {
        () = watching => panic!("the connection is not lost"),
        answer = asking => assert!(answer.is_ok_and(|answer| answer.is_ok())),
    }
}

#[tokio::test]
async fn the_bytes_of_abandoned_requests_are_limited() {
    let server = Server::start();
    let live = live(&server).await;
    let mut large = redis::cmd("SET");
    large.arg("key").arg(vec![0_u8; 1 << 20]);
    server.pause();
    for _ in 0..15 {
        assert!(live.units_left() >= 65, "there is room for 15 of them");
        assert!(abandon(&live, &large).await.is_pending());
    }
    assert!(live.units_left() < 65, "and for no more");
}

#[tokio::test]
async fn what_waits_for_room_ends_unsent_within_its_time() {
    let server = Server::start();
    let link = link_to(&server).await;
    server.pause();
    let ping = redis::cmd("PING");
    let calls = (0..UNITS_MAX + 10).map(|_| link.command::<()>(0, &ping));
    let mut answers: Vec<_> = futures_util::future::join_all(calls)
        .await
        .into_iter()
        .map(Result::unwrap_err)
        .collect();
    let waited = answers.split_off(UNITS_MAX as usize);
    assert!(answers.iter().all(larder_store::Error::is_timeout));
    assert!(
        waited.iter().all(larder_store::Error::is_unavailable),
        "{waited:?}"
    );
}

#[tokio::test]
async fn what_waits_for_room_turns_to_the_next_connection() {
    let server = Server::start();
    let proxy = Proxy::start(server.address()).await;
    let mut settings = settings(&proxy.url());
    settings.response_timeout = PATIENCE;
    let link = Link::connect(settings).await.unwrap();
    proxy.hold();
    let ping = redis::cmd("PING");
    for _ in 0..UNITS_MAX {
        tokio::select! {
            biased;
            _ = link.command::<()>(0, &ping) => unreachable!("nothing passes"),
            () = tokio::task::yield_now() => {}
        }
    }
    let accepted = proxy.accepted();
    let mut waiting = pin!(link.command::<()>(0, &ping));
    let refused = timeout(Duration::from_millis(50), &mut waiting).await;
    assert!(refused.is_err(), "there is no room for another");
    proxy.cut();
    let dialed = async {
        while proxy.accepted() == accepted {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, dialed).await.unwrap();
    proxy.pass();
    waiting.await.unwrap();
}

#[tokio::test]
async fn a_slow_connection_is_kept_while_answers_come() {
    let server = Server::start();
    let proxy = Proxy::start(server.address()).await;
    let live = Arc::new(live_at(proxy.url()).await);
    // An answer takes three seconds, which is more than the patience of one; but they come densely.
    proxy.delay(Duration::from_millis(1500));
    let patience = Duration::from_secs(1);
    let asking = async {
        loop {
            let live = live.clone();
            tokio::spawn(async move {
                let sent = AtomicBool::new(false);
                let ping = redis::cmd("PING");
                live.exchange(Request::Command(&ping), &sent).await.is_ok()
            });
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let doubting = async {
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert!(abandon(&live, &redis::cmd("PING")).await.is_pending());
        timeout(Duration::from_secs(5), live.watch(patience)).await
    };
    tokio::select! {
        () = asking => {}
        lost = doubting => assert!(lost.is_err(), "the connection is not given up"),
    }
}
