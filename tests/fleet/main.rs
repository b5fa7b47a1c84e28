//! Caches in several processes over one Redis server.
//!
//! A test starts its own server, and this binary again for each member of the fleet: a process with
//! a cache that does what it is told ([`member`], told by [`process`]). The origin is the test's
//! own ([`origin`]): it counts its fetches, and knows which version of a page is the newest. Bodies
//! tell their version, and nothing else has them ([`content`]), so that a reader knows how old what
//! it was given is, and whether it is whole.
//!
//! `cargo test --features redis --test fleet -- --ignored long` runs the longer variants.
#![allow(clippy::unwrap_used)] // The helpers are tests, too.
#![allow(clippy::print_stdout)] // A test that fails shows what it printed: its seed.

mod bus;
mod clears;
mod content;
mod histories;
mod history;
mod late;
mod leases;
mod member;
mod origin;
mod outages;
mod pages;
mod process;
mod random;
mod settings;
mod work;

use std::time::Duration;

/// By then what is to happen has happened, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the other processes"]
async fn member() {
    if let Ok(told) = std::env::var(process::MEMBER) {
        member::serve(&told).await;
    }
}
