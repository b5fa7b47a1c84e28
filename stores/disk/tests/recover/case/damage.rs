//! What an input does to the files of a store.

use std::path::PathBuf;

use super::{Files, forge};

/// Changes of one input; more would only take longer.
const EDITS_MAX: usize = 16;
/// The longest that a file may become by one change.
const GROWTH_MAX: usize = 1 << 16;

/// The files after all changes.
pub(crate) struct Damaged {
    pub(crate) files: Files,
    /// Whether checksums were made to fit. Then the bytes may be any; the store must still not
    /// panic, nor hang, nor run out of memory.
    pub(crate) forged: bool,
}

/// Does what the input tells.
pub(crate) fn apply(files: &Files, input: &[u8]) -> Damaged {
    let mut damaged = Damaged {
        files: files.clone(),
        forged: false,
    };
    let mut input = Input(input);
    for _ in 0..EDITS_MAX {
        if input.0.is_empty() || damaged.files.is_empty() {
            break;
        }
        edit(&mut damaged, &mut input);
    }
    damaged
}

fn edit(damaged: &mut Damaged, input: &mut Input<'_>) {
    let code = input.byte();
    if code % 16 == 9 {
        damaged.files.push(new_file(input));
        return;
    }
    let index = usize::from(input.byte()) % damaged.files.len();
    if code % 16 == 8 {
        damaged.files.remove(index);
        return;
    }
    if let 10 | 11 = code % 16 {
        let other = usize::from(input.byte()) % damaged.files.len();
        let bytes = damaged.files[other].1.clone();
        let into = &mut damaged.files[index].1;
        if code % 16 == 10 {
            *into = bytes;
        } else {
            let (from, to) = (input.place(bytes.len()), input.place(into.len()));
            let len = (input.number(2) + 1)
                .min(bytes.len() - from)
                .min(into.len() - to);
            into[to..to + len].copy_from_slice(&bytes[from..from + len]);
        }
        return;
    }
    if code % 16 > 11 {
        let store_id = forge::store_id(&damaged.files);
        let (path, bytes) = &mut damaged.files[index];
        if let Some(store_id) = store_id {
            damaged.forged |= forge::edit(path, bytes, &store_id, |bytes| change(bytes, input));
        }
        return;
    }
    let bytes = &mut damaged.files[index].1;
    match code % 16 {
        0..=3 => change(bytes, input),
        4 => {
            let at = input.place(bytes.len());
            bytes.truncate(at);
        }
        5 => {
            let (len, byte) = (input.number(3) % GROWTH_MAX, input.byte());
            bytes.resize(bytes.len() + len, byte);
        }
        6 => {
            let at = input.place(bytes.len());
            let some = input.some();
            bytes.splice(at..at, some.iter().copied());
        }
        _ => *bytes = input.some().to_vec(),
    }
}

/// Changes a few bytes in their place.
fn change(bytes: &mut [u8], input: &mut Input<'_>) {
    let at = input.place(bytes.len());
    match input.byte() {
        bit @ 0..8 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << bit;
            }
        }
        8..16 => {
            let len = input.number(2) % (bytes.len() - at + 1);
            let byte = input.byte();
            bytes[at..at + len].fill(byte);
        }
        _ => {
            let some = input.some();
            let len = some.len().min(bytes.len() - at);
            bytes[at..at + len].copy_from_slice(&some[..len]);
        }
    }
}

fn new_file(input: &mut Input<'_>) -> (PathBuf, Vec<u8>) {
    let kind = input.byte();
    let number = input.number(usize::from(kind >> 5) + 1);
    let path = match kind % 16 {
        0..4 => format!("seg/{number:010}.seg"),
        4..7 => format!("blob/{:02x}/{number:016x}", number & 0xff),
        7 => format!("blob/zz/{number:x}"),
        8 => format!("seg/{number}.tmp"),
        9 => "seg/99999999999999999999.seg".to_owned(),
        10 => format!("seg/{}.seg", u64::MAX),
        11 => format!("blob/ff/{:016x}", u64::MAX),
        12 => "index.snap.a".to_owned(),
        13 => "index.snap.b".to_owned(),
        14 => "index.snap.tmp".to_owned(),
        _ => format!("{number}"),
    };
    (path.into(), input.some().to_vec())
}

/// The bytes of the input that are left; at their end they are zeros.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        first
    }

    fn number(&mut self, bytes: usize) -> usize {
        (0..bytes).fold(0, |number, _| number << 8 | usize::from(self.byte()))
    }

    /// A place in so many bytes, or at their end: told from the front, or from behind.
    fn place(&mut self, len: usize) -> usize {
        let number = self.number(3);
        let at = (number >> 1) % (len + 1);
        if number & 1 == 0 { at } else { len - at }
    }

    fn some(&mut self) -> &'a [u8] {
        let len = usize::from(self.byte()).min(self.0.len());
        let (some, rest) = self.0.split_at(len);
        self.0 = rest;
        some
    }
}
