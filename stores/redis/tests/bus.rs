//! S67: the bus of a real server, which is killed and paused, behind a network that fails.

use std::time::Duration;

use futures_util::StreamExt;
use larder_redis::Redis;
use larder_servers::{Proxy, Server, Way};
use larder_store::{Bus, Deliveries, Delivery, KeyBuf, Message, Notice, Store};
use tokio::time::timeout;

/// By then what is to come has come.
const PATIENCE: Duration = Duration::from_secs(30);

fn message(sequence: u64) -> Message {
    Message {
        publisher: 7,
        epoch: 1,
        sequence,
        notice: Notice::Keys(vec![KeyBuf::new("key").expect("a key")]),
    }
}

async fn connect(url: String) -> Redis {
    Redis::connect(url).await.expect("the server is there")
}

async fn publish(store: &Redis, sequence: u64) {
    let message = message(sequence);
    store.publish(&message).await.expect("it is published");
}

async fn hear(deliveries: &mut Deliveries) -> Delivery {
    timeout(PATIENCE, deliveries.next())
        .await
        .expect("something is heard in time")
        .expect("the store is open")
}

fn heard(sequence: u64) -> Delivery {
    Delivery::Message(message(sequence))
}

/// Publishes until a message is heard, and gives what was heard before it.
async fn hear_again(store: &Redis, deliveries: &mut Deliveries, sequence: u64) -> Vec<Delivery> {
    let mut before = Vec::new();
    for _ in 0..300 {
        // The other connections of the store may have to come back as well.
        let _ = store.publish(&message(sequence)).await;
        while let Ok(delivery) = timeout(Duration::from_millis(100), deliveries.next()).await {
            let delivery = delivery.expect("the store is open");
            if delivery == heard(sequence) {
                return before;
            }
            before.push(delivery);
        }
    }
    panic!("nothing is heard again but {before:?}");
}

fn is_lost(deliveries: &[Delivery]) -> bool {
    !deliveries.is_empty() && deliveries.iter().all(|it| *it == Delivery::Lost)
}

#[tokio::test]
async fn s67_all_hear_all_in_order_their_own_included() {
    let server = Server::start();
    let [one, other] = [connect(server.url()).await, connect(server.url()).await];
    let mut hearing = [
        one.subscribe().await.unwrap(),
        other.subscribe().await.unwrap(),
    ];
    for sequence in 1..=500 {
        publish(&one, sequence).await;
    }
    for deliveries in &mut hearing {
        for sequence in 1..=500 {
            assert_eq!(hear(deliveries).await, heard(sequence));
        }
    }
}

#[tokio::test]
async fn stores_with_different_prefixes_hear_only_their_own() {
    let server = Server::start();
    let store = connect(server.url()).await;
    let other = Redis::builder(server.url()).prefix("other");
    let other = other.connect().await.unwrap();
    let mut deliveries = store.subscribe().await.unwrap();
    publish(&other, 1).await;
    publish(&store, 2).await;
    assert_eq!(hear(&mut deliveries).await, heard(2));
}

#[tokio::test]
async fn s67_a_killed_server_is_told_as_lost_and_then_heard_again() {
    let server = Server::start();
    let store = connect(server.url()).await;
    let mut deliveries = store.subscribe().await.unwrap();
    publish(&store, 1).await;
    assert_eq!(hear(&mut deliveries).await, heard(1));
    server.kill();
    assert_eq!(hear(&mut deliveries).await, Delivery::Lost);
    let publishing = store.publish(&message(2)).await;
    assert!(publishing.unwrap_err().is_unavailable());
    server.restart();
    // What was stored while nothing was heard is in doubt as well.
    assert_eq!(hear(&mut deliveries).await, Delivery::Lost);
    assert_eq!(hear_again(&store, &mut deliveries, 3).await, []);
}

#[tokio::test]
async fn s67_a_silent_server_is_noticed() {
    let server = Server::start();
    let store = connect(server.url()).await;
    let mut deliveries = store.subscribe().await.unwrap();
    server.pause();
    assert_eq!(hear(&mut deliveries).await, Delivery::Lost);
    server.resume();
    let before = hear_again(&store, &mut deliveries, 1).await;
    assert!(is_lost(&before), "{before:?}");
}

#[tokio::test]
async fn a_quiet_bus_stays() {
    let server = Server::start();
    let proxy = Proxy::start(server.address()).await;
    let store = connect(proxy.url()).await;
    let mut deliveries = store.subscribe().await.unwrap();
    let connections = proxy.accepted();
    let quiet = timeout(Duration::from_secs(6), deliveries.next()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    publish(&store, 1).await;
    assert_eq!(hear(&mut deliveries).await, heard(1));
    assert_eq!(proxy.accepted(), connections);
}

#[tokio::test]
async fn s67_a_connection_that_breaks_is_told_as_lost_each_time() {
    let server = Server::start();
    let proxy = Proxy::start(server.address()).await;
    let store = connect(proxy.url()).await;
    let mut deliveries = store.subscribe().await.unwrap();
    for round in 1..=3 {
        proxy.cut();
        let before = hear_again(&store, &mut deliveries, round).await;
        assert!(is_lost(&before), "{before:?}");
    }
    // Refused for a while, and published meanwhile by somebody who can.
    let other = connect(server.url()).await;
    proxy.refuse().await;
    proxy.cut();
    assert_eq!(hear(&mut deliveries).await, Delivery::Lost);
    publish(&other, 4).await;
    proxy.accept().await;
    let before = hear_again(&store, &mut deliveries, 5).await;
    assert!(is_lost(&before), "{before:?}");
}

#[tokio::test]
async fn a_network_that_goes_silent_is_noticed() {
    let server = Server::start();
    let proxy = Proxy::start(server.address()).await;
    let store = connect(server.url()).await;
    let hearing = connect(proxy.url()).await;
    let mut deliveries = hearing.subscribe().await.unwrap();
    proxy.hold_only(Way::Replies);
    publish(&store, 1).await;
    assert_eq!(hear(&mut deliveries).await, Delivery::Lost);
    proxy.pass();
    let before = hear_again(&store, &mut deliveries, 2).await;
    assert!(is_lost(&before), "{before:?}");
}

#[tokio::test]
async fn s67_who_does_not_listen_is_told_of_the_gap() {
    let server = Server::start();
    let store = connect(server.url()).await;
    let mut deliveries = store.subscribe().await.unwrap();
    publish(&store, 1).await;
    assert_eq!(hear(&mut deliveries).await, heard(1));
    // More than are kept, and not a multiple: something is kept after the gap.
    for sequence in 2..=1500 {
        publish(&store, sequence).await;
    }
    publish(&store, 1501).await;
    let mut gap = Vec::new();
    loop {
        match hear(&mut deliveries).await {
            Delivery::Message(message) if message.sequence == 1501 => break,
            delivery => gap.push(delivery),
        }
    }
    assert_eq!(gap[0], Delivery::Lost, "of {}", gap.len());
    let rest: Vec<_> = (1501 - gap.len() as u64 + 1..1501).map(heard).collect();
    assert_eq!(gap[1..], rest);
    assert!(gap.len() <= 1024, "{}", gap.len());
}

#[tokio::test]
async fn what_is_no_message_is_told_as_lost() {
    let server = Server::start();
    let store = connect(server.url()).await;
    let mut deliveries = store.subscribe().await.unwrap();
    for payload in ["", "nonsense"] {
        publish(&store, 1).await;
        server.ask::<()>(&["PUBLISH", "larder:bus", payload]);
        publish(&store, 2).await;
        assert_eq!(hear(&mut deliveries).await, heard(1));
        assert_eq!(hear(&mut deliveries).await, Delivery::Lost);
        assert_eq!(hear(&mut deliveries).await, heard(2));
    }
}

#[tokio::test]
async fn a_subscription_ends_with_its_store_also_while_the_server_is_away() {
    let server = Server::start();
    let store = connect(server.url()).await;
    let mut deliveries = store.subscribe().await.unwrap();
    server.kill();
    assert_eq!(hear(&mut deliveries).await, Delivery::Lost);
    store.close().await.unwrap();
    let end = timeout(PATIENCE, deliveries.next()).await;
    assert_eq!(end.expect("it ends"), None);
    assert!(store.subscribe().await.err().unwrap().is_closed());
    assert!(store.publish(&message(1)).await.unwrap_err().is_closed());
}

#[tokio::test]
async fn a_dropped_subscription_leaves_no_connection() {
    let server = Server::start();
    let store = connect(server.url()).await;
    let channels = || server.ask::<Vec<String>>(&["PUBSUB", "CHANNELS"]);
    let deliveries = store.subscribe().await.unwrap();
    assert_eq!(channels(), ["larder:bus"]);
    drop(deliveries);
    let gone = async {
        while !channels().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, gone).await.expect("nobody listens");
}

#[tokio::test]
async fn nobody_can_subscribe_while_the_server_is_away() {
    let server = Server::start();
    let store = connect(server.url()).await;
    server.kill();
    let error = store.subscribe().await.err().expect("nobody is there");
    assert!(error.is_unavailable(), "{error}");
    server.restart();
    let mut deliveries = store.subscribe().await.unwrap();
    assert_eq!(hear_again(&store, &mut deliveries, 1).await, []);
}

/// A message reaches all nodes, whoever takes it, and the nodes that are left do without one.
#[cfg(feature = "cluster")]
#[tokio::test]
async fn s67_a_cluster_carries_messages_as_long_as_a_node_is_there() {
    let cluster = larder_servers::Cluster::start();
    let connect = async || Redis::cluster(cluster.urls()).connect().await.unwrap();
    let [one, other] = [connect().await, connect().await];
    let mut deliveries = one.subscribe().await.unwrap();
    let by = |publisher| Message {
        publisher,
        ..message(1)
    };
    for publisher in 0..20 {
        other
            .publish(&by(publisher))
            .await
            .expect("all nodes are there");
    }
    // They went different ways.
    let mut heard = Vec::new();
    while heard.len() < 20 {
        match hear(&mut deliveries).await {
            Delivery::Message(message) => heard.push(message.publisher),
            Delivery::Lost => panic!("nothing was disturbed"),
        }
    }
    heard.sort_unstable();
    assert_eq!(heard, (0..20).collect::<Vec<_>>());
    let mut listened = (0..3).filter(|node| {
        let channels: Vec<String> = cluster.nodes()[*node].ask(&["PUBSUB", "CHANNELS"]);
        !channels.is_empty()
    });
    let node = listened.next().expect("one node is listened to");
    assert_eq!(listened.next(), None);
    cluster.kill(node);
    assert_eq!(hear(&mut deliveries).await, Delivery::Lost);
    let before = hear_again(&other, &mut deliveries, 2).await;
    assert!(is_lost(&before), "{before:?}");
    for publisher in 0..20 {
        other
            .publish(&by(publisher))
            .await
            .expect("two nodes are there");
        assert_eq!(
            hear(&mut deliveries).await,
            Delivery::Message(by(publisher))
        );
    }
}
