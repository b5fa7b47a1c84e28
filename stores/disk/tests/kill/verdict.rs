//! A store that was opened after a kill, held against what was told.

use std::collections::BTreeSet;

use futures_util::TryStreamExt;
use larder_disk::Disk;
use larder_store::{ByteRange, Store};

use crate::{
    common::{look, read},
    history::{History, State},
    load::{Load, body_of, stamp_of},
};

/// Checks every key, and takes what was found for known from now on.
pub(crate) async fn check(store: &Disk, load: &Load, history: &mut History) {
    let mut present = BTreeSet::new();
    let mut lost = 0;
    for name in Load::keys() {
        let known = history.known(&name);
        let state = state(store, &name).await;
        let may_be_absent = load.evicts || known.may_be_lost;
        let absent = state == State::Absent;
        let right = known.may_be.contains(&state) || (absent && may_be_absent);
        assert!(right, "{name} is {state:?}, and told was {known:?}");
        lost += u64::from(absent && !known.may_be.contains(&state));
        if !absent {
            present.insert(name.clone());
        }
        history.settle(name, state);
    }
    let listed: Vec<_> = (store.as_list().unwrap().list(""))
        .try_collect()
        .await
        .unwrap();
    let listed: BTreeSet<_> = listed.iter().map(ToString::to_string).collect();
    assert_eq!(listed, present, "listed, and found");
    let usage = store.usage();
    let entries = present.len() as u64;
    println!(
        "{} acknowledged, {entries} there, {lost} lost or evicted",
        history.acknowledged
    );
    if !load.evicts {
        assert_eq!(usage.entries, entries, "counted, and found");
        assert_eq!(usage.evictions, 0);
    } else if usage.evictions == 0 {
        assert_eq!(usage.entries, entries, "counted, and found");
    }
    assert_eq!(store.figures().corrupt, 0, "a kill damages nothing");
}

/// What is there, whole, by all ways of looking.
async fn state(store: &Disk, name: &str) -> State {
    let Some(object) = look(store, name, ByteRange::FULL).await.unwrap() else {
        let stat = store.stat(crate::common::key(name)).await.unwrap();
        assert!(stat.is_none(), "{name} has metadata, and no body");
        return State::Absent;
    };
    let (stamp, body) = (stamp_of(&object.metadata), body_of(&object.metadata));
    let right = read(name, object).await;
    assert_eq!(right.expect("what a kill leaves is whole"), body);
    State::Object { stamp, body }
}
