//! `memory/followers/...`: 1,000 readers of one object of 64 MiB that is being fetched and that no
//! tier admits, each peer in a process of its own.
//!
//! - `first/{median,last}`: milliseconds from the origin's first byte to the reader's, of the reader
//!   in the middle and of the last one.
//! - `memory`: the peak of resident memory above what it was before the first reader.
//! - `wall`, `cpu`: milliseconds from the origin's first byte until all have read all of it.
//!
//! The origin gives chunks of 128 KiB, each allocated and written then, as fast as they are taken;
//! its first once all readers have come. Readers go on as fast as they can, and look at the first
//! and the last byte of each piece. A cache of values has no first byte before it has the last one,
//! and holds all of it: moka is here to show that, and keeps the object.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _, stream};
use larder::{Cache, Error, Fetched, Memory, Tier};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::{
    cases::{Bench, in_turn},
    child::{Figures, Job},
    folder,
    measure::{self, Stopwatch},
    report::Report,
};

const CHUNK_LEN: usize = 128 << 10;
const CHUNK: u64 = CHUNK_LEN as u64;

/// Who streams to followers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Name {
    /// Larder's engine, over a memory tier that does not admit it.
    Larder,
    /// moka, whose value is all of it.
    Moka,
}

/// How much to how many.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Following {
    /// Who.
    pub peer: Name,
    /// For the spill file.
    pub folder: PathBuf,
    /// Bytes of the object.
    pub len: u64,
    /// Readers.
    pub readers: usize,
}

impl Name {
    fn as_str(self) -> &'static str {
        match self {
            Self::Larder => "larder",
            Self::Moka => "moka",
        }
    }
}

pub(super) async fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    let invited = |name: &Name| bench.options.invites(name.as_str());
    let peers: Vec<_> = [Name::Larder, Name::Moka]
        .into_iter()
        .filter(invited)
        .collect();
    for round in 0..bench.options.rounds {
        for &peer in in_turn(&peers, round) {
            let folder = bench.folder.fresh(peer.as_str())?;
            let following = Following {
                peer,
                folder: folder.clone(),
                len: bench.options.scaled(64 << 20).next_multiple_of(CHUNK),
                readers: usize::try_from(bench.options.scaled(1_000))?,
            };
            let figures = Job::Follow(following).run().await?;
            folder::remove(&folder)?;
            let mut record = |what: &str, value, unit| {
                report.record(
                    &format!("memory/followers/{what}"),
                    peer.as_str(),
                    value,
                    unit,
                );
            };
            let (median, last) = figures.first;
            record("first/median", median, "ms");
            record("first/last", last, "ms");
            record("memory", figures.memory / f64::from(1 << 20), "MiB");
            record("wall", figures.wall, "ms");
            record("cpu", figures.cpu, "ms");
        }
    }
    Ok(())
}

/// Does it, in a process of its own.
pub async fn follow(following: Following) -> Result<Figures> {
    let origin = Arc::new(Origin {
        len: following.len,
        readers: following.readers,
        came: AtomicUsize::new(0),
        began: OnceLock::new(),
    });
    let cache = Follower::open(following.peer, &following.folder)?;
    let before = measure::resident();
    ensure!(
        measure::forget_peak(),
        "the kernel does not forget the peak of memory"
    );

    let read = |_| tokio::spawn(read(cache.clone(), Arc::clone(&origin)));
    let readers: Vec<_> = (0..following.readers).map(read).collect();
    let mut firsts = Vec::new();
    for reader in readers {
        firsts.push(reader.await??);
    }
    let memory = measure::resident_peak().saturating_sub(before);
    let (began, watch) = origin.began.get().context("nobody asked the origin")?;
    let spent = watch.spent();
    let mut after: Vec<_> = firsts
        .iter()
        .map(|first| first.duration_since(*began).as_secs_f64() * 1e3)
        .collect();
    after.sort_by(f64::total_cmp);
    Ok(Figures {
        first: (
            measure::median(&after),
            after.last().copied().unwrap_or(0.0),
        ),
        wall: spent.wall_each(1) / 1e6,
        cpu: spent.cpu_each(1) / 1e6,
        memory: memory as f64,
        ..Figures::default()
    })
}

/// One object, whose first byte waits for all readers.
struct Origin {
    len: u64,
    readers: usize,
    came: AtomicUsize,
    began: OnceLock<(Instant, Stopwatch)>,
}

impl Origin {
    fn chunks(self: Arc<Self>) -> impl Stream<Item = Bytes> + Send + 'static {
        let numbers = stream::iter(0..self.len / CHUNK);
        numbers.then(move |number| {
            let origin = Arc::clone(&self);
            async move {
                if number == 0 {
                    origin.all_came().await;
                }
                let chunk = Bytes::from(vec![byte_of(number); CHUNK_LEN]);
                if number == 0 {
                    let now = (Instant::now(), Stopwatch::start());
                    origin.began.get_or_init(|| now);
                }
                chunk
            }
        })
    }

    /// And had time to join.
    async fn all_came(&self) {
        while self.came.load(Ordering::Relaxed) < self.readers {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What a chunk consists of.
#[allow(clippy::cast_possible_truncation)] // A byte of its number is enough.
fn byte_of(number: u64) -> u8 {
    number as u8
}

/// Whoever is followed, open.
#[derive(Clone)]
enum Follower {
    Larder(Cache),
    Moka(moka::future::Cache<u8, Bytes>),
}

impl Follower {
    fn open(name: Name, folder: &Path) -> Result<Self> {
        Ok(match name {
            Name::Larder => {
                let memory = Tier::new(Memory::new(8 << 20)).object_max(1 << 20);
                Self::Larder(Cache::builder().tier(memory).spool_dir(folder).build()?)
            }
            Name::Moka => Self::Moka(moka::future::Cache::new(1)),
        })
    }
}

/// Reads all of it and tells when the first byte came.
async fn read(cache: Follower, origin: Arc<Origin>) -> Result<Instant> {
    let len = origin.len;
    origin.came.fetch_add(1, Ordering::Relaxed);
    let mut seen = Seen { at: 0, first: None };
    match cache {
        Follower::Larder(cache) => {
            let chunks = origin.chunks().map(Ok::<_, Error>);
            let fetch = async move |_| Ok::<_, Error>(Fetched::stream(Some(len), chunks));
            let response = cache.get_or_fetch("film", fetch).await?;
            let mut body = response.into_body().context("absent, though fetched")?;
            while let Some(chunk) = body.chunk().await? {
                seen.feed(&chunk)?;
            }
        }
        Follower::Moka(cache) => {
            let whole = async move {
                let all = BytesMut::with_capacity(usize::try_from(len).unwrap_or(0));
                let add = |mut all: BytesMut, chunk: Bytes| async move {
                    all.extend_from_slice(&chunk);
                    all
                };
                origin.chunks().fold(all, add).await.freeze()
            };
            let value = cache.get_with(0, whole).await;
            for chunk in value.chunks(CHUNK_LEN) {
                seen.feed(chunk)?;
            }
        }
    }
    ensure!(seen.at == len, "{} bytes of {len}", seen.at);
    seen.first.context("no first byte")
}

/// What a reader has seen.
struct Seen {
    at: u64,
    first: Option<Instant>,
}

impl Seen {
    fn feed(&mut self, piece: &[u8]) -> Result<()> {
        self.first.get_or_insert_with(Instant::now);
        let end = self.at + piece.len() as u64;
        let right = piece.first() == Some(&byte_of(self.at / CHUNK))
            && piece.last() == Some(&byte_of((end - 1) / CHUNK));
        ensure!(right, "bytes of another place at {}", self.at);
        self.at = end;
        Ok(())
    }
}
