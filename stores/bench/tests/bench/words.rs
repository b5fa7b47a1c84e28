//! What the program says to words that it does not understand.

use crate::{bench, output};

#[test]
fn bad_words_are_told_and_give_2() {
    let cases: [(&[&str], &str); 19] = [
        (&[], "there is no URL"),
        (&["memory:", "two"], "`two` is one word too many"),
        (&["memory:", "--wrong"], "--wrong: there is no such option"),
        (
            &["memory:", "--workload", "x"],
            "only read-mostly, write-burst",
        ),
        (&["memory:", "--keys", "0"], "0 keys are not between 1"),
        (&["memory:", "--keys", "x"], "--keys: `x`"),
        (&["memory:", "--keys"], "--keys: "),
        (
            &["memory:", "--size", "64MB"],
            "--size: `64MB` is no size, such as",
        ),
        (&["memory:", "--log-normal", "4KiB"], "no median and sigma"),
        (
            &["memory:", "--duration", "1h"],
            "--duration: `1h` is no time, such as",
        ),
        (
            &["memory:", "--duration", "1s", "--count", "1"],
            "exclude each other",
        ),
        (&["memory:", "--zipf", "-1"], "exponent"),
        (
            &["memory:", "--zipf", "1", "--uniform"],
            "exclude each other",
        ),
        (&["memory:", "--rate", "0"], "a rate of 0"),
        (&["memory:", "--rate", "1e-300"], "a rate of"),
        (&["memory:", "--tasks", "0"], "0 tasks"),
        (&["memory:", "--rounds", "0"], "--rounds"),
        (&["memory:", "--capacity", "1MiB"], "in its URL"),
        (&["hit-ratio", "trace"], "there is no --capacity"),
    ];
    for (words, expected) in cases {
        let output = bench(words);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {errors}");
        assert!(errors.contains(expected), "{words:?}: {errors}");
        assert!(
            errors.contains("Usage: larder-bench"),
            "{words:?}: {errors}"
        );
        assert!(output.stdout.is_empty(), "{words:?}");
    }
}

#[test]
fn a_trace_that_is_not_there_is_named() {
    let output = bench(&["memory:", "--trace", "no-such-trace"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no-such-trace: "));
}

#[test]
fn help_has_every_workload() {
    let text = output(&["--help"]);
    for name in larder_bench::Workload::NAMES {
        assert!(text.contains(name), "{name}");
    }
}

/// As in `larder-bench 2>&1 | head -1`.
#[test]
fn s104_a_pipe_that_nobody_reads_is_no_panic() {
    let closed = || std::io::pipe().unwrap().1;
    let run = |words: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_larder-bench"));
        let command = command.args(words).stdout(closed()).stderr(closed());
        command.status().unwrap().code()
    };
    let small = ["memory:", "--keys", "10", "--count", "100"];
    assert_eq!(run(&small), Some(0));
    assert_eq!(run(&[&small[..], &["--json"]].concat()), Some(0));
    assert_eq!(run(&["--help"]), Some(0));
    assert_eq!(run(&["--nonsense"]), Some(2));
    assert_eq!(run(&["nowhere:"]), Some(1));
}
