//! S49, S50, S51, S54: what does not fit, what is counted, and bursts beyond a tier's speed.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use futures_util::{future::join_all, stream};
use larder::{Cache, Draft, Error, ErrorKind, Fetched, Memory, Store, Tier};
use larder_conformance::{Fault, Faulty, Model, Op};
use tokio::time::Instant;

use crate::support::{
    Origin, SECOND, assert_clean, at_rest, broken, faulty, impatient, strict, text,
};

/// Above what a memory tier of 1 MiB takes, which is 128 KiB.
pub(crate) const LARGE: usize = 512 << 10;

/// Ways in which a large object comes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way {
    Whole,
    Known,
    Unknown,
    Insert,
    Writer,
}

impl Way {
    pub(crate) const ALL: [Self; 5] = [
        Self::Whole,
        Self::Known,
        Self::Unknown,
        Self::Insert,
        Self::Writer,
    ];

    /// Brings `large` into the cache; gives what a write said.
    pub(crate) async fn bring(self, cache: &Cache) -> Option<usize> {
        let chunk = Bytes::from(vec![b'x'; 64 << 10]);
        let whole = Bytes::from(vec![b'x'; LARGE]);
        let chunks = std::iter::repeat_n(chunk, LARGE >> 16);
        let source = |len| {
            let chunks = chunks.clone().map(Ok::<_, Error>);
            Fetched::stream(len, stream::iter(chunks))
        };
        let fetched = match self {
            Self::Whole => Fetched::bytes(whole),
            Self::Known => source(Some(LARGE as u64)),
            Self::Unknown => source(None),
            Self::Insert => {
                let written = cache.insert("large", whole, Draft::new()).await;
                return Some(written.unwrap().tiers);
            }
            Self::Writer => {
                let mut writer = cache.set_with_writer("large", Draft::new()).await.unwrap();
                for chunk in chunks {
                    writer.write(chunk).await.unwrap();
                }
                return Some(writer.commit().await.unwrap().tiers);
            }
        };
        let fetch = Origin::default().does(async |_| Ok(fetched));
        let response = cache.refresh("large", fetch).await.unwrap();
        assert_eq!(text(response).await.len(), LARGE, "the reader gets it all");
        None
    }
}

#[tokio::test]
async fn s49_an_object_larger_than_the_tier_evicts_nothing_and_goes_to_the_others() {
    for way in Way::ALL {
        let (upper, lower) = (Memory::new(1 << 20), faulty());
        let cache = Cache::builder().tier(upper.clone()).tier(lower.clone());
        let cache = cache.policy(strict()).build().unwrap();
        for key in ["a", "b", "c"] {
            cache
                .insert(key, vec![b'x'; 100 << 10], Draft::new())
                .await
                .unwrap();
        }
        cache
            .insert("large", "small yet", Draft::new())
            .await
            .unwrap();
        let written = way.bring(&cache).await;
        assert!(written.is_none_or(|tiers| tiers == 1), "{way:?}");
        at_rest(&cache).await;
        let usage = upper.usage();
        assert_eq!(
            (usage.entries, usage.evictions, usage.staged),
            (3, 0, 0),
            "{way:?}"
        );
        assert_eq!(cache.tiers()[0].counters.refused, 1, "{way:?}");
        assert_clean(&lower);
        let response = cache.get("large").await.unwrap();
        assert!(matches!(
            response.status().source(),
            larder::Source::Tier { index: 1, .. }
        ));
        assert_eq!(text(response).await.len(), LARGE, "{way:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn s49_the_limit_that_a_tier_is_given_holds_like_the_stores_own() {
    for way in Way::ALL {
        let (upper, lower) = (faulty(), faulty());
        let small = Tier::new(upper.clone()).object_max(100 << 10);
        let cache = impatient().tier(small).tier(lower.clone()).build().unwrap();
        cache
            .insert("large", "small yet", Draft::new())
            .await
            .unwrap();
        let written = way.bring(&cache).await;
        assert!(written.is_none_or(|tiers| tiers == 1), "{way:?}");
        at_rest(&cache).await;
        assert_eq!(
            (upper.usage().entries, lower.usage().entries),
            (0, 1),
            "{way:?}"
        );
        assert_clean(&upper);
    }
}

#[tokio::test(start_paused = true)]
async fn s49_an_object_that_no_tier_takes_is_an_error_of_the_write_and_none_of_the_read() {
    let limits = [
        Tier::new(Memory::new(1 << 20)),
        Tier::new(Model::new()).object_max(10),
    ];
    for tier in limits {
        let cache = impatient().tier(tier).build().unwrap();
        let large = vec![b'x'; LARGE];
        let error = cache
            .insert("large", large, Draft::new())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
        let mut writer = cache.set_with_writer("large", Draft::new()).await.unwrap();
        writer.write(vec![b'x'; LARGE]).await.unwrap();
        let error = writer.commit().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
        for way in [Way::Whole, Way::Known, Way::Unknown] {
            way.bring(&cache).await;
        }
        at_rest(&cache).await;
        assert_eq!((cache.usage()[0].entries, cache.usage()[0].staged), (0, 0));
    }
}

/// What the live set weighs in a [`Model`], by its own rule.
fn weight(live: &BTreeMap<String, usize>) -> u64 {
    let header = larder::Header::FIXED_SIZE;
    live.iter()
        .map(|(key, len)| (key.len() + header + len) as u64)
        .sum()
}

#[tokio::test(start_paused = true)]
async fn s50_usage_equals_the_live_set_after_overwrites_deletes_and_failures() {
    let stores = [faulty(), faulty()];
    let cache = impatient().tier(stores[0].clone()).tier(stores[1].clone());
    let cache = cache.build().unwrap();
    let mut live = BTreeMap::new();
    for round in 0..200_usize {
        let key = format!("k{}", round % 7);
        let body = vec![b'x'; 1 + round * 37 % 5000];
        match round % 6 {
            0 | 1 => {
                live.insert(key.clone(), body.len());
                cache.insert(&key, body, Draft::new()).await.unwrap();
            }
            2 => {
                live.insert(key.clone(), body.len());
                drop(
                    cache
                        .refresh(&key, Origin::default().gives(body))
                        .await
                        .unwrap(),
                );
            }
            3 => {
                live.remove(&key);
                cache.delete(&key).await.unwrap();
            }
            4 => {
                let mut writer = cache.set_with_writer(&key, Draft::new()).await.unwrap();
                writer.write(body).await.unwrap();
            }
            _ => {
                let chunks = [Ok(Bytes::from(body)), Err(broken())];
                let fetched = Fetched::stream(None, stream::iter(chunks));
                let fetch = Origin::default().does(async |_| Ok(fetched));
                drop(cache.refresh(&key, fetch).await.unwrap());
            }
        }
        at_rest(&cache).await;
        for usage in cache.usage() {
            assert_eq!(usage.entries, live.len() as u64, "round {round}");
            assert_eq!(
                (usage.live, usage.staged),
                (weight(&live), 0),
                "round {round}"
            );
        }
    }
    stores.iter().for_each(assert_clean);
}

#[tokio::test]
async fn s51_absent_entries_stay_within_the_tiers_capacity() {
    let cache = Cache::builder()
        .policy(strict().negative_ttl(60 * SECOND))
        .tier(Memory::new(1 << 20))
        .build()
        .unwrap();
    for number in 0..4000 {
        let absent = Origin::default().does(async |_| Ok(Fetched::absent()));
        let response = cache.get_or_fetch(&format!("{number}"), absent).await;
        assert!(response.unwrap().is_absent());
        if number % 500 == 0 {
            at_rest(&cache).await;
            assert!(cache.usage()[0].live <= 1 << 20);
        }
    }
    at_rest(&cache).await;
    let usage = cache.usage()[0];
    assert!(usage.live <= 1 << 20 && usage.evictions > 0, "{usage:?}");
    assert_eq!(
        usage.entries + usage.evictions,
        4000,
        "none is stored for nothing"
    );
}

const BURST: usize = 100;

/// Inserts `BURST` objects of 1,000 bytes at once; says how many went to both tiers.
async fn burst(cache: &Cache) -> usize {
    let insert = |number: usize| async move {
        let key = format!("k{number}");
        let written = cache.insert(&key, vec![b'x'; 1000], Draft::new());
        written.await.unwrap().tiers
    };
    let tiers = join_all((0..BURST).map(insert)).await;
    tiers.iter().filter(|&&tiers| tiers == 2).count()
}

/// A store whose commits take 100 ms each.
fn slow() -> Faulty<Model> {
    let store = faulty();
    store
        .faults()
        .on(Op::Commit)
        .always(Fault::Delay(SECOND / 10));
    store
}

#[tokio::test(start_paused = true)]
async fn s54_a_burst_waits_for_a_tier_that_is_written_through() {
    let lower = slow();
    let cache = impatient()
        .tier(faulty())
        .tier(lower.clone())
        .build()
        .unwrap();
    let began = Instant::now();
    assert_eq!(burst(&cache).await, BURST);
    assert_eq!(began.elapsed(), SECOND / 10, "each for its own");
    assert_eq!(lower.usage().entries, BURST as u64);
}

#[tokio::test(start_paused = true)]
async fn s54_a_burst_does_not_wait_for_a_tier_behind_and_what_its_queue_takes_is_written() {
    let lower = slow();
    let behind = Tier::new(lower.clone()).behind();
    let cache = impatient().tier(faulty()).tier(behind).build().unwrap();
    let began = Instant::now();
    assert_eq!(burst(&cache).await, BURST);
    assert_eq!(began.elapsed(), Duration::ZERO);
    at_rest(&cache).await;
    assert_eq!(lower.usage().entries, BURST as u64);
    assert_eq!(cache.counters().behind_dropped, 0);
    assert_clean(&lower);
}

#[tokio::test(start_paused = true)]
async fn s54_what_the_queue_has_no_room_for_is_counted_and_not_said_to_be_written() {
    // Room for 30 keys, and for 20 objects of 1,000 bytes.
    for (keys_max, bytes_max, room) in [(30, 1 << 20, 30), (1000, 20_999, 20)] {
        let (upper, lower) = (faulty(), slow());
        let behind = Tier::new(lower.clone()).behind();
        let cache = impatient().behind_queue(keys_max, bytes_max);
        let cache = cache.tier(upper.clone()).tier(behind).build().unwrap();
        assert_eq!(burst(&cache).await, room);
        at_rest(&cache).await;
        let counters = cache.counters();
        assert_eq!(counters.behind_queued, room as u64);
        assert_eq!(counters.behind_dropped, (BURST - room) as u64);
        assert_eq!(lower.usage().entries, room as u64, "what was promised");
        assert_eq!(
            upper.usage().entries,
            BURST as u64,
            "the others are where they were written"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn s54_a_dropped_write_behind_leaves_nothing_older_and_is_an_error_where_it_was_the_only_one()
{
    let (upper, lower) = (faulty(), slow());
    let behind = Tier::new(lower.clone()).behind();
    let cache = impatient()
        .behind_queue(1, 1000)
        .tier(upper.clone())
        .tier(behind);
    let cache = cache.build().unwrap();
    cache.insert("a", "old", Draft::new()).await.unwrap();
    at_rest(&cache).await;
    cache
        .insert("b", "in the queue", Draft::new())
        .await
        .unwrap();
    upper
        .faults()
        .on(Op::Commit)
        .inject(Fault::Fail(ErrorKind::Unavailable));
    let error = cache.insert("a", "new", Draft::new()).await.unwrap_err();
    assert!(error.is_full(), "{error:?}");
    assert_eq!(
        error.to_string(),
        "too much waits to be written to the tier model"
    );
    assert!(
        cache.get("a").await.unwrap().is_absent(),
        "nothing older is left"
    );
    at_rest(&cache).await;
    assert_eq!(lower.usage().entries, 1);
}

#[tokio::test(start_paused = true)]
async fn s54_fills_of_a_tier_behind_are_counted_like_writes() {
    let lower = slow();
    let behind = Tier::new(lower.clone()).behind();
    let cache = impatient()
        .behind_queue(10, 1 << 20)
        .tier(faulty())
        .tier(behind);
    let cache = cache.build().unwrap();
    let fetch = |number: usize| {
        let cache = cache.clone();
        async move {
            let key = format!("k{number}");
            let fetched = cache.get_or_fetch(&key, Origin::default().gives("x")).await;
            assert_eq!(text(fetched.unwrap()).await, "x");
        }
    };
    join_all((0..BURST).map(fetch)).await;
    at_rest(&cache).await;
    let (queued, dropped) = (
        cache.counters().behind_queued,
        cache.counters().behind_dropped,
    );
    assert_eq!((queued, dropped), (10, BURST as u64 - 10));
    assert_eq!(lower.usage().entries, queued);
}
