//! The library, against a store that it does not know.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use larder_bench::{Error, Length, Mix, Options, Popularity, Sizes, Workload, run};
use larder_conformance::{Fault, Faulty, Model, Op, Setup};
use larder_store::{ErrorKind, Store};

fn workload() -> Workload {
    Workload::mixed()
        .popularity(Popularity::Uniform { keys: 20 })
        .sizes(Sizes::Fixed(100))
        .warm_up(Length::Count(10))
        .length(Length::Count(1_000))
        .tasks(4)
}

#[test]
fn a_store_of_ones_own_is_measured() {
    larder_conformance::run("own", async {
        let store: Arc<dyn Store> = Arc::new(Model::with(Setup::new(1 << 20, 1 << 16)));
        let told = Arc::new(Mutex::new(Vec::new()));
        let telling = Arc::clone(&told);
        let options = Options {
            progress: Some(Arc::new(move |what, part| {
                assert!((0.0..=1.0).contains(&part), "{what}: {part}");
                telling.lock().unwrap().push(what);
            })),
            ..Options::default()
        };
        let report = run(Arc::clone(&store), &workload(), &options)
            .await
            .unwrap();
        assert_eq!(report.operations(), 1_000);
        assert!(
            report.writes > 300 && report.deletes > 50 && report.hits > 300,
            "{report:?}"
        );
        assert_eq!(report.entries, store.usage().entries);
        assert!(report.allocations.is_none(), "nobody counts them");
        let mut told = told.lock().unwrap().clone();
        told.dedup();
        assert_eq!(told, ["plan", "preload", "warm-up", "run"]);
        store.close().await.unwrap();
        let error = run(store, &workload(), &Options::default())
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Store(error) if error.is_closed()));
    });
}

#[test]
fn the_same_seed_does_the_same_operations() {
    larder_conformance::run("seed", async {
        let mut counts = Vec::new();
        for seed in [7, 7, 8] {
            let mut workload = workload().tasks(1);
            workload.seed = seed;
            let report = run(Arc::new(Model::new()), &workload, &Options::default())
                .await
                .unwrap();
            counts.push((report.reads, report.writes, report.deletes, report.hits));
        }
        assert_eq!(counts[0], counts[1]);
        assert_ne!(counts[0], counts[2]);
    });
}

#[test]
fn preload_writes_each_key_once() {
    larder_conformance::run("preload", async {
        let mut workload = workload()
            .length(Length::Count(0))
            .warm_up(Length::Count(0));
        workload.popularity = Popularity::Scan { keys: 1_234 };
        let store = Arc::new(Model::with(Setup::new(8 << 20, 1 << 16)));
        let report = run(store, &workload, &Options::default()).await.unwrap();
        assert_eq!((report.entries, report.operations()), (1_234, 0));
        assert!(report.latency.is_none());
        assert!(report.to_string().contains("0 operations"), "{report}");
    });
}

/// Each get waits a while: operations that are due meanwhile have waited, too.
#[test]
fn an_open_loop_tells_of_the_wait_behind_slow_operations() {
    larder_conformance::run("open", async {
        let store = Arc::new(Faulty::new(Model::new()));
        let mut workload = workload().tasks(1).length(Length::Count(50));
        workload.mix = Mix::of(1.0, 0.0, 0.0);
        workload.warm_up = Length::Count(0);
        let delay = Fault::Delay(Duration::from_millis(2));
        store.faults().on(Op::Get).always(delay);
        let closed = run(Arc::clone(&store), &workload, &Options::default())
            .await
            .unwrap();
        workload.rate = Some(10_000.0);
        let open = run(store, &workload, &Options::default()).await.unwrap();
        let median =
            |report: larder_bench::Report| report.latency.unwrap().percentile(50.0).unwrap();
        let (closed, open) = (median(closed), median(open));
        assert!(
            open > 5 * closed,
            "{open} ns in an open loop, {closed} ns in a closed one"
        );
    });
}

#[test]
fn a_store_that_fails_or_panics_ends_the_run() {
    larder_conformance::run("faults", async {
        let fails = async |fault| {
            let store = Faulty::new(Model::new());
            store.faults().on(Op::Get).nth(50).inject(fault);
            let done = run(Arc::new(store), &workload(), &Options::default()).await;
            let Err(Error::Store(error)) = done else {
                panic!("{done:?}");
            };
            error
        };
        assert!(fails(Fault::Fail(ErrorKind::Timeout)).await.is_timeout());
        let panic = fails(Fault::Panic).await;
        assert_eq!(panic.to_string(), "a task of the benchmark panicked");
    });
}

#[test]
fn workloads_that_make_no_sense_are_refused() {
    larder_conformance::run("senseless", async {
        let senseless: [fn(&mut Workload); 6] = [
            |workload| workload.tasks = 0,
            |workload| workload.mix = Mix::of(0.0, 0.0, 0.0),
            |workload| workload.mix = Mix::of(1.0, f64::NAN, 0.0),
            |workload| workload.rate = Some(f64::INFINITY),
            |workload| workload.sizes = Sizes::Trace(1),
            |workload| {
                workload.sizes = Sizes::LogNormal {
                    median: 1,
                    sigma: -1.0,
                    max: 1,
                }
            },
        ];
        for make in senseless {
            let mut workload = workload();
            make(&mut workload);
            let refused = run(Arc::new(Model::new()), &workload, &Options::default()).await;
            assert!(matches!(refused, Err(Error::Workload(_))), "{workload:?}");
        }
    });
}
