//! Small histories, right and wrong.

use super::*;

const READ: Op = Op::Read { joined: false };
const INSERT: Op = Op::Insert { whole: true };

fn record(process: usize, op: Op, version: u64, start: u64, end: u64) -> Record {
    Record {
        process,
        key: 1,
        op,
        version,
        start,
        called: start,
        end,
        failure: None,
    }
}

/// Processes 0 and 1 have private tiers; the bound is 100 us.
fn is_right(calm: bool, history: &[Record]) -> bool {
    let rules = Rules {
        private: vec![true, true, false],
        bound: Duration::from_micros(100),
        calm,
    };
    rules
        .check(history)
        .is_ok_and(|figures| figures.unexplained.is_empty())
}

#[test]
fn a_read_after_a_delete_is_not_older() {
    let delete = record(0, Op::Delete, 2, 100, 200);
    let read = |process, start| record(process, READ, 1, start, start + 5);
    for (process, start, right) in [
        (0, 199, true),
        (0, 201, false),
        (2, 199, true),
        (2, 201, false),
        (1, 299, true),
        (1, 301, false),
    ] {
        for calm in [true, false] {
            let history = [delete.clone(), read(process, start)];
            assert_eq!(is_right(calm, &history), right, "{process} {start}");
        }
    }
    let same = record(2, READ, 2, 201, 205);
    assert!(is_right(true, &[delete.clone(), same]));
    let absent = record(2, Op::Look { joined: false }, 0, 201, 205);
    assert!(is_right(true, &[delete.clone(), absent]));
    let other = Record {
        key: 2,
        ..read(0, 300)
    };
    assert!(is_right(true, &[delete, other]));
}

#[test]
fn who_joins_is_given_the_bound() {
    let delete = record(0, Op::Delete, 2, 100, 200);
    let read = |start| record(2, Op::Read { joined: true }, 1, start, start + 5);
    assert!(is_right(true, &[delete.clone(), read(299)]));
    assert!(!is_right(true, &[delete, read(301)]));
}

#[test]
fn an_insert_that_was_under_way_may_be_the_last() {
    let delete = record(0, Op::Delete, 3, 100, 200);
    let read = record(2, READ, 2, 400, 405);
    let insert = |op, end| record(1, op, 2, 50, end);
    assert!(!is_right(
        true,
        &[insert(INSERT, 90), delete.clone(), read.clone()]
    ));
    assert!(is_right(
        true,
        &[insert(INSERT, 110), delete.clone(), read.clone()]
    ));
    let part = Op::Insert { whole: false };
    assert!(is_right(false, &[insert(part, 90), delete, read]));
}

#[test]
fn where_servers_fail_inserts_bind_their_own_process() {
    let insert = record(0, INSERT, 2, 100, 200);
    let read = |process| record(process, READ, 1, 400, 405);
    for (process, calm, right) in [
        (0, false, false),
        (1, false, true),
        (1, true, false),
        (2, true, false),
    ] {
        assert_eq!(is_right(calm, &[insert.clone(), read(process)]), right);
    }
}

#[test]
fn reads_with_a_fetcher_fail_only_where_they_cannot_go_on() {
    let failed = |process, op, version, why: &str| Record {
        failure: Some(why.to_owned()),
        ..record(process, op, version, 1, 9)
    };
    let may_fail = |failed: &Record| {
        assert!(!is_right(true, std::slice::from_ref(failed)));
        is_right(false, std::slice::from_ref(failed))
    };
    assert!(!may_fail(&failed(0, READ, 0, "away")));
    assert!(!may_fail(&failed(2, READ, 0, "away")));
    assert!(may_fail(&failed(2, READ, 1, "away")));
    let cut = failed(0, READ, 1, "away");
    assert!(!may_fail(&cut));
    assert!(may_fail(&failed(0, READ, 1, "revalidated: away")));
    let publish = |start| record(1, Op::Delete, 2, start, 20);
    assert!(is_right(false, &[cut.clone(), publish(8)]));
    assert!(!is_right(false, &[cut, publish(10)]));
    let look = Op::Look { joined: false };
    assert!(may_fail(&failed(0, look, 0, "away")));
    assert!(!may_fail(&failed(0, look, 0, "torn: 3 bytes")));
    assert!(may_fail(&failed(0, Op::Delete, 2, "away")));
}

#[test]
fn what_failed_binds_nobody() {
    let mut delete = record(0, Op::Delete, 2, 100, 200);
    delete.failure = Some("away".to_owned());
    assert!(is_right(false, &[delete, record(0, READ, 1, 400, 405)]));
}

#[test]
fn what_is_told_is_understood() {
    for op in OPS {
        let mut told = record(2, op, 7, 8, 10);
        told.called = 9;
        assert_eq!(Record::parse(2, &told.tell()), told);
        told.failure = Some("no such; luck".to_owned());
        let parsed = Record::parse(2, &told.tell());
        assert_eq!(parsed.failure.as_deref(), Some("no such, luck"));
    }
}
