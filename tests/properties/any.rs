//! Scripts at random.

use proptest::{prelude::*, sample::select};

use crate::case::{
    Declared, End, FAULTS, KEYS, Len, Op, Outcome, PARTS, Part, Patience, STORE_OPS, Script,
    Settings, TierKind,
};

pub(crate) fn script() -> impl Strategy<Value = Script> {
    let kind = select(&[TierKind::Small, TierKind::Memory, TierKind::Model]);
    let tiers = prop::collection::vec(kind, 2..=4);
    let tasks = prop::collection::vec(prop::collection::vec(op(), 1..12), 1..=4);
    (tiers, settings(), tasks).prop_map(|(tiers, settings, tasks)| Script {
        tiers,
        settings,
        tasks,
    })
}

fn settings() -> impl Strategy<Value = Settings> {
    any::<[bool; 8]>().prop_map(
        |[
            behind,
            shared,
            small_window,
            no_spill,
            abandon,
            no_negatives,
            second_hit,
            several,
        ]| Settings {
            behind,
            shared,
            small_window,
            no_spill,
            abandon,
            no_negatives,
            second_hit,
            several,
        },
    )
}

fn op() -> impl Strategy<Value = Op> {
    let key = 0..KEYS;
    prop_oneof![
        4 => (key.clone(), part(), patience())
            .prop_map(|(key, part, patience)| Op::Get { key, part, patience }),
        6 => (key.clone(), len(), part(), patience(), outcome(), rarely()).prop_map(
            |(key, len, part, patience, outcome, no_store)| {
                Op::Fetch { key, len, part, patience, outcome, no_store }
            },
        ),
        2 => (key.clone(), len(), outcome(), rarely()).prop_map(|(key, len, outcome, no_store)| {
            Op::Refresh { key, len, outcome, no_store }
        }),
        1 => key.clone().prop_map(|key| Op::Stat { key }),
        3 => (key.clone(), len(), patience())
            .prop_map(|(key, len, patience)| Op::Insert { key, len, patience }),
        2 => (key.clone(), len(), declared(), end())
            .prop_map(|(key, len, declared, end)| Op::Write { key, len, declared, end }),
        3 => (key.clone(), patience()).prop_map(|(key, patience)| Op::Delete { key, patience }),
        1 => Just(Op::Clear),
        2 => (0..4_u8, key).prop_map(|(tier, key)| Op::Evict { tier, key }),
        1 => (0..4_u8).prop_map(|tier| Op::Fill { tier }),
        2 => (0..4_u8, select(&STORE_OPS), 1..4_u8, select(&FAULTS))
            .prop_map(|(tier, op, nth, fault)| Op::Fail { tier, op, nth, fault }),
        2 => (1..100_u8).prop_map(|seconds| Op::Advance { seconds }),
        3 => (1..8_u8).prop_map(|turns| Op::Rest { turns }),
    ]
}

fn len() -> impl Strategy<Value = Len> {
    prop_oneof![
        1 => Just(Len::Empty),
        4 => Just(Len::Small),
        2 => Just(Len::Large),
        1 => Just(Len::Huge),
    ]
}

fn part() -> impl Strategy<Value = Part> {
    prop_oneof![3 => Just(Part::Whole), 1 => select(&PARTS)]
}

fn patience() -> impl Strategy<Value = Patience> {
    prop_oneof![
        4 => Just(Patience::Stays),
        1 => (0..6_u8).prop_map(Patience::Leaves),
        1 => (0..6_u8).prop_map(Patience::Lags),
    ]
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        3 => Just(Outcome::Whole),
        3 => Just(Outcome::Stream),
        2 => Just(Outcome::Unchanged),
        4 => select(&Outcome::ALL),
    ]
}

fn declared() -> impl Strategy<Value = Declared> {
    prop_oneof![
        4 => Just(Declared::Nothing),
        2 => Just(Declared::Right),
        1 => Just(Declared::TooLong),
        1 => Just(Declared::TooShort),
    ]
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![3 => Just(End::Commit), 1 => Just(End::Abort), 1 => Just(End::Drop)]
}

fn rarely() -> impl Strategy<Value = bool> {
    prop_oneof![7 => Just(false), 1 => Just(true)]
}
