//! What the processes do that [`child`](crate::child) starts.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Result, ensure};
use tokio::io::AsyncReadExt as _;

use crate::{
    cases::{memory::followers, redis},
    child::{Entries, Figures, Job},
    data::{StreamProbe, Values},
    keys::KeyBuffer,
    measure::{self, Stopwatch},
    peers::{AnyPeer, Name, Plan, streams::Streamer},
    workload::{self, Load},
};

/// How long filling may take.
const FILLING_MAX: Duration = Duration::from_mins(5);
/// Entries that are put before memory is looked at, so that buffers are not taken for index.
const WARM_UP: u64 = 10_000;
/// Entries that are asked for after opening.
const SAMPLE: u64 = 10_000;

/// Does a job and tells the figures to the process that asked, by way of `tell`.
pub async fn run(job: Job, tell: impl Fn(Figures) -> Result<()>) -> Result<()> {
    match job {
        Job::Fill {
            peer,
            entries,
            close,
        } => {
            let (peer, figures) = fill(peer, &entries).await?;
            if close {
                peer.close().await?;
                return tell(figures);
            }
            tell(figures)?;
            // Until it is killed; or the process that asked went away, and this pipe with it.
            tokio::io::stdin().read_to_end(&mut Vec::new()).await?;
            Ok(())
        }
        Job::Open { peer, entries } => tell(open(peer, &entries).await?),
        Job::StreamRedis(streaming) => tell(redis::stream::stream(streaming).await?),
        Job::Follow(following) => tell(followers::follow(following).await?),
        Job::Stream { peer, folder, len } => tell(stream(peer, &folder, len).await?),
    }
}

async fn fill(name: Name, entries: &Entries) -> Result<(Arc<AnyPeer>, Figures)> {
    let values = Values::new();
    let plan = Plan {
        capacity: entries.capacity,
    };
    let peer = Arc::new(AnyPeer::open(name, &entries.folder, plan).await?);
    let mut load = Load {
        keys: WARM_UP.min(entries.count),
        len: entries.len,
        tasks: 4,
    };
    workload::fill(&peer, &values, load, FILLING_MAX).await?;
    peer.flush().await?;
    let before = measure::resident();
    load.keys = entries.count;
    let filled = workload::fill(&peer, &values, load, FILLING_MAX).await?;
    peer.flush().await?;
    let memory = measure::resident().saturating_sub(before);
    let figures = Figures {
        count: filled.count(),
        memory: memory as f64,
        ..Figures::default()
    };
    Ok((peer, figures))
}

async fn open(name: Name, entries: &Entries) -> Result<Figures> {
    let values = Values::new();
    let plan = Plan {
        capacity: entries.capacity,
    };
    let before = measure::resident();
    let watch = Stopwatch::start();
    let peer = AnyPeer::open(name, &entries.folder, plan).await?;
    let spent = watch.spent();
    let memory = measure::resident().saturating_sub(before);

    let mut buffer = KeyBuffer::new();
    let step = entries.count.div_ceil(SAMPLE).max(1);
    let (mut found, mut asked) = (0_u64, 0_u64);
    for number in (0..entries.count).step_by(usize::try_from(step)?) {
        let mut probe = values.probe(number, entries.len);
        let there = peer.get(buffer.key(number), &mut probe).await?;
        ensure!(
            !there || probe.is_right(),
            "wrong bytes for {number} after opening"
        );
        found += u64::from(there);
        asked += 1;
    }
    peer.close().await?;
    Ok(Figures {
        wall: spent.wall_each(1) / 1e6,
        cpu: spent.cpu_each(1) / 1e6,
        memory: memory as f64,
        found: found as f64 / asked.max(1) as f64,
        ..Figures::default()
    })
}

async fn stream(name: Streamer, folder: &Path, len: u64) -> Result<Figures> {
    let values = Values::new();
    let plan = Plan { capacity: 3 * len };
    let peer = name.open(folder, plan).await?;
    let before = measure::resident();
    ensure!(
        measure::forget_peak(),
        "the kernel does not forget the peak of memory"
    );

    let watch = Stopwatch::start();
    peer.write("film", &values, len).await?;
    let written = watch.spent();

    let watch = Stopwatch::start();
    let probe = peer.read("film", StreamProbe::new(&values, len)).await?;
    let read = watch.spent();
    let memory = measure::resident_peak().saturating_sub(before);

    ensure!(
        probe.is_right(),
        "{} gave other bytes than it took",
        name.as_str()
    );
    peer.close().await?;
    Ok(Figures {
        wall: written.wall_each(1) / 1e6,
        cpu: written.cpu_each(1) / 1e6,
        read: (read.wall_each(1) / 1e6, read.cpu_each(1) / 1e6),
        memory: memory as f64,
        ..Figures::default()
    })
}
