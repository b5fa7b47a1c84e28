//! What an old connection holds back must not take effect after the new one serves.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use larder_servers::Server;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, tcp::OwnedWriteHalf},
    sync::oneshot,
};

use super::{super::Link, get, id, set, settings, until_served};

/// Passes bytes on, but for what its first connection sends once it is frozen: that is delivered
/// when it thaws, although the client is gone by then. All later connections are not held.
struct Frost {
    url: String,
    frozen: Arc<AtomicBool>,
    thaw: oneshot::Sender<()>,
    /// Gives what was held, once it was written to the server.
    thawed: oneshot::Receiver<Vec<u8>>,
}

impl Frost {
    async fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        let frozen = Arc::new(AtomicBool::new(false));
        let (thaw, thawing) = oneshot::channel();
        let (done, thawed) = oneshot::channel();
        let mut first = Some((frozen.clone(), thawing, done));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(server).await.unwrap();
                let (mut requests, mut to_client) = client.into_split();
                let (mut replies, mut to_server) = server.into_split();
                let first = first.take();
                tokio::spawn(async move {
                    let _ = tokio::io::copy(&mut replies, &mut to_client).await;
                });
                tokio::spawn(async move {
                    match first {
                        None => drop(tokio::io::copy(&mut requests, &mut to_server).await),
                        Some((frozen, thawing, done)) => {
                            let held = hold(&mut requests, &mut to_server, &frozen).await;
                            thawing.await.unwrap();
                            // It fails if the server has hung up, which is the point.
                            let _ = to_server.write_all(&held).await;
                            let _ = to_server.shutdown().await;
                            done.send(held).unwrap();
                        }
                    }
                });
            }
        });
        Self {
            url,
            frozen,
            thaw,
            thawed,
        }
    }
}

/// Passes on until it is frozen, and keeps what comes after, up to the client's end.
async fn hold(
    requests: &mut tokio::net::tcp::OwnedReadHalf,
    to_server: &mut OwnedWriteHalf,
    frozen: &AtomicBool,
) -> Vec<u8> {
    let mut held = Vec::new();
    let mut buffer = vec![0; 4096];
    while let Ok(count @ 1..) = requests.read(&mut buffer).await {
        if frozen.load(SeqCst) {
            held.extend_from_slice(&buffer[..count]);
        } else {
            to_server.write_all(&buffer[..count]).await.unwrap();
        }
    }
    held
}

#[tokio::test]
async fn s65_what_a_lost_connection_holds_back_never_takes_effect() {
    let server = Server::start();
    let frost = Frost::before(server.address()).await;
    let link = Link::connect(settings(&frost.url)).await.unwrap();
    let before = id(&link).await;
    frost.frozen.store(true, SeqCst);
    let late = link.command::<()>(0, &set("key", "old")).await.unwrap_err();
    assert!(late.is_timeout(), "{late:?}");

    until_served(&link).await;
    assert_ne!(id(&link).await, before);
    link.command::<()>(0, &set("key", "new")).await.unwrap();
    frost.thaw.send(()).unwrap();
    let held = frost.thawed.await.unwrap();
    let text = String::from_utf8_lossy(&held);
    assert!(text.contains("old"), "the proxy held the command: {text}");
    // The server has read whatever it was sent once it answers twice.
    for _ in 0..2 {
        let value: String = link.command(0, &get("key")).await.unwrap();
        assert_eq!(value, "new");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}
