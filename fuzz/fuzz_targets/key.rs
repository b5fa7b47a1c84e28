//! Any keys: each is accepted exactly if it has 1 to 4,096 bytes of UTF-8, has its own entry in a
//! memory and in a disk store, and is listed as it is.
//!
//! An input is some keys. Each begins with a byte that tells how many times its text is repeated,
//! so that long keys need no long inputs, and ends with a newline that is not part of it.

#![no_main]

mod support;

use std::{
    collections::BTreeMap,
    sync::{Mutex, OnceLock},
};

use futures_util::{TryStreamExt, future::join_all};
use larder::{Key, KeyBuf, Store, StoreExt};
use larder_disk::Disk;
use larder_memory::Memory;
use larder_store::Draft;
use libfuzzer_sys::fuzz_target;
use support::{disk, folder, memory, runtime};
use tempfile::TempDir;

/// As many keys are looked at; more take longer and find no more.
const KEYS_MAX: usize = 16;

fuzz_target!(|input: &[u8]| {
    let reopens = input.first().is_some_and(|first| first % 64 == 1);
    let keys: Vec<Vec<u8>> = input.split(|byte| *byte == b'\n').map(repeated).collect();
    let accepted: Vec<String> = keys.iter().filter_map(|key| accept(key)).collect();
    if !accepted.is_empty() {
        runtime().block_on(check(&accepted[..accepted.len().min(KEYS_MAX)], reopens));
    }
});

fn repeated(part: &[u8]) -> Vec<u8> {
    let (&times, text) = part.split_first().unwrap_or((&0, &[]));
    // 4,096 bytes and one more are in reach of a text of any length.
    text.repeat(match times {
        0..128 => 1,
        128..192 => usize::from(times - 127),
        192.. => (Key::LEN_MAX + usize::from(times % 3) - 1) / text.len().max(1),
    })
}

/// The key, if it is one, and it must be.
fn accept(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (key, owned) = (Key::new(text), KeyBuf::new(text));
    let expected = (1..=4_096).contains(&bytes.len());
    assert_eq!(key.is_ok(), expected, "a key of {} bytes", bytes.len());
    match (key, owned) {
        (Ok(key), Ok(owned)) => {
            assert_eq!(key.as_str(), text);
            assert_eq!(owned.as_key(), key);
            assert_eq!(&*owned, text);
            Some(text.to_owned())
        }
        (Err(key), Err(owned)) => {
            assert!(key.is_invalid() && owned.is_invalid(), "{key:?} {owned:?}");
            None
        }
        other => panic!("borrowed and owned differ: {other:?}"),
    }
}

struct Stores {
    memory: Memory,
    disk: Option<Disk>,
    folder: TempDir,
}

/// The stores are empty before each input and after it.
async fn check(keys: &[String], reopens: bool) {
    static STORES: OnceLock<Mutex<Option<Stores>>> = OnceLock::new();
    let place = STORES.get_or_init(Mutex::default);
    let taken = place.lock().expect("nobody panicked").take();
    let mut stores = match taken {
        Some(stores) => stores,
        None => {
            let folder = folder();
            Stores {
                memory: memory(),
                disk: Some(disk(folder.path()).await),
                folder,
            }
        }
    };
    round(&stores.memory, keys).await;
    empty(&stores.memory, keys).await;
    let open = stores.disk.take().expect("it is put back each time");
    round(&open, keys).await;
    let open = if reopens {
        open.close().await.expect("it closes");
        drop(open);
        let open = disk(stores.folder.path()).await;
        all_there(&open, &numbered(keys)).await;
        open
    } else {
        open
    };
    empty(&open, keys).await;
    stores.disk = Some(open);
    *place.lock().expect("nobody panicked") = Some(stores);
}

/// Each key once, with the last of its numbers.
fn numbered(keys: &[String]) -> BTreeMap<&str, usize> {
    let numbered = keys.iter().enumerate();
    numbered
        .map(|(number, key)| (key.as_str(), number))
        .collect()
}

/// Writes all keys and finds each with its own body.
async fn round(store: &impl Store, keys: &[String]) {
    let numbered = numbered(keys);
    // At once: a disk store lets a replacement wait for the disk.
    let writes = numbered.iter().map(async |(key, number)| {
        let written = store.write(key, number.to_string(), Draft::new()).await;
        assert!(written.expect("it takes it").is_done());
    });
    join_all(writes).await;
    all_there(store, &numbered).await;
}

async fn all_there(store: &impl Store, expected: &BTreeMap<&str, usize>) {
    let kind = store.kind();
    for (key, number) in expected {
        let body = store.read(key, 64).await.expect("it is read");
        let body = body.unwrap_or_else(|| panic!("{kind}: {key:?} is gone"));
        assert_eq!(body, number.to_string(), "{kind}: {key:?} has another's");
    }
    let usage = store.usage();
    assert_eq!(usage.entries, expected.len() as u64, "{kind}: {usage:?}");
    // By no prefix, and by one that ends where a character does.
    let first = expected.keys().next().copied().unwrap_or_default();
    let middle = first.char_indices().nth(first.chars().count() / 2);
    let prefix = middle.map_or("", |(middle, _)| &first[..middle]);
    for prefix in ["", prefix] {
        let mut listed = list(store, prefix).await;
        listed.sort();
        let keys = expected.keys().filter(|key| key.starts_with(prefix));
        assert!(
            listed.iter().map(|key| &**key).eq(keys.copied()),
            "{kind}: {prefix:?} lists {listed:?}"
        );
    }
}

async fn list(store: &impl Store, prefix: &str) -> Vec<KeyBuf> {
    let list = store.as_list().expect("it can list");
    list.list(prefix).try_collect().await.expect("it lists")
}

/// Removes every second key and finds the others, then those.
async fn empty(store: &impl Store, keys: &[String]) {
    let mut left = numbered(keys);
    let (gone, rest): (Vec<_>, Vec<_>) =
        left.clone().into_keys().partition(|key| left[key] % 2 == 0);
    remove(store, &gone).await;
    left.retain(|key, _| !gone.contains(key));
    all_there(store, &left).await;
    remove(store, &rest).await;
    all_there(store, &BTreeMap::new()).await;
}

async fn remove(store: &impl Store, keys: &[&str]) {
    let removals = keys.iter().map(async |key| {
        store.remove(key).await.expect("it is removed");
    });
    join_all(removals).await;
}
