//! Scripts at random.

use proptest::{prelude::*, sample::select};

use crate::case::{
    Accepts, Ask, Declared, End, FAULTS, KEYS, Len, Op, Order, Outcome, PARTS, Pace, Part,
    Patience, STORE_OPS, Script, Settings, Spill, TierKind,
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
    let spill = select(&[Spill::Allowed, Spill::Forbidden, Spill::Unwritable]);
    (any::<[bool; 7]>(), spill).prop_map(
        |(
            [
                behind,
                shared,
                small_window,
                abandon,
                no_negatives,
                second_hit,
                several,
            ],
            spill,
        )| Settings {
            behind,
            shared,
            small_window,
            spill,
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
        4 => (key.clone(), ask()).prop_map(|(key, ask)| Op::Get { key, ask }),
        6 => (order(), ask()).prop_map(|(order, ask)| Op::Fetch { order, ask }),
        2 => order().prop_map(|order| Op::Refresh { order }),
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
        2 => (1..100_u8).prop_map(|seconds| Op::Pass { seconds }),
        3 => (1..8_u8).prop_map(|turns| Op::Rest { turns }),
    ]
}

fn ask() -> impl Strategy<Value = Ask> {
    (part(), patience(), accepts()).prop_map(|(part, patience, accepts)| Ask {
        part,
        patience,
        accepts,
    })
}

fn order() -> impl Strategy<Value = Order> {
    (0..KEYS, len(), outcome(), rarely(), pace()).prop_map(|(key, len, outcome, no_store, pace)| {
        Order {
            key,
            len,
            outcome,
            no_store,
            pace,
        }
    })
}

fn accepts() -> impl Strategy<Value = Accepts> {
    prop_oneof![
        4 => Just(Accepts::Usual),
        1 => Just(Accepts::Stale),
        1 => (0..100_u8).prop_map(Accepts::Young),
    ]
}

fn pace() -> impl Strategy<Value = Pace> {
    prop_oneof![1 => Just(Pace::AtOnce), 3 => select(&Pace::ALL)]
}

fn len() -> impl Strategy<Value = Len> {
    prop_oneof![
        1 => Just(Len::Empty),
        4 => Just(Len::Small),
        3 => Just(Len::Large),
        2 => Just(Len::Huge),
    ]
}

fn part() -> impl Strategy<Value = Part> {
    prop_oneof![
        4 => Just(Part::Whole),
        1 => select(&PARTS),
        1 => select(&PARTS).prop_map(Part::beyond_the_window),
        2 => anywhere(),
    ]
}

/// A part at random, within the largest object or past its end.
fn anywhere() -> impl Strategy<Value = Part> {
    let place = 0..300_000_u64;
    prop_oneof![
        2 => (place.clone(), 1..300_000_u64)
            .prop_map(|(start, len)| Part::Between(start, start + len)),
        1 => place.clone().prop_map(Part::From),
        1 => place.prop_map(|len| Part::Suffix(len + 1)),
    ]
}

fn patience() -> impl Strategy<Value = Patience> {
    prop_oneof![
        4 => Just(Patience::Stays),
        1 => (0..6_u8).prop_map(Patience::Leaves),
        1 => (0..6_u8).prop_map(Patience::Lags),
        1 => (1..25_u8).prop_map(Patience::Pauses),
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
