use std::fs;

use bytes::Bytes;

use super::*;
use crate::{
    by_hand::{self, ByHand, Item, object, tombstone},
    faults::{Failure, Rule},
    footer,
    index::Word,
    medium::Op,
    segment::{self, Queue},
};

fn recovered(store: &ByHand) -> Recovered {
    recover(&store.medium, &store.folder(), &Arc::default()).unwrap()
}

fn value(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

/// The segment and the offset of what the index names.
fn at(recovered: &Recovered, hash: u64) -> Option<(u64, u64)> {
    let word = recovered.index.read(hash).get(hash)?;
    let segment = recovered.segments.get(word.place().slot)?;
    Some((segment.id, word.place().start()))
}

fn word(recovered: &Recovered, hash: u64) -> Word {
    recovered.index.read(hash).get(hash).unwrap()
}

fn blob(hash: u64, sequence: u64, id: u64) -> Item {
    by_hand::blob(hash, sequence, "film", BlobName { id, len: 5 << 20 })
}

/// Two queues with replacements, deletes, a carried tombstone and blobs.
fn lay(store: &ByHand, is_sealed: bool) {
    let lay = |id, queue, items: &[Item]| {
        if is_sealed {
            store.sealed(id, queue, items)
        } else {
            store.segment(id, queue, items)
        }
    };
    let old = [
        object(1, 10, "one", value("old")),
        object(2, 11, "two", value("kept")),
        object(3, 12, "three", value("deleted")),
        blob(4, 14, 13),
        blob(5, 16, 15),
    ];
    lay(1, Queue::Probation, &old);
    let new = [
        object(1, 20, "one", value("new")).shadow(),
        tombstone(3, 21),
        blob(6, 23, 22),
        object(7, 24, "seven", value("seven")),
    ];
    lay(2, Queue::Probation, &new);
    // Carried forward, with the number that it had.
    lay(3, Queue::Main, &[tombstone(7, 9), tombstone(2, 10)]);
    for id in [13, 22, 99] {
        store.blob(id);
    }
}

fn check(found: &Recovered) {
    let first = u64::try_from(segment::SEGMENT_HEADER_LEN).unwrap();
    assert_eq!(at(found, 1), Some((2, first)));
    assert!(word(found, 1).is_shadow());
    assert_eq!(at(found, 2).unwrap().0, 1);
    assert_eq!(at(found, 3), None);
    assert_eq!(at(found, 4).unwrap().0, 1);
    assert!(word(found, 4).is_blob() && !word(found, 4).is_shadow());
    assert_eq!(at(found, 5), None, "its file is missing");
    assert_eq!(at(found, 6).unwrap().0, 2);
    assert_eq!(at(found, 7).unwrap().0, 2);
    assert_eq!(found.index.count().entries, 5);
    let ids: Vec<_> = found.blobs.iter().map(|blob| (blob.id, blob.len)).collect();
    assert_eq!(ids, [(13, 5 << 20), (22, 5 << 20)]);
    assert!(found.next_sequence > 99);
}

#[test]
fn s55_footers_tell_what_is_there() {
    let store = ByHand::new();
    lay(&store, true);
    let found = recovered(&store);
    check(&found);
    assert!(found.unsealed.is_empty());
    let segments = found.segments.all();
    let files: u64 = (1..=3)
        .map(|id| fs::metadata(store.path(segment::path(id))).unwrap().len())
        .map(|len| store.medium.block().round_up(len))
        .sum();
    let blobs: u64 = found.blobs.iter().map(|blob| blob.room()).sum();
    assert_eq!(found.used, files + blobs);
    let queues: Vec<_> = segments.iter().map(|segment| segment.queue).collect();
    assert_eq!(queues, [Queue::Probation, Queue::Probation, Queue::Main]);
    let smallest: Vec<_> = (segments.iter())
        .map(|segment| segment.min_sequence())
        .collect();
    assert_eq!(smallest, [10, 20, u64::MAX]);
}

#[test]
fn s55_tails_are_scanned_and_shortened() {
    let store = ByHand::new();
    lay(&store, false);
    let found = recovered(&store);
    check(&found);
    assert_eq!(found.unsealed.len(), 3);
    for segment in &found.unsealed {
        let len = fs::metadata(store.path(segment.path())).unwrap().len();
        assert_eq!((segment.end(), segment.flushed()), (len, len));
        assert_eq!(segment.allocated(), store.medium.block().round_up(len));
        let footer = footer::of(segment).unwrap();
        let len = footer::seal(segment, &footer).unwrap();
        assert_eq!(len, fs::metadata(store.path(segment.path())).unwrap().len());
    }
    let again = recovered(&store);
    check(&again);
    assert!(again.unsealed.is_empty());
}

#[test]
fn s58_what_nothing_names_is_swept() {
    let store = ByHand::new();
    lay(&store, true);
    let create = |path: &str| store.medium.create(path.as_ref()).unwrap();
    create("seg/0000000050.seg").allocate(1 << 20).unwrap();
    create("seg/0000000051.seg");
    create("seg/0000000052.seg")
        .write_all_at(&[9; 4096], 0)
        .unwrap();
    create("index.snap.tmp");
    create("blob/63/whatever.tmp");
    create("seg/notes");
    let mut another = ByHand::new();
    another.store_id = [8; 16];
    another.sealed(53, Queue::Main, &[object(9, 9, "nine", value("foreign"))]);
    let path = segment::path(53);
    fs::copy(another.path(&path), store.path(&path)).unwrap();

    let found = recovered(&store);
    check(&found);
    assert_eq!(found.segments.all().len(), 3);
    for id in 50..=53 {
        assert!(!store.exists(segment::path(id)), "{id}");
    }
    for gone in ["index.snap.tmp", "blob/63/whatever.tmp"] {
        assert!(!store.exists(gone), "{gone}");
    }
    assert!(!store.exists(blobs::path(99)));
    assert!(store.exists(blobs::path(13)) && store.exists("seg/notes"));
}

#[test]
fn s57_a_segment_with_a_damaged_header_has_its_footer() {
    let store = ByHand::new();
    lay(&store, true);
    for id in 1..=3 {
        let file = store.medium.open(&segment::path(id)).unwrap();
        file.write_all_at(&[1], 30).unwrap();
    }
    check(&recovered(&store));
}

#[test]
fn s57_a_damaged_footer_is_made_anew() {
    let store = ByHand::new();
    lay(&store, true);
    for id in 1..=3 {
        let file = store.medium.open(&segment::path(id)).unwrap();
        let len = file.len().unwrap();
        // Of one the trailer, of the others an entry.
        let at = if id == 1 { len - 1 } else { len - 64 - 24 };
        file.write_all_at(&[0xee], at).unwrap();
    }
    let found = recovered(&store);
    check(&found);
    assert!(!found.unsealed.is_empty());
    for segment in &found.unsealed {
        footer::seal(segment, &footer::of(segment).unwrap()).unwrap();
    }
    let again = recovered(&store);
    check(&again);
    assert!(again.unsealed.is_empty());
}

#[test]
fn s57_no_damage_to_a_segment_ends_the_start() {
    let store = ByHand::new();
    lay(&store, true);
    let path = store.path(segment::path(2));
    let bytes = fs::read(&path).unwrap();
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x55;
        fs::write(&path, &damaged).unwrap();
        // Nothing was noted of the segment: else what it may have voided would not count.
        store.medium.remove(crate::manifest::NAME.as_ref()).unwrap();
        let found = recovered(&store);
        // Of segment 1 everything is there, maybe in its older form.
        assert!(found.index.count().entries >= 3, "byte {at}");
        store.blob_again(22);
    }
    for len in (0..bytes.len()).step_by(7) {
        fs::write(&path, &bytes[..len]).unwrap();
        store.medium.remove(crate::manifest::NAME.as_ref()).unwrap();
        assert!(recovered(&store).index.count().entries >= 3, "{len} bytes");
        store.blob_again(22);
    }
}

#[test]
fn a_segment_that_cannot_be_read_ends_the_start_and_stays() {
    for (op, from) in [(Op::Open, 0), (Op::Read, 0), (Op::Len, 0), (Op::Read, 2)] {
        let store = ByHand::new();
        lay(&store, true);
        let rule = Rule::new(Failure::Broken).on(&[op]).under("seg/0000000002");
        store.faults.add(rule.from(from));
        let error = recover(&store.medium, &store.folder(), &Arc::default());
        let is_told = error.is_err_and(|error| error.is_unavailable());
        assert!(is_told, "{op:?} {from}");
        assert!(store.exists(segment::path(2)));
    }
}

#[test]
fn a_folder_that_cannot_be_listed_ends_the_start() {
    for under in ["", "seg", "blob"] {
        let store = ByHand::new();
        lay(&store, true);
        let rule = Rule::new(Failure::Broken).on(&[Op::List]).under(under);
        store.faults.add(rule);
        let error = recover(&store.medium, &store.folder(), &Arc::default());
        assert!(error.is_err_and(|error| error.is_unavailable()), "{under}");
    }
}

#[test]
fn too_many_open_files_remove_nothing() {
    let store = ByHand::new();
    lay(&store, true);
    let rule = Rule::new(Failure::ReadOnly).on(&[Op::Open]).under("seg/");
    store.faults.add(rule);
    let error = recover(&store.medium, &store.folder(), &Arc::default());
    assert!(error.is_err_and(|error| error.is_unavailable()));
    store.faults.clear();
    check(&recovered(&store));
}

#[test]
fn a_snapshot_and_what_came_after_it() {
    let store = ByHand::new();
    lay(&store, true);
    let found = recovered(&store);
    let segments = found.segments.all();
    let covered: Vec<_> = (segments.iter())
        .map(|segment| (Arc::clone(segment), segment.end()))
        .collect();
    let next = found.next_sequence;
    let (medium, id) = (&store.medium, &store.store_id);
    snapshot::save_by_hand(medium, id, 4, &found.index, next, &covered).unwrap();
    // The footers are not even looked at.
    for segment in &segments {
        let file = medium.open(&segment.path()).unwrap();
        file.write_all_at(&[1], segment.end()).unwrap();
    }
    let after = recovered(&store);
    check(&after);
    assert_eq!(after.next_snapshot, 5);
    assert!(after.unsealed.is_empty());
    assert!(!word(&after, 2).is_shadow());

    let later = [
        tombstone(1, next),
        object(2, next + 1, "two", value("again")).shadow(),
        blob(8, next + 3, next + 2),
        tombstone(6, 22),
    ];
    store.blob(next + 2);
    store.segment(4, Queue::Probation, &later);
    let after = recovered(&store);
    assert_eq!(at(&after, 1), None);
    assert_eq!(at(&after, 2).unwrap().0, 4);
    assert!(word(&after, 2).is_shadow());
    assert_eq!(at(&after, 6).unwrap().0, 2);
    assert_eq!(at(&after, 8).unwrap().0, 4);
    assert_eq!(after.blobs.len(), 3);
    assert!(after.next_sequence > next + 3);

    // Without the segment that it stands in, an entry of the snapshot is none.
    medium.remove(&segment::path(2)).unwrap();
    let after = recovered(&store);
    assert_eq!((at(&after, 6), at(&after, 7)), (None, None));
    assert_eq!(at(&after, 4).unwrap().0, 1);
}

#[test]
fn s57_a_damaged_snapshot_gives_way_to_the_one_before() {
    let store = ByHand::new();
    lay(&store, true);
    let found = recovered(&store);
    let covered: Vec<_> = (found.segments.all().into_iter())
        .map(|segment| (Arc::clone(&segment), segment.end()))
        .collect();
    let save = |number| {
        let (medium, id) = (&store.medium, &store.store_id);
        let next = found.next_sequence;
        snapshot::save_by_hand(medium, id, number, &found.index, next, &covered).unwrap();
    };
    save(4);
    save(5);
    let damage = |number| {
        let file = store.medium.open(snapshot::path(number)).unwrap();
        let at = file.len().unwrap() - 1;
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[!byte[0]], at).unwrap();
    };
    damage(5);
    let after = recovered(&store);
    check(&after);
    assert_eq!(after.next_snapshot, 6);
    assert!(!store.exists(snapshot::path(5)) && store.exists(snapshot::path(4)));
    damage(4);
    let after = recovered(&store);
    check(&after);
    assert!(!store.exists(snapshot::path(4)));
    assert_eq!(recovered(&store).next_snapshot, 0);
}

#[test]
fn a_start_of_a_cold_store_leaves_nothing_of_the_old_one() {
    let mut store = ByHand::new();
    lay(&store, true);
    let found = recovered(&store);
    let (medium, id) = (store.medium.clone(), store.store_id);
    snapshot::save_by_hand(&medium, &id, 1, &found.index, 200, &[]).unwrap();
    store.store_id = [8; 16];
    let cold = recovered(&store);
    assert_eq!((cold.index.count().entries, cold.used), (0, 0));
    assert_eq!(medium.list("seg".as_ref()).unwrap().len(), 0);
    assert!(!store.exists(snapshot::path(1)) && !store.exists(blobs::path(13)));
}
