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
        let _ = spool.append(chunk(1));
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
        let _ = spool.append(chunk(1));
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
    let _ = spool.append(chunk(1));
    let _ = spool.finish(Err(Error::corrupt("cut")));
    assert!(matches!(read(&mut spool, reader), Read::Chunk(_)));
    for _ in 0..2 {
        assert!(matches!(read(&mut spool, reader), Read::Failed(error) if error.is_corrupt()));
    }
}

#[test]
fn s27_whoever_joins_late_gets_all_of_it() {
    let (mut spool, file) = (spool(100 << 20), file());
    assert_eq!(pump(&mut spool, true, &file, 90), 90);
    let late = enter(&mut spool);
    assert_eq!(pump(&mut spool, true, &file, 10), 10);
    let _ = spool.finish(Ok(()));
    assert_eq!(drain(&mut spool, late), 100 * 64 * KIB);
}

#[test]
fn a_range_reader_ends_at_its_range() {
    let mut spool = spool(0);
    let reader = spool.enter();
    assert!(spool.place(reader, 65_000, Some(66_000)));
    let _ = spool.append(chunk(1));
    let _ = spool.append(chunk(2));
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
        let _ = spool.append(Bytes::from_static(b"x"));
        assert!(spool.window.len() <= 4_096, "64 bytes each, beside its own");
    }
}
