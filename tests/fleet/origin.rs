//! The origin of all pages, which the test has: it knows their newest versions, and counts.
//!
//! It is asked line by line, `fetch KEY` or `publish KEY`, and answers with a version. A fetch is
//! answered with the version that was the newest when it came, after a delay, or when its gate is
//! opened.

use std::{
    collections::{HashMap, VecDeque},
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};

use crate::PATIENCE;

#[derive(Clone)]
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    delay: Duration,
    pages: Arc<Mutex<HashMap<String, Page>>>,
}

struct Page {
    version: u64,
    fetches: u64,
    gates: VecDeque<Gate>,
}

impl Default for Page {
    fn default() -> Self {
        Self {
            version: 1,
            fetches: 0,
            gates: VecDeque::new(),
        }
    }
}

/// What holds one fetch up.
#[derive(Clone)]
pub(crate) struct Gate {
    reached: Arc<Semaphore>,
    open: Arc<Semaphore>,
}

impl Origin {
    /// Every page has version 1.
    pub(crate) async fn start(delay: Duration) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let origin = Self {
            address: listener.local_addr().unwrap(),
            delay,
            pages: Arc::default(),
        };
        let serving = origin.clone();
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(serving.clone().serve(connection));
            }
        });
        origin
    }

    async fn serve(self, connection: TcpStream) {
        connection.set_nodelay(true).unwrap();
        let mut connection = BufReader::new(connection);
        let mut line = String::new();
        while connection
            .read_line(&mut line)
            .await
            .is_ok_and(|len| len > 0)
        {
            let (verb, key) = line.trim_end().split_once(' ').expect("verb and key");
            let version = match verb {
                "fetch" => self.fetch(key).await,
                _ => self.publish(key),
            };
            let answer = format!("{version}\n");
            if connection.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
            line.clear();
        }
    }

    async fn fetch(&self, key: &str) -> u64 {
        let (version, gate) = self.page(key, |page| {
            page.fetches += 1;
            (page.version, page.gates.pop_front())
        });
        match gate {
            Some(gate) => {
                gate.reached.add_permits(1);
                gate.open.acquire().await.unwrap().forget();
            }
            None => sleep(self.delay).await,
        }
        version
    }

    /// Makes a new version of a page, the newest from now on.
    pub(crate) fn publish(&self, key: &str) -> u64 {
        self.page(key, |page| {
            page.version += 1;
            page.version
        })
    }

    /// Holds the next fetch of a page up.
    pub(crate) fn gate(&self, key: &str) -> Gate {
        let gate = Gate {
            reached: Arc::new(Semaphore::new(0)),
            open: Arc::new(Semaphore::new(0)),
        };
        self.page(key, |page| page.gates.push_back(gate.clone()));
        gate
    }

    /// The fetches of each page that was fetched.
    pub(crate) fn fetches(&self) -> HashMap<String, u64> {
        let pages = self.pages();
        let fetched = pages.iter().filter(|(_, page)| page.fetches > 0);
        fetched
            .map(|(key, page)| (key.clone(), page.fetches))
            .collect()
    }

    pub(crate) fn fetches_of(&self, key: &str) -> u64 {
        self.page(key, |page| page.fetches)
    }

    fn page<T>(&self, key: &str, change: impl FnOnce(&mut Page) -> T) -> T {
        change(self.pages().entry(key.to_owned()).or_default())
    }

    fn pages(&self) -> MutexGuard<'_, HashMap<String, Page>> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gate {
    /// Waits until a fetch is held up.
    pub(crate) async fn reached(&self) {
        let reached = timeout(PATIENCE, self.reached.acquire()).await;
        reached.expect("a fetch comes").unwrap().forget();
    }

    pub(crate) fn open(&self) {
        self.open.add_permits(1);
    }
}
