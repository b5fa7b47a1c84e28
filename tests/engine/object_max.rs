//! What a tier does not take for its size: the engine knows before it sends a byte, serves such an
//! object from where it is, and says so.

use std::fs;

use bytes::Bytes;
use futures_util::stream;
use larder::{
    Body, ByteRange, Cache, Disk, Draft, Error, ErrorKind, Fetched, Memory, Response, Source,
    Store, StoreExt, Tier, TierCounters,
};
use larder_conformance::{Faulty, Model, Op, Setup};

use crate::{
    source::pattern,
    support::{Origin, SECOND, clock, memory, settle, strict},
};

const MIB: u64 = 1 << 20;

/// A store that takes bodies up to this length.
fn small(max: u64) -> Faulty<Model> {
    Faulty::new(Model::with(Setup::new(16 * MIB, max)))
}

fn counters(cache: &Cache) -> Vec<TierCounters> {
    let tiers = cache.tiers().into_iter();
    tiers.map(|tier| tier.counters).collect()
}

async fn len_of(response: Response) -> u64 {
    let mut body = response.into_body().unwrap();
    let mut len = 0;
    while let Some(chunk) = body.chunk().await.unwrap() {
        len += chunk.len() as u64;
    }
    len
}

/// README's stack, and a body that only the disk takes, of zeros, which takes no time to make.
struct Stack {
    cache: Cache,
    folder: tempfile::TempDir,
    time: larder::ManualClock,
}

impl Stack {
    async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let time = clock();
        let builder = Disk::builder(folder.path().join("cache"), 2 << 30).clock({
            let time = time.clone();
            move || larder::Clock::now(&time)
        });
        let spool = folder.path().join("spool");
        fs::create_dir(&spool).unwrap();
        let cache = Cache::builder()
            .policy(strict())
            .clock(time.clone())
            .spool_dir(spool)
            .tier(Memory::new(64 << 20))
            .tier(builder.open().await.unwrap())
            .build()
            .unwrap();
        Self {
            cache,
            folder,
            time,
        }
    }

    async fn fetch(&self, len: u64) {
        let response = self.cache.get_or_fetch("film", async move |_| {
            let chunk = Bytes::from(vec![0; 1 << 20]);
            let count = usize::try_from(len / MIB).unwrap();
            let chunks = stream::iter((0..count).map(move |_| Ok::<_, Error>(chunk.clone())));
            Ok::<_, Error>(Fetched::stream(Some(len), chunks))
        });
        let response = response.await.unwrap();
        assert_eq!(response.status().too_large_for(), ["memory"]);
        assert_eq!(len_of(response).await, len);
        settle(&self.cache).await;
    }

    /// Nothing was ever written to the spool, nor fetched again.
    fn assert_not_spilled(&self) {
        let counters = self.cache.counters();
        assert_eq!((counters.spilled_bytes, counters.fetches), (0, 1));
        let spool = self.folder.path().join("spool");
        assert_eq!(fs::read_dir(spool).unwrap().count(), 0);
    }
}

async fn ten_reads(len: u64) {
    let stack = Stack::open().await;
    stack.fetch(len).await;
    for _ in 0..10 {
        let response = stack.cache.get("film").await.unwrap();
        assert_eq!(response.status().source().to_owned(), disk());
        assert_eq!(response.status().too_large_for(), ["memory"]);
        let line = response.status().to_string();
        assert!(line.starts_with("disk fresh, ") && line.ends_with(", too large for memory"));
        assert_eq!(len_of(response).await, len);
    }
    stack.assert_not_spilled();
    let [memory, disk] = counters(&stack.cache)[..] else {
        panic!("two tiers");
    };
    assert_eq!((memory.too_large, memory.refused), (11, 11));
    assert_eq!((memory.errors, memory.fills), (0, 0));
    assert_eq!((disk.hits, disk.fills), (10, 1));
    stack.cache.close().await.unwrap();
}

fn disk() -> Source {
    Source::Tier {
        index: 1,
        name: "disk",
    }
}

#[tokio::test]
async fn s94_what_only_the_disk_takes_is_read_from_there_ten_times() {
    ten_reads(256 * MIB).await;
}

#[tokio::test]
#[ignore = "writes 1 GiB and reads it ten times"]
async fn s94_1_gib_is_read_from_the_disk_ten_times() {
    ten_reads(1 << 30).await;
}

#[tokio::test]
async fn s94_a_range_after_a_304_copies_nothing() {
    let stack = Stack::open().await;
    stack.fetch(64 * MIB).await;
    stack.time.advance(120 * SECOND);
    let range: ByteRange = (5_000_000..5_001_000).try_into().unwrap();
    let fetch = async |_| Ok::<_, Error>(Fetched::not_modified());
    let response = stack.cache.get_or_fetch("film", fetch).range(range).await;
    let response = response.unwrap();
    assert!(response.status().is_revalidated());
    assert_eq!(response.status().too_large_for(), ["memory"]);
    assert_eq!(len_of(response).await, 1_000);
    settle(&stack.cache).await;
    let stats = stack.cache.counters();
    assert_eq!(
        (stats.spilled_bytes, stats.fetches, stats.revalidated),
        (0, 2, 1)
    );
    let tiers = counters(&stack.cache);
    assert_eq!((tiers[1].fills, tiers[1].touched), (1, 1));
    stack.cache.close().await.unwrap();
}

/// No writer is opened, whoever has the smaller limit, and wherever the object comes from.
#[tokio::test]
async fn s94_nothing_is_sent_to_a_tier_that_does_not_take_it() {
    for (store_max, tier_max) in [(1_000, u64::MAX), (MIB, 1_000), (1_000, 1_000)] {
        let upper = small(store_max);
        let lower = Faulty::new(Model::new().chunked(100));
        let cache = Cache::builder()
            .policy(strict())
            .tier(Tier::new(upper.clone()).object_max(tier_max))
            .tier(lower.clone())
            .build()
            .unwrap();
        let origin = Origin::default();
        for (len, fits) in [(1_001, false), (1_000, true)] {
            let (set, key) = (upper.faults().calls(Op::Set), len.to_string());
            let response = cache.get_or_fetch(&key, origin.gives(pattern(len))).await;
            assert_eq!(len_of(response.unwrap()).await, len as u64);
            settle(&cache).await;
            upper.inner().delete_now(&key).await;
            let response = cache.get(&key).await.unwrap();
            let named = response.status().too_large_for().len();
            assert_eq!(named, usize::from(!fits));
            assert_eq!(len_of(response).await, len as u64);
            settle(&cache).await;
            cache
                .insert(&key, pattern(len), Draft::new())
                .await
                .unwrap();
            let opened = upper.faults().calls(Op::Set) - set;
            assert_eq!(opened, if fits { 3 } else { 0 }, "{len} bytes");
        }
        let tiers = counters(&cache);
        assert_eq!((tiers[0].too_large, tiers[0].refused), (3, 3));
        assert_eq!((tiers[0].errors, cache.counters().spilled_bytes), (0, 0));
    }
}

trait DeleteNow {
    async fn delete_now(&self, key: &str);
}

impl<S: Store> DeleteNow for S {
    async fn delete_now(&self, key: &str) {
        let key = larder::Key::new(key).unwrap();
        assert!(self.delete(key, None).await.unwrap().is_done());
    }
}

/// Of an unknown length the limit is met while it streams: counted, and no failure.
#[tokio::test]
async fn s94_an_unknown_length_meets_the_limit_on_its_way() {
    let upper = small(1_000);
    let cache = Cache::builder()
        .policy(strict())
        .tier(upper.clone())
        .tier(Model::new())
        .build()
        .unwrap();
    let origin = Origin::default();
    let chunks = stream::iter((0..20).map(|_| Ok::<_, Error>(Bytes::from(vec![0; 100]))));
    let streamed = origin.does(async move |_| Ok(Fetched::stream(None, chunks)));
    let response = cache.get_or_fetch("a", streamed).await.unwrap();
    assert!(response.status().too_large_for().is_empty(), "nobody knows");
    assert_eq!(len_of(response).await, 2_000);
    settle(&cache).await;
    let tiers = counters(&cache);
    assert_eq!((tiers[0].too_large, tiers[0].errors), (1, 0));
    assert_eq!(
        (tiers[0].refused, tiers[0].fills, tiers[1].fills),
        (1, 0, 1)
    );
    assert_eq!(upper.usage().staged, 0);
    let hit = cache.get("a").await.unwrap();
    assert_eq!(hit.status().too_large_for(), ["model"]);
}

/// What replaces a shorter object, and is too long, leaves no older copy behind.
#[tokio::test]
async fn s94_an_older_copy_goes_where_the_new_object_is_too_large() {
    let upper = small(1_000);
    let time = clock();
    let cache = Cache::builder()
        .policy(strict())
        .clock(time.clone())
        .tier(upper.clone())
        .tier(Model::new())
        .build()
        .unwrap();
    let origin = Origin::default();
    for len in [1_000, 1_001] {
        let fetch = origin.gives(pattern(len));
        let response = cache.get_or_fetch("a", fetch).await.unwrap();
        assert_eq!(len_of(response).await, len as u64);
        settle(&cache).await;
        time.advance(120 * SECOND);
    }
    assert!(upper.inner().read("a", MIB).await.unwrap().is_none());
    cache
        .insert("a", pattern(1_000), Draft::new())
        .await
        .unwrap();
    assert!(upper.inner().read("a", MIB).await.unwrap().is_some());
    let mut writer = cache.set_with_writer("a", Draft::new()).await.unwrap();
    writer.write(pattern(1_001)).await.unwrap();
    assert_eq!(writer.commit().await.unwrap().tiers, 1);
    assert!(upper.inner().read("a", MIB).await.unwrap().is_none());
}

#[tokio::test]
async fn s94_what_no_tier_takes_is_said_to_be_too_large() {
    let cache = Cache::builder().tier(small(1_000)).build().unwrap();
    let error = cache
        .insert("a", pattern(1_001), Draft::new())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    let declared = Draft::new().len(1_001);
    let mut writer = cache.set_with_writer("a", declared).await.unwrap();
    writer.write(pattern(1_001)).await.unwrap();
    assert_eq!(
        writer.commit().await.unwrap_err().kind(),
        ErrorKind::TooLarge
    );
    let tiers = counters(&cache);
    assert_eq!(
        (tiers[0].too_large, tiers[0].errors, tiers[0].refused),
        (2, 0, 2)
    );
}

/// What the default setting of memory leaves out, and that the answer says so each time.
#[tokio::test]
async fn s94_memory_does_not_take_all_that_it_has_room_for() {
    let store = Memory::new(1 << 30);
    assert_eq!(store.object_max(), Some(16 * MIB));
    let cache = Cache::builder().tier(store).build().unwrap();
    let origin = Origin::default();
    for _ in 0..3 {
        let bytes = Body::from(Bytes::from(vec![0; 20 << 20]));
        let fetch = origin.does(async move |_| Ok(Fetched::body(bytes)));
        let response = cache.get_or_fetch("a", fetch).await.unwrap();
        assert_eq!(response.status().too_large_for(), ["memory"]);
        settle(&cache).await;
    }
    assert_eq!(origin.fetches(), 3);
    assert_eq!(counters(&cache)[0].too_large, 3);
    assert_eq!(memory().object_max(), Some(2 * MIB));
}

/// A shared tier that the object is too large for still says whether somebody else has replaced it.
#[tokio::test]
async fn s94_what_another_process_deleted_is_not_published_above() {
    let shared = small(1_000);
    let private = Faulty::new(Model::new());
    let other = Cache::builder()
        .tier(Tier::new(shared.clone()).shared())
        .build()
        .unwrap();
    let cache = Cache::builder()
        .policy(strict())
        .tier(private.clone())
        .tier(Tier::new(shared.clone()).shared())
        .build()
        .unwrap();
    let origin = Origin::default();
    let fetch = origin.does(async move |_| {
        other.delete("a").await.unwrap();
        Ok(Fetched::bytes(pattern(1_001)))
    });
    let response = cache.get_or_fetch("a", fetch).await.unwrap();
    assert_eq!(len_of(response).await, 1_001);
    settle(&cache).await;
    assert!(private.inner().read("a", MIB).await.unwrap().is_none());
    assert_eq!(counters(&cache)[1].superseded, 1);
}
