//! Any range of any object: it is resolved as plain arithmetic says, and what a store gives for it
//! is that slice of the object, or an error where there is no such slice.
//!
//! An input is the kind of the range, the object, and two numbers, each of eight bytes.

#![no_main]

mod support;

use std::{ops::Range, sync::OnceLock};

use larder::{ByteRange, Key, Store, StoreExt};
use larder_conformance::Model;
use larder_store::{Draft, Lookup};
use libfuzzer_sys::fuzz_target;
use support::{disk, folder, memory, runtime};
use tempfile::TempDir;

/// At the edges of what the disk keeps in a block, in a record and in a file of its own.
const LENS: [usize; 10] = [0, 1, 2, 40, 4_095, 4_096, 4_097, 16_384, 16_385, 70_000];

fuzz_target!(|input: &[u8]| {
    let Some((&[kind, object], numbers)) = input.split_first_chunk::<2>() else {
        return;
    };
    let Some((numbers, _)) = numbers.split_first_chunk::<16>() else {
        return;
    };
    let (a, b) = numbers.split_at(8);
    let (a, b) = (number(a), number(b));
    check_resolving(kind, a, b, u64::from(object));
    check_resolving(kind, a, b, a.wrapping_add(b));

    let len = LENS[usize::from(object) % LENS.len()];
    // Near the object, where the edges are.
    let near = |number| number % (len as u64 + 3);
    for (a, b) in [(near(a), near(b)), (near(a), b)] {
        if let Some(range) = range(kind, a, b) {
            runtime().block_on(check_stores(len, range, meant(kind, a, b, len as u64)));
        }
    }
});

/// The range that is asked for; none where there is no such thing.
fn range(kind: u8, a: u64, b: u64) -> Option<ByteRange> {
    match kind % 7 {
        0 => Some(ByteRange::FULL),
        1 => Some(ByteRange::from(a..)),
        2 => ByteRange::try_from(a..b).ok(),
        3 => ByteRange::try_from(a..=b).ok(),
        4 => ByteRange::try_from(..b).ok(),
        5 => ByteRange::within(a, b).ok(),
        _ => ByteRange::suffix(a).ok(),
    }
}

/// The same, in numbers that cannot overflow. None where there is no such range, or not in an
/// object of this length.
fn meant(kind: u8, a: u64, b: u64, len: u64) -> Option<Range<u64>> {
    let (a, b, len) = (u128::from(a), u128::from(b), u128::from(len));
    let (start, end) = match kind % 7 {
        0 => (0, len),
        1 => (a, len),
        2 => (a, b),
        3 => (a, b + 1),
        4 => (0, b),
        5 if a < b && a < len => (a, b.min(len)),
        5 => (a, u128::MAX),
        _ => (len.saturating_sub(a), len),
    };
    let is_full = kind % 7 == 0 || (kind % 7 == 1 && a == 0);
    let fits = is_full || (start < end && end <= len);
    let number = |number| u64::try_from(number).ok();
    fits.then_some(number(start)?..number(end)?)
}

fn check_resolving(kind: u8, a: u64, b: u64, len: u64) {
    let resolved = range(kind, a, b).and_then(|range| range.resolve(len).ok());
    assert_eq!(resolved, meant(kind, a, b, len), "{kind} {a} {b} of {len}");
}

async fn check_stores(len: usize, range: ByteRange, meant: Option<Range<u64>>) {
    static STORES: OnceLock<([Box<dyn Store>; 4], TempDir)> = OnceLock::new();
    let (stores, _) = match STORES.get() {
        Some(stores) => stores,
        None => {
            let folder = folder();
            let stores = [
                Box::new(memory()) as Box<dyn Store>,
                Box::new(disk(folder.path()).await),
                Box::new(Model::new().chunked(1_000)),
                Box::new(Model::new().whole()),
            ];
            for store in &stores {
                for len in LENS {
                    let written = store.write(&name(len), body(len), Draft::new()).await;
                    assert!(written.expect("it takes it").is_done());
                }
            }
            STORES.get_or_init(|| (stores, folder))
        }
    };
    for store in stores {
        let (kind, name) = (store.kind(), name(len));
        let key = Key::new(&name).expect("a key");
        match (store.get_stream(key, range).await, &meant) {
            (Ok(Lookup::Hit(object)), Some(meant)) => {
                assert_eq!(object.range, *meant, "{kind}: {range:?} of {len}");
                let said = object.body.len();
                let bytes = object.body.bytes(u64::MAX).await.expect("it is read");
                let slice = meant.start as usize..meant.end as usize;
                assert_eq!(bytes, body(len)[slice], "{kind}: {range:?} of {len}");
                assert!(said.is_none_or(|said| said == bytes.len() as u64), "{kind}");
            }
            (Err(error), None) => assert!(error.is_invalid(), "{kind}: {error:?}"),
            (other, _) => panic!("{kind}: {range:?} of {len} gave {other:?}, not {meant:?}"),
        }
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn name(len: usize) -> String {
    format!("of {len} bytes")
}

/// Bytes that differ from place to place.
fn body(len: usize) -> Vec<u8> {
    (0..len as u64)
        .map(|at| (at * 31 + at / 251) as u8)
        .collect()
}
