//! The spool, told by hand what happened.

use larder_store::Reply;

use super::*;

/// A backing in memory.
struct Kept(Bytes);

impl Staged for Kept {
    fn read(self: Arc<Self>, offset: u64, max: usize) -> Reply<'static, Bytes> {
        let offset = usize::try_from(offset).expect("small");
        Reply::ready(Ok(self.0.slice(offset..(offset + max).min(self.0.len()))))
    }
}

const KIB: u64 = 1 << 10;

fn spool(disk: u64) -> Spool {
    Spool::new(SpoolLimits {
        memory: 256 * KIB,
        disk,
    })
}

fn chunk(byte: u8) -> Bytes {
    Bytes::from(vec![byte; 64 << 10])
}

fn read(spool: &mut Spool, id: usize) -> Read {
    spool.read(id, Waker::noop())
}

fn enter(spool: &mut Spool) -> usize {
    let id = spool.enter();
    assert!(spool.place(id, 0, None));
    id
}

/// Appends as long as the spool asks for more, at most `max` chunks; says how many.
fn pump(spool: &mut Spool, ahead: bool, file: &Arc<dyn Staged>, max: u64) -> u64 {
    for done in 0..max {
        loop {
            match spool.next(ahead, false) {
                Next::Pull => break,
                Next::Wait => return done,
                Next::Spill(from, chunks) => {
                    let len = chunks.iter().map(|bytes| bytes.len() as u64).sum();
                    spool.spilled(file, from, len);
                }
            }
        }
        let _ = spool.append(&chunk(1));
        assert!(
            spool.held() <= 256 * KIB,
            "{} bytes in memory",
            spool.held()
        );
    }
    max
}

fn drain(spool: &mut Spool, id: usize) -> u64 {
    let mut total = 0;
    loop {
        match read(spool, id) {
            Read::Chunk(bytes) => total += bytes.len() as u64,
            Read::Behind(_, _, max) => {
                spool.advance(id, max as u64);
                total += max as u64;
            }
            _ => return total,
        }
    }
}

fn file() -> Arc<dyn Staged> {
    Arc::new(Kept(Bytes::new()))
}

#[test]
fn s26_without_a_tier_the_fastest_sets_the_pace_and_laggards_read_behind() {
    let (mut spool, file) = (spool(100 << 20), file());
    let (fast, slow) = (enter(&mut spool), enter(&mut spool));
    let ahead = pump(&mut spool, false, &file, 1_000);
    assert!(
        ahead * 64 * KIB <= 192 * KIB,
        "no more than the window ahead of the fastest"
    );
    let mut passed = 0;
    while passed < 100 * 64 * KIB {
        pump(&mut spool, false, &file, 1_000);
        passed += drain(&mut spool, fast);
    }
    assert!(matches!(read(&mut spool, slow), Read::Behind(_, 0, _)));
    assert_eq!(drain(&mut spool, slow), spool.end());
}

#[test]
fn s80_past_the_spill_limit_nobody_joins_and_the_slowest_sets_the_pace() {
    let (mut spool, file) = (spool(512 * KIB), file());
    let (fast, stuck) = (enter(&mut spool), enter(&mut spool));
    for _ in 0..100 {
        pump(&mut spool, false, &file, 1_000);
        drain(&mut spool, fast);
    }
    assert!(!spool.is_joinable());
    assert!(
        spool.end() <= (512 + 256) * KIB,
        "the stuck reader holds the source"
    );
    let late = spool.enter();
    assert!(
        spool.place(late, 0, None),
        "what is spilled can still be read from its start"
    );
    drop(spool.leave(late));
    let (cut, _) = spool.cut_blocked();
    assert_eq!(cut, 1);
    assert!(matches!(read(&mut spool, stuck), Read::Failed(error) if error.is_timeout()));
    for _ in 0..100 {
        pump(&mut spool, false, &file, 1_000);
        drain(&mut spool, fast);
    }
    assert!(spool.end() > 2048 * KIB, "and the others go on");
    let late = spool.enter();
    assert!(!spool.place(late, 600 * KIB, None), "its bytes are gone");
}

#[test]
fn s79_a_backing_that_stops_growing_is_continued_by_the_spill_file() {
    let (mut spool, file) = (spool(100 << 20), file());
    let staged = self::file();
    spool.add_backing(0, Arc::clone(&staged));
    let slow = enter(&mut spool);
    for number in 1..=20 {
        while let Next::Spill(from, chunks) = spool.next(true, false) {
            assert!(from >= 10 * 64 * KIB, "what is staged is not spilled");
            let len = chunks.iter().map(|bytes| bytes.len() as u64).sum();
            spool.spilled(&file, from, len);
        }
        let _ = spool.append(&chunk(1));
        if number <= 10 {
            spool.backed(&staged, number * 64 * KIB);
        }
    }
    let _ = spool.finish(Ok(()));
    assert_eq!(drain(&mut spool, slow), 20 * 64 * KIB);
    assert!(matches!(read(&mut spool, slow), Read::End));
}

#[test]
fn s21_a_failure_comes_after_the_bytes() {
    let mut spool = spool(0);
    let reader = enter(&mut spool);
    let _ = spool.append(&chunk(1));
    let _ = spool.finish(Err(Error::corrupt("cut")));
    assert!(matches!(read(&mut spool, reader), Read::Chunk(_)));
    for _ in 0..2 {
        assert!(matches!(read(&mut spool, reader), Read::Failed(error) if error.is_corrupt()));
    }
}

#[test]
fn s27_a_late_reader_gets_all_of_what_a_tier_stages() {
    let (mut spool, file, staged) = (spool(100 << 20), file(), file());
    spool.add_backing(0, Arc::clone(&staged));
    for number in 1..=100 {
        assert!(matches!(spool.next(true, false), Next::Pull));
        let _ = spool.append(&chunk(1));
        spool.backed(&staged, number * 64 * KIB);
    }
    assert!(spool.is_joinable());
    let late = enter(&mut spool);
    assert_eq!(pump(&mut spool, true, &file, 1), 1);
    let _ = spool.finish(Ok(()));
    assert_eq!(drain(&mut spool, late), 101 * 64 * KIB);
}

/// Appends a chunk of this length, once the spool asks for one.
fn feed(spool: &mut Spool, len: u64) {
    assert!(matches!(spool.next(false, false), Next::Pull));
    let _ = spool.append(&Bytes::from(vec![1; usize::try_from(len).expect("small")]));
}

#[test]
fn s94_what_nobody_needs_is_dropped_and_closes_the_spool() {
    for len in [100, 16 * KIB, 64 * KIB, 300 * KIB] {
        let mut spool = spool(100 << 20);
        let alone = enter(&mut spool);
        let mut passed = 0;
        while passed < 10_000 * KIB {
            assert_eq!(spool.is_joinable(), spool.window.start() == 0);
            match spool.next(false, false) {
                Next::Pull => feed(&mut spool, len),
                Next::Wait => passed += drain(&mut spool, alone),
                Next::Spill(..) => panic!("nobody lags"),
            }
        }
        assert!(!spool.is_joinable());
        assert!(!spool.is_crowded(), "nothing was in the way");
        let late = spool.enter();
        assert!(!spool.place(late, 0, None));
        assert!(spool.place(late, spool.end(), None), "what is to come");
    }
}

#[test]
fn s94_a_reader_without_a_place_needs_everything() {
    let (mut spool, file) = (spool(100 << 20), file());
    let quick = enter(&mut spool);
    let waits = spool.enter();
    for _ in 0..100 {
        pump(&mut spool, false, &file, 1_000);
        drain(&mut spool, quick);
    }
    assert!(spool.is_joinable() && spool.spilled > 0);
    assert!(spool.place(waits, 0, None));
    assert_eq!(drain(&mut spool, waits), spool.end());
}

#[test]
fn s94_the_spill_file_begins_again_after_what_nobody_needed() {
    let (mut spool, file) = (spool(100 << 20), file());
    let (first, second) = (enter(&mut spool), enter(&mut spool));
    let mut ends = Vec::new();
    for round in 0..6 {
        for _ in 0..100 {
            pump(&mut spool, false, &file, 1_000);
            drain(&mut spool, first);
            if round % 2 == 0 {
                drain(&mut spool, second);
            }
        }
        drain(&mut spool, second);
        ends.push(spool.spilled);
        assert_eq!(spool.backings.len(), usize::from(round > 0));
    }
    assert_eq!(ends[0], 0);
    assert!(ends[1] > 0 && ends[2] == ends[1] && ends[3] > ends[2]);
    assert_eq!(drain(&mut spool, first), 0);
    let _ = spool.finish(Ok(()));
    assert!(matches!(read(&mut spool, second), Read::End));
}

#[test]
fn s79_what_two_backings_have_in_part_leaves_the_window() {
    let (mut spool, file, staged) = (spool(100 << 20), file(), file());
    spool.add_backing(0, Arc::clone(&staged));
    let slow = enter(&mut spool);
    // The tier took half of what stands in one block.
    let half = Bytes::from(vec![1; 10 << 10]);
    let _ = spool.append(&half);
    spool.backed(&staged, 10 * KIB);
    let _ = spool.append(&half);
    let Next::Spill(from, _) = spool.next(true, true) else {
        panic!("the rest is to be spilled");
    };
    assert_eq!(from, 10 * KIB);
    spool.spilled(&file, from, 10 * KIB);
    assert!(matches!(spool.next(true, true), Next::Pull));
    assert_eq!(spool.held(), 0);
    assert_eq!(drain(&mut spool, slow), 20 * KIB);
}

#[test]
fn s79_each_reader_learns_that_bytes_were_lost() {
    let (mut spool, staged) = (spool(0), file());
    spool.add_backing(0, Arc::clone(&staged));
    let slow = [enter(&mut spool), enter(&mut spool)];
    for number in 1..=20 {
        let _ = spool.append(&chunk(1));
        spool.backed(&staged, number * 64 * KIB);
        assert!(matches!(spool.next(true, false), Next::Pull));
    }
    assert!(!spool.distrust(slow[0], &staged));
    for reader in slow {
        assert!(matches!(read(&mut spool, reader), Read::Failed(error) if error.is_corrupt()));
    }
}

fn seek(spool: &mut Spool, range: ByteRange) -> usize {
    let id = spool.enter();
    assert!(spool.seek(id, range));
    id
}

#[test]
fn s88_a_range_is_answered_when_the_flight_waits_for_it() {
    let mut spool = spool(0);
    let range = ByteRange::try_from(10..9_000_000).expect("a range");
    let waits = seek(&mut spool, range);
    // A chunk that fills the window alone.
    feed(&mut spool, 100 * KIB);
    assert!(
        spool.sought(waits, range).is_none(),
        "half a window is 128 KiB"
    );
    feed(&mut spool, 100 * KIB);
    assert!(matches!(
        spool.sought(waits, range),
        Some(Ok(Sought {
            start: 10,
            end: Some(9_000_000),
            len: None
        }))
    ));
    let second = seek(&mut spool, range);
    let far = ByteRange::try_from(199 * KIB..9_000_000).expect("a range");
    let far_off = seek(&mut spool, far);
    assert!(spool.sought(far_off, far).is_none());
    assert!(matches!(spool.next(false, false), Next::Wait));
    assert!(spool.sought(far_off, far).is_some(), "it must read first");
    assert!(spool.sought(second, range).is_some());
}

#[test]
fn s88_a_reader_of_the_end_never_holds_the_flight_up() {
    let mut spool = spool(0);
    let tail = ByteRange::suffix(200 * KIB).expect("a range");
    let waits = seek(&mut spool, tail);
    for _ in 0..100 {
        feed(&mut spool, 64 * KIB);
        let most = (200 + 2 * 64) * KIB + 10 * CHUNK_COST;
        assert!(spool.held() <= most, "{} bytes", spool.held());
    }
    assert_eq!(spool.cut_blocked().0, 0);
    let _ = spool.finish(Ok(()));
    let end = spool.end();
    assert!(matches!(spool.sought(waits, tail), Some(Ok(sought)) if sought.end == Some(end)));
    assert_eq!(drain(&mut spool, waits), 200 * KIB);
}

#[test]
fn s88_a_long_end_is_refused_once_nothing_can_keep_it() {
    let tail = ByteRange::suffix(300 * KIB).expect("a range");
    let is_refused = |spool: &mut Spool, id| {
        let sought = spool.sought(id, tail);
        matches!(sought, Some(Err(error)) if error.is_too_large())
    };
    // No tier stages it.
    let mut none = spool(0);
    let early = seek(&mut none, tail);
    assert!(!is_refused(&mut none, early), "a tier may");
    none.staged().wake();
    assert!(is_refused(&mut none, early));
    let late = seek(&mut none, tail);
    assert!(is_refused(&mut none, late));
    // The tier that staged it has left, or the file failed.
    for fails in [false, true] {
        let mut spool = spool(if fails { 1 << 30 } else { 0 });
        let staged = file();
        if !fails {
            spool.add_backing(0, Arc::clone(&staged));
        }
        spool.staged().wake();
        let waits = seek(&mut spool, tail);
        feed(&mut spool, 64 * KIB);
        spool.backed(&staged, 64 * KIB);
        feed(&mut spool, 64 * KIB);
        assert!(!is_refused(&mut spool, waits));
        if fails {
            spool.spill_failed();
        }
        assert!(matches!(spool.next(true, false), Next::Pull));
        assert!(is_refused(&mut spool, waits), "the file failed: {fails}");
    }
}

#[test]
fn a_range_reader_ends_at_its_range() {
    let mut spool = spool(0);
    let reader = spool.enter();
    assert!(spool.place(reader, 65_000, Some(66_000)));
    let _ = spool.append(&chunk(1));
    let _ = spool.append(&chunk(2));
    assert_eq!(drain(&mut spool, reader), 1_000);
    assert!(
        matches!(read(&mut spool, reader), Read::End),
        "though the source goes on"
    );
}

#[test]
fn s82_under_pressure_all_of_the_window_is_released() {
    let (mut spool, file) = (spool(100 << 20), file());
    let _reader = enter(&mut spool);
    pump(&mut spool, true, &file, 2);
    assert!(spool.held() > 0);
    if let Next::Spill(from, chunks) = spool.next(true, true) {
        let len = chunks.iter().map(|bytes| bytes.len() as u64).sum();
        spool.spilled(&file, from, len);
    }
    assert!(matches!(spool.next(true, true), Next::Pull));
    assert_eq!(spool.held(), 0);
}

#[test]
fn tiny_chunks_are_bounded_too() {
    let (mut spool, file) = (spool(100 << 20), file());
    let _slow = enter(&mut spool);
    for _ in 0..100_000 {
        while let Next::Spill(from, chunks) = spool.next(true, false) {
            let len = chunks.iter().map(|bytes| bytes.len() as u64).sum();
            spool.spilled(&file, from, len);
        }
        let _ = spool.append(&Bytes::from_static(b"x"));
        assert!(spool.held() <= 256 * KIB);
    }
}
