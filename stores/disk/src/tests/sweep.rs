//! Each call to the file system fails in turn.

use std::sync::Arc;

use tokio::{
    sync::Semaphore,
    task::{JoinError, JoinSet},
};

use super::{bounded, panics, run};
use crate::{
    faults::{Failure, Faults, Rule, Site},
    medium::Op,
};

/// Lives that go on at once: they wait more than they work.
const AT_ONCE: usize = 12;

/// One life, and what fails in it.
#[derive(Clone, Debug)]
struct Case {
    site: Site,
    from: u64,
    times: u64,
    failure: Failure,
}

#[test]
fn s56_a_sound_disk_first() {
    bounded(async {
        let faults = Faults::default();
        let folder = tempfile::tempdir().unwrap();
        run::life(folder.path(), &faults).await;
        let calls = faults.calls();
        let wanted = [Op::Create, Op::Read, Op::Write, Op::Sync, Op::Allocate];
        for op in wanted {
            assert!(calls.keys().any(|site| site.op == op), "{calls:?}");
        }
        assert_eq!(faults.struck(), 0);
    });
}

#[test]
fn s56_a_call_fails_anywhere() {
    sweep(3);
}

/// As above, for all calls: `cargo test --release -p larder-disk --lib -- --ignored s56`.
#[test]
#[ignore = "takes minutes"]
fn s56_every_call_fails_in_turn() {
    sweep(200);
}

/// Has up to so many calls of each kind fail, the first and the last among them.
fn sweep(per_site: u64) {
    panics::watch();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .unwrap();
    let failed = runtime.block_on(sweep_all(per_site));
    runtime.shutdown_background();
    let count = failed.len();
    assert!(failed.is_empty(), "{count} failed: {failed:#?}");
    panics::none();
}

async fn sweep_all(per_site: u64) -> Vec<(Case, String)> {
    let faults = Faults::default();
    let folder = tempfile::tempdir().unwrap();
    run::life(folder.path(), &faults).await;
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let mut lives = JoinSet::new();
    for (site, calls) in faults.calls() {
        for case in cases(&site, calls, per_site) {
            let permits = Arc::clone(&permits);
            lives.spawn(async move {
                let _permit = permits.acquire().await.unwrap();
                let faults = Faults::default();
                faults.add(case.rule());
                let folder = tempfile::tempdir().unwrap();
                let path = folder.path().to_owned();
                let life = tokio::spawn(async move { run::life(&path, &faults).await });
                (case, life.await.err())
            });
        }
    }
    let ended = lives.join_all().await.into_iter();
    let failed = ended.filter_map(|(case, error)| Some((case, what(error?))));
    failed.collect()
}

fn what(error: JoinError) -> String {
    let Ok(panic) = error.try_into_panic() else {
        return String::new();
    };
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
        .unwrap_or_default()
}

/// Calls of this kind, spread over all there are, that fail once, and some for good.
fn cases(site: &Site, calls: u64, per_site: u64) -> Vec<Case> {
    let failures: &[Failure] = match site.op {
        Op::Write => &[Failure::Full, Failure::Short, Failure::Broken],
        Op::Read | Op::ReadNow => &[Failure::Broken, Failure::Short],
        Op::Sync => &[Failure::Broken, Failure::Full],
        _ => &[Failure::Full, Failure::ReadOnly],
    };
    let count = calls.min(per_site);
    let places = (0..count).map(|number| number * (calls - 1) / (count - 1).max(1));
    let case = |(number, from): (usize, u64)| Case {
        site: site.clone(),
        from,
        times: if number % 2 == 0 { 1 } else { u64::MAX },
        failure: failures[number / 2 % failures.len()],
    };
    places.enumerate().map(case).collect()
}

impl Case {
    fn rule(&self) -> Rule {
        Rule::new(self.failure)
            .on(&[self.site.op])
            .by(self.site.by)
            .from(self.from)
            .times(self.times)
    }
}
