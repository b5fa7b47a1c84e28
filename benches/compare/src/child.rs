//! Work in a process of its own: memory that nobody used before, and one that can be killed.

use std::{env, path::PathBuf, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
    time::timeout,
};

use crate::{
    cases::{memory::followers::Following, redis::stream::Streaming},
    peers::{Name, streams::Streamer},
};

/// How long a job may take.
const LIMIT: Duration = Duration::from_mins(10);

/// What a process is started for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Job {
    /// Fill an empty folder; then close, or wait to be killed.
    Fill {
        /// Who.
        peer: Name,
        /// Where and what.
        entries: Entries,
        /// Whether it ends well.
        close: bool,
    },
    /// Open a folder that was filled, look at it, close it.
    Open {
        /// Who.
        peer: Name,
        /// Where and what.
        entries: Entries,
    },
    /// Write a large object and read it back.
    Stream {
        /// Who.
        peer: Streamer,
        /// Where.
        folder: PathBuf,
        /// How long it is.
        len: u64,
    },
    /// Fetch a large object while many read it.
    Follow(Following),
    /// Write a large object to a server and read it back.
    StreamRedis(Streaming),
}

/// Many small entries in a folder.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entries {
    /// Where they are.
    pub folder: PathBuf,
    /// How many.
    pub count: u64,
    /// Bytes of each value.
    pub len: usize,
    /// The capacity that the store is opened with.
    pub capacity: u64,
}

/// What a job measured.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Figures {
    /// Entries that were put.
    pub count: u64,
    /// Milliseconds to open, to write, or until all have read.
    pub wall: f64,
    /// The same as CPU time.
    pub cpu: f64,
    /// Milliseconds to read, and as CPU time.
    pub read: (f64, f64),
    /// Milliseconds to the first byte, of the reader in the middle and of the last one.
    pub first: (f64, f64),
    /// Bytes of resident memory that came on top.
    pub memory: f64,
    /// The share of entries that was found.
    pub found: f64,
}

impl Job {
    /// Whether its process has to be killed.
    fn waits(&self) -> bool {
        matches!(self, Self::Fill { close: false, .. })
    }

    /// Runs the job in a process, which this program is started in again.
    pub async fn run(&self) -> Result<Figures> {
        let mut child = Command::new(env::current_exe()?)
            .arg("--job")
            .arg(serde_json::to_string(self)?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = child.stdout.take().context("the job has no output")?;
        let mut lines = BufReader::new(stdout).lines();
        let line = timeout(LIMIT, lines.next_line()).await;
        let line = line.with_context(|| format!("after {LIMIT:?}, giving up {self:?}"))??;
        let line = line.with_context(|| format!("failed: {self:?}"))?;
        if self.waits() {
            child.kill().await?; // SIGKILL: it has no chance to put anything in order.
        } else {
            let status = child.wait().await?;
            ensure!(status.success(), "{status} from {self:?}");
        }
        Ok(serde_json::from_str(&line)?)
    }
}
