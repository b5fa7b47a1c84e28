//! `memory/allocs/{hit,miss}`: allocations for each read, of all threads together, counted as
//! those of `disk/allocs` are.

use std::sync::Arc;

use anyhow::Result;

use super::{
    hit::{self, key},
    miss,
};
use crate::{
    allocations,
    cases::{Bench, counting, in_turn},
    peers::memory::{MemoryCache, Name, each_memory},
    report::Report,
};

/// Keys of hits, and reads that are counted.
const KEYS: usize = 64;
const READS: usize = 2_000;

pub(super) async fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    counting::run(bench, report, "memory/allocs").await
}

/// Counts them; the allocator of this program counts.
pub async fn count(bench: &Bench, report: &mut Report) -> Result<()> {
    for kind in ["hit", "miss"] {
        let case = format!("memory/allocs/{kind}");
        if !bench.options.wants(&case) {
            continue;
        }
        let peers = super::peers(bench);
        for round in 0..bench.options.rounds {
            for &name in in_turn(&peers, round) {
                let each = count_one(bench, name, kind == "hit").await?;
                report.record(&case, name.as_str(), each, "count");
            }
        }
    }
    Ok(())
}

async fn count_one(bench: &Bench, name: Name, hits: bool) -> Result<f64> {
    let open = super::open(bench, name, miss::room(2 * READS)).await?;
    let counted = each_memory!(&open.peer, peer => {
        let peer = Arc::clone(peer);
        let done = tokio::spawn(async move {
            if hits { of_hits(&*peer).await } else { of_misses(&*peer).await }
        });
        done.await??
    });
    open.discard().await?;
    Ok(counted as f64 / READS as f64)
}

async fn of_hits(peer: &impl MemoryCache) -> Result<u64> {
    let keys: Vec<_> = (0..KEYS).map(key).collect();
    hit::fill(peer, &keys).await?;
    let mut before = 0;
    for turn in 0..2 * READS {
        if turn == READS {
            before = allocations::count(); // The first half was to warm up.
        }
        let number = turn % KEYS;
        hit::hit(peer, &keys[number], number).await?;
    }
    Ok(allocations::count() - before)
}

/// The mean of many, tables that grow included.
async fn of_misses(peer: &impl MemoryCache) -> Result<u64> {
    let keys: Vec<_> = (0..2 * READS).map(key).collect();
    let mut before = 0;
    for (turn, key) in keys.iter().enumerate() {
        if turn == READS {
            peer.rest().await;
            before = allocations::count();
        }
        miss::miss(peer, key).await?;
    }
    peer.rest().await;
    Ok(allocations::count() - before)
}
