//! What is found, by every way of reading: from memory, inline, and where it must wait.

#![allow(clippy::cast_possible_truncation)] // Lengths of tests.

mod shop;

use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use larder_store::{Commit, Draft, List, Store, Timestamp, Version};

use self::shop::Shop;
use super::*;
use crate::{
    Disk,
    faults::{Failure, Faults, Rule},
    medium::Op,
    record::Record,
};

fn key(name: &str) -> Key<'_> {
    Key::new(name).unwrap()
}

fn pattern(len: usize) -> Bytes {
    let word = |at: u64| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ at).to_be_bytes();
    let bytes: Vec<u8> = (1..=len.div_ceil(8) as u64).flat_map(word).collect();
    Bytes::from(bytes).slice(..len)
}

fn ranges(len: u64) -> Vec<ByteRange> {
    let mut at = vec![0, 1, len / 2, len.saturating_sub(1), len];
    at.extend([65_535, 65_536, 65_537, 262_143, 262_144, 1 << 20, 3 << 20]);
    at.retain(|&at| at <= len);
    let mut ranges = vec![ByteRange::FULL];
    for &start in &at {
        ranges.push(ByteRange::from(start..));
        ranges.extend(ByteRange::suffix(start));
        ranges.extend(
            at.iter()
                .filter_map(|&end| ByteRange::try_from(start..end).ok()),
        );
    }
    ranges
}

async fn reads_all(shop: &Shop, name: &str, whole: &Bytes) {
    let len = whole.len() as u64;
    for range in ranges(len) {
        let Ok(wanted) = range.resolve(len) else {
            let error = shop.read(name, range).await.unwrap_err();
            assert!(error.is_invalid(), "{error:?}");
            continue;
        };
        let object = shop.look(name, range).await.unwrap().unwrap();
        assert_eq!((&object.range, object.metadata.len()), (&wanted, len));
        assert_eq!(object.body.len(), Some(wanted.end - wanted.start));
        let bytes = object.body.bytes(len).await.unwrap();
        let (start, end) = (wanted.start as usize, wanted.end as usize);
        assert!(bytes == whole[start..end], "{range:?} of {len}");
    }
}

const LENGTHS: [usize; 12] = [
    0,
    1,
    100,
    8_000,
    8_192,
    30_000,
    65_536,
    65_537,
    200_000,
    262_144,
    300_001,
    1 << 20,
];

#[tokio::test(flavor = "multi_thread")]
async fn any_range_comes_by_every_way() {
    let shop = Shop::open().await;
    let name = |len: usize| format!("object/{len}");
    for len in LENGTHS {
        shop.put(&name(len), Draft::new(), pattern(len)).await;
        // From memory, most likely.
        reads_all(&shop, &name(len), &pattern(len)).await;
    }
    shop.flush().await;
    for len in LENGTHS {
        reads_all(&shop, &name(len), &pattern(len)).await;
    }
    let before = shop.disk.figures();
    shop.make_cold();
    for len in LENGTHS {
        reads_all(&shop, &name(len), &pattern(len)).await;
    }
    let after = shop.disk.figures();
    assert_eq!(after.inline_reads, before.inline_reads);
    assert!(after.cold_reads > before.cold_reads);
    assert_eq!((after.corrupt, after.io_errors), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn any_range_of_a_blob_comes() {
    let shop = Shop::open().await;
    let (short, long) = (pattern(1), pattern((5 << 20) + 77));
    shop.put_blob("short", &short).await;
    shop.put_blob("long", &long).await;
    reads_all(&shop, "short", &short).await;
    reads_all(&shop, "long", &long).await;
    shop.make_cold();
    reads_all(&shop, "short", &short).await;
    reads_all(&shop, "long", &long).await;
    assert_eq!(shop.disk.figures().corrupt, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn long_heads_are_read_whole() {
    let shop = Shop::open().await;
    let name = "k".repeat(Key::LEN_MAX);
    let draft = || {
        Draft::new().with(|header| {
            let value = Bytes::from(vec![7; 60 << 10]);
            header.attributes.push(("a".into(), value));
        })
    };
    for len in [0, 10, 300_000, 1 << 20] {
        shop.put(&name, draft(), pattern(len)).await;
        for is_cold in [false, true] {
            shop.flush().await;
            let stat = shop.disk.stat(key(&name)).await.unwrap().unwrap();
            assert_eq!((stat.header(), stat.len()), (draft().header(), len as u64));
            reads_all(&shop, &name, &pattern(len)).await;
            if is_cold {
                shop.faults.clear();
            } else {
                shop.make_cold();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_altered_is_never_given() {
    for is_cold in [false, true] {
        let shop = Shop::open().await;
        for len in [1, 100, 8_000, 60_000, 200_000] {
            shop.put("a", Draft::new(), pattern(len)).await;
            shop.flush().await;
            if is_cold {
                shop.make_cold();
            }
            let corrupt = shop.disk.figures().corrupt;
            shop.spoil("a", 16);
            assert_eq!(shop.read("a", ByteRange::FULL).await.unwrap(), None);
            assert_eq!(shop.disk.figures().corrupt, corrupt + 1);
            shop.is_absent("a").await;
        }
        // Of a long one the head is right; the body ends in the error.
        shop.put("b", Draft::new(), pattern(1 << 20)).await;
        shop.flush().await;
        shop.spoil("b", 200_000);
        let first = ByteRange::try_from(0..300_000).unwrap();
        let bytes = shop.read("b", first).await.unwrap().unwrap();
        assert!(bytes == pattern(1 << 20)[..300_000], "untouched blocks");
        if let Some(mut object) = shop.look("b", ByteRange::FULL).await.unwrap() {
            assert!(!is_cold);
            let mut read = 0;
            let error = loop {
                match object.body.chunk().await {
                    Ok(Some(chunk)) => {
                        assert!(chunk == pattern(1 << 20)[read..read + chunk.len()]);
                        read += chunk.len();
                    }
                    Ok(None) => panic!("a clean end"),
                    Err(error) => break error,
                }
            };
            assert!(error.is_corrupt() && read >= 512 << 10, "{error:?}");
            assert!(object.body.chunk().await.unwrap().is_none());
        }
        assert_eq!(shop.disk.figures().corrupt, 6);
        shop.is_absent("b").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_is_altered_short_or_gone_is_never_given() {
    let value = pattern(3 << 20);
    for is_cold in [false, true] {
        let shop = Shop::open().await;
        if is_cold {
            shop.make_cold();
        }
        // A byte of the object, and one of the table.
        for at in [(2 << 20) + 5, (3 << 20) + 4 * 8 + 1] {
            let blob = shop.put_blob("a", &value).await;
            let file = shop.volume().medium.open(&blob.path()).unwrap();
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[!byte[0]], at).unwrap();
            let first = ByteRange::try_from(0..2 << 20).unwrap();
            assert_eq!(shop.read("a", first).await.unwrap().unwrap().len(), 2 << 20);
            let error = shop.read("a", ByteRange::FULL).await.unwrap_err();
            assert!(error.is_corrupt(), "{error:?}");
            shop.is_absent("a").await;
        }
        let blob = shop.put_blob("a", &value).await;
        let unread = shop.look("a", ByteRange::FULL).await.unwrap().unwrap();
        let file = shop.volume().medium.open(&blob.path()).unwrap();
        file.set_len(value.len() as u64 + 47).unwrap();
        assert!(shop.read("a", ByteRange::FULL).await.unwrap().is_none());
        assert!(unread.body.bytes(1 << 30).await.unwrap_err().is_corrupt());
        let blob = shop.put_blob("a", &value).await;
        let unread = shop.look("a", ByteRange::FULL).await.unwrap().unwrap();
        shop.volume().medium.remove(&blob.path()).unwrap();
        assert!(shop.look("a", ByteRange::FULL).await.unwrap().is_none());
        shop.is_absent("a").await;
        let bytes = unread.body.bytes(1 << 30).await.unwrap();
        assert!(bytes == value, "open before it was removed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s56_an_error_of_the_disk_is_no_miss() {
    let shop = Shop::open().await;
    shop.put("a", Draft::new(), pattern(1000)).await;
    shop.put("b", Draft::new(), pattern(1 << 20)).await;
    let value = pattern(3 << 20);
    shop.put_blob("c", &value).await;
    shop.flush().await;
    let look = async |name| shop.look(name, ByteRange::FULL).await.unwrap().unwrap();
    let unread = [look("b").await, look("c").await];
    shop.faults
        .add(Rule::new(Failure::Broken).on(&[Op::ReadNow, Op::Read]));
    for name in ["a", "b", "c"] {
        let error = shop.look(name, ByteRange::FULL).await.unwrap_err();
        assert!(error.is_unavailable(), "{error:?}");
        assert!(
            shop.disk
                .stat(key(name))
                .await
                .unwrap_err()
                .is_unavailable()
        );
    }
    for object in unread {
        let error = object.body.bytes(1 << 30).await.unwrap_err();
        assert!(error.is_unavailable(), "{error:?}");
    }
    assert_eq!(shop.disk.figures().io_errors, 8);
    shop.faults.clear();
    for name in ["a", "b", "c"] {
        assert!(shop.read(name, ByteRange::FULL).await.unwrap().is_some());
    }
    assert_eq!(shop.disk.figures().corrupt, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_expires_is_absent_by_the_stores_clock() {
    use std::sync::atomic::{AtomicU64, Ordering};
    let now = Arc::new(AtomicU64::new(10));
    let clock = Arc::clone(&now);
    let shop = Shop::with(|builder| {
        builder.clock(move || Timestamp::from_millis(clock.load(Ordering::Relaxed)))
    });
    let shop = shop.await;
    let draft = Draft::new().with(|header| header.expires_at = Some(Timestamp::from_millis(20)));
    for len in [10, 300_000] {
        now.store(10, Ordering::Relaxed);
        shop.put("a", draft.clone(), pattern(len)).await;
        shop.flush().await;
        reads_all(&shop, "a", &pattern(len)).await;
        now.store(20, Ordering::Relaxed);
        assert_eq!(shop.disk.stat(key("a")).await.unwrap(), None);
        shop.is_absent("a").await;
    }
    assert_eq!(shop.disk.usage().entries, 0, "it is forgotten");
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_hashes_are_told_apart() {
    let shop = Shop::open().await;
    let volume = shop.volume();
    // Under the hash of `a` stands the record of `b`.
    let metadata = Draft::new().commit(3, Version(1), Some(crc32c::crc32c(b"xyz")));
    let hash = volume.hash(key("a"));
    let record = Record::object(hash, key("b"), &metadata, "xyz".into());
    shop.publish("b", &record, None).await;
    shop.is_absent("a").await;
    let Lookup::Miss(fence) = (shop.disk.get_stream(key("a"), ByteRange::FULL).await).unwrap()
    else {
        panic!("not there");
    };
    assert!(volume.fences.lock(key("a")).holds(&fence));
    assert_eq!(shop.disk.usage().entries, 1, "nothing is forgotten");
    assert_eq!(shop.disk.figures().corrupt, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ready_hit_is_ready_and_a_loop_of_them_yields() {
    let shop = Shop::open().await;
    shop.put("a", Draft::new(), pattern(20_000)).await;
    shop.flush().await;
    let others = tokio::spawn(async {});
    let mut later = 0;
    for _ in 0..1000 {
        let reply = shop.disk.get_stream(key("a"), ByteRange::FULL);
        later += usize::from(!reply.is_ready());
        assert!(matches!(reply.await.unwrap(), Lookup::Hit(_)));
    }
    assert!((1..100).contains(&later), "{later}");
    others.await.unwrap();
    assert_eq!(shop.disk.figures().cold_reads, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_outlive_the_store() {
    let shop = Shop::open().await;
    shop.put("a", Draft::new(), pattern(1 << 20)).await;
    let value = pattern(9 << 20);
    shop.put_blob("b", &value).await;
    shop.flush().await;
    shop.make_cold();
    shop.faults.clear();
    let look = async |name| shop.look(name, ByteRange::FULL).await.unwrap().unwrap();
    let (record, blob) = (look("a").await, look("b").await);
    let Shop {
        disk,
        faults,
        _folder,
    } = shop;
    let volume = Arc::downgrade(disk.volume());
    disk.close().await.unwrap();
    drop(disk);
    for _ in 0..500 {
        if volume.strong_count() == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(volume.strong_count(), 0, "an unread body keeps no store");
    faults.add(Rule::new(Failure::Short).on(&[Op::ReadNow]));
    assert!(record.body.bytes(1 << 20).await.unwrap() == pattern(1 << 20));
    assert!(blob.body.bytes(9 << 20).await.unwrap() == value);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_gives_what_stays_once_while_all_of_it_moves() {
    let shop = Shop::with(|builder| builder.segment_size(1 << 20)).await;
    let names: Vec<_> = (0..3000).map(|id| format!("n/{id:04}")).collect();
    for name in &names {
        shop.put(name, Draft::new(), pattern(700)).await;
    }
    shop.put("other", Draft::new(), pattern(700)).await;
    // Each step of the list, everything that is not yet given moves.
    for round in 0..3 {
        let mut list = shop.disk.list("n/");
        let mut found = Vec::new();
        while let Some(key) = list.next().await {
            found.push(key.unwrap().to_string());
            if found.len() % 1000 == 500 {
                for name in names.iter().skip(round).step_by(3) {
                    let value = pattern(700);
                    assert!(shop.put(name, Draft::new(), value).await > 0);
                }
            }
        }
        found.sort_unstable();
        assert_eq!(found, names);
    }
    assert!(shop.volume().segments.all().len() > 2);
    shop.disk.close().await.unwrap();
    let mut list = shop.disk.list("");
    assert!(list.next().await.unwrap().unwrap_err().is_closed());
    assert!(list.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_touch_reads_the_record_whole() {
    let shop = Shop::open().await;
    for len in [0, 100, 300_000, 1 << 20] {
        shop.put("a", Draft::new(), pattern(len)).await;
        for cold in [false, true] {
            if cold {
                shop.flush().await;
                shop.make_cold();
            }
            let (place, bytes) = whole(shop.volume(), key("a")).await.unwrap().unwrap();
            let found = shop.located("a");
            assert_eq!((place, bytes.len()), (found.place, found.place.len()));
            let touch = shop.disk.as_touch().unwrap();
            let draft = Draft::new().with(|header| header.tags = vec!["new".into()]);
            let touched = touch.touch(key("a"), draft).await.unwrap();
            assert!(matches!(touched, Commit::Done(Some(_))));
            assert_eq!(
                shop.read("a", ByteRange::FULL).await.unwrap(),
                Some(pattern(len))
            );
            shop.faults.clear();
        }
    }
    assert!(
        whole(shop.volume(), key("b"))
            .now_or_never()
            .unwrap()
            .unwrap()
            .is_none()
    );
}
