//! Any bytes in any file of a disk store: it never panics, never hangs, never gives wrong bytes.
//!
//! An input tells which prepared store to take and what to change in its files. The case itself
//! is in `stores/disk/tests/recover`, whose test runs some hundred seeded inputs.

#![no_main]

#[path = "../../stores/disk/tests/recover/case/mod.rs"]
mod case;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| case::run(input));
