//! Traces: their hit ratio, and their objects that are too large.

use std::{fmt::Write as _, path::PathBuf};

use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use crate::{entries, output, reports};

/// A hundred keys of 1,000 bytes, each asked for twice in a row; and one of 40 MiB, which is too
/// large for what the tests give.
fn trace() -> String {
    let mut text = String::from("too-large,41943040\n");
    for number in 0..100 {
        let _ = writeln!(text, "key/{number},1000\nkey/{number},1000");
    }
    text
}

fn write(folder: &tempfile::TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn every_policy_serves_the_second_of_two() {
    let dir = tempfile::tempdir().unwrap();
    let plain = write(&dir, "trace.csv", trace().as_bytes());
    let level = CompressionLevel::Fastest;
    let packed = write(
        &dir,
        "trace.zst",
        &compress_to_vec(trace().as_bytes(), level),
    );
    let ratios = |path: &PathBuf| {
        let words = ["hit-ratio", path.to_str().unwrap(), "--capacity", "16MiB"];
        output(&[&words[..], &["--json"]].concat())
    };
    let text = ratios(&plain);
    assert_eq!(text, ratios(&packed));
    assert_eq!(text.lines().count(), 4);
    for line in text.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let about = |name: &str, value: f64| {
            let is = line[name].as_f64().unwrap();
            assert!(
                (is - value).abs() < 1e-6,
                "{name}: {is}, not {value} in {line}"
            );
        };
        about("hit_ratio", 100.0 / 201.0);
        about("byte_hit_ratio", 100_000.0 / (41_943_040.0 + 200_000.0));
        assert_eq!(
            (&line["requests"], &line["refused"]),
            (&201.into(), &1.into()),
            "{line}"
        );
    }
}

#[test]
fn the_table_has_both_ratios_and_no_folder_stays() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(&dir, "trace", b"a\nb\na\n");
    let own = dir.path().join("own");
    std::fs::create_dir(&own).unwrap();
    let done = std::process::Command::new(env!("CARGO_BIN_EXE_larder-bench"))
        .args([
            "hit-ratio",
            path.to_str().unwrap(),
            "--capacity",
            "16MiB",
            "--size",
            "1KiB",
        ])
        .env("TMPDIR", &own)
        .output()
        .unwrap();
    assert!(done.status.success());
    let text = String::from_utf8(done.stdout).unwrap();
    assert!(text.contains("3 requests of 2 keys"), "{text}");
    assert_eq!(
        text.matches("33.33 % of requests   33.33 % of bytes")
            .count(),
        4,
        "{text}"
    );
    assert_eq!(entries(&own), 0);
}

#[test]
fn a_trace_is_replayed_in_its_order_and_what_is_too_large_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(&dir, "trace", trace().as_bytes());
    let words = ["memory:?capacity=16MiB", "--trace", path.to_str().unwrap()];
    let how = ["--workload", "scan", "--count", "201", "--warm-up", "0s"];
    let [report] = reports(&[&words[..], &how].concat()).try_into().unwrap();
    assert_eq!((report.reads, report.hits, report.refused), (201, 100, 1));
    assert_eq!(report.bytes_written, 100_000);
}
