//! The network that fails on command.
#![allow(clippy::unwrap_used)] // It is how a test says that something is wrong.

use std::{net::SocketAddr, time::Duration};

use larder_servers::{Proxy, Way};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{Instant, timeout},
};

/// Answers what it reads with the same in capitals, and tells what it reads.
async fn echo() -> (SocketAddr, mpsc::UnboundedReceiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let sender = sender.clone();
            tokio::spawn(async move {
                let mut bytes = [0; 1024];
                while let Ok(len @ 1..) = stream.read(&mut bytes).await {
                    let _ = sender.send(bytes[..len].to_vec());
                    let _ = stream.write_all(&bytes[..len].to_ascii_uppercase()).await;
                }
            });
        }
    });
    (address, receiver)
}

async fn read(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = [0; 1024];
    let read = timeout(Duration::from_secs(20), stream.read(&mut bytes));
    let len = read.await.expect("a reply in time").unwrap_or(0);
    bytes[..len].to_vec()
}

async fn silent(stream: &mut TcpStream) -> bool {
    let mut bytes = [0; 1];
    timeout(Duration::from_millis(100), stream.read(&mut bytes))
        .await
        .is_err()
}

/// A proxy before an echo, a client that has been heard, and what the echo hears.
async fn scene() -> (Proxy, TcpStream, mpsc::UnboundedReceiver<Vec<u8>>) {
    let (target, mut heard) = echo().await;
    let proxy = Proxy::start(target).await;
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    client.write_all(b"hello").await.unwrap();
    assert_eq!(read(&mut client).await, b"HELLO");
    assert_eq!(heard.recv().await.unwrap(), b"hello");
    (proxy, client, heard)
}

#[tokio::test]
async fn everything_passes_and_ends() {
    let (proxy, client, _heard) = scene().await;
    assert_eq!((proxy.accepted(), proxy.connections()), (1, 1));
    drop(client);
    let ended = async {
        while proxy.connections() > 0 {
            tokio::task::yield_now().await;
        }
    };
    let ended = timeout(Duration::from_secs(20), ended).await;
    ended.expect("the connection ends");
}

#[tokio::test]
async fn what_is_delayed_comes_later_each_way() {
    let (proxy, mut client, _heard) = scene().await;
    proxy.delay(Duration::from_millis(60));
    let start = Instant::now();
    client.write_all(b"late").await.unwrap();
    assert_eq!(read(&mut client).await, b"LATE");
    assert!(start.elapsed() >= Duration::from_millis(120));
}

#[tokio::test]
async fn what_is_held_comes_when_it_passes_also_from_who_is_gone() {
    let (proxy, mut client, mut heard) = scene().await;
    proxy.hold();
    client.write_all(b"held").await.unwrap();
    assert!(silent(&mut client).await);
    assert!(heard.try_recv().is_err());
    drop(client);
    proxy.pass();
    assert_eq!(heard.recv().await.unwrap(), b"held");
}

#[tokio::test]
async fn one_way_is_held_alone() {
    let (proxy, mut client, mut heard) = scene().await;
    proxy.hold_only(Way::Replies);
    client.write_all(b"a").await.unwrap();
    assert_eq!(heard.recv().await.unwrap(), b"a");
    assert!(silent(&mut client).await);
    proxy.hold_only(Way::Requests);
    assert_eq!(read(&mut client).await, b"A");
    client.write_all(b"b").await.unwrap();
    assert!(silent(&mut client).await);
    assert!(heard.try_recv().is_err());
    proxy.pass();
    assert_eq!(read(&mut client).await, b"B");
}

#[tokio::test]
async fn a_cut_ends_what_is_there_and_loses_what_was_held() {
    let (proxy, mut client, mut heard) = scene().await;
    proxy.hold();
    client.write_all(b"lost").await.unwrap();
    assert!(silent(&mut client).await);
    proxy.cut();
    assert_eq!(read(&mut client).await, b"");
    proxy.pass();
    let mut next = TcpStream::connect(proxy.address()).await.unwrap();
    next.write_all(b"next").await.unwrap();
    assert_eq!(read(&mut next).await, b"NEXT");
    assert_eq!(heard.recv().await.unwrap(), b"next");
}

#[tokio::test]
async fn a_reply_is_cut_after_so_many_bytes_once() {
    let (proxy, mut client, _heard) = scene().await;
    proxy.cut_after(6);
    client.write_all(b"four").await.unwrap();
    assert_eq!(read(&mut client).await, b"FOUR");
    client.write_all(b"more").await.unwrap();
    assert_eq!(read(&mut client).await, b"MO");
    assert_eq!(read(&mut client).await, b"");
    let mut next = TcpStream::connect(proxy.address()).await.unwrap();
    next.write_all(b"whole again").await.unwrap();
    assert_eq!(read(&mut next).await, b"WHOLE AGAIN");
    for (bytes, reply) in [(4, &b"FOUR"[..]), (0, b"")] {
        proxy.cut_after(bytes);
        let mut client = TcpStream::connect(proxy.address()).await.unwrap();
        client.write_all(b"four").await.unwrap();
        assert_eq!(read(&mut client).await, reply);
        assert_eq!(read(&mut client).await, b"");
    }
}

#[tokio::test]
async fn new_connections_are_refused_and_taken_again() {
    let (proxy, mut client, _heard) = scene().await;
    proxy.refuse().await;
    assert!(TcpStream::connect(proxy.address()).await.is_err());
    client.write_all(b"still").await.unwrap();
    assert_eq!(read(&mut client).await, b"STILL");
    proxy.accept().await;
    let mut next = TcpStream::connect(proxy.address()).await.unwrap();
    next.write_all(b"again").await.unwrap();
    assert_eq!(read(&mut next).await, b"AGAIN");
    drop(proxy);
    assert_eq!(read(&mut next).await, b"");
    assert_eq!(read(&mut client).await, b"");
}

#[tokio::test]
async fn a_dead_target_ends_the_connection_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap();
    drop(listener);
    let proxy = Proxy::start(target).await;
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(read(&mut client).await, b"");
}
