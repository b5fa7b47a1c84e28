//! Larder's Redis store beside redis-rs, which it is made of.
//!
//! Each case starts a server of its own on this machine, without persistence, and talks to it over
//! TCP on the loopback interface. Client and server share the cores: `wall` is what both of them
//! take, `cpu` what this process takes, and `server` what the server takes.

mod exchange;
mod get;
mod set;
pub mod stream;

use std::sync::Arc;

use anyhow::{Context as _, Result};
use larder_servers::Server;
use tokio::task::spawn_blocking;

use super::{Bench, each_case};
use crate::{peers::redis::Name, report::Report};

/// Runs every case of this family that is wanted.
pub async fn run(bench: &Bench, report: &mut Report) {
    each_case!("redis", bench, report, get, set, stream);
}

/// A server, asked from threads that may block.
struct Host(Arc<Server>);

impl Host {
    async fn start() -> Result<Self> {
        let started = spawn_blocking(Server::start).await;
        let server = started.context("starting redis-server, which must be installed")?;
        Ok(Self(Arc::new(server)))
    }

    fn url(&self) -> String {
        self.0.url()
    }

    /// Forgets everything.
    async fn flush(&self) -> Result<()> {
        let server = Arc::clone(&self.0);
        Ok(spawn_blocking(move || server.ask(&["FLUSHALL", "SYNC"])).await?)
    }

    /// Seconds of CPU time that it has taken so far.
    async fn cpu(&self) -> Result<f64> {
        let server = Arc::clone(&self.0);
        let about: String = spawn_blocking(move || server.ask(&["INFO", "cpu"])).await?;
        let field = |name: &str| {
            let value = about.lines().find_map(|line| line.strip_prefix(name))?;
            value.trim().parse::<f64>().ok()
        };
        let used = field("used_cpu_user:").zip(field("used_cpu_sys:"));
        let (user, system) = used.context("the server does not tell its CPU time")?;
        Ok(user + system)
    }
}

/// Those of the clients that take part.
fn clients(bench: &Bench, of: &[Name]) -> Vec<Name> {
    let invited = |name: &Name| bench.options.invites(name.as_str());
    of.iter().copied().filter(invited).collect()
}
