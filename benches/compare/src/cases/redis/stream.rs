//! `redis/stream/1GiB/...`: one large object, written from pieces and read back chunk by chunk,
//! each client in a process of its own.
//!
//! - `write` and `read`, each `cpu` and `wall`: milliseconds for the whole object.
//! - `memory`: the peak of resident memory above what it was once connected.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::{Host, clients};
use crate::{
    cases::{Bench, in_turn},
    child::{Figures, Job},
    data::{StreamProbe, Values},
    measure::{self, Stopwatch},
    peers::redis::Name,
    report::Report,
};

/// Who moves how much, and where.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Streaming {
    /// Who.
    pub client: Name,
    /// The server.
    pub url: String,
    /// Bytes of the object.
    pub len: u64,
}

pub(super) async fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    let host = Host::start().await?;
    let names = clients(bench, &Name::STREAMING);
    for round in 0..bench.options.rounds {
        for &client in in_turn(&names, round) {
            let job = Job::StreamRedis(Streaming {
                client,
                url: host.url(),
                len: bench.options.scaled(1 << 30),
            });
            let figures = job.run().await?;
            host.flush().await?;
            record(report, client, figures);
        }
    }
    Ok(())
}

fn record(report: &mut Report, client: Name, figures: Figures) {
    let mut record = |what: &str, value, unit| {
        report.record(
            &format!("redis/stream/1GiB/{what}"),
            client.as_str(),
            value,
            unit,
        );
    };
    let (read_wall, read_cpu) = figures.read;
    record("write/wall", figures.wall, "ms");
    record("write/cpu", figures.cpu, "ms");
    record("read/wall", read_wall, "ms");
    record("read/cpu", read_cpu, "ms");
    record("memory", figures.memory / f64::from(1 << 20), "MiB");
}

/// Does it, in a process of its own.
pub async fn stream(streaming: Streaming) -> Result<Figures> {
    let Streaming { client, url, len } = streaming;
    let values = Values::new();
    let open = client.connect(&url).await?;
    let before = measure::resident();
    ensure!(
        measure::forget_peak(),
        "the kernel does not forget the peak of memory"
    );

    let watch = Stopwatch::start();
    open.write_stream(&values, len).await?;
    let written = watch.spent();

    let watch = Stopwatch::start();
    let probe = StreamProbe::new(&values, len);
    let probe = open.read_stream(probe, len).await?;
    let read = watch.spent();
    let memory = measure::resident_peak().saturating_sub(before);

    let name = client.as_str();
    ensure!(probe.is_right(), "{name} gave other bytes than it took");
    Ok(Figures {
        wall: written.wall_each(1) / 1e6,
        cpu: written.cpu_each(1) / 1e6,
        read: (read.wall_each(1) / 1e6, read.cpu_each(1) / 1e6),
        memory: memory as f64,
        ..Figures::default()
    })
}
