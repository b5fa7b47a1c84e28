//! A small store that is filled several times over.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use bytes::Bytes;
use larder_store::{Draft, Error, Key, Store, StoreExt, Timestamp, Version};

use super::*;
use crate::{
    Disk, blob_table,
    blobs::BLOB_BLOCK,
    faults::{By, Failure, Faults, Rule},
    medium::{Medium, Op},
    record::{BlobName, Record},
    volume::Publication,
};

const CAPACITY: u64 = 2 << 20;
const SEGMENT: u64 = 128 << 10;

struct Shop {
    disk: Disk,
    faults: Faults,
}

fn key(name: &str) -> Key<'_> {
    Key::new(name).unwrap()
}

fn body(name: &str, generation: u64, len: usize) -> Bytes {
    let text = format!("{name} {generation} ");
    text.bytes().cycle().take(len).collect()
}

impl Shop {
    async fn open(folder: &Path, capacity: u64) -> Self {
        let faults = Faults::default();
        let medium = Medium::with_faults(folder, faults.clone());
        let builder = Disk::builder(folder, capacity).segment_size(SEGMENT);
        let disk = Disk::start_on(medium, builder.settings().unwrap());
        let disk = disk.await.unwrap();
        Self { disk, faults }
    }

    fn volume(&self) -> &Arc<Volume> {
        self.disk.volume()
    }

    async fn put(&self, name: &str, value: Bytes) -> Result<(), Error> {
        self.put_as(name, Draft::new(), value).await
    }

    async fn put_as(&self, name: &str, draft: Draft, value: Bytes) -> Result<(), Error> {
        let volume = self.volume();
        let checksum = Some(crc32c::crc32c(&value));
        let version = Version(volume.log.draw());
        let metadata = draft.commit(value.len() as u64, version, checksum);
        let record = Record::object(volume.hash(key(name)), key(name), &metadata, value);
        self.publish(name, &record, None).await
    }

    async fn put_blob(&self, name: &str, value: &[u8]) -> Result<Arc<Blob>, Error> {
        let volume = self.volume();
        let (id, len) = (volume.log.draw(), value.len() as u64);
        let blob = Arc::new(Blob::new(
            id,
            volume.hash(key(name)),
            len,
            volume.medium.block(),
        ));
        bounded(volume.room.admit(blob.room())).await?;
        let file = volume.medium.create(&blob.path()).unwrap();
        let mut bytes = value.to_vec();
        for (index, block) in (0..).zip(value.chunks(usize::try_from(BLOB_BLOCK).unwrap())) {
            let sum = blob_table::masked(id, index, crc32c::crc32c(block));
            bytes.extend_from_slice(&sum.to_le_bytes());
        }
        file.write_all_at(&bytes, 0).unwrap();
        let checksum = Some(crc32c::crc32c(value));
        let metadata = Draft::new().commit(len, Version(id), checksum);
        let record = Record::blob(blob.hash, key(name), &metadata, BlobName { id, len });
        self.publish(name, &record, Some(&blob)).await?;
        volume.room.add_blob(Arc::clone(&blob));
        Ok(blob)
    }

    async fn publish(
        &self,
        name: &str,
        record: &Record,
        blob: Option<&Arc<Blob>>,
    ) -> Result<(), Error> {
        let publication = Publication {
            key: key(name),
            record,
            blob,
            fence: None,
            instead: None,
        };
        let commit = bounded(self.volume().publish(publication)).await?;
        assert!(commit.is_done());
        Ok(())
    }

    async fn read(&self, name: &str) -> Option<Bytes> {
        self.disk.read(name, 4 << 20).await.unwrap()
    }

    /// Lets the threads come to rest.
    async fn rest(&self) {
        let Volume { log, room, .. } = &**self.volume();
        log.settled(log.draw()).await.unwrap();
        let rests =
            || log.spares() == SPARES && !room.is_under_way() && room.want(SPARES).is_none();
        until("it rests", rests).await;
    }

    async fn close(self) {
        bounded(self.disk.close()).await.unwrap();
    }
}

async fn bounded<T>(work: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(Duration::from_secs(30), work).await;
    done.expect("it hangs")
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    bounded(async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert!(holds(), "{what}");
}

/// The bytes of the files in a folder.
fn bytes_of(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else {
        return 0;
    };
    let sizes = entries.map(|entry| {
        let entry = entry.unwrap();
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes_of(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        }
    });
    sizes.sum()
}

fn files_of(folder: &Path) -> u64 {
    bytes_of(&folder.join("seg")) + bytes_of(&folder.join("blob"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_filled_five_times_keeps_to_its_capacity() {
    let folder = tempfile::tempdir().unwrap();
    let shop = Shop::open(folder.path(), CAPACITY).await;
    let count = 5 * CAPACITY / 1000;
    for number in 0..count {
        let name = format!("key {number}");
        shop.put(&name, body(&name, 0, 1000)).await.unwrap();
        assert!(shop.volume().room.used() <= CAPACITY);
        if number % 500 == 0 {
            assert!(files_of(folder.path()) <= CAPACITY);
        }
    }
    shop.rest().await;
    let usage = shop.disk.usage();
    assert!(usage.evictions > 3 * CAPACITY / 1000 && usage.live <= CAPACITY);
    let mut found = Vec::new();
    for number in 0..count {
        let name = format!("key {number}");
        if let Some(bytes) = shop.read(&name).await {
            assert_eq!(bytes, body(&name, 0, 1000));
            found.push(name);
        }
    }
    assert_eq!(found.len() as u64, usage.entries);
    assert!(usage.entries > CAPACITY * 6 / 10 / 1100, "{usage:?}");
    shop.close().await;

    let shop = Shop::open(folder.path(), CAPACITY).await;
    assert_eq!(shop.disk.usage().entries, usage.entries);
    for name in &found {
        assert_eq!(shop.read(name).await.unwrap(), body(name, 0, 1000));
    }
    shop.rest().await;
    assert!(shop.volume().room.used() <= CAPACITY);
    assert_eq!(shop.disk.figures().corrupt, 0);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_stays() {
    let folder = tempfile::tempdir().unwrap();
    let shop = Shop::open(folder.path(), CAPACITY).await;
    for number in 0..100 {
        let name = format!("hot {number}");
        shop.put(&name, body(&name, 0, 1000)).await.unwrap();
    }
    for number in 0..10 * CAPACITY / 1000 {
        let name = format!("cold {number}");
        shop.put(&name, body(&name, 0, 1000)).await.unwrap();
        let name = format!("hot {}", number % 100);
        drop(shop.read(&name).await);
    }
    let mut kept = 0;
    for number in 0..100 {
        let name = format!("hot {number}");
        if let Some(bytes) = shop.read(&name).await {
            assert_eq!(bytes, body(&name, 0, 1000));
            kept += 1;
        }
    }
    assert!(kept >= 95, "{kept}");
    let figures = shop.disk.figures();
    assert!(figures.moved > 100_000, "{figures:?}");
    assert!(figures.moved < figures.written / 2, "{figures:?}");
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_expired_is_not_moved() {
    let folder = tempfile::tempdir().unwrap();
    let shop = Shop::open(folder.path(), CAPACITY).await;
    for number in 0..1000 {
        let draft = Draft::new();
        let draft = draft.with(|header| header.expires_at = Some(Timestamp::from_millis(1)));
        let name = format!("old {number}");
        shop.put_as(&name, draft, body(&name, 0, 500))
            .await
            .unwrap();
        shop.volume().locate(shop.volume().hash(key(&name)));
    }
    for number in 0..2 * CAPACITY / 1000 {
        let name = format!("new {number}");
        shop.put(&name, body(&name, 0, 1000)).await.unwrap();
    }
    assert_eq!(shop.disk.figures().moved, 0);
    shop.close().await;
}

/// Sets, replaces and deletes at random, and remembers what was acknowledged last.
async fn churn(shop: &Shop, seed: u64, model: &mut BTreeMap<u64, Option<u64>>) {
    let mut random = seed;
    for generation in 0..6_000_u64 {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let number = (random >> 33) % 1_500;
        let name = format!("key {number}");
        let action = random >> 20 & 15;
        if action < 3 {
            bounded(shop.disk.remove(&name)).await.unwrap();
            model.insert(number, None);
        } else if action < 8 {
            drop(shop.read(&name).await);
        } else {
            let generation = generation + seed;
            let len = 200 + (random >> 24) as usize % 3_000;
            shop.put(&name, body(&name, generation, len)).await.unwrap();
            model.insert(number, Some(generation));
        }
    }
}

/// Whatever is there is what was set last. What was deleted is not.
async fn check(shop: &Shop, model: &BTreeMap<u64, Option<u64>>) -> usize {
    let mut found = 0;
    for (number, generation) in model {
        let name = format!("key {number}");
        let Some(bytes) = shop.read(&name).await else {
            continue;
        };
        let generation = generation.unwrap_or_else(|| panic!("{name} is back"));
        assert_eq!(
            bytes,
            body(&name, generation, bytes.len()),
            "an older {name}"
        );
        found += 1;
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_old_comes_back_whatever_was_reclaimed() {
    let folder = tempfile::tempdir().unwrap();
    let mut model = BTreeMap::new();
    for round in 0..6_u64 {
        let shop = Shop::open(folder.path(), CAPACITY).await;
        let found = check(&shop, &model).await;
        assert!(round == 0 || found > 200, "{found}");
        assert_eq!(found as u64, shop.disk.usage().entries);
        churn(&shop, round * 1_000_003, &mut model).await;
        check(&shop, &model).await;
        assert!(shop.volume().room.used() <= CAPACITY);
        assert_eq!(shop.disk.figures().corrupt, 0);
        shop.close().await;
        if round % 2 == 0 {
            // From the log alone.
            let _ = fs::remove_file(folder.path().join("index.snap.a"));
            let _ = fs::remove_file(folder.path().join("index.snap.b"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_smaller_capacity_keeps_the_hottest() {
    let folder = tempfile::tempdir().unwrap();
    let shop = Shop::open(folder.path(), 2 * CAPACITY).await;
    for number in 0..3_000 {
        let name = format!("key {number}");
        shop.put(&name, body(&name, 0, 1000)).await.unwrap();
    }
    for number in (0..3_000).step_by(20) {
        for _ in 0..3 {
            assert!(shop.read(&format!("key {number}")).await.is_some());
        }
    }
    shop.close().await;
    let shop = Shop::open(folder.path(), CAPACITY / 2).await;
    until("it shrinks", || shop.volume().room.used() <= CAPACITY / 2).await;
    let mut kept = [0, 0];
    for number in 0..3_000 {
        let name = format!("key {number}");
        if let Some(bytes) = shop.read(&name).await {
            assert_eq!(bytes, body(&name, 0, 1000));
            kept[usize::from(number % 20 == 0)] += 1;
        }
    }
    assert!(kept[1] >= 100, "{kept:?}");
    for number in 0..1_000 {
        let name = format!("new {number}");
        shop.put(&name, body(&name, 0, 1000)).await.unwrap();
        assert!(shop.volume().room.used() <= CAPACITY / 2);
    }
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_are_evicted_in_order_and_those_asked_for_stay() {
    let folder = tempfile::tempdir().unwrap();
    let shop = Shop::open(folder.path(), CAPACITY).await;
    let value = |number: u64| body("blob", number, 100_000);
    for number in 0..60 {
        let name = format!("blob {number}");
        shop.put_blob(&name, &value(number)).await.unwrap();
        assert!(shop.volume().room.used() <= CAPACITY);
        assert!(files_of(folder.path()) <= CAPACITY);
        if let Some(bytes) = shop.read("blob 2").await {
            assert_eq!(bytes, value(2));
        }
    }
    assert!(shop.read("blob 2").await.is_some());
    assert!(shop.read("blob 3").await.is_none());
    assert_eq!(shop.read("blob 59").await.unwrap(), value(59));
    let entries = shop.disk.usage().entries;
    assert!(entries >= 10, "{entries}");
    shop.rest().await;
    let used = shop.volume().room.used();
    let spares = shop.volume().log.spares() as u64 * SEGMENT;
    shop.close().await;
    let shop = Shop::open(folder.path(), CAPACITY).await;
    assert_eq!(shop.disk.usage().entries, entries);
    assert_eq!(shop.read("blob 2").await.unwrap(), value(2));
    assert!(shop.volume().room.used() <= used + spares);
    assert_eq!(shop.disk.figures().corrupt, 0);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_is_replaced_or_deleted_gives_its_room_back() {
    let folder = tempfile::tempdir().unwrap();
    let shop = Shop::open(folder.path(), CAPACITY).await;
    for number in 0..40 {
        let value = body("blob", number, 100_000);
        shop.put_blob("one", &value).await.unwrap();
        assert_eq!(shop.read("one").await.unwrap(), value);
    }
    assert_eq!(shop.disk.usage().evictions, 0);
    shop.disk.remove("one").await.unwrap();
    until("its file is gone", || {
        bytes_of(&folder.path().join("blob")) == 0 && shop.volume().room.unlinks() == 0
    })
    .await;
    assert!(shop.volume().room.used() <= 4 * SEGMENT);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commit_records_of_blobs_outlive_their_segments() {
    let folder = tempfile::tempdir().unwrap();
    let shop = Shop::open(folder.path(), CAPACITY).await;
    let value = body("blob", 0, 50_000);
    shop.put_blob("blob", &value).await.unwrap();
    for number in 0..6 * CAPACITY / 1000 {
        let name = format!("key {number}");
        shop.put(&name, body(&name, 0, 1000)).await.unwrap();
        if number % 500 == 0 {
            // Were most of the log still to be written, only the blob would be left to go.
            shop.rest().await;
            assert_eq!(shop.read("blob").await.unwrap(), value);
        }
    }
    assert_eq!(shop.read("blob").await.unwrap(), value);
    shop.close().await;
    let shop = Shop::open(folder.path(), CAPACITY).await;
    assert_eq!(shop.read("blob").await.unwrap(), value);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn room_is_given_in_order_and_never_leaks() {
    let folder = tempfile::tempdir().unwrap();
    let shop = Shop::open(folder.path(), CAPACITY).await;
    let room = &shop.volume().room;
    until("there are spares", || shop.volume().log.spares() == SPARES).await;
    let before = room.used();
    let most = CAPACITY - 3 * SEGMENT;
    assert!(room.admit(most + 1).await.unwrap_err().is_full());
    bounded(room.admit(most)).await.unwrap();
    assert_eq!(room.used(), before + most);
    // There is nothing that could be evicted, so that waiting would be for ever.
    assert!(bounded(room.admit(1)).await.unwrap_err().is_full());
    room.give_back(most);
    assert_eq!(room.used(), before);
    for _ in 0..200 {
        let admitted = room.admit(most / 2);
        // Dropped before, while, or after it is granted.
        let admitted = tokio::time::timeout(Duration::from_micros(50), admitted).await;
        if let Ok(Ok(())) = admitted {
            room.give_back(most / 2);
        }
    }
    until("all of it is back", || room.used() == before).await;
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reclaim_that_fails_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut model = BTreeMap::new();
    let shop = Shop::open(folder.path(), CAPACITY).await;
    churn(&shop, 1, &mut model).await;
    let failures = [
        (Op::Remove, By::Keeper),
        (Op::Sync, By::Keeper),
        (Op::Read, By::Keeper),
        (Op::Allocate, By::Keeper),
        (Op::Write, By::Sealer),
        (Op::SetLen, By::Sealer),
    ];
    for (round, (op, by)) in (2..).zip(failures) {
        let rule = Rule::new(Failure::Broken).on(&[op]).by(by);
        shop.faults.add(rule.times(2));
        for attempt in 0..3_000_u64 {
            let number = attempt % 1_500;
            let name = format!("key {number}");
            let generation = round * 10_000 + attempt;
            let put = shop.put(&name, body(&name, generation, 1_000)).await;
            match put {
                Ok(()) => {
                    model.insert(number, Some(generation));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
        shop.faults.clear();
        until("it works again", || !shop.disk.figures().passing_through).await;
        check(&shop, &model).await;
        assert!(shop.volume().room.used() <= CAPACITY);
    }
    shop.close().await;
    let shop = Shop::open(folder.path(), CAPACITY).await;
    check(&shop, &model).await;
    shop.close().await;
}
