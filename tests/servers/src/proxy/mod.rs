//! A network that fails on command.
//!
//! 1. What the proxy is told holds for every connection, those that come later included.
//! 2. What one side sent is delivered in its order, or not at all.
//! 3. A side that ends is heard by the other side only after all that it sent was delivered.

mod connection;

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use crate::{ATTEMPTS, nap};

/// Stands between clients and one server, on a port of its own. It ends with this value.
///
/// A proxy passes everything on as it comes until it is told otherwise. It needs the runtime in
/// which it was started.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// None while connections are refused.
    listening: Mutex<Option<JoinHandle<()>>>,
}

/// What is on its way through the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the client to the server.
    Requests,
    /// From the server to the client.
    Replies,
}

#[derive(Debug)]
struct Shared {
    target: SocketAddr,
    weather: watch::Sender<Weather>,
    /// The bytes of replies that still pass before their connection is cut.
    cut_after: Mutex<Option<usize>>,
    open: AtomicUsize,
    accepted: AtomicUsize,
}

/// How things are at the moment.
#[derive(Clone, Copy, Debug, Default)]
struct Weather {
    delay: Duration,
    requests_held: bool,
    replies_held: bool,
    /// How often all connections were cut.
    cuts: u64,
}

impl Proxy {
    /// Begins to pass on to `target`.
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let proxy = Self {
            address,
            shared: Arc::new(Shared {
                target,
                weather: watch::Sender::default(),
                cut_after: Mutex::new(None),
                open: AtomicUsize::new(0),
                accepted: AtomicUsize::new(0),
            }),
            listening: Mutex::new(None),
        };
        proxy.listen(listener);
        proxy
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens, as clients of Redis want to be told.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Passes everything on as it comes: ends [`delay`](Self::delay), [`hold`](Self::hold) and
    /// [`cut_after`](Self::cut_after). What was held is delivered now, also for a client that is
    /// gone.
    pub fn pass(&self) {
        *self.shared.cut_after() = None;
        self.change(|weather| {
            *weather = Weather {
                cuts: weather.cuts,
                ..Weather::default()
            };
        });
    }

    /// Delivers what comes from now on so much later, each way.
    pub fn delay(&self, delay: Duration) {
        self.change(|weather| weather.delay = delay);
    }

    /// Takes what comes, and delivers nothing.
    pub fn hold(&self) {
        self.change(|weather| {
            weather.requests_held = true;
            weather.replies_held = true;
        });
    }

    /// Takes what comes one way, and delivers none of it; the other way passes.
    pub fn hold_only(&self, way: Way) {
        self.change(|weather| {
            weather.requests_held = way == Way::Requests;
            weather.replies_held = way == Way::Replies;
        });
    }

    /// Ends all connections now, on both sides. What was held or delayed is lost.
    pub fn cut(&self) {
        self.change(|weather| weather.cuts += 1);
    }

    /// Delivers so many bytes of replies from now on, and ends the connection that has the last of
    /// them. It happens once. After no bytes is in place of the next reply.
    pub fn cut_after(&self, bytes: usize) {
        *self.shared.cut_after() = Some(bytes);
    }

    /// Refuses new connections; those that are there stay.
    pub async fn refuse(&self) {
        let listening = self.listening().take();
        if let Some(listening) = listening {
            listening.abort();
            // The port is closed when the task has ended, which is all that it can do.
            let _ = listening.await;
        }
    }

    /// Takes new connections again after [`refuse`](Self::refuse), on the same port.
    pub async fn accept(&self) {
        self.refuse().await;
        for _ in 0..ATTEMPTS {
            // Another test that looks for a free port may hold this one for a moment.
            match TcpListener::bind(self.address).await {
                Ok(listener) => return self.listen(listener),
                Err(_) => nap(),
            }
        }
        panic!("another process took the port of {}", self.address);
    }

    /// How many connections it has taken so far.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    fn change(&self, change: impl FnOnce(&mut Weather)) {
        self.shared.weather.send_modify(change);
    }

    fn listen(&self, listener: TcpListener) {
        let task = tokio::spawn(serve(listener, self.shared.clone()));
        *self.listening() = Some(task);
    }

    fn listening(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.listening
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(listening) = self.listening().take() {
            listening.abort();
        }
        self.cut();
    }
}

impl Shared {
    fn cut_after(&self) -> MutexGuard<'_, Option<usize>> {
        self.cut_after
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes connections until it is aborted. They outlive it: each ends by itself, or is cut.
async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        // An error is one of that connection alone.
        if let Ok((client, _)) = listener.accept().await {
            shared.accepted.fetch_add(1, Ordering::SeqCst);
            let weather = shared.weather.subscribe();
            tokio::spawn(connection::run(client, weather, shared.clone()));
        }
    }
}
