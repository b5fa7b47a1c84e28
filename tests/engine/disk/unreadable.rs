//! A large object whose file is no good: one fetch, and it is served from the disk again.

use std::{
    fs,
    path::{Path, PathBuf},
};

use larder::{Breaker, Cache, Memory, Tier};

use super::Place;
use crate::{
    source::{pattern, whole},
    support::{Origin, SECOND, settle, strict},
};

const LEN: usize = 600_000;

/// How the file is spoilt.
const WAYS: [fn(&Path); 5] = [
    |file| {
        fs::remove_file(file).unwrap();
        fs::create_dir(file).unwrap();
    },
    |file| fs::remove_file(file).unwrap(),
    |file| {
        let file = fs::File::options().write(true).open(file).unwrap();
        file.set_len(LEN as u64 / 2).unwrap();
    },
    |file| fs::write(file, vec![0; LEN + 1_000]).unwrap(),
    |file| {
        fs::remove_file(file).unwrap();
        std::os::unix::fs::symlink(file, file).unwrap();
    },
];

/// The files of large objects.
fn files(folder: &Path) -> Vec<PathBuf> {
    let folders = fs::read_dir(folder.join("blob")).unwrap();
    let files = folders.flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap());
    files.map(|file| file.unwrap().path()).collect()
}

async fn heals(has_memory: bool, objects: usize, spoil: fn(&Path)) {
    let place = Place::new(0);
    let store = place.builder(256 << 20).open().await.unwrap();
    let breaker = Breaker::new().failures(2).pause(60 * SECOND, 60 * SECOND);
    let mut builder = Cache::builder().policy(strict());
    builder = builder.clock(place.clock.clone());
    if has_memory {
        let memory = Memory::builder(16 << 20).object_max(100_000);
        builder = builder.tier(memory.build().unwrap());
    }
    let disk = Tier::new(store).breaker(breaker);
    let cache = builder.tier(disk).build().unwrap();
    let origin = Origin::default();
    let names: Vec<_> = (0..objects).map(|id| id.to_string()).collect();
    for name in &names {
        let response = cache.get_or_fetch(name, origin.gives(pattern(LEN))).await;
        assert!(whole(response.unwrap()).await == pattern(LEN));
    }
    settle(&cache).await;
    let spoilt = files(place.path());
    assert_eq!(spoilt.len(), objects);
    for file in &spoilt {
        spoil(file);
    }

    let mut failed = 0;
    for round in 0..10 {
        for name in &names {
            let response = cache.get_or_fetch(name, origin.gives(pattern(LEN))).await;
            let response = response.unwrap();
            assert!(round < 2 || response.status().is_hit(), "round {round}");
            match response.into_body().unwrap().bytes(LEN as u64).await {
                Ok(bytes) => assert!(bytes == pattern(LEN)),
                Err(error) => {
                    assert!(error.is_corrupt() && round == 0, "{error}");
                    failed += 1;
                }
            }
            settle(&cache).await;
        }
    }
    assert!(failed <= objects);
    assert_eq!(origin.fetches(), 2 * objects, "one more for each");
    let counters = cache.tiers().last().unwrap().counters;
    assert_eq!((counters.spared, counters.refused), (0, 0));
    cache.close().await.unwrap();
}

#[tokio::test]
async fn s90_a_file_that_is_no_good_costs_one_fetch() {
    for spoil in WAYS {
        for has_memory in [false, true] {
            heals(has_memory, 1, spoil).await;
            heals(has_memory, 3, spoil).await;
        }
    }
}
