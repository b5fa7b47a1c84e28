//! What must hold of a damaged store.

use std::{collections::BTreeMap, path::Path};

use bytes::Bytes;
use futures_util::TryStreamExt;
use larder_disk::Disk;
use larder_store::{ByteRange, Draft, Error, Key, List, Lookup, Result, Store, StoreExt};

use super::{
    bodies::{body, version},
    prepare::{Prepared, builder},
};

/// Versions that are written after the damage begin here.
const LATER: u64 = 500;

/// How much of what was there before is still found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) written: usize,
    pub(crate) found: usize,
}

struct Examiner<'a> {
    store: Disk,
    /// Every key that was ever used.
    keys: Vec<&'a str>,
    forged: bool,
}

/// Opens the store, reads and lists everything, sets and deletes, closes it, and looks again;
/// `None` where it does not open.
pub(crate) async fn examine(path: &Path, prepared: &Prepared, forged: bool) -> Option<Report> {
    let store = match builder(path).open().await {
        Ok(store) => store,
        Err(error) => {
            assert!(error.is_invalid(), "{error:?}");
            return None;
        }
    };
    let keys: Vec<String> = (0..44)
        .map(|number| format!("k/{number}"))
        .chain((0..2).map(|number| format!("b/{number}")))
        .chain([String::from("n/0"), String::from("b/new")])
        .collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let mut examiner = Examiner {
        store,
        keys,
        forged,
    };
    let found = examiner.look().await;
    let kept = |(key, version): (&String, &u64)| found.get(&**key) == Some(version);
    let report = Report {
        written: prepared.held.len(),
        found: prepared.held.iter().filter(|held| kept(*held)).count(),
    };
    examiner.change().await;
    examiner.look_after().await;
    examiner.done(&examiner.store.close().await);

    let opened = builder(path).open().await;
    let Ok(store) = opened else {
        panic!("it does not open again: {opened:?}");
    };
    examiner.store = store;
    examiner.look_after().await;
    examiner.done(&examiner.store.close().await);
    Some(report)
}

impl<'a> Examiner<'a> {
    /// Reads and lists everything. What is damaged says so once and is gone then.
    async fn look(&self) -> BTreeMap<&'a str, u64> {
        let mut found = BTreeMap::new();
        for key in &self.keys {
            let mut read = self.read(key).await;
            if let Err(error) = &read {
                assert!(error.is_corrupt() || self.forged, "{key}: {error:?}");
                read = self.read(key).await;
                assert!(matches!(read, Ok(None)) || self.forged, "{key}: {read:?}");
            }
            if let Ok(Some(bytes)) = read {
                match version(key, &bytes) {
                    Some(version) => drop(found.insert(*key, version)),
                    None => assert!(self.forged, "wrong bytes of {key}"),
                }
            }
            let stat = self.store.stat(Key::new(key).unwrap()).await;
            assert!(stat.is_ok() || self.forged, "{key}: {stat:?}");
        }
        let listed = self.store.list("").try_collect::<Vec<_>>().await;
        let entries = self.store.usage().entries;
        if !self.forged {
            let mut listed = listed.unwrap();
            listed.sort();
            let mut names: Vec<_> = found.keys().copied().collect();
            names.sort_unstable();
            assert!(listed.iter().map(|key| &**key).eq(names), "{listed:?}");
            assert_eq!(entries, found.len() as u64);
        }
        found
    }

    async fn read(&self, key: &str) -> Result<Option<Bytes>> {
        let range = ByteRange::FULL;
        let found = self.store.get_stream(Key::new(key)?, range).await?;
        let Lookup::Hit(object) = found else {
            return Ok(None);
        };
        let bytes = object.body.bytes(1 << 21).await?;
        let len = object.metadata.len();
        if len != bytes.len() as u64 && !self.forged {
            return Err(Error::invalid(format!("{len} and {} bytes", bytes.len())));
        }
        Ok(Some(bytes))
    }

    /// Replaces some, adds some, and deletes some, whatever was there.
    async fn change(&self) {
        for key in ["k/0", "k/2", "k/3", "b/0", "n/0", "b/new"] {
            for version in [LATER, LATER + 1] {
                let written = self.store.write(key, body(key, version), Draft::new());
                let written = written.await.map(|commit| assert!(commit.is_done()));
                self.done(&written);
            }
        }
        for key in ["k/4", "k/5", "b/1"] {
            self.done(&self.store.remove(key).await);
        }
    }

    /// As [`look`](Self::look), and nothing older than the changes is back.
    async fn look_after(&self) {
        let found = self.look().await;
        if self.forged {
            return;
        }
        for key in ["k/0", "k/2", "k/3", "b/0", "n/0", "b/new"] {
            let version = found.get(key).copied();
            assert!(
                version.is_none_or(|version| version == LATER + 1),
                "{key}: {version:?}"
            );
        }
        for key in ["k/4", "k/5", "b/1"] {
            assert_eq!(found.get(key), None, "{key} is back");
        }
        assert_eq!(
            found.get("n/0"),
            Some(&(LATER + 1)),
            "what is new is not there"
        );
    }

    fn done(&self, result: &Result<()>) {
        assert!(result.is_ok() || self.forged, "{result:?}");
    }
}
