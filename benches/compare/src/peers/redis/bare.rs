//! redis-rs by itself: multiplexed connections with `TCP_NODELAY` and the time-out that Larder's
//! store has, without which nobody would run it. A key goes to one of them by its number.
//!
//! A large stream is a value for each MiB, since one value cannot have more than 512 MiB. There is
//! no checksum, no length, and half of a stream can be read as if it were whole.

use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use redis::{
    AsyncConnectionConfig, Client, IntoConnectionInfo as _, aio::MultiplexedConnection, cmd,
    io::tcp::TcpSettings,
};

use crate::data::{Probe, StreamProbe, Values};

const TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes in each value of a large stream.
const CHUNK: usize = 1 << 20;
/// What a fence holds.
const TOKEN: &[u8; 16] = b"0123456789abcdef";
/// Sets a value if its fence holds.
const FENCED: &str = "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end \
    redis.call('SET', KEYS[2], ARGV[2]) return 1";

/// Some connections.
pub struct Bare {
    connections: Vec<MultiplexedConnection>,
    /// How the server calls the script of a fenced write, if writes are fenced.
    script: Option<String>,
}

impl Bare {
    pub(super) async fn connect(url: &str, count: usize) -> Result<Self> {
        let tcp = TcpSettings::default().set_nodelay(true);
        let info = url.into_connection_info()?.set_tcp_settings(tcp);
        let client = Client::open(info)?;
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(TIMEOUT));
        let mut connections = Vec::new();
        for _ in 0..count {
            let connecting = client.get_multiplexed_async_connection_with_config(&config);
            connections.push(connecting.await?);
        }
        Ok(Self {
            connections,
            script: None,
        })
    }

    /// From now on writes are fenced.
    pub(super) async fn fenced(mut self) -> Result<Self> {
        let mut load = cmd("SCRIPT");
        load.arg("LOAD").arg(FENCED);
        self.script = Some(load.query_async(&mut self.connection(0)).await?);
        Ok(self)
    }

    /// Leaves a fence that holds, if writes are fenced.
    pub(super) async fn raise_fence(&self, key: &str) -> Result<()> {
        if self.script.is_some() {
            let mut set = cmd("SET");
            set.arg(fence(key)).arg(TOKEN);
            set.exec_async(&mut self.connection(0)).await?;
        }
        Ok(())
    }

    pub(super) async fn set(&self, key: &str, number: u64, value: &Bytes) -> Result<()> {
        let mut connection = self.connection(number);
        let Some(script) = &self.script else {
            let mut set = cmd("SET");
            set.arg(key).arg(&value[..]);
            return Ok(set.exec_async(&mut connection).await?);
        };
        let mut run = cmd("EVALSHA");
        run.arg(script).arg(2).arg(fence(key)).arg(key);
        run.arg(TOKEN).arg(&value[..]);
        let done: bool = run.query_async(&mut connection).await?;
        ensure!(done, "a fence did not hold");
        Ok(())
    }

    pub(super) async fn get(&self, key: &str, number: u64, probe: &mut Probe<'_>) -> Result<bool> {
        let mut get = cmd("GET");
        get.arg(key);
        let value: Option<Bytes> = get.query_async(&mut self.connection(number)).await?;
        if let Some(value) = &value {
            probe.feed(value);
        }
        Ok(value.is_some())
    }

    pub(super) async fn write_stream(&self, values: &Values, len: u64) -> Result<()> {
        let sets = values.pieces(len, CHUNK).enumerate().map(|(index, piece)| {
            let mut connection = self.connection(0);
            async move {
                let mut set = cmd("SET");
                set.arg(chunk(index)).arg(&piece[..]);
                set.exec_async(&mut connection).await
            }
        });
        let mut sets = stream::iter(sets).buffered(self.connections.len());
        while sets.try_next().await?.is_some() {}
        Ok(())
    }

    pub(super) async fn read_stream(
        &self,
        mut probe: StreamProbe,
        len: u64,
    ) -> Result<StreamProbe> {
        let count = usize::try_from(len.div_ceil(CHUNK as u64))?;
        let gets = (0..count).map(|index| {
            let mut connection = self.connection(0);
            async move {
                let mut get = cmd("GET");
                get.arg(chunk(index));
                get.query_async::<Bytes>(&mut connection).await
            }
        });
        let mut gets = stream::iter(gets).buffered(self.connections.len());
        while let Some(value) = gets.try_next().await? {
            probe.feed(&value);
        }
        Ok(probe)
    }

    fn connection(&self, number: u64) -> MultiplexedConnection {
        let index = number % self.connections.len() as u64;
        self.connections[usize::try_from(index).unwrap_or(0)].clone()
    }
}

fn fence(key: &str) -> String {
    format!("fence:{key}")
}

fn chunk(index: usize) -> String {
    format!("film:{index}")
}
