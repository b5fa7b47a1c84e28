//! Runs, what they print and what they leave behind.

use std::process::{Command, Stdio};

use larder_bench::Workload;

use crate::{bench, disk, entries, output, reports};

/// As few keys and bytes as make sense of each.
const SMALL: [&str; 6] = ["--keys", "50", "--size", "2KiB", "--count", "300"];

#[test]
fn each_workload_runs_on_each_store() {
    let dir = tempfile::tempdir().unwrap();
    for name in Workload::NAMES {
        for url in [
            "memory:?capacity=16MiB".into(),
            disk(&dir.path().join(name)),
        ] {
            let words = [&[&url, "--workload", name][..], &SMALL].concat();
            let [report] = reports(&words).try_into().unwrap();
            assert_eq!(report.operations(), 300, "{name} on {url}");
            assert_eq!(report.workload, name);
            assert_eq!(report.overdue, 0);
            assert!(report.seconds > 0.0 && report.allocations.is_some());
            let latency = report.latency.unwrap();
            assert!(latency.timed >= 300 / report.timed_every, "{name} on {url}");
            assert!(latency.percentile(50.0).unwrap() <= latency.max);
        }
    }
}

#[test]
fn a_count_is_exact_with_any_number_of_tasks() {
    for tasks in ["1", "3", "64", "500"] {
        for rate in [None, Some("50000")] {
            let mut words = vec![
                "memory:", "--keys", "10", "--count", "1237", "--tasks", tasks,
            ];
            words.extend(rate.iter().flat_map(|rate| ["--rate", rate]));
            let [report] = reports(&words).try_into().unwrap();
            assert_eq!(report.operations(), 1237, "{words:?}");
        }
    }
}

#[test]
fn an_open_loop_keeps_its_pace_and_times_each_operation() {
    let words = [
        "null:",
        "--rate",
        "2000",
        "--duration",
        "500ms",
        "--warm-up",
        "0s",
    ];
    let [report] = reports(&words).try_into().unwrap();
    assert_eq!(report.operations() + report.overdue, 1000);
    assert_eq!(report.latency.unwrap().timed, report.reads + report.writes);
    assert_eq!(report.timed_every, 1);
}

#[test]
fn what_is_due_and_does_not_begin_is_told() {
    let words = [
        "null:",
        "--rate",
        "1e8",
        "--duration",
        "100ms",
        "--warm-up",
        "0s",
    ];
    let text = output(&words);
    assert!(text.contains("overdue"), "{text}");
}

#[test]
fn the_table_says_what_was_timed() {
    let text = output(&["memory:", "--keys", "50", "--count", "100000"]);
    for expected in [
        "read-mostly on memory: 1 task, closed loop",
        "100000 operations",
        "hit ratio        100.00 %",
        "timed",
        "p99.9",
    ] {
        assert!(text.contains(expected), "no {expected:?} in\n{text}");
    }
}

#[test]
fn rounds_find_the_folder_as_it_was_left_unless_they_are_fresh() {
    let dir = tempfile::tempdir().unwrap();
    let url = disk(dir.path());
    let words = [
        &url,
        "--workload",
        "scan",
        "--rounds",
        "2",
        "--warm-up",
        "0s",
    ];
    let words = [&words[..], &SMALL].concat();
    let fresh = reports(&[&words[..], &["--fresh"]].concat());
    let missed: Vec<u64> = fresh
        .iter()
        .map(|report| report.reads - report.hits)
        .collect();
    assert_eq!(missed, [50, 50], "each round fills 50 keys");
    assert_eq!(entries(dir.path()), 0, "and takes its folder with it");
    let reused = reports(&words);
    let missed: Vec<u64> = reused
        .iter()
        .map(|report| report.reads - report.hits)
        .collect();
    assert_eq!(missed, [50, 0]);
}

#[test]
fn the_picture_has_a_curve_for_each_round() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("latency.svg");
    let svg = path.to_str().unwrap();
    let words = ["memory:", "--svg", svg, "--rounds", "2"];
    output(&[&words[..], &SMALL].concat());
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.starts_with("<svg") && text.trim_end().ends_with("</svg>"));
    // Beside the curves there are the lines of the mesh, which have two points each.
    let points = |line: &&str| line.starts_with("<polyline") && line.matches(',').count() > 5;
    assert_eq!(text.lines().filter(points).count(), 2, "{text}");
    assert!(text.contains("p99.9") && text.contains("memory, 1 task, run 2"));
}

#[test]
fn two_files_are_compared() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, size: &str| {
        let path = dir.path().join(name);
        let words = ["memory:", "--size", size, "--rounds", "3", "--keys", "20"];
        let text = output(&[&words[..], &["--count", "2000", "--json"]].concat());
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (small, large) = (file("small", "100"), file("large", "100KiB"));
    let text = output(&["--compare", &small, &large]);
    assert!(
        text.starts_with("3 runs of read-mostly on memory"),
        "{text}"
    );
    for figure in [
        "throughput",
        "p50",
        "p99.9",
        "hit ratio",
        "CPU an operation",
    ] {
        assert!(text.contains(figure), "no {figure} in\n{text}");
    }
    let hits = text
        .lines()
        .find(|line| line.starts_with("hit ratio"))
        .unwrap();
    assert!(hits.ends_with("within the noise"), "{text}");
}

/// Ctrl-C ends a run that would go on, and nothing of it stays.
#[cfg(unix)]
#[test]
fn an_interrupted_run_leaves_no_folder() {
    let dir = tempfile::tempdir().unwrap();
    let url = disk(dir.path());
    let mut child = Command::new(env!("CARGO_BIN_EXE_larder-bench"))
        .args([&url, "--fresh", "--keys", "100", "--duration", "60s"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    while entries(dir.path()) == 0 {
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        std::thread::yield_now();
    }
    let interrupt = ["-INT", &child.id().to_string()].map(str::to_owned);
    assert!(
        Command::new("kill")
            .args(interrupt)
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(entries(dir.path()), 0);
}

#[test]
fn a_store_that_cannot_be_opened_is_no_bad_word() {
    let output = bench(&["memory:?capacity=0", "--count", "1"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("larder-bench: "));
}
