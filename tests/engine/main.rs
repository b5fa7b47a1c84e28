//! The engine through its public API.
#![allow(clippy::unwrap_used)] // The helpers are tests, too.

mod abandon;
mod cancel;
mod laggards;
mod plain;
mod smoke;
mod source;
mod streams;
mod stuck;
mod support;
mod total;
