use std::collections::HashSet;

use super::*;
use crate::{
    by_hand::ByHand,
    index::Place,
    segment::{FooterPlace, Parts, Queue, Segments},
    segment_header,
    space::BlockSize,
};

/// Segments of these numbers and ends, in this order.
fn segments(store: &ByHand, all: &[(u64, u64)]) -> Segments {
    let segments = Segments::default();
    for (id, end) in all {
        let name = format!("{}", store.medium.list("".as_ref()).unwrap().len());
        let file = store.medium.create(name.as_ref()).unwrap();
        let made = segments.add(|slot| {
            Segment::new(Parts {
                id: *id,
                slot,
                queue: Queue::Main,
                seed: segment_header::seed(&store.store_id, *id),
                file,
                allocated: *end,
                flushed: *end,
                end: *end,
                min_sequence: 0,
                footer: FooterPlace::File,
                detached: Arc::default(),
            })
        });
        made.unwrap();
    }
    segments
}

fn hash(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn word(slot: u16, offset: u32) -> Word {
    let size = 3;
    let place = Place { slot, offset, size };
    Word::new(place, false, offset.is_multiple_of(2)).with_frequency(2)
}

/// So many objects of one segment in slot 1, and one blob.
fn index(count: u32) -> Index {
    let index = Index::new();
    for number in 0..count {
        let mut entry = index.write(hash(number.into()));
        entry.put(word(1, 4 + number * 3), None);
    }
    let place = word(1, 4).place();
    let blob = Blob::new(77, hash(1 << 32), 5 << 20, BlockSize::BYTE);
    let mut entry = index.write(blob.hash);
    entry.put(Word::new(place, true, false), Some(Arc::new(blob)));
    drop(entry);
    index
}

fn write(store: &ByHand, index: &Index, number: u64, covered: &[Covered]) {
    let mut draft = Draft::begin(&store.medium, &store.store_id, number, covered.len()).unwrap();
    draft.write_index(index).unwrap();
    draft.finish(500, 600, covered).unwrap();
}

fn covered(id: u64, slot: u16, end: u64) -> Covered {
    Covered { id, end, slot }
}

fn load(store: &ByHand, number: u64, segments: &Segments) -> Option<Index> {
    let snapshot = Snapshot::open(&store.medium, &store.store_id, number).unwrap()?;
    let blobs = HashSet::from([77]);
    snapshot.load(segments, &blobs).unwrap()
}

#[test]
fn a_snapshot_is_read_as_it_was_written() {
    let store = ByHand::new();
    let before = index(1000);
    let end = 64 + 3000 * 16;
    write(
        &store,
        &before,
        6,
        &[covered(30, 0, 640), covered(40, 1, end)],
    );
    let snapshot = Snapshot::open(&store.medium, &store.store_id, 0).unwrap();
    let snapshot = snapshot.unwrap();
    let numbers = (snapshot.number, snapshot.boundary, snapshot.next_sequence);
    assert_eq!(numbers, (6, 500, 600));
    assert!(
        Snapshot::open(&store.medium, &store.store_id, 1)
            .unwrap()
            .is_none()
    );

    let now = segments(&store, &[(20, 64), (40, end), (50, 64)]);
    now.remove(0);
    let now_zero = segments(&store, &[(40, end)]);
    for (segments, slot) in [(now, 1), (now_zero, 0)] {
        let after = load(&store, 6, &segments).unwrap();
        assert_eq!(after.count().entries, 1001);
        assert_eq!(after.count(), before.count());
        for number in 0..1000 {
            let found = after.read(hash(number.into())).get(hash(number.into()));
            assert_eq!(found, Some(word(slot, 4 + number * 3)), "{number}");
        }
        let [blob] = &after.blobs()[..] else { panic!() };
        assert_eq!((blob.id, blob.len), (77, 5 << 20));
        assert!(after.read(blob.hash).get(blob.hash).unwrap().is_blob());
    }
}

#[test]
fn what_is_not_covered_is_left_out() {
    let store = ByHand::new();
    let before = index(100);
    let end = 64 + 300 * 16;
    write(&store, &before, 1, &[covered(40, 1, end - 48 * 10)]);
    let now = segments(&store, &[(40, end)]);
    assert_eq!(load(&store, 1, &now).unwrap().count().entries, 91);
    // Of the segment less is left than was covered.
    let now = segments(&store, &[(40, end - 48 * 20)]);
    assert_eq!(load(&store, 1, &now).unwrap().count().entries, 81);
    // It is gone.
    let now = segments(&store, &[(41, end)]);
    assert_eq!(load(&store, 1, &now).unwrap().count().entries, 0);
    // Its slot had gone to another while the index was read.
    write(&store, &before, 1, &[covered(40, 1, 0)]);
    let now = segments(&store, &[(40, end)]);
    assert_eq!(load(&store, 1, &now).unwrap().count().entries, 0);
}

#[test]
fn a_blob_without_a_file_is_left_out() {
    let store = ByHand::new();
    write(&store, &index(10), 1, &[covered(40, 1, 1 << 20)]);
    let now = segments(&store, &[(40, 1 << 20)]);
    let snapshot = Snapshot::open(&store.medium, &store.store_id, 1).unwrap();
    let none = HashSet::new();
    let after = snapshot.unwrap().load(&now, &none).unwrap().unwrap();
    assert_eq!((after.count().entries, after.blobs().len()), (10, 0));
}

#[test]
fn another_stores_snapshot_is_refused() {
    let mut store = ByHand::new();
    write(&store, &index(10), 1, &[]);
    store.store_id = [8; 16];
    let now = segments(&store, &[]);
    assert!(load(&store, 1, &now).is_none());
}

#[test]
fn s57_a_damaged_snapshot_is_refused() {
    let store = ByHand::new();
    let end = 1 << 20;
    write(&store, &index(20), 1, &[covered(40, 1, end)]);
    let now = segments(&store, &[(40, end)]);
    let path = store.path(path(1));
    let bytes = std::fs::read(&path).unwrap();
    let file = store.medium.open(super::path(1)).unwrap();
    for (at, byte) in bytes.iter().enumerate() {
        let place = at as u64;
        file.write_all_at(&[byte ^ 1 << (at % 8)], place).unwrap();
        assert!(load(&store, 1, &now).is_none(), "byte {at}");
        file.write_all_at(&[*byte], place).unwrap();
    }
    assert!(load(&store, 1, &now).is_some());
    for len in (0..bytes.len()).rev() {
        file.set_len(len as u64).unwrap();
        assert!(load(&store, 1, &now).is_none(), "{len} bytes");
    }
    std::fs::write(&path, [&bytes[..], &[0]].concat()).unwrap();
    assert!(load(&store, 1, &now).is_none());
}
