//! The client side: connections to the servers that are kept alive, and requests over them.
//!
//! 1. Requests about one object (one hash) go over one connection, first in, first out. A request
//!    whose caller went away is overtaken by no later one, and overtakes none.
//! 2. What a lost connection left in the server's buffers does not take effect once the next
//!    connection serves ([`dialer`] says how, and when this does not hold).
//! 3. What was sent is not sent again, unless the server said that it did not run it. Only
//!    [`Link::read`] repeats.
//! 4. Each wait ends with the response time-out, counted from the call: for a connection, for a
//!    permit, for the answer, for a slot that moves.
//! 5. Sent and unanswered requests of a connection are limited ([`request::UNITS_MAX`]), also when
//!    their callers are gone.
//!
//! [`Link`] is the way in; [`node`] holds the connections to one server, each a [`connection`]
//! whose keeper dials anew, and [`live`] one established one of them. [`cluster`] finds the node of
//! a slot. `redis-rs` brings the protocol and the multiplexing; its own reconnection and its
//! cluster client are not used, since they send again what may have run.

mod backoff;
mod clock;
#[cfg(feature = "cluster")]
mod cluster;
mod connection;
mod dialer;
mod error;
mod live;
mod node;
mod request;
mod scan;
mod script;
#[cfg(test)]
mod tests;
mod url;

use std::{
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use larder_store::{Error, ErrorKind, Result};
use redis::{Cmd, FromRedisValue, Pipeline, RedisFuture, Value};
use tokio::time::Instant;

pub(crate) use backoff::{Backoff, PAUSE_MAX};
use clock::Reading;
#[cfg(feature = "cluster")]
use cluster::Cluster;
pub(crate) use error::error;
use node::Node;
use request::{Failure, Reply, Request};
pub(crate) use script::Script;

/// How to reach the server.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) urls: Vec<String>,
    /// Whether the URLs are nodes of one cluster.
    pub(crate) cluster: bool,
    /// To each server; at least one.
    pub(crate) connections: usize,
    /// For a connection until it can serve.
    pub(crate) connect_timeout: Duration,
    /// For each request, from the call on.
    pub(crate) response_timeout: Duration,
    /// For the jitter of the pauses.
    pub(crate) seed: u64,
}

/// The way to the servers; a clone is a reference.
///
/// The hash that requests take is the object's. It chooses the connection; in a cluster its 16
/// lower-case hexadecimal digits are the hash tag of the object's names, and so choose the slot.
///
/// # Cancel safety
///
/// Of all methods: a call that is dropped has sent its request or never will.
#[derive(Clone)]
pub(crate) struct Link(Arc<Inner>);

struct Inner {
    servers: Servers,
    response_timeout: Duration,
}

enum Servers {
    One(Arc<Node>),
    #[cfg(feature = "cluster")]
    Cluster(Cluster),
}

impl Link {
    /// Connects. [`Invalid`](ErrorKind::Invalid) when URL, user or password are wrong,
    /// [`Unavailable`](ErrorKind::Unavailable) when the server cannot be reached.
    pub(crate) async fn connect(settings: Settings) -> Result<Self> {
        let servers = Servers::connect(&settings).await?;
        Ok(Self(Arc::new(Inner {
            servers,
            response_timeout: settings.response_timeout,
        })))
    }

    /// Sends once, and awaits the reply.
    pub(crate) async fn command<T: FromRedisValue>(&self, hash: u64, command: &Cmd) -> Result<T> {
        let sent = AtomicBool::new(false);
        let sending = self.0.servers.value(hash, command, &sent);
        convert(self.in_time(&sent, pin!(sending)).await?)
    }

    /// As [`command`](Self::command), but sends again, once, if the connection breaks meanwhile: for
    /// commands that change nothing.
    pub(crate) async fn read<T: FromRedisValue>(&self, hash: u64, command: &Cmd) -> Result<T> {
        let sent = AtomicBool::new(false);
        let reading = async {
            match self.0.servers.value(hash, command, &sent).await {
                Err(Failure::Broken(_)) => self.0.servers.value(hash, command, &sent).await,
                done => done,
            }
        };
        convert(self.in_time(&sent, pin!(reading)).await?)
    }

    /// Sends the commands together. They run in this order, but others may run between them; in a
    /// cluster all names must have the hash's tag. Not for `MULTI`.
    pub(crate) async fn pipeline<T: FromRedisValue>(
        &self,
        hash: u64,
        pipeline: &Pipeline,
    ) -> Result<T> {
        debug_assert!(
            !pipeline.is_transaction(),
            "scripts are the transactions here"
        );
        let sent = AtomicBool::new(false);
        let sending = self.0.servers.values(hash, pipeline, &sent);
        let values = self.in_time(&sent, pin!(sending)).await?;
        // The pipeline knows which replies its owner wants; it asks a connection for them.
        pipeline
            .query_async(&mut Replies(Some(values)))
            .await
            .map_err(error)
    }

    /// Runs the script, and sends it whole when the server does not know it: then it did not run.
    pub(crate) async fn run<T: FromRedisValue>(
        &self,
        hash: u64,
        script: &Script,
        keys: &[&[u8]],
        args: &[&[u8]],
    ) -> Result<T> {
        let sent = AtomicBool::new(false);
        let running = async {
            let by_hash = script.by_hash(keys, args);
            let value = self.0.servers.value(hash, &by_hash, &sent).await?;
            if is_unknown_script(&value) {
                let by_source = script.by_source(keys, args);
                return self.0.servers.value(hash, &by_source, &sent).await;
            }
            Ok(value)
        };
        convert(self.in_time(&sent, pin!(running)).await?)
    }

    /// As [`run`](Self::run), with a command that is sent ahead of the script in the same trip, and
    /// which has run when the script does. An error that the server gives for it is the error here;
    /// the script has run all the same.
    pub(crate) async fn run_after<T: FromRedisValue>(
        &self,
        hash: u64,
        first: Cmd,
        script: &Script,
        keys: &[&[u8]],
        args: &[&[u8]],
    ) -> Result<T> {
        let mut pipeline = Pipeline::with_capacity(2);
        pipeline.add_command(first);
        pipeline.add_command(script.by_hash(keys, args));
        let sent = AtomicBool::new(false);
        let running = async {
            let mut values = self.0.servers.values(hash, &pipeline, &sent).await?;
            let value = values.pop().unwrap_or(Value::Nil);
            let first = values.pop().unwrap_or(Value::Nil);
            if is_unknown_script(&value) {
                let by_source = script.by_source(keys, args);
                let value = self.0.servers.value(hash, &by_source, &sent).await?;
                return Ok((first, value));
            }
            Ok((first, value))
        };
        let (first, value) = self.in_time(&sent, pin!(running)).await?;
        first.extract_error().map_err(error)?;
        convert(value)
    }

    /// When a request that is made now is given up.
    pub(crate) fn end(&self) -> Instant {
        Instant::now() + self.0.response_timeout
    }

    /// The time that the server of this hash will have at this moment or a little earlier, in
    /// milliseconds; `None` where it may not be asked. It is asked about once a minute, or when it
    /// must be `anew`.
    pub(crate) async fn server_time(
        &self,
        hash: u64,
        moment: Instant,
        anew: bool,
    ) -> Result<Option<u64>> {
        let sent = AtomicBool::new(false);
        let asking = self.0.servers.time(hash, anew, &sent);
        let reading = self.in_time(&sent, pin!(asking)).await?;
        Ok(reading.time_at(moment))
    }

    /// A connection of its own for messages; when it breaks, it ends. Takes at most the connect
    /// time-out, in a cluster for each node.
    pub(crate) async fn pubsub(&self) -> Result<redis::aio::PubSub> {
        match &self.0.servers {
            Servers::One(node) => node.dialer().pubsub().await,
            #[cfg(feature = "cluster")]
            Servers::Cluster(cluster) => cluster.pubsub().await,
        }
    }

    /// Ends the connections. Later requests are [`Closed`](ErrorKind::Closed); those under way end
    /// on their own, within their time-outs.
    pub(crate) fn close(&self) {
        match &self.0.servers {
            Servers::One(node) => node.close(),
            #[cfg(feature = "cluster")]
            Servers::Cluster(cluster) => cluster.close(),
        }
    }

    /// All servers that hold names.
    #[cfg_attr(
        not(feature = "cluster"),
        expect(clippy::unused_async, reason = "a cluster asks")
    )]
    async fn masters(&self) -> Result<Vec<Arc<Node>>> {
        match &self.0.servers {
            Servers::One(node) => Ok(vec![node.clone()]),
            #[cfg(feature = "cluster")]
            Servers::Cluster(cluster) => {
                let asking = tokio::time::timeout(self.0.response_timeout, cluster.masters());
                asking.await.unwrap_or_else(|_| Err(unsent()))
            }
        }
    }

    /// Asks this node, whatever it has; twice if the connection breaks.
    async fn ask(&self, node: &Node, request: Request<'_>) -> Result<Reply> {
        let sent = AtomicBool::new(false);
        let asking = async {
            match node.exchange(0, request, &sent).await {
                Err(Failure::Broken(_)) => node.exchange(0, request, &sent).await,
                done => done,
            }
        };
        self.in_time(&sent, pin!(asking)).await
    }

    /// Takes what is pinned elsewhere: moved in here, it would be there three times over.
    async fn in_time<T>(
        &self,
        sent: &AtomicBool,
        exchange: Pin<&mut impl Future<Output = Result<T, Failure>>>,
    ) -> Result<T> {
        match tokio::time::timeout(self.0.response_timeout, exchange).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(Failure::Down(error))) => Err(error),
            Ok(Err(Failure::Broken(cause))) => Err(error(cause)),
            Err(_) if sent.load(Relaxed) => {
                Err(Error::timeout("the redis server did not answer in time"))
            }
            Ok(Err(Failure::Unsent)) | Err(_) => Err(unsent()),
        }
    }
}

impl Servers {
    async fn connect(settings: &Settings) -> Result<Self> {
        let infos = url::parse(settings)?;
        if settings.cluster {
            #[cfg(feature = "cluster")]
            return Ok(Self::Cluster(Cluster::connect(infos, settings).await?));
            #[cfg(not(feature = "cluster"))]
            return Err(Error::new(
                ErrorKind::Unsupported,
                "a redis cluster needs the feature `cluster`",
            ));
        }
        let [info] = <[_; 1]>::try_from(infos)
            .map_err(|_| Error::invalid("one redis server has one URL"))?;
        let node = Node::open(dialer::Dialer::new(info, settings), settings).await?;
        Ok(Self::One(Arc::new(node)))
    }

    async fn value(&self, hash: u64, command: &Cmd, sent: &AtomicBool) -> Result<Value, Failure> {
        match self {
            Self::One(node) => {
                let reply = node.exchange(hash, Request::Command(command), sent).await?;
                Ok(reply.one())
            }
            #[cfg(feature = "cluster")]
            Self::Cluster(cluster) => Box::pin(cluster.value(hash, command, sent)).await,
        }
    }

    async fn time(&self, hash: u64, anew: bool, sent: &AtomicBool) -> Result<Reading, Failure> {
        match self {
            Self::One(node) => node.time(hash, anew, sent).await,
            #[cfg(feature = "cluster")]
            Self::Cluster(cluster) => Box::pin(cluster.time(hash, anew, sent)).await,
        }
    }

    async fn values(
        &self,
        hash: u64,
        pipeline: &Pipeline,
        sent: &AtomicBool,
    ) -> Result<Vec<Value>, Failure> {
        match self {
            Self::One(node) => {
                let request = Request::Pipeline(pipeline, 0, pipeline.len());
                Ok(node.exchange(hash, request, sent).await?.many())
            }
            #[cfg(feature = "cluster")]
            Self::Cluster(cluster) => Box::pin(cluster.values(hash, pipeline, sent)).await,
        }
    }
}

/// A stand-in for a connection that has the replies already.
struct Replies(Option<Vec<Value>>);

impl redis::aio::ConnectionLike for Replies {
    fn req_packed_command<'a>(&'a mut self, _: &'a Cmd) -> RedisFuture<'a, Value> {
        unreachable!("a pipeline asks for the replies of a pipeline")
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        _: &'a Pipeline,
        _: usize,
        _: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        let replies = self.0.take().unwrap_or_default();
        Box::pin(std::future::ready(Ok(replies)))
    }

    fn get_db(&self) -> i64 {
        0
    }
}

fn convert<T: FromRedisValue>(value: Value) -> Result<T> {
    let value = value.extract_error().map_err(error)?;
    redis::from_redis_value(value).map_err(|cause| error(cause.into()))
}

fn is_unknown_script(value: &Value) -> bool {
    matches!(value, Value::ServerError(error)
        if error.kind() == Some(redis::ServerErrorKind::NoScript))
}

/// The time was over before the request was sent: it took no effect, and never will.
fn unsent() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "the redis connection took no further request in time",
    )
}
