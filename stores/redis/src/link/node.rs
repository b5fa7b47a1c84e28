//! The connections to one server.

use std::sync::atomic::AtomicBool;

use futures_util::future::try_join_all;
use larder_store::Result;

use super::{
    Settings,
    clock::Reading,
    connection::Connection,
    dialer::Dialer,
    request::{Failure, Reply, Request},
};

/// A fixed number of connections; the hash of the object chooses, so that what is asked of one
/// object goes one way, in order.
pub(super) struct Node {
    dialer: Dialer,
    connections: Box<[Connection]>,
}

impl Node {
    /// Returns once all connections stand.
    pub(super) async fn open(dialer: Dialer, settings: &Settings) -> Result<Self> {
        let opening = (0..settings.connections)
            .map(|index| Connection::open(dialer.clone(), settings, index));
        let connections = try_join_all(opening).await?.into();
        Ok(Self {
            dialer,
            connections,
        })
    }

    /// Connects in the background.
    #[cfg(feature = "cluster")]
    pub(super) fn lazy(dialer: Dialer, settings: &Settings) -> Self {
        let connections = (0..settings.connections)
            .map(|index| Connection::lazy(dialer.clone(), settings, index))
            .collect();
        Self {
            dialer,
            connections,
        }
    }

    pub(super) fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    #[cfg(feature = "cluster")]
    pub(super) fn place(&self) -> &std::sync::Arc<str> {
        self.dialer.place()
    }

    /// Sends over the connection of this hash.
    pub(super) async fn exchange(
        &self,
        hash: u64,
        request: Request<'_>,
        sent: &AtomicBool,
    ) -> Result<Reply, Failure> {
        loop {
            let live = self.connection(hash).live().await.map_err(Failure::Down)?;
            match live.exchange(request, sent).await {
                // The connection was replaced while the request waited to be sent.
                Err(Failure::Unsent) => {}
                done => return done,
            }
        }
    }

    /// The server's time, as the connection of this hash knows it.
    pub(super) async fn time(
        &self,
        hash: u64,
        anew: bool,
        sent: &AtomicBool,
    ) -> Result<Reading, Failure> {
        loop {
            let live = self.connection(hash).live().await.map_err(Failure::Down)?;
            match live.time(anew, sent).await {
                Err(Failure::Unsent) => {}
                done => return done,
            }
        }
    }

    fn connection(&self, hash: u64) -> &Connection {
        let count = self.connections.len() as u64;
        &self.connections[usize::try_from(hash % count).unwrap_or(0)]
    }

    pub(super) fn close(&self) {
        self.connections.iter().for_each(Connection::close);
    }
}
