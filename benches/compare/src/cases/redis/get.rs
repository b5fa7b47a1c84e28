//! `redis/get/{1KiB,64KiB,1MiB}/{1,16,64}tasks/{cpu,wall,server}`: reads of keys that are there, at
//! random, each to its end. Time for each; wall time is that of all tasks over all reads.

use anyhow::Result;

use super::exchange::{self, Verb};
use crate::{cases::Bench, peers::redis::Name, report::Report};

pub(super) async fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    exchange::run(bench, report, Verb::Get, &Name::GETTING).await
}
