//! `disk/index/{1M,10M}/{filled,reopened}`: bytes of resident memory for each entry of 100 bytes,
//! in a new process each time: after filling, above what 10,000 entries took; and after opening,
//! above what the process took before. Memory hardly varies, so one round is enough.

use anyhow::Result;

use super::reopen;
use crate::{cases::Bench, child::Job, folder, report::Report};

pub(super) async fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    for (name, count) in reopen::counts(bench) {
        let case = format!("disk/index/{name}");
        if !bench.options.wants(&case) {
            continue;
        }
        for peer in reopen::peers(bench, count) {
            let entries = reopen::entries(bench, peer, count)?;
            let folder = entries.folder.clone();
            let fill = Job::Fill {
                peer,
                entries: entries.clone(),
                close: true,
            };
            let filled = fill.run().await?;
            let reopened = Job::Open { peer, entries }.run().await?;
            folder::remove(&folder)?;
            let mut record = |what: &str, memory: f64| {
                let case = format!("{case}/{what}");
                report.record(&case, peer.as_str(), memory / count as f64, "B");
            };
            record("filled", filled.memory);
            record("reopened", reopened.memory);
        }
    }
    Ok(())
}
