//! Tests that every store of the Larder cache must pass, and stores to test with.
//!
//! [`suite!`] makes one test for each clause of [the contract](larder_store), for any store:
//!
//! ```
//! # fn main() {}
//! # mod tests {
//! use larder_conformance::{Model, Setup};
//!
//! // Put your own store here.
//! async fn make(setup: Setup) -> Model {
//!     Model::with(setup)
//! }
//!
//! larder_conformance::suite!(make);
//! # }
//! ```
//!
//! A store that keeps what it holds also says how it is closed and opened again:
//! `suite!(make, reopen = reopen)`. To run more than one suite in a file, put each into a module of
//! its own. To run one clause, call it: [`clauses`].
//!
//! [`Model`] is the store that is right because it is simple: something to compare with, and a tier
//! for the tests of others. [`Faulty`] wraps any store and fails, stalls, shortens and panics on
//! command.
#![allow(clippy::missing_panics_doc)] // Tests panic: it is how they say what they found.
#![allow(clippy::doc_markdown)] // `CRC-32C`, `S01` and the like are names in prose.

pub mod clauses;
mod faulty;
mod model;
mod probe;
mod runner;
mod setup;
mod subject;
mod suite;

pub use faulty::{Fault, Faults, Faulty, Op, When};
pub use model::Model;
pub use runner::run;
pub use setup::Setup;
pub use subject::{Durable, Subject, Volatile};
