//! Calls that fail while a store is opened that was killed.

use std::{path::Path, sync::Arc};

use larder_store::Store;

use super::{
    PATIENCE, bounded, is_clear,
    objects::Model,
    open,
    run::{Disks, fill, read_all},
    small,
};
use crate::{
    faults::{Failure, Faults, Rule},
    medium::Op,
};

/// Calls of a kind that are made to fail, spread over all there are.
const PER_OP: u64 = 12;
const OPS: [Op; 6] = [
    Op::Read,
    Op::Open,
    Op::Len,
    Op::List,
    Op::Remove,
    Op::SetLen,
];

/// What cannot be read may be gone, but nothing that was replaced or deleted is back for that.
#[test]
fn s55_an_error_while_it_opens_brings_nothing_back() {
    bounded(async {
        let killed = tempfile::tempdir().unwrap();
        let faults = Faults::default();
        let folder = tempfile::tempdir().unwrap();
        let store = open(small(folder.path()), folder.path(), &faults);
        let store = store.await.unwrap();
        let model = fill(&store).await;
        // What goes on in the background comes to its end: a copy is not made at one moment.
        tokio::time::sleep(PATIENCE / 100).await;
        copy(folder.path(), killed.path());
        store.close().await.unwrap();

        let faults = Faults::default();
        let folder = tempfile::tempdir().unwrap();
        copy(killed.path(), folder.path());
        let store = open(small(folder.path()), folder.path(), &faults);
        let store = store.await.unwrap();
        let calls = faults.calls();
        read_all(&store, &model, Disks::Sound).await;
        store.close().await.unwrap();

        let model = Arc::new(model);
        let mut failed = Vec::new();
        for op in OPS {
            let sites = calls.iter().filter(|(site, _)| site.op == op);
            let count: u64 = sites.map(|(_, count)| count).sum();
            for number in 0..count.min(PER_OP) {
                let call = number * count / count.min(PER_OP);
                let folder = tempfile::tempdir().unwrap();
                copy(killed.path(), folder.path());
                let model = Arc::clone(&model);
                let start = tokio::spawn(async move {
                    let rule = Rule::new(Failure::Broken).on(&[op]).from(call).times(1);
                    start(folder.path(), &model, rule).await;
                });
                if start.await.is_err() {
                    failed.push((op, call));
                }
            }
        }
        assert!(failed.is_empty(), "{failed:?}");
    });
}

/// Opens the store with this fault, reads all of it, and does the same without.
async fn start(path: &Path, model: &Model, rule: Rule) {
    let faults = Faults::default();
    faults.add(rule);
    match open(small(path), path, &faults).await {
        Ok(store) => {
            read_all(&store, model, Disks::Failing).await;
            store.close().await.unwrap();
        }
        Err(error) => assert!(is_clear(&error), "{error:?}"),
    }
    faults.clear();
    let store = open(small(path), path, &faults).await.unwrap();
    read_all(&store, model, Disks::Sound).await;
    store.close().await.unwrap();
}

pub(super) fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir_all(&to).unwrap();
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}
