//! One run: what its tasks do to a cache over tiers that fail, and what must hold of it.
//!
//! The property test makes a [`Script`] at random; the fuzz target `cache_ops` reads one from the
//! bytes of its input. Either is run by [`run`] and checked against one history.

#![allow(dead_code)] // Each of the two uses a part of it.

mod decode;
mod end;
mod history;
mod ops;
mod origin;
mod panics;
mod reads;
mod world;

#[allow(unused_imports)]
pub(crate) use ops::{
    Accepts, Ask, Declared, End, FAULTS, KEYS, Len, Op, Order, Outcome, PARTS, Pace, Part,
    Patience, STORE_OPS, Script, Settings, Spill, TierKind,
};
pub(crate) use world::run;
