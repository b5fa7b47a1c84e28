//! `disk/store/...`: see [`cases::store`](crate::cases::store).

use anyhow::Result;

use crate::{
    cases::{Bench, store},
    peers::Name,
    report::Report,
};

pub(super) async fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    store::run(bench, report, "disk/store", &Name::ON_DISK).await
}
