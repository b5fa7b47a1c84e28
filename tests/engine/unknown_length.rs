//! S88: ranges of an object of unknown length that no tier takes, where nothing can be spilled.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use larder::{Builder, ByteRange, Cache, Error, ErrorKind, Fetched, Response, Tier};
use larder_conformance::{Fault, Op};
use tokio::time::{Instant, sleep};

use crate::{
    source::{Feed, Ledger, chunks, feed, pattern, to_the_end, whole},
    support::{Origin, SECOND, faulty, memory, settle, strict},
};

const KIB: usize = 1 << 10;
const CHUNK: usize = 16 * KIB;
/// The least that a window may have.
const WINDOW: usize = 128 * KIB;
const LEN: usize = 64 * CHUNK;

fn builder() -> Builder {
    let tier = Tier::new(memory()).object_max(0);
    let builder = Cache::builder().tier(tier).policy(strict());
    builder.spool_memory(WINDOW as u64)
}

/// Caches whose flights can spill nothing: by their settings, or as they find out.
fn unable() -> [Cache; 2] {
    let none = builder().spool_disk_max(0).build().unwrap();
    // Its folder is removed once it is built.
    let folder = tempfile::tempdir().unwrap();
    [none, builder().spool_dir(folder.path()).build().unwrap()]
}

fn range(from: usize, to: usize) -> ByteRange {
    ByteRange::try_from(from as u64..to as u64).unwrap()
}

fn suffix(len: usize) -> ByteRange {
    ByteRange::suffix(len as u64).unwrap()
}

/// The object, of a length that the source does not say.
fn untold(object: &Bytes, chunk: usize) -> Fetched {
    let chunks = stream::iter(chunks(object, chunk)).then(async |chunk| {
        tokio::task::yield_now().await;
        Ok::<_, Error>(chunk)
    });
    Fetched::stream(None, chunks)
}

async fn read(cache: &Cache, fetched: Fetched, range: ByteRange) -> Result<Response, Error> {
    let fetch = Origin::default().does(async move |_| Ok(fetched));
    cache.get_or_fetch("a", fetch).range(range).await
}

#[tokio::test(start_paused = true)]
async fn s88_each_range_far_beyond_the_window_is_answered_without_a_wait() {
    let object = pattern(LEN);
    for chunk in [100, CHUNK, 100 * KIB, 300 * KIB] {
        for (asked, part) in [
            (range(LEN - 10, LEN), LEN - 10..LEN),
            (range(600 * KIB, 600 * KIB + 7), 600 * KIB..600 * KIB + 7),
            (range(10, LEN), 10..LEN),
            (range(WINDOW, LEN - 1), WINDOW..LEN - 1),
            ((500 * KIB as u64..).into(), 500 * KIB..LEN),
            ((LEN as u64 - 1..).into(), LEN - 1..LEN),
            (suffix(1), LEN - 1..LEN),
            (suffix(70_000), LEN - 70_000..LEN),
            (suffix(WINDOW), LEN - WINDOW..LEN),
        ] {
            for cache in unable() {
                let began = Instant::now();
                let answer = read(&cache, untold(&object, chunk), asked).await.unwrap();
                assert_eq!(whole(answer).await, object.slice(part.clone()));
                assert_eq!(began.elapsed(), Duration::ZERO, "{asked:?}, {chunk}");
                settle(&cache).await;
                let counters = cache.counters();
                assert_eq!((counters.spilled_bytes, counters.readers_cut), (0, 0));
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn s88_a_range_past_the_end_is_the_same_error_before_and_after_the_answer() {
    let object = pattern(LEN);
    for cache in unable() {
        let message = format!(
            "the range 100..{} reaches past the end of {LEN} bytes",
            LEN + 1
        );
        let answer = read(&cache, untold(&object, CHUNK), range(100, LEN + 1)).await;
        let (bytes, end) = to_the_end(answer.unwrap()).await;
        assert_eq!(bytes, object.slice(100..), "all there is");
        let error = end.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert_eq!(error.to_string(), message);
        // Near the end it is known before.
        let (from, to) = (LEN - 5, LEN + 5);
        let answer = read(&cache, untold(&object, CHUNK), range(from, to)).await;
        assert_eq!(answer.unwrap_err().kind(), ErrorKind::Invalid);
        let answer = read(&cache, untold(&object, CHUNK), (LEN as u64..).into()).await;
        assert_eq!(answer.unwrap_err().kind(), ErrorKind::Invalid);
    }
}

#[tokio::test(start_paused = true)]
async fn s88_a_suffix_keeps_its_own_bytes_and_no_others() {
    let object = pattern(LEN);
    for chunk in [CHUNK, 64 * KIB] {
        for cache in unable() {
            let ledger = Ledger::default();
            let counts = ledger.clone();
            let chunks = stream::iter(chunks(&object, chunk)).then(move |chunk| {
                let counts = counts.clone();
                async move {
                    tokio::task::yield_now().await;
                    Ok::<_, Error>(counts.counts(chunk))
                }
            });
            let fetched = Fetched::stream(None, chunks);
            let answer = read(&cache, fetched, suffix(WINDOW)).await.unwrap();
            assert_eq!(whole(answer).await, object.slice(LEN - WINDOW..));
            let peak = ledger.peak();
            assert!(peak <= WINDOW + 2 * chunk, "{peak} bytes held");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn s88_a_suffix_that_nothing_can_keep_is_too_large_at_once() {
    let [none, missing] = unable();
    let began = Instant::now();
    // Where no tier opens a writer, before the source has said anything.
    let tier = faulty();
    tier.faults()
        .on(Op::Set)
        .always(Fault::Fail(ErrorKind::Full));
    let closed = Cache::builder().tier(tier).spool_disk_max(0);
    let closed = closed.spool_memory(WINDOW as u64).build().unwrap();
    let (source, fetched) = feed(None);
    let error = read(&closed, fetched, suffix(WINDOW + 1)).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::TooLarge);
    drop(source);
    // Where a tier turns the first byte down.
    let (source, fetched) = feed(None);
    give(&source, 1);
    let error = read(&none, fetched, suffix(WINDOW + 1)).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::TooLarge);
    drop(source);
    settle(&none).await;
    // A flight that is under way already.
    let (source, fetched) = feed(None);
    give(&source, 1);
    let first = read(&none, fetched, ByteRange::FULL).await.unwrap();
    let joined = none.get("a").range(suffix(WINDOW + 1)).await;
    assert_eq!(joined.unwrap_err().kind(), ErrorKind::TooLarge);
    drop((source, first));
    // Where that is known only when the spill file fails.
    let (source, fetched) = feed(None);
    give(&source, 16 * CHUNK);
    let error = read(&missing, fetched, suffix(WINDOW + 1)).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::TooLarge);
    assert!(began.elapsed() < SECOND, "no time-out is waited for");
    // When the file is full.
    let full = builder().spool_disk_max(WINDOW as u64).build().unwrap();
    let (source, fetched) = feed(None);
    give(&source, LEN);
    let error = read(&full, fetched, suffix(2 * WINDOW)).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::TooLarge);
    drop(source);
}

fn give(source: &Feed, len: usize) {
    let object = pattern(len);
    for chunk in chunks(&object, CHUNK) {
        source.gives(chunk);
    }
}

#[tokio::test(start_paused = true)]
async fn s88_a_longer_suffix_is_read_from_the_tier_or_the_spill_file() {
    let object = pattern(LEN);
    let staging = Cache::builder().tier(memory()).policy(strict());
    let staging = staging.spool_memory(WINDOW as u64).spool_disk_max(0);
    for cache in [staging.build().unwrap(), builder().build().unwrap()] {
        let answer = read(&cache, untold(&object, CHUNK), suffix(4 * WINDOW)).await;
        let answer = answer.unwrap();
        assert_eq!(whole(answer).await, object.slice(LEN - 4 * WINDOW..));
    }
}

#[tokio::test(start_paused = true)]
async fn s88_a_suffix_that_is_longer_than_the_object_is_all_of_it() {
    let object = pattern(3 * CHUNK);
    for cache in unable() {
        let answer = read(&cache, untold(&object, CHUNK), suffix(WINDOW)).await;
        assert_eq!(whole(answer.unwrap()).await, object);
        let answer = read(&cache, untold(&Bytes::new(), CHUNK), suffix(1)).await;
        assert_eq!(answer.unwrap_err().kind(), ErrorKind::Invalid);
    }
}

#[tokio::test(start_paused = true)]
async fn s88_readers_that_wait_for_a_slow_source_are_not_cut() {
    let object = pattern(LEN);
    for cache in unable() {
        let (source, fetched) = feed(None);
        let fetch = Origin::default().does(async move |_| Ok(fetched));
        let first = cache.get_or_fetch("a", fetch).range(suffix(10));
        let feeding = async {
            // It takes 640 s in all, the longest silence 10 s of 30.
            for chunk in chunks(&object, CHUNK) {
                sleep(10 * SECOND).await;
                source.gives(chunk);
            }
            drop(source);
        };
        let others = async {
            // They join before a byte came.
            sleep(SECOND).await;
            let bounded = cache.get("a").range(range(LEN - 9, LEN - 1));
            let open = cache.get("a").range(LEN as u64 - 5..);
            let (bounded, open) = tokio::join!(bounded, open);
            (whole(bounded.unwrap()).await, whole(open.unwrap()).await)
        };
        let ((), first, (bounded, open)) = tokio::join!(feeding, first, others);
        assert_eq!(whole(first.unwrap()).await, object.slice(LEN - 10..));
        assert_eq!(bounded, object.slice(LEN - 9..LEN - 1));
        assert_eq!(open, object.slice(LEN - 5..));
        assert_eq!(cache.counters().readers_cut, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn s88_a_suffix_beside_a_slow_reader_waits_for_it_and_both_get_their_bytes() {
    let object = pattern(LEN);
    for cache in unable() {
        let slow = read(&cache, untold(&object, CHUNK), ByteRange::FULL).await;
        let mut slow = slow.unwrap().into_body().unwrap();
        let tail = cache.get("a").range(suffix(100_000));
        let reading = async {
            let mut all = Vec::new();
            while let Some(chunk) = slow.chunk().await.unwrap() {
                all.extend_from_slice(&chunk);
                sleep(20 * SECOND).await;
            }
            all
        };
        let (tail, all) = tokio::join!(tail, reading);
        assert_eq!(all, object);
        assert_eq!(whole(tail.unwrap()).await, object.slice(LEN - 100_000..));
        assert_eq!(cache.counters().readers_cut, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn s88_a_failure_comes_after_the_bytes_of_a_range_and_instead_of_a_suffix() {
    let object = pattern(8 * CHUNK);
    for cache in unable() {
        let fails = |asked| {
            let (source, fetched) = feed(None);
            for chunk in chunks(&object, CHUNK) {
                source.gives(chunk);
            }
            source.fails(Error::corrupt("the source broke"));
            read(&cache, fetched, asked)
        };
        let (bytes, end) = to_the_end(fails(range(5, LEN)).await.unwrap()).await;
        assert_eq!(bytes, object.slice(5..));
        assert!(end.unwrap_err().is_corrupt());
        assert!(fails(suffix(10)).await.unwrap_err().is_corrupt());
    }
}
