//! The origin, as a member reaches it.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use larder::{EntityTag, FetchContext, Fetched};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use crate::content;

#[derive(Clone)]
pub(crate) struct Pages {
    origin: SocketAddr,
    /// Connections that nobody uses.
    idle: Arc<Mutex<Vec<BufReader<TcpStream>>>>,
}

impl Pages {
    pub(crate) fn of(origin: SocketAddr) -> Self {
        Self {
            origin,
            idle: Arc::default(),
        }
    }

    /// Fetches a page, or finds that it is still the same.
    pub(crate) async fn fetch(self, context: FetchContext) -> io::Result<Fetched> {
        let key = context.key();
        let version = self.ask("fetch", key).await?;
        let tag = tag(version);
        if context.etag() == Some(&tag) {
            return Ok(Fetched::not_modified());
        }
        Ok(Fetched::bytes(content::body(key, version)).etag(tag))
    }

    /// Makes a new version of a page.
    pub(crate) async fn publish(&self, key: &str) -> io::Result<u64> {
        self.ask("publish", key).await
    }

    async fn ask(&self, verb: &str, key: &str) -> io::Result<u64> {
        let idle = self.idle().pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => {
                let connection = TcpStream::connect(self.origin).await?;
                connection.set_nodelay(true)?;
                BufReader::new(connection)
            }
        };
        connection
            .write_all(format!("{verb} {key}\n").as_bytes())
            .await?;
        let mut line = String::new();
        connection.read_line(&mut line).await?;
        self.idle().push(connection);
        line.trim_end().parse().map_err(io::Error::other)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<BufReader<TcpStream>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What tells a version from others, without its body.
pub(crate) fn tag(version: u64) -> EntityTag {
    EntityTag::strong(version.to_string()).expect("digits are a tag")
}
