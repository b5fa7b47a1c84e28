//! The stores that cases begin with.

use std::{collections::BTreeMap, path::Path};

use larder_disk::{Builder, Disk};
use larder_store::{Draft, Key, Store, StoreExt, Touch};

use super::{Files, bodies::body, read, temporary};

/// A store as it was left.
pub(crate) struct Prepared {
    pub(crate) files: Files,
    /// What it held: each key and its version.
    pub(crate) held: BTreeMap<String, u64>,
}

/// Opens the stores of all cases.
pub(crate) fn builder(path: &Path) -> Builder {
    Disk::builder(path, 2 << 20)
        .segment_size(128 << 10)
        .large_object(16 << 10)
}

/// All states, in their order.
pub(crate) async fn all() -> Vec<Prepared> {
    let folder = temporary();
    let mut held = BTreeMap::new();
    let store = builder(folder.path()).open().await.unwrap();
    fill(&store, &mut held, 0..36).await;
    let killed = Prepared {
        files: read(folder.path()),
        held: held.clone(),
    };
    store.close().await.unwrap();
    let closed = Prepared {
        files: read(folder.path()),
        held: held.clone(),
    };
    let store = builder(folder.path()).open().await.unwrap();
    fill(&store, &mut held, 30..44).await;
    let killed_later = Prepared {
        files: read(folder.path()),
        held,
    };
    store.close().await.unwrap();
    vec![closed, killed, killed_later]
}

/// Sets, replaces, deletes and touches; what it ends with waits until all of it is in the files.
async fn fill(store: &Disk, held: &mut BTreeMap<String, u64>, keys: std::ops::Range<u64>) {
    for number in keys.clone() {
        set(store, held, &format!("k/{number}")).await;
    }
    for number in 0..2 {
        set(store, held, &format!("b/{number}")).await;
    }
    for number in keys.clone().step_by(5) {
        set(store, held, &format!("k/{number}")).await;
    }
    for number in keys.clone().skip(3).step_by(9) {
        let key = format!("k/{number}");
        store.remove(&key).await.unwrap();
        held.remove(&key);
    }
    for number in keys.skip(1).step_by(7) {
        let key = format!("k/{number}");
        let draft = Draft::new().with(|header| header.content_type = Some("touched".into()));
        let touched = store.touch(Key::new(&key).unwrap(), draft).await;
        assert!(touched.unwrap().is_done() || !held.contains_key(&key));
    }
    set(store, held, "b/1").await;
    set(store, held, "k/2").await;
    set(store, held, "k/2").await;
}

async fn set(store: &Disk, held: &mut BTreeMap<String, u64>, key: &str) {
    let version = held.get(key).map_or(1, |version| version + 1);
    let written = store.write(key, body(key, version), Draft::new()).await;
    assert!(written.unwrap().is_done());
    held.insert(key.to_owned(), version);
}
