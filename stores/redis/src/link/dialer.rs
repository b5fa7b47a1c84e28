//! How one server is reached.
//!
//! A connection that went away may leave commands in the server's buffers, or in the network's,
//! and they would take effect after what the next connection sends. So a new connection first has
//! the server kill the old one, by its id, and serves only then. Ids count anew when a server
//! starts: the kill is sent only if the server's `run_id` is still the same, or else it would hit
//! somebody else. A user who may not `CLIENT KILL`, `CLIENT ID` or `INFO` goes without.

use std::{sync::Arc, time::Duration};

use larder_store::{Error, ErrorKind, Result};
use redis::{
    AsyncConnectionConfig, Client, ConnectionInfo, ProtocolVersion, PushInfo, PushKind,
    RedisResult, Value, aio::MultiplexedConnection, aio::SendError, io::tcp::TcpSettings,
};
use tokio::time::timeout;

use super::{
    Settings,
    clock::{self, Reading},
    error,
    live::{Live, Pulse},
};

/// How long a connection is silent before the kernel asks whether the peer is there.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Requests that `redis-rs` takes over before it writes them; its own default is 50. All are within
/// the permits of the connection.
const QUEUE_LEN: usize = 128;

/// Reaches one server, as often as needed.
#[derive(Clone)]
pub(super) struct Dialer {
    info: ConnectionInfo,
    /// Host and port or path, for messages; without user and password.
    place: Arc<str>,
    connect_timeout: Duration,
}

/// By what a server knows a connection.
pub(super) struct Identity {
    run: String,
    id: u64,
}

impl Dialer {
    pub(super) fn new(info: ConnectionInfo, settings: &Settings) -> Self {
        let keepalive = redis::io::tcp::socket2::TcpKeepalive::new().with_time(KEEPALIVE);
        let tcp = TcpSettings::default()
            .set_nodelay(true)
            .set_keepalive(keepalive);
        // The third protocol is what tells that an idle connection was closed.
        let redis = info
            .redis_settings()
            .clone()
            .set_protocol(ProtocolVersion::RESP3);
        Self {
            place: info.addr().to_string().into(),
            info: info.set_tcp_settings(tcp).set_redis_settings(redis),
            connect_timeout: settings.connect_timeout,
        }
    }

    #[cfg(any(test, feature = "cluster"))]
    pub(super) fn info(&self) -> &ConnectionInfo {
        &self.info
    }

    pub(super) fn place(&self) -> &Arc<str> {
        &self.place
    }

    /// A connection that is ready, after the server forgot the `old` one.
    pub(super) async fn open(&self, old: Option<&Identity>) -> Result<(Live, Option<Identity>)> {
        self.in_time(async {
            let pulse = Arc::new(Pulse::default());
            let mut connection = self.connect(&pulse).await?;
            let (identity, time) = identify(&mut connection).await?;
            if let (Some(old), Some(new)) = (old, &identity)
                && old.run == new.run
            {
                kill(&mut connection, old.id).await?;
            }
            Ok((Live::new(connection, pulse, time), identity))
        })
        .await
    }

    /// A connection of its own for messages.
    pub(super) async fn pubsub(&self) -> Result<redis::aio::PubSub> {
        // Messages come in the second protocol as well, which every server speaks.
        let redis = self
            .info
            .redis_settings()
            .clone()
            .set_protocol(ProtocolVersion::RESP2);
        let info = self.info.clone().set_redis_settings(redis);
        self.in_time(async { Client::open(info)?.get_async_pubsub().await })
            .await
    }

    async fn connect(&self, pulse: &Arc<Pulse>) -> RedisResult<MultiplexedConnection> {
        let pulse = pulse.clone();
        let config = config().set_push_sender(move |push: PushInfo| {
            if push.kind == PushKind::Disconnection {
                pulse.lose();
            }
            Ok::<(), SendError>(())
        });
        let client = Client::open(self.info.clone())?;
        match client
            .get_multiplexed_async_connection_with_config(&config)
            .await
        {
            Err(error) if error.kind() == redis::ErrorKind::RESP3NotSupported => {
                self.connect_old().await
            }
            connected => connected,
        }
    }

    /// To a server before 6.0; that an idle connection was closed shows at its next use.
    async fn connect_old(&self) -> RedisResult<MultiplexedConnection> {
        let redis = self
            .info
            .redis_settings()
            .clone()
            .set_protocol(ProtocolVersion::RESP2);
        let client = Client::open(self.info.clone().set_redis_settings(redis))?;
        client
            .get_multiplexed_async_connection_with_config(&config())
            .await
    }

    async fn in_time<T>(&self, dialing: impl Future<Output = RedisResult<T>>) -> Result<T> {
        let place = &self.place;
        match timeout(self.connect_timeout, dialing).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => {
                let (kind, message) = error::classify(&error);
                let kind = match kind {
                    ErrorKind::Timeout => ErrorKind::Unavailable,
                    kind => kind,
                };
                let message = format!("cannot connect to redis at {place}: {message}");
                Err(Error::with_source(kind, message, error::cause(error)))
            }
            Err(_) => Err(Error::new(
                ErrorKind::Unavailable,
                format!("redis at {place} did not take the connection in time"),
            )),
        }
    }
}

/// Time-outs are the link's own: these would start only when a request is sent.
fn config() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None)
        .set_pipeline_buffer_size(QUEUE_LEN)
}

/// By what the server knows the connection, `None` when it does not tell, and the server's time.
async fn identify(
    connection: &mut MultiplexedConnection,
) -> RedisResult<(Option<Identity>, Reading)> {
    let mut questions = redis::pipe();
    questions.cmd("CLIENT").arg("ID").cmd("INFO").arg("server");
    questions.add_command(clock::question());
    let mut answers = connection
        .send_packed_commands(&questions, 0, 3)
        .await?
        .into_iter();
    let id = answers
        .next()
        .and_then(|id| redis::from_redis_value(id).ok());
    let about = answers
        .next()
        .and_then(|about| redis::from_redis_value::<String>(about).ok());
    let time = answers.next().map_or(Reading::Unknown, Reading::of);
    let run = about.as_deref().and_then(run_id).map(str::to_owned);
    if let (Some(id), Some(run)) = (id, run) {
        Ok((Some(Identity { run, id }), time))
    } else {
        tracing::debug!("the redis user may not ask for the connection's identity");
        Ok((None, time))
    }
}

fn run_id(about: &str) -> Option<&str> {
    about
        .lines()
        .find_map(|line| line.strip_prefix("run_id:"))
        .map(str::trim)
}

async fn kill(connection: &mut MultiplexedConnection, id: u64) -> RedisResult<()> {
    let mut kill = redis::cmd("CLIENT");
    kill.arg("KILL").arg("ID").arg(id);
    if let Value::ServerError(error) = connection.send_packed_command(&kill).await? {
        tracing::debug!(%error, "the redis server did not kill the old connection");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_run_id_is_found_among_the_rest() {
        let about = "# Server\r\nredis_version:7.0.15\r\nrun_id:ab12\r\ntcp_port:0\r\n";
        assert_eq!(run_id(about), Some("ab12"));
        assert_eq!(run_id("# Server\r\n"), None);
    }
}
