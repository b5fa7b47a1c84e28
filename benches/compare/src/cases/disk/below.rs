//! `disk/below/1GiB/...`: one large object, read from a disk store under a memory tier that does not
//! take it (`larder`), beside the same store by itself (`store`). Ten reads of each in a round, in
//! turn; all of them find the object in the page cache.
//!
//! - `wall`, `cpu`: milliseconds for one read of the whole object.
//! - `spilled`: bytes that went through a spill file.

use anyhow::{Context as _, Result, ensure};
use larder::{Cache, Disk, Memory};
use larder_disk::PageCache;
use larder_store::{Body, ByteRange, Draft, Key, Lookup, Store as _};

use crate::{
    cases::Bench,
    folder,
    measure::{Stopwatch, median},
    report::Report,
};

const KEY: &str = "film";
const READS: usize = 10;
/// What is written at a time.
const PIECE: usize = 256 << 10;

pub(super) async fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    let len = bench.options.scaled(1 << 30).max(64 << 20);
    let folder = bench.folder.fresh("larder")?;
    let disk = Disk::builder(&folder, 4 * len)
        .page_cache(PageCache::Keep)
        .open()
        .await?;
    let cache = Cache::builder()
        .tier(Memory::new(64 << 20))
        .tier(disk.clone())
        .build()?;
    let mut writer = cache.set_with_writer(KEY, Draft::new().len(len)).await?;
    let mut left = len;
    while left > 0 {
        let piece = left.min(PIECE as u64);
        writer.write(vec![7; usize::try_from(piece)?]).await?;
        left -= piece;
    }
    ensure!(writer.commit().await?.tiers == 1, "the disk alone takes it");
    bench.folder.settle()?;
    for round in 0..bench.options.rounds {
        let mut times: [Vec<(f64, f64)>; 2] = Default::default();
        for read in 0..2 * READS {
            let peer = (read + round) % 2;
            let (cache, disk) = (cache.clone(), disk.clone());
            let watch = Stopwatch::start();
            // In a task, as everything else.
            let reading = tokio::spawn(async move {
                match peer {
                    0 => through(&cache, len).await,
                    _ => alone(&disk, len).await,
                }
            });
            reading.await??;
            let spent = watch.spent();
            let millis = |time: std::time::Duration| time.as_secs_f64() * 1e3;
            times[peer].push((millis(spent.wall), millis(spent.cpu)));
        }
        for (peer, times) in ["larder", "store"].into_iter().zip(times) {
            let [wall, cpu] = [0, 1].map(|which| {
                let of = times.iter().map(|time| [time.0, time.1][which]);
                median(&of.collect::<Vec<_>>())
            });
            report.record("disk/below/1GiB/wall", peer, wall, "ms");
            report.record("disk/below/1GiB/cpu", peer, cpu, "ms");
        }
    }
    let spilled = cache.counters().spilled_bytes;
    report.record("disk/below/1GiB/spilled", "larder", spilled as f64, "B");
    cache.close().await?;
    folder::remove(&folder)
}

async fn through(cache: &Cache, len: u64) -> Result<()> {
    let response = cache.get(KEY).await?;
    let body = response.into_body().context("it is there")?;
    read(body, len).await
}

async fn alone(disk: &Disk, len: u64) -> Result<()> {
    match disk.get_stream(Key::new(KEY)?, ByteRange::FULL).await? {
        Lookup::Hit(object) => read(object.body, len).await,
        Lookup::Miss(_) => anyhow::bail!("it is not there"),
    }
}

async fn read(mut body: Body, len: u64) -> Result<()> {
    let mut came = 0;
    while let Some(chunk) = body.chunk().await? {
        came += chunk.len() as u64;
    }
    ensure!(came == len, "{came} bytes came");
    Ok(())
}
