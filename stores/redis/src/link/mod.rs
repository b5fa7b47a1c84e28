//! The connections to the server.

use std::time::Duration;

use larder_store::{Error, ErrorKind, Result};

/// How to reach the server.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) urls: Vec<String>,
    /// Whether the URLs are nodes of one cluster.
    pub(crate) cluster: bool,
    pub(crate) connections: usize,
    pub(crate) connect_timeout: Duration,
    pub(crate) response_timeout: Duration,
    pub(crate) seed: u64,
}

#[derive(Clone)]
pub(crate) struct Link;

impl Link {
    pub(crate) async fn connect(_: Settings) -> Result<Self> {
        todo!()
    }

    pub(crate) async fn command<T: redis::FromRedisValue>(
        &self,
        _: u64,
        _: &redis::Cmd,
    ) -> Result<T> {
        todo!()
    }

    pub(crate) async fn pipeline<T: redis::FromRedisValue>(
        &self,
        _: u64,
        _: &redis::Pipeline,
    ) -> Result<T> {
        todo!()
    }

    pub(crate) async fn run<T: redis::FromRedisValue>(
        &self,
        _: u64,
        _: &Script,
        _: &[&[u8]],
        _: &[&[u8]],
    ) -> Result<T> {
        todo!()
    }

    pub(crate) async fn pubsub(&self) -> Result<redis::aio::PubSub> {
        todo!()
    }

    pub(crate) fn close(&self) {}
}

/// A Lua script; a `static` of it stands in a `LazyLock`.
pub(crate) struct Script(&'static str);

impl Script {
    pub(crate) fn new(source: &'static str) -> Self {
        Self(source)
    }
}

pub(crate) fn error(error: redis::RedisError) -> Error {
    Error::with_source(ErrorKind::Other, "the server failed", error)
}
