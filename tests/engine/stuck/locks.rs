//! S07, S09: no lock is held that another needs.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt, stream};
use larder::{Body, Cache, Draft, Fetched, Policy, Store, Tier};
use larder_conformance::{Fault, Model, Op};
use tokio::time::timeout;

use super::{AT_ONCE, Verb};
use crate::support::{
    Origin, SECOND, at_rest, clock, faulty, impatient, stale_is_served, strict, text,
};

/// A user's value whose drop looks whether another thread can use the cache meanwhile.
#[derive(Debug)]
struct Guest(Arc<Watch>);

/// What a guest gives when it stands for bytes.
static CHUNK: [u8; 64 << 10] = [b'x'; 64 << 10];

/// What the guests of one test found.
struct Watch {
    cache: Mutex<Option<Cache>>,
    /// A body that the other thread tries to read.
    body: Mutex<Option<Body>>,
    dropped: AtomicUsize,
    blocked: AtomicUsize,
}

impl Watch {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            cache: Mutex::default(),
            body: Mutex::default(),
            dropped: AtomicUsize::new(0),
            blocked: AtomicUsize::new(0),
        })
    }

    fn guest(self: &Arc<Self>) -> Guest {
        Guest(Arc::clone(self))
    }

    fn watch(&self, cache: &Cache) {
        *self.cache.lock().unwrap() = Some(cache.clone());
    }

    /// How many guests were dropped so far, none of them under a lock.
    #[track_caller]
    fn dropped(&self) -> usize {
        let blocked = self.blocked.load(Ordering::SeqCst);
        assert_eq!(
            blocked, 0,
            "something was dropped under a lock that others need"
        );
        self.dropped.load(Ordering::SeqCst)
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watch")
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let watch = Arc::clone(&self.0);
        let (say, ended) = mpsc::channel();
        std::thread::spawn(move || {
            // Every table of the cache is asked, and the flight behind the body.
            let cache = watch.cache.lock().unwrap().clone();
            let _ = cache.map(|cache| cache.in_flight());
            let body = watch.body.lock().unwrap().take();
            if let Some(mut body) = body {
                drop(body.chunk().now_or_never());
                *watch.body.lock().unwrap() = Some(body);
            }
            let _ = say.send(());
        });
        let counter = match ended.recv_timeout(Duration::from_secs(5)) {
            Ok(()) => &self.0.dropped,
            Err(_) => &self.0.blocked,
        };
        counter.fetch_add(1, Ordering::SeqCst);
    }
}

impl std::fmt::Display for Guest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a guest")
    }
}

impl std::error::Error for Guest {}

impl AsRef<[u8]> for Guest {
    fn as_ref(&self) -> &[u8] {
        &CHUNK
    }
}

#[tokio::test(start_paused = true)]
async fn s07_errors_of_fetchers_are_dropped_under_no_lock() {
    let (watch, clock) = (Watch::new(), clock());
    let policy = strict().error_ttl(10 * SECOND);
    let cache = impatient()
        .policy(policy)
        .clock(clock.clone())
        .tier(faulty());
    let cache = cache.build().unwrap();
    watch.watch(&cache);
    let fail = async || {
        let guest = watch.guest();
        let failed = cache
            .get_or_fetch("a", async move |_| Err::<Fetched, _>(guest))
            .await;
        assert!(failed.unwrap_err().find_source::<Guest>().is_some());
        at_rest_but_for_failures(&cache).await;
    };
    fail().await;
    assert_eq!(watch.dropped(), 0, "it is remembered");
    clock.advance(20 * SECOND);
    fail().await;
    assert_eq!(watch.dropped(), 1, "another took its place");
    cache.insert("a", "new", Draft::new()).await.unwrap();
    assert_eq!(watch.dropped(), 2, "a write has made it void");
}

async fn at_rest_but_for_failures(cache: &Cache) {
    while cache.in_flight().flights > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn s07_fetchers_that_are_not_needed_are_dropped_under_no_lock() {
    let (watch, clock) = (Watch::new(), clock());
    let cache = impatient()
        .policy(stale_is_served())
        .clock(clock.clone())
        .flights_max(1)
        .refreshes(1, 1)
        .tier(faulty())
        .build()
        .unwrap();
    watch.watch(&cache);
    let stuck = |guest: Guest| {
        async move |_| {
            let _guest = guest;
            std::future::pending::<larder::Result<Fetched>>().await
        }
    };
    cache.insert("hit", "x", Draft::new()).await.unwrap();
    drop(
        cache
            .get_or_fetch("hit", stuck(watch.guest()))
            .await
            .unwrap(),
    );
    assert_eq!(watch.dropped(), 1, "a hit needs none");
    let miss = cache
        .get_or_fetch("miss", stuck(watch.guest()))
        .into_future();
    let joiner = cache
        .get_or_fetch("miss", stuck(watch.guest()))
        .into_future();
    let refused = cache
        .get_or_fetch("refused", stuck(watch.guest()))
        .into_future();
    let (mut miss, mut joiner) = (Box::pin(miss), Box::pin(joiner));
    assert!(miss.as_mut().now_or_never().is_none());
    assert!(joiner.as_mut().now_or_never().is_none());
    assert!(refused.await.unwrap_err().is_full());
    assert_eq!(watch.dropped(), 2, "the one that was refused");
    drop(joiner);
    assert_eq!(watch.dropped(), 3, "the one that joined");
    drop(miss);
    at_rest(&cache).await;
    assert_eq!(watch.dropped(), 4, "the one that ran out of time");
    clock.advance(90 * SECOND);
    for _ in 0..3 {
        drop(
            cache
                .get_or_fetch("hit", stuck(watch.guest()))
                .await
                .unwrap(),
        );
    }
    assert_eq!(watch.dropped(), 6, "one refresh is enough");
    at_rest(&cache).await;
    assert_eq!(watch.dropped(), 7);
}

#[tokio::test(start_paused = true)]
async fn s07_bytes_are_dropped_under_no_lock_of_their_flight() {
    let watch = Watch::new();
    let cache = impatient()
        .spool_memory(128 << 10)
        .spool_disk_max(0)
        .tier(Tier::new(faulty()).object_max(10))
        .build()
        .unwrap();
    let chunks: Vec<_> = (0..8).map(|_| Bytes::from_owner(watch.guest())).collect();
    let chunks = stream::iter(chunks.into_iter().map(Ok::<_, larder::Error>));
    let fetch = Origin::default().does(async |_| Ok(Fetched::stream(None, chunks)));
    let unused = Origin::default().gives("not wanted");
    let (first, second) = tokio::join!(
        cache.get_or_fetch("a", fetch),
        cache.get_or_fetch("a", unused)
    );
    let mut body = first.unwrap().into_body().unwrap();
    *watch.body.lock().unwrap() = second.unwrap().into_body();
    while body.chunk().await.unwrap().is_some() {
        let other = watch.body.lock().unwrap().take();
        let mut other = other.expect("put back by the guests");
        other.chunk().await.unwrap();
        *watch.body.lock().unwrap() = Some(other);
    }
    drop(body);
    watch.body.lock().unwrap().take();
    at_rest(&cache).await;
    assert_eq!(watch.dropped(), 8);
}

#[tokio::test(start_paused = true)]
async fn s07_bytes_that_wait_to_be_written_behind_are_dropped_under_no_lock() {
    let (watch, lower) = (Watch::new(), faulty());
    let tier = Tier::new(lower.clone()).behind();
    let cache = impatient().tier(faulty()).tier(tier).build().unwrap();
    watch.watch(&cache);
    lower.faults().on(Op::Set).inject(Fault::Stall);
    for _ in 0..3 {
        // A refresh takes the place of what waits, and a write has it forgotten.
        let guest = watch.guest();
        let fetch = async move |_| Ok::<_, larder::Error>(Fetched::bytes(Bytes::from_owner(guest)));
        drop(cache.refresh("a", fetch).await.unwrap());
        while cache.in_flight().flights > 0 {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(
        watch.dropped(),
        1,
        "the second had not begun when the third came"
    );
    cache.delete("a").await.unwrap();
    assert_eq!(watch.dropped(), 2, "the third was forgotten");
    at_rest(&cache).await;
    assert_eq!(watch.dropped(), 3);
}

#[tokio::test(start_paused = true)]
async fn s07_slow_clean_up_of_one_key_delays_no_other_key_and_no_reader() {
    let lower = faulty();
    lower.faults().on(Op::Delete).key("a").always(Fault::Stall);
    let cache = impatient()
        .tier(faulty())
        .tier(lower.clone())
        .build()
        .unwrap();
    cache.insert("a", "old", Draft::new()).await.unwrap();
    let mut delete = Box::pin(cache.delete("a"));
    assert!(
        timeout(SECOND, &mut delete).await.is_err(),
        "it hangs in the lower tier"
    );
    let others = async {
        assert_eq!(
            text(cache.get("a").await.unwrap()).await,
            "old",
            "not deleted yet"
        );
        for number in 0..256 {
            for verb in Verb::ALL {
                verb.run(&cache, &format!("b{number}")).await;
            }
        }
    };
    timeout(AT_ONCE, others)
        .await
        .expect("others wait for the clean-up of `a`");
    assert!(delete.await.unwrap_err().is_timeout());
}

/// A rough sequence of numbers, the same each time.
fn numbers(seed: u64) -> impl Iterator<Item = usize> {
    let next = |state: &u64| {
        Some(
            state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1),
        )
    };
    std::iter::successors(Some(seed), next).map(|state| (state >> 33) as usize)
}

/// Tasks that set, delete, refresh and read a few keys of three tiers.
async fn crowd(tiers: [Tier; 3], rounds: usize) {
    let cache = tiers.into_iter().fold(impatient(), larder::Builder::tier);
    let cache = cache
        .policy(Policy::new().negative_ttl(Duration::ZERO))
        .build()
        .unwrap();
    let task = |seed: u64| {
        let cache = cache.clone();
        tokio::spawn(async move {
            for number in numbers(seed).take(rounds) {
                let key = format!("k{}", number % 8);
                match number / 8 % 4 {
                    0 => drop(cache.insert(&key, "set", Draft::new()).await.unwrap()),
                    1 => cache.delete(&key).await.unwrap(),
                    2 => drop(
                        cache
                            .refresh(&key, Origin::default().gives("new"))
                            .await
                            .unwrap(),
                    ),
                    _ => drop(cache.get(&key).await.unwrap()),
                }
            }
        })
    };
    let tasks: Vec<_> = (1..=16).map(task).collect();
    let ended = timeout(30 * SECOND, futures_util::future::join_all(tasks)).await;
    for task in ended.expect("a deadlock") {
        task.unwrap();
    }
    at_rest(&cache).await;
    cache.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn s09_deletes_and_sets_over_several_tiers_do_not_lock_each_other_out() {
    let tiers = [Model::new(), Model::new().lazy(), Model::new().lazy()];
    let [hot, warm, cold] = tiers.map(Tier::new);
    crowd([hot, warm.behind(), cold.shared()], 60).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s09_nor_do_they_on_several_threads() {
    let tiers = [Model::new(), Model::new().lazy(), Model::new()];
    crowd(tiers.map(Tier::new), 60).await;
}

#[tokio::test(start_paused = true)]
async fn s09_a_delete_that_hangs_in_one_tier_leaves_other_keys_alone() {
    let stores = [faulty(), faulty(), faulty()];
    stores[1]
        .faults()
        .on(Op::Delete)
        .key("a")
        .inject(Fault::Stall);
    let tiers = stores.iter().map(|store| Tier::new(store.clone()));
    let cache = tiers
        .fold(impatient(), larder::Builder::tier)
        .build()
        .unwrap();
    let mut delete = Box::pin(cache.delete("a"));
    assert!((&mut delete).now_or_never().is_none());
    stores[1].faults().until_stalled(1).await;
    let others = async {
        Verb::Set.run(&cache, "b").await;
        Verb::Delete.run(&cache, "b").await;
    };
    timeout(AT_ONCE, others).await.expect("`b` waits for `a`");
    stores[1].faults().release();
    delete.await.unwrap();
    assert_eq!(stores[2].usage().entries, 0);
}
