//! All flights together, within one bound of memory.

use bytes::Bytes;
use futures_util::{StreamExt, future::join_all, stream};
use larder::{Cache, Fetched, InFlight, Memory};
use tokio::time::{Instant, sleep};

use crate::{
    source::{Ledger, chunks, pattern, whole},
    support::{Origin, SECOND, memory, settle, strict},
};

const FLIGHTS: usize = 10_000;
const CHUNK: usize = 4 << 10;
const OBJECT: usize = 4 * CHUNK;
/// A fortieth of what all the objects have.
const TOTAL: usize = 4 << 20;

fn cache(tier: Memory) -> Cache {
    let builder = Cache::builder().tier(tier).policy(strict());
    let builder = builder.fetches_max(FLIGHTS).fetch_timeout(3_600 * SECOND);
    let builder = builder.spool_memory(128 << 10).idle_timeout(3_600 * SECOND);
    builder.spool_memory_total(TOTAL as u64).build().unwrap()
}

/// A source of counted chunks, a second apart.
fn source(object: &Bytes, ledger: &Ledger) -> Fetched {
    let ledger = ledger.clone();
    let chunks = stream::iter(chunks(object, CHUNK)).then(move |chunk| {
        let ledger = ledger.clone();
        async move {
            sleep(SECOND).await;
            Ok::<_, larder::Error>(ledger.counts(chunk))
        }
    });
    Fetched::stream(Some(OBJECT as u64), chunks)
}

#[tokio::test(start_paused = true)]
async fn s82_ten_thousand_flights_at_once_stay_within_the_total() {
    let cache = cache(memory());
    let (origin, ledger, object) = (Origin::default(), Ledger::default(), pattern(OBJECT));
    let reads = (0..FLIGHTS).map(|number| {
        let (cache, origin, object) = (cache.clone(), origin.clone(), object.clone());
        let source = source(&object, &ledger);
        tokio::spawn(async move {
            let fetch = origin.does(async move |_| Ok(source));
            let response = cache.get_or_fetch(&format!("k{number}"), fetch).await;
            assert_eq!(whole(response.unwrap()).await, object);
        })
    });
    let reads: Vec<_> = reads.collect();
    while origin.fetches() < FLIGHTS {
        tokio::task::yield_now().await;
    }
    assert_eq!(cache.in_flight().flights, FLIGHTS, "all at once");
    for read in join_all(reads).await {
        read.unwrap();
    }
    settle(&cache).await;
    assert_eq!(cache.in_flight(), InFlight::default());
    assert!(ledger.peak() <= TOTAL, "{} bytes held", ledger.peak());
    assert_eq!(ledger.now(), 0);
}

/// Their tier stages what they bring, so no window need stay in memory for a reader that does not
/// come.
#[tokio::test(start_paused = true)]
async fn s82_flights_that_nobody_reads_hold_up_none_that_come_after_them() {
    let cache = cache(Memory::new(256 << 20));
    let (ledger, object) = (Ledger::default(), pattern(OBJECT));
    let flies = async |key: String| {
        let source = source(&object, &ledger);
        let fetch = Origin::default().does(async move |_| Ok(source));
        cache.get_or_fetch(&key, fetch).await.unwrap()
    };
    let mut unread = Vec::new();
    for number in 0..1_000 {
        unread.push(flies(format!("k{number}")).await);
        sleep(5 * SECOND).await;
        assert_eq!(cache.in_flight(), InFlight::default(), "after {number}");
    }
    let began = Instant::now();
    let flies = &flies;
    let late =
        (0..16).map(|number| async move { whole(flies(format!("late{number}")).await).await });
    assert_eq!(join_all(late).await, vec![object.clone(); 16]);
    assert!(began.elapsed() < 5 * SECOND, "one after another");
    assert!(ledger.peak() <= TOTAL, "{} bytes held", ledger.peak());
    for response in unread {
        assert_eq!(whole(response).await, object);
    }
}
