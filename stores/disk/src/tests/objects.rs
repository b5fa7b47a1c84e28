//! Objects that tell which one they are, and what is known of what a store may give.

use std::collections::BTreeMap;

use bytes::Bytes;
use larder_store::{Draft, Metadata};

/// How long the bodies of a key are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Small,
    Large,
}

/// The body that is written under this key in this turn: its own number, then bytes that no other
/// body has at that place.
pub(super) fn body(key: &str, turn: u64, kind: Kind) -> Bytes {
    let seed = u64::from(crc32c::crc32c(key.as_bytes())) << 20 ^ turn;
    let len = match kind {
        Kind::Small => 200 + seed % 7_000,
        Kind::Large => 40_000 + seed % 250_000,
    };
    let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap() + 8);
    bytes.extend_from_slice(&turn.to_le_bytes());
    let mut state = seed | 1;
    while (bytes.len() as u64) < len {
        // Xorshift, after Marsaglia.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.into()
}

/// A draft that says in which turn it was written or touched.
pub(super) fn draft(turn: u64) -> Draft {
    Draft::new().with(|header| header.content_type = Some(turn.to_string().into()))
}

/// What a store may give: nothing that is older than what was acknowledged last.
#[derive(Debug, Default)]
pub(super) struct Model {
    keys: BTreeMap<String, Known>,
    turn: u64,
}

#[derive(Debug)]
pub(super) struct Known {
    kind: Kind,
    /// The least turn that a body may be of, and a header.
    body: u64,
    header: u64,
    /// The last turn that was begun.
    last: u64,
}

impl Model {
    /// The number of the next change.
    pub(super) fn turn(&mut self, key: &str, kind: Kind) -> u64 {
        self.turn += 1;
        let known = self.keys.entry(key.to_owned()).or_insert(Known {
            kind,
            body: 0,
            header: 0,
            last: 0,
        });
        known.last = self.turn;
        self.turn
    }

    /// A set was acknowledged.
    pub(super) fn set(&mut self, key: &str, turn: u64) {
        let known = self.keys.get_mut(key).unwrap();
        (known.body, known.header) = (turn, turn);
    }

    /// A touch was acknowledged.
    pub(super) fn touched(&mut self, key: &str, turn: u64) {
        self.keys.get_mut(key).unwrap().header = turn;
    }

    /// A delete was acknowledged: only what is written later may be found.
    pub(super) fn deleted(&mut self, key: &str, turn: u64) {
        self.set(key, turn + 1);
    }

    pub(super) fn keys(&self) -> Vec<String> {
        self.keys.keys().cloned().collect()
    }

    /// Fails where this is not what the key may have.
    pub(super) fn check(&self, key: &str, metadata: &Metadata, bytes: &Bytes) {
        let known = &self.keys[key];
        let turn = u64::from_le_bytes(*bytes.first_chunk().expect("a body begins with its turn"));
        let right = body(key, turn, known.kind);
        assert!(*bytes == right, "wrong bytes of {key}, turn {turn}");
        assert_eq!(metadata.len(), right.len() as u64, "{key}");
        self.check_header(key, metadata);
        assert!(
            turn >= known.body && turn <= known.last,
            "{key} is back in turn {turn}: {known:?}"
        );
    }

    pub(super) fn check_header(&self, key: &str, metadata: &Metadata) {
        let known = &self.keys[key];
        let turn: u64 = (metadata.content_type.as_deref().unwrap()).parse().unwrap();
        assert!(
            turn >= known.header && turn <= known.last,
            "the header of {key} is back in turn {turn}: {known:?}"
        );
    }
}
