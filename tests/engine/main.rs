//! The engine through its public API.
#![allow(clippy::unwrap_used)] // The helpers are tests, too.

mod abandon;
mod background;
mod behind;
mod cancel;
mod clear;
mod commits;
mod conditional;
mod deletes;
mod eviction;
mod fences;
mod forgetful;
mod freshness;
mod input;
mod joins;
mod laggards;
mod late;
mod levers;
mod lifetimes;
mod one_fetch;
mod order;
mod plain;
mod refresh;
mod resume;
mod revalidate;
mod review;
mod smoke;
mod source;
mod streams;
mod stuck;
mod superseded;
mod support;
mod suspects;
mod tables;
mod time_outs;
mod total;
