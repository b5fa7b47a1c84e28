//! `redis/set/{1KiB,64KiB,1MiB}/{1,16,64}tasks/{cpu,wall,server}`: writes over keys that are there,
//! at random. Time for each; wall time is that of all tasks over all writes.
//!
//! A `SET` is not the same work as Larder's commit, which ends fences and lets the chunks of what
//! it replaces expire, all in one step; `redis-fenced` does the least that one step can be.

use anyhow::Result;

use super::exchange::{self, Verb};
use crate::{cases::Bench, peers::redis::Name, report::Report};

pub(super) async fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    exchange::run(bench, report, Verb::Set, &Name::SETTING).await
}
