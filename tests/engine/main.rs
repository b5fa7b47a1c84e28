//! The engine through its public API.
#![allow(clippy::unwrap_used)] // The helpers are tests, too.

mod abandon;
mod background;
mod cancel;
mod conditional;
mod freshness;
mod joins;
mod laggards;
mod lifetimes;
mod one_fetch;
mod plain;
mod resume;
mod revalidate;
mod smoke;
mod source;
mod streams;
mod stuck;
mod support;
mod time_outs;
mod total;
