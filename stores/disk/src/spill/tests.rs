//! What goes into a file comes out of it, and nothing is held that is not lent.

use super::*;
use crate::{config::Settings, intake::Intake};

const KIB: usize = 1 << 10;

fn loan(staging_max: u64) -> Loan {
    let settings = crate::Builder::new("".into(), 1 << 30).settings().unwrap();
    let settings = Settings {
        staging_max,
        ..settings
    };
    Loan::new(&Intake::new(&settings).memory)
}

fn pattern(len: usize) -> Bytes {
    (0..len)
        .map(|at| u8::try_from(at * 7 % 251).unwrap())
        .collect()
}

/// Does what a job does, into memory; gives how many pieces that were.
fn write(spill: &mut Spill, loan: &mut Loan, into: &mut Vec<u8>) -> usize {
    let mut count = 0;
    while let Some(piece) = spill.queue.front() {
        assert_eq!(spill.flushed, into.len() as u64);
        into.extend_from_slice(&piece.bytes);
        drop(spill.wrote(loan));
        count += 1;
    }
    count
}

#[test]
fn a_stream_is_written_in_pieces_whose_buffers_are_used_again() {
    let mut loan = loan(64 << 20);
    let first = pattern(300 * KIB);
    assert!(loan.grow(first.len() as u64));
    let mut spill = Spill::new(1, &Arc::default(), first.clone(), first.len() as u64);
    let chunk = pattern(100 * KIB);
    let (mut written, mut wanted) = (Vec::new(), first.to_vec());
    for _ in 0..100 {
        let mut rest = chunk.clone();
        while spill.fill(&mut rest, &mut loan).unwrap() != Filled::All {
            assert!(write(&mut spill, &mut loan, &mut written) > 0);
        }
        wanted.extend_from_slice(&chunk);
        assert!(loan.bytes() <= (PIECES_MAX * PIECE + 300 * KIB) as u64);
    }
    spill.finish().unwrap();
    spill.add_table(Bytes::from_static(b"table"));
    write(&mut spill, &mut loan, &mut written);
    wanted.extend_from_slice(b"table");
    assert!(written == wanted);
    assert!(spill.is_drained());
    // What is left is the spare.
    assert_eq!(loan.bytes(), PIECE as u64);
}

#[test]
fn no_more_is_taken_than_has_room() {
    let mut loan = loan(64 << 20);
    let mut spill = Spill::new(1, &Arc::default(), Bytes::new(), 0);
    let mut taken = 0;
    let short = pattern(10_000);
    let left = loop {
        let mut chunk = short.clone();
        let filled = spill.fill(&mut chunk, &mut loan).unwrap();
        taken += short.len() - chunk.len();
        if filled == Filled::Partly {
            break chunk.len();
        }
    };
    assert_eq!(taken, (PIECES_MAX - 1) * PIECE);
    assert!(loan.bytes() <= (PIECES_MAX * PIECE) as u64);
    let mut chunk = short.slice(short.len() - left..);
    assert_eq!(spill.fill(&mut chunk, &mut loan).unwrap(), Filled::Partly);
    assert_eq!(chunk.len(), left);
}

#[test]
fn a_long_chunk_is_not_copied_and_not_taken_without_end() {
    let mut loan = loan(64 << 20);
    let mut spill = Spill::new(1, &Arc::default(), Bytes::new(), 0);
    let all = pattern(10 * PIECE);
    let mut chunk = all.clone();
    assert_eq!(spill.fill(&mut chunk, &mut loan).unwrap(), Filled::Partly);
    assert_eq!(chunk.len(), 10 * PIECE - PIECES_MAX * PIECE);
    assert_eq!(loan.bytes(), (PIECES_MAX * PIECE) as u64);
    assert_eq!(spill.queue[1].bytes.as_ptr(), all[PIECE..].as_ptr());
    assert!(
        !spill.has_place(),
        "the writer sleeps until most is written"
    );
    assert_eq!(spill.fill(&mut chunk, &mut loan).unwrap(), Filled::Partly);
    assert_eq!(chunk.len(), 10 * PIECE - PIECES_MAX * PIECE);
}

#[test]
fn without_memory_a_chunk_is_owed_and_not_copied() {
    let mut loan = loan(0);
    let mut spill = Spill::new(1, &Arc::default(), Bytes::new(), 0);
    let mut written = Vec::new();
    let all = pattern(OWED_MAX + 10);
    let mut chunk = all.clone();
    assert_eq!(spill.fill(&mut chunk, &mut loan).unwrap(), Filled::Partly);
    assert_eq!(chunk.len(), 10);
    assert_eq!(spill.queue[0].bytes.as_ptr(), all.as_ptr());
    // One at a time.
    assert_eq!(spill.fill(&mut chunk, &mut loan).unwrap(), Filled::Partly);
    write(&mut spill, &mut loan, &mut written);
    assert_eq!(spill.fill(&mut chunk, &mut loan).unwrap(), Filled::Owed);
    write(&mut spill, &mut loan, &mut written);
    assert!(written == all);
    assert_eq!(loan.bytes(), 0);
    assert!(spill.has_place());
}

#[test]
fn what_is_not_in_the_file_is_found_in_memory() {
    let mut loan = loan(64 << 20);
    let all = pattern(3 * PIECE / 2);
    let first = all.slice(..100);
    let mut spill = Spill::new(1, &Arc::default(), first, 0);
    let mut rest = all.slice(100..);
    assert_eq!(spill.fill(&mut rest, &mut loan).unwrap(), Filled::All);
    let find = |spill: &Spill, at: usize| match spill.find(at as u64) {
        Found::Memory(bytes) => Some(bytes.to_vec()),
        Found::File(..) | Found::Nowhere => None,
    };
    for at in [0, 1, 99, 100, PIECE + 99, PIECE + 100, all.len() - 1] {
        let found = find(&spill, at).unwrap();
        assert!(!found.is_empty() && all[at..].starts_with(&found), "{at}");
    }
    assert!(find(&spill, all.len()).is_none());
    drop(spill.wrote(&mut loan));
    assert!(find(&spill, 99).is_none());
    assert!(all[100..].starts_with(&find(&spill, 100).unwrap()));
}

#[test]
fn one_job_at_a_time_and_none_after_the_end() {
    let mut spill = Spill::new(1, &Arc::default(), pattern(10), 0);
    assert!(spill.begin());
    assert!(!spill.begin() && !spill.is_idle());
    assert!(matches!(spill.turn(false), Turn::Create(1)));
    assert!(matches!(spill.turn(true), Turn::End));
    assert!(spill.begin(), "one that made place is followed by another");
    assert!(!spill.abandon(), "the job that is there removes the file");
    assert!(!spill.is_gone());
    assert!(matches!(spill.turn(false), Turn::Remove(1)));
    spill.end();
    assert!(spill.is_gone() && !spill.begin());

    let mut untouched = Spill::new(2, &Arc::default(), pattern(10), 0);
    assert!(!untouched.abandon(), "there is no file to remove");
    assert!(untouched.is_gone());

    let mut failed = Spill::new(3, &Arc::default(), pattern(10), 0);
    failed.fail(Error::invalid("first"));
    failed.fail(Error::invalid("second"));
    assert!(!failed.begin(), "nothing is written after a hole");
    assert_eq!(failed.check().unwrap_err().to_string(), "first");
    let mut loan = loan(0);
    assert!(failed.fill(&mut pattern(1), &mut loan).is_err());
}
