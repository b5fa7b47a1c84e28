//! What may happen, and in which surroundings.

use larder_conformance::{Fault, Op as StoreOp};
use proptest::prelude::*;
use std::time::Duration;

/// A run: the tiers, and what each task does, one thing after the other.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) tiers: Vec<TierKind>,
    /// The last tier is written behind.
    pub(crate) behind: bool,
    /// The last tier is marked as shared.
    pub(crate) shared: bool,
    pub(crate) tasks: Vec<Vec<Op>>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum TierKind {
    /// Room for a few objects, so that it evicts.
    Small,
    Memory,
    /// The reference store, its bodies in chunks.
    Model,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    Get {
        key: u8,
        patience: Patience,
    },
    Fetch {
        key: u8,
        len: Len,
        patience: Patience,
        outcome: Outcome,
    },
    Refresh {
        key: u8,
        len: Len,
        outcome: Outcome,
    },
    Insert {
        key: u8,
        len: Len,
        patience: Patience,
    },
    /// Through a writer, with rests between the chunks.
    Write {
        key: u8,
        len: Len,
        commit: bool,
    },
    Delete {
        key: u8,
        patience: Patience,
    },
    Clear,
    /// A tier drops a key, as an eviction would.
    Evict {
        tier: u8,
        key: u8,
    },
    Fail {
        tier: u8,
        op: StoreOp,
        fault: Fault,
    },
    Advance {
        seconds: u8,
    },
    Rest {
        turns: u8,
    },
}

/// Whether the caller stays, or leaves after so many polls.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Patience {
    Stays,
    Leaves(u8),
}

/// How large an object is, in steps that cross the windows and the limits.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Len {
    Empty,
    Small,
    /// Several chunks.
    Large,
    /// More than the small tier takes.
    Huge,
}

/// What the origin does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Outcome {
    Whole,
    Stream,
    /// After half of the body it fails.
    Breaks,
    Fails,
    Panics,
    Absent,
    /// Not modified, where it was asked about a stale copy; else whole.
    Unchanged,
}

impl Len {
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::Empty => 0,
            Self::Small => 40,
            Self::Large => 40_000,
            Self::Huge => 300_000,
        }
    }
}

impl Script {
    pub(crate) fn any() -> impl Strategy<Value = Self> {
        let kind = prop_oneof![
            Just(TierKind::Small),
            Just(TierKind::Memory),
            Just(TierKind::Model)
        ];
        let tiers = prop::collection::vec(kind, 2..=4);
        let tasks = prop::collection::vec(prop::collection::vec(op(), 1..12), 1..=4);
        (tiers, any::<bool>(), any::<bool>(), tasks).prop_map(|(tiers, behind, shared, tasks)| {
            Self {
                tiers,
                behind,
                shared,
                tasks,
            }
        })
    }
}

fn op() -> impl Strategy<Value = Op> {
    let key = 0..3_u8;
    let len = || prop_oneof![1 => Just(Len::Empty), 4 => Just(Len::Small), 2 => Just(Len::Large), 1 => Just(Len::Huge)];
    let patience =
        || prop_oneof![3 => Just(Patience::Stays), 1 => (0..6_u8).prop_map(Patience::Leaves)];
    let outcome = || {
        prop_oneof![
            3 => Just(Outcome::Whole),
            3 => Just(Outcome::Stream),
            1 => Just(Outcome::Breaks),
            1 => Just(Outcome::Fails),
            1 => Just(Outcome::Panics),
            1 => Just(Outcome::Absent),
            2 => Just(Outcome::Unchanged),
        ]
    };
    prop_oneof![
        4 => (key.clone(), patience()).prop_map(|(key, patience)| Op::Get { key, patience }),
        6 => (key.clone(), len(), patience(), outcome())
            .prop_map(|(key, len, patience, outcome)| Op::Fetch { key, len, patience, outcome }),
        2 => (key.clone(), len(), outcome())
            .prop_map(|(key, len, outcome)| Op::Refresh { key, len, outcome }),
        3 => (key.clone(), len(), patience())
            .prop_map(|(key, len, patience)| Op::Insert { key, len, patience }),
        2 => (key.clone(), len(), any::<bool>())
            .prop_map(|(key, len, commit)| Op::Write { key, len, commit }),
        3 => (key.clone(), patience()).prop_map(|(key, patience)| Op::Delete { key, patience }),
        1 => Just(Op::Clear),
        2 => (0..4_u8, key).prop_map(|(tier, key)| Op::Evict { tier, key }),
        2 => fault(),
        2 => (1..100_u8).prop_map(|seconds| Op::Advance { seconds }),
        3 => (1..8_u8).prop_map(|turns| Op::Rest { turns }),
    ]
}

fn fault() -> impl Strategy<Value = Op> {
    let op = prop_oneof![
        Just(StoreOp::Get),
        Just(StoreOp::Set),
        Just(StoreOp::Write),
        Just(StoreOp::Commit),
        Just(StoreOp::Delete),
        Just(StoreOp::Fence),
        Just(StoreOp::Touch),
    ];
    let failed = larder::ErrorKind::Unavailable;
    let fault = prop_oneof![
        Just(Fault::Fail(failed)),
        Just(Fault::FailAfter(failed)),
        Just(Fault::Stall),
        Just(Fault::StallAfter),
        (1..50_u64).prop_map(|millis| Fault::Delay(Duration::from_millis(millis))),
        Just(Fault::Panic),
    ];
    (0..4_u8, op, fault).prop_map(|(tier, op, fault)| Op::Fail { tier, op, fault })
}
