//! A Redis Cluster: the same connections, to each master, and a map of who has which slot.
//!
//! The cluster client of `redis-rs` counts one kind of retry: who lets it follow a slot that moved
//! lets it also send again what was sent on a connection that broke, and may have run. Here a
//! request is sent again only when a server says that it did not run it: `MOVED`, `ASK`,
//! `TRYAGAIN`, `CLUSTERDOWN`.
//!
//! One task asks for the map, when a request found it wrong, and with a pause after each time.

mod map;
mod redirect;

use std::{
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use larder_store::{Error, ErrorKind, Result};
use redis::{Cmd, ConnectionInfo, Pipeline, Value};
use tokio::{sync::Notify, task::AbortHandle, time};

use self::{
    map::{Map, Range},
    redirect::Redirect,
};
use super::{
    Settings,
    clock::Reading,
    dialer::Dialer,
    node::Node,
    request::{Failure, Request},
};

/// The shortest time from one answer about the slots to the next question.
const REFRESH_PAUSE: Duration = Duration::from_millis(100);

/// How long to wait where the server says to try again.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// So many redirections are followed at once: two nodes may for a moment send to each other.
const HOPS_AT_ONCE: u32 = 4;

pub(super) struct Cluster {
    shared: Arc<Shared>,
    refresher: AbortHandle,
}

struct Shared {
    settings: Settings,
    /// What the URLs said: user and password count for all nodes.
    seeds: Vec<ConnectionInfo>,
    map: RwLock<Arc<Map>>,
    stale: Notify,
}

/// Where a request goes next.
struct Way {
    node: Arc<Node>,
    /// The node does not own the slot yet, and is asked to answer nevertheless.
    asking: bool,
    hops: u32,
}

impl Cluster {
    /// Asks the URLs one by one for the slots; the nodes are then dialed in the background.
    pub(super) async fn connect(seeds: Vec<ConnectionInfo>, settings: &Settings) -> Result<Self> {
        let shared = Arc::new(Shared {
            settings: settings.clone(),
            seeds,
            map: RwLock::default(),
            stale: Notify::new(),
        });
        shared.refresh_from_seeds().await?;
        let refresher = tokio::spawn(shared.clone().refresh_on_demand()).abort_handle();
        Ok(Self { shared, refresher })
    }

    pub(super) async fn value(
        &self,
        hash: u64,
        command: &Cmd,
        sent: &AtomicBool,
    ) -> Result<Value, Failure> {
        let way = self.shared.way(hash)?;
        self.shared.send(way, hash, command, sent).await
    }

    /// Sends together, and then again one by one what the first node did not run.
    pub(super) async fn values(
        &self,
        hash: u64,
        pipeline: &Pipeline,
        sent: &AtomicBool,
    ) -> Result<Vec<Value>, Failure> {
        let shared = &self.shared;
        let way = shared.way(hash)?;
        let request = Request::Pipeline(pipeline, 0, pipeline.len());
        let mut values = shared
            .watched(way.node.exchange(hash, request, sent).await)?
            .many();
        for (command, value) in pipeline.cmd_iter().zip(&mut values) {
            // Some of the commands may have run: the caller must not hear that none did.
            let again = AtomicBool::new(true);
            if let Some(next) = shared.next(&way, hash, value, &again).await? {
                *value = shared.send(next, hash, command, &again).await?;
            }
        }
        Ok(values)
    }

    /// The time of the node that has the slot.
    pub(super) async fn time(
        &self,
        hash: u64,
        anew: bool,
        sent: &AtomicBool,
    ) -> Result<Reading, Failure> {
        let way = self.shared.way(hash)?;
        self.shared.watched(way.node.time(hash, anew, sent).await)
    }

    /// Any node passes messages on to all.
    pub(super) async fn pubsub(&self) -> Result<redis::aio::PubSub> {
        let mut failed = None;
        for node in self.shared.map().masters() {
            match node.dialer().pubsub().await {
                Ok(pubsub) => return Ok(pubsub),
                Err(error) => failed = Some(error),
            }
        }
        self.shared.stale.notify_one();
        Err(failed.unwrap_or_else(nobody))
    }

    /// The masters as of now.
    pub(super) async fn masters(&self) -> Result<Vec<Arc<Node>>> {
        self.shared.refresh().await?;
        Ok(self.shared.map().masters().to_vec())
    }

    pub(super) fn close(&self) {
        self.refresher.abort();
        self.shared
            .map()
            .nodes()
            .iter()
            .for_each(|node| node.close());
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn map(&self) -> Arc<Map> {
        self.map
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn way(&self, hash: u64) -> Result<Way, Failure> {
        let Some(node) = self.map().owner(map::slot(hash)) else {
            self.stale.notify_one();
            return Err(Failure::Down(nobody()));
        };
        Ok(Way {
            node,
            asking: false,
            hops: 0,
        })
    }

    /// Sends wherever the servers say, until one runs it.
    async fn send(
        &self,
        mut way: Way,
        hash: u64,
        command: &Cmd,
        sent: &AtomicBool,
    ) -> Result<Value, Failure> {
        loop {
            let reply = if way.asking {
                let mut asking = redis::pipe();
                asking.cmd("ASKING").add_command(command.clone());
                way.node
                    .exchange(hash, Request::Pipeline(&asking, 0, 2), sent)
                    .await
            } else {
                way.node
                    .exchange(hash, Request::Command(command), sent)
                    .await
            };
            let value = self.watched(reply)?.one();
            match self.next(&way, hash, &value, sent).await? {
                Some(next) => way = next,
                None => return Ok(value),
            }
        }
    }

    /// Where to turn after this answer, and when; `None` when it is final. Otherwise the command
    /// did not run, and so counts as not `sent`.
    async fn next(
        &self,
        way: &Way,
        hash: u64,
        answer: &Value,
        sent: &AtomicBool,
    ) -> Result<Option<Way>, Failure> {
        let Some(redirect) = redirect::of(answer) else {
            return Ok(None);
        };
        sent.store(false, Relaxed);
        let hops = way.hops + 1;
        if hops > HOPS_AT_ONCE || redirect == Redirect::Later {
            time::sleep(RETRY_PAUSE).await;
        }
        let (host, port, asking) = match redirect {
            Redirect::Ask(host, port) => (host, port, true),
            Redirect::Moved(host, port) => {
                self.stale.notify_one();
                (host, port, false)
            }
            Redirect::Later => {
                self.stale.notify_one();
                let way = self.way(hash)?;
                return Ok(Some(Way { hops, ..way }));
            }
        };
        let info = map::at(way.node.dialer().info(), &host, port);
        let node = self.node(info);
        Ok(Some(Way { node, asking, hops }))
    }

    /// A node that does not answer may have lost its slots to another.
    fn watched<T>(&self, reply: Result<T, Failure>) -> Result<T, Failure> {
        if reply.is_err() {
            self.stale.notify_one();
        }
        reply
    }

    /// The node at this address, perhaps one that the map does not have yet.
    fn node(&self, info: ConnectionInfo) -> Arc<Node> {
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        let place = info.addr().to_string();
        if let Some(node) = map.at(&place) {
            return node;
        }
        let node = self.dial(info);
        *map = Arc::new(map.with(node.clone()));
        node
    }

    fn dial(&self, info: ConnectionInfo) -> Arc<Node> {
        Arc::new(Node::lazy(
            Dialer::new(info, &self.settings),
            &self.settings,
        ))
    }

    async fn refresh_on_demand(self: Arc<Self>) {
        loop {
            self.stale.notified().await;
            if let Err(error) = self.refresh().await {
                tracing::debug!(%error, "no redis node tells who has the slots");
            }
            time::sleep(REFRESH_PAUSE).await;
        }
    }

    /// Asks the nodes one by one, and then the URLs.
    async fn refresh(&self) -> Result<()> {
        let question = slots();
        for node in self.map().nodes() {
            let sent = AtomicBool::new(false);
            let asking = node.exchange(0, Request::Command(&question), &sent);
            if let Ok(Ok(reply)) = time::timeout(self.settings.response_timeout, asking).await
                && let Some(ranges) = map::parse(reply.one(), node.dialer().info())
            {
                self.install(ranges);
                return Ok(());
            }
        }
        self.refresh_from_seeds().await
    }

    async fn refresh_from_seeds(&self) -> Result<()> {
        let mut failed = None;
        for seed in &self.seeds {
            match self.ask_seed(seed).await {
                Ok(ranges) => {
                    self.install(ranges);
                    return Ok(());
                }
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.unwrap_or_else(nobody))
    }

    async fn ask_seed(&self, seed: &ConnectionInfo) -> Result<Vec<Range>> {
        let dialer = Dialer::new(seed.clone(), &self.settings);
        let (live, _) = dialer.open(None).await?;
        let sent = AtomicBool::new(false);
        let question = slots();
        let asking = live.exchange(Request::Command(&question), &sent);
        let value = match time::timeout(self.settings.response_timeout, asking).await {
            Ok(Ok(reply)) => reply.one(),
            Ok(Err(_)) | Err(_) => return Err(nobody()),
        };
        let value = value.extract_error().map_err(|error| {
            let message = format!("redis at {} is no node of a cluster", dialer.place());
            Error::with_source(ErrorKind::Invalid, message, error)
        })?;
        map::parse(value, dialer.info()).ok_or_else(nobody)
    }

    /// Puts the new map in place, and keeps the connections of the nodes that stay.
    fn install(&self, ranges: Vec<Range>) {
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        *map = Arc::new(Map::new(ranges, |info| {
            let known = map.at(&info.addr().to_string());
            known.unwrap_or_else(|| self.dial(info))
        }));
    }
}

fn slots() -> Cmd {
    let mut command = redis::cmd("CLUSTER");
    command.arg("SLOTS");
    command
}

fn nobody() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "no node of the redis cluster has the slot",
    )
}
