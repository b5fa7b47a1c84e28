//! S01, S02, S10: bodies that nobody reads and writers that nobody ends.

use larder::{Body, Cache, CacheWriter, Draft, Promote, Store, Tier};
use larder_conformance::{Fault, Op};
use tokio::{task::JoinHandle, time::timeout};

use super::{AT_ONCE, Verb, drain, each_verb_finishes, long};
use crate::support::{Origin, assert_clean, at_rest, faulty, impatient, put, silent_after, text};

/// The body of a miss whose origin falls silent after the first bytes.
async fn unread_miss(cache: &Cache) -> Body {
    let fetch = Origin::default().does(async |_| Ok(silent_after("one")));
    let response = cache.get_or_fetch("a", fetch).await.unwrap();
    response.into_body().unwrap()
}

#[tokio::test(start_paused = true)]
async fn s01_a_miss_that_nobody_reads_holds_nobody_up() {
    each_verb_finishes(async || {
        let cache = impatient().tier(faulty()).tier(faulty()).build().unwrap();
        let body = unread_miss(&cache).await;
        (cache, body)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn s01_a_miss_that_was_read_in_part_holds_nobody_up() {
    each_verb_finishes(async || {
        let cache = impatient().tier(faulty()).tier(faulty()).build().unwrap();
        let mut body = unread_miss(&cache).await;
        assert_eq!(body.chunk().await.unwrap().unwrap(), "one");
        (cache, body)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn s01_an_unread_miss_that_fills_its_window_holds_nobody_up() {
    each_verb_finishes(async || {
        let cache = impatient()
            .spool_memory(128 << 10)
            .spool_disk_max(0)
            .tier(Tier::new(faulty()).object_max(10))
            .build()
            .unwrap();
        let fetch = Origin::default().does(async |_| Ok(long(64)));
        let body = cache.get_or_fetch("a", fetch).await.unwrap().into_body();
        tokio::task::yield_now().await;
        (cache, body)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn s01_an_unread_miss_before_the_writer_is_open_holds_nobody_up() {
    each_verb_finishes(async || {
        let store = faulty();
        store.faults().on(Op::Set).inject(Fault::Stall);
        let cache = impatient().tier(store.clone()).build().unwrap();
        let body = unread_miss(&cache).await;
        store.faults().until_stalled(1).await;
        (cache, body)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn s01_a_hit_in_a_lower_tier_that_nobody_reads_holds_nobody_up() {
    for promote in [Promote::Always, Promote::Never] {
        each_verb_finishes(async || {
            let lower = faulty();
            let old = "x".repeat(100 << 10);
            put(&lower, old).await;
            lower.faults().on(Op::Body).nth(2).inject(Fault::Stall);
            let tier = Tier::new(lower.clone()).promote(promote);
            let cache = impatient().tier(faulty()).tier(tier).build().unwrap();
            let body = cache.get("a").await.unwrap().into_body();
            (cache, body)
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn s01_two_misses_that_wait_for_a_fetch_hold_nobody_up() {
    each_verb_finishes(async || {
        let cache = impatient().tier(faulty()).build().unwrap();
        let waiting = [miss(&cache), miss(&cache)];
        while cache.counters().fetches == 0 {
            tokio::task::yield_now().await;
        }
        (cache, waiting)
    })
    .await;
}

/// A miss whose fetcher never answers.
fn miss(cache: &Cache) -> JoinHandle<()> {
    let cache = cache.clone();
    tokio::spawn(async move {
        let fetch = Origin::default().does(async |_| std::future::pending().await);
        let _ = cache.get_or_fetch("a", fetch).await;
    })
}

/// A writer with some bytes in it, over an object that is there.
async fn forgotten(cache: &Cache) -> CacheWriter {
    cache.insert("a", "old", Draft::new()).await.unwrap();
    let mut writer = cache.set_with_writer("a", Draft::new()).await.unwrap();
    writer.write("half of it").await.unwrap();
    writer
}

#[tokio::test(start_paused = true)]
async fn s02_a_writer_that_was_opened_and_forgotten_holds_nobody_up() {
    each_verb_finishes(async || {
        let cache = impatient().tier(faulty()).tier(faulty()).build().unwrap();
        let writer = forgotten(&cache).await;
        (cache, writer)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn s02_a_forgotten_writer_leaves_no_trace_when_it_is_dropped() {
    let store = faulty();
    let cache = impatient().tier(store.clone()).build().unwrap();
    let writer = forgotten(&cache).await;
    let mut other = cache.set_with_writer("a", Draft::new()).await.unwrap();
    other.write("new").await.unwrap();
    other.commit().await.unwrap();
    assert!(store.usage().staged > 0, "the forgotten one is still open");
    drop(writer);
    at_rest(&cache).await;
    assert_clean(&store);
    assert_eq!(text(cache.get("a").await.unwrap()).await, "new");
}

/// Opens `a`, does all there is to do with it and with keys enough to share every stripe, and then
/// reads it: the object that was opened, to its end.
async fn opened_body_is_no_obstacle(open: impl AsyncFn() -> (Cache, Body)) {
    for verb in Verb::ALL {
        let (cache, body) = open().await;
        let strangers = async {
            verb.run(&cache, "a").await;
            for number in 0..256 {
                verb.run(&cache, &format!("b{number}")).await;
            }
        };
        let done = timeout(AT_ONCE, strangers).await;
        assert!(done.is_ok(), "{verb:?} waits for an open body");
        assert_eq!(drain(body).await.unwrap(), OLD.repeat(1000));
        at_rest(&cache).await;
    }
}

const OLD: &str = "old bytes;";

#[tokio::test(start_paused = true)]
async fn s10_an_open_body_of_the_first_tier_holds_nobody_up() {
    opened_body_is_no_obstacle(async || {
        let cache = impatient().tier(faulty()).build().unwrap();
        let object = OLD.repeat(1000);
        cache.insert("a", object, Draft::new()).await.unwrap();
        let body = cache.get("a").await.unwrap().into_body();
        (cache, body.unwrap())
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn s10_an_open_body_of_a_lower_tier_holds_nobody_up() {
    for promote in [Promote::Always, Promote::Never] {
        opened_body_is_no_obstacle(async || {
            let lower = faulty();
            let object = OLD.repeat(1000);
            put(&lower, object).await;
            let tier = Tier::new(lower).promote(promote);
            let cache = impatient().tier(faulty()).tier(tier).build().unwrap();
            let body = cache.get("a").await.unwrap().into_body();
            (cache, body.unwrap())
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn s10_an_open_body_of_a_miss_holds_nobody_up() {
    opened_body_is_no_obstacle(async || {
        let cache = impatient().tier(faulty()).build().unwrap();
        let chunks = futures_util::stream::iter([OLD.repeat(500), OLD.repeat(500)]);
        let chunks =
            futures_util::StreamExt::map(chunks, |chunk| Ok::<_, larder::Error>(chunk.into()));
        let fetch = Origin::default().does(async |_| Ok(larder::Fetched::stream(None, chunks)));
        let body = cache.get_or_fetch("a", fetch).await.unwrap().into_body();
        (cache, body.unwrap())
    })
    .await;
}
